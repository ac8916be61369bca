//! How far predicted step times are off.

use super::bed::{Bed, Draws};
use super::regret::Grid;
use crate::args::PlansArgs;
use aio::orchestrator::simulate::percentile;
use aio::orchestrator::{CostModel, Recording, StepRecord, StepTime};
use anyhow::{Context, Result};
use indicatif::ProgressBar;

/// Steps from which the model learns before its predictions count.
const LEARNED: usize = 50;
/// Difference of the reads before and after a step beyond which the machine changed during it.
const STEADY: f64 = 0.05;

/// Errors of predictions.
pub(super) struct Errors {
    /// Relative to the measured times, of steps between steady reads.
    all: Vec<f64>,
    /// Steps whose reads differ.
    pub skipped: usize,
}

impl Errors {
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The value that a share of the errors do not exceed.
    pub(super) fn at(&self, share: f64) -> f64 {
        percentile(&self.all, share)
    }

    /// Adds the prediction of step number `at`.
    fn add(&mut self, at: usize, predicted: f64, step: &StepRecord) {
        if at < LEARNED {
            return;
        }
        let steady = step.reads.is_none_or(|[before, after]| (after / before).ln().abs() <= STEADY);
        if steady {
            self.all.push((predicted / step.seconds - 1.0).abs());
        } else {
            self.skipped += 1;
        }
    }
}

/// Runs steps of sizes drawn from the grid, each between two reads. Adds them to `record`.
pub(super) fn measure(
    bed: &mut Bed,
    grid: &Grid,
    args: &PlansArgs,
    (record, bar): (&mut Vec<StepRecord>, &ProgressBar),
) -> Result<Errors> {
    let mut draws = Draws::new(args.seed);
    let mut errors = Errors { all: Vec::new(), skipped: 0 };
    let mut before = bed.read()?;
    bar.set_message("steps of mixed sizes");
    for at in 0..LEARNED + args.steps as usize {
        let mut pick = |list: &[u32]| list[draws.below(list.len() as u32) as usize];
        let (context, batch) = (pick(&grid.contexts), pick(&grid.batches));
        let drafts = draws.below(1 + bed.most_drafts(batch, args.drafts).unwrap_or(0));
        let size = super::bed::size(context, batch, batch * (1 + drafts), 0.0);
        let predicted = bed.predict(&size);
        let mut step = bed.step(context, &vec![drafts; batch as usize])?;
        let after = bed.read()?;
        step.reads = Some([before, after]);
        before = after;
        errors.add(at, predicted, &step);
        record.push(step);
        bar.inc(1);
    }
    Ok(errors)
}

/// The same on recorded times, with a model that starts from the roofline.
pub(super) fn replayed(recording: &Recording) -> Result<Errors> {
    let mut model = CostModel::new(recording.head.work);
    let mut errors = Errors { all: Vec::new(), skipped: 0 };
    for (at, step) in recording.steps.iter().filter(|step| step.reads.is_some()).enumerate() {
        errors.add(at, model.predict(step.size()).0, step);
        model.observe(step.size(), StepTime::Measured(step.seconds));
    }
    Some(errors).filter(|e| e.count() > 0).context("the recording has no steady steps between reads after the first 50")
}
