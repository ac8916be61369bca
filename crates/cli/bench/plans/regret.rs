//! What the chosen number of drafts loses against the best one.
//!
//! The best one is found from what steps took, the chosen one by the speculator that serves requests. On a machine the
//! two are then timed again in pairs, since the best of many medians is partly luck.

use super::bed::Bed;
use super::interval::{Interval, interval};
use crate::args::PlansArgs;
use aio::orchestrator::{
    RecordedSteps, Recording, SpeculationOptions, Speculator, StepModel, StepRecord, StepTime, Trial,
};
use anyhow::{Context, Result};
use indicatif::ProgressBar;

/// Contexts, batches and chances of the grid.
pub(super) struct Grid {
    pub contexts: Vec<u32>,
    pub batches: Vec<u32>,
    pub chances: Vec<f64>,
}

/// One cell of the grid.
pub(super) struct Cell {
    pub context: u64,
    pub batch: u32,
    pub chance: f64,
    /// Drafts of all sequences together.
    pub chosen: u32,
    pub best: u32,
    /// Why the chosen ones were chosen.
    pub reason: String,
    /// 1 less the ratio of rates of expected tokens.
    pub regret: Interval,
}

impl Grid {
    /// Measures all cells. Adds the timed steps to `record`.
    pub(super) fn measure(
        &self,
        bed: &mut Bed,
        args: &PlansArgs,
        (record, bar): (&mut Vec<StepRecord>, &ProgressBar),
    ) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for &context in &self.contexts {
            for &batch in &self.batches {
                bar.set_message(format!("context {context}, batch {batch}"));
                let steps = rounds(bed, args, (context, batch))?;
                let table = RecordedSteps::of(&steps);
                record.extend(steps);
                for &chance in &self.chances {
                    cells.push(measured(bed, args, &table, (context, batch, chance))?);
                    bar.inc(1);
                }
            }
        }
        Ok(cells)
    }
}

/// Times steps with each number of drafts, in interleaved rounds after one that does not count.
fn rounds(bed: &mut Bed, args: &PlansArgs, (context, batch): (u32, u32)) -> Result<Vec<StepRecord>> {
    let most = bed.most_drafts(batch, args.drafts).unwrap_or(0);
    let mut steps = Vec::new();
    for round in 0..=args.reps {
        for drafts in 0..=most {
            let step = bed.step(context, &vec![drafts; batch as usize])?;
            steps.extend(Some(step).filter(|_| round > 0));
        }
    }
    Ok(steps)
}

fn measured(
    bed: &mut Bed,
    args: &PlansArgs,
    table: &RecordedSteps,
    (context, batch, chance): (u32, u32, f64),
) -> Result<Cell> {
    let trial = Trial { sequences: batch, offered: args.drafts, chance, kv_bytes: bed.kv_bytes(context, batch) };
    let cell = (u64::from(context), batch);
    let rate =
        |rows: u32| table.time(cell, rows).map(|seconds| (trial.tokens(&trial.even(rows - batch)) / seconds, rows));
    let best = table.rows(cell).filter_map(rate).max_by(|a, b| a.0.total_cmp(&b.0)).context("no step was timed")?;
    let best = trial.even(best.1 - batch);
    let mut speculator = bed.speculator();
    let run = |drafts: &[u32]| bed.step(context, drafts).map(|step| StepTime::Measured(step.seconds));
    let choice = trial.settle(&mut speculator, (args.warm_up, args.seed), run)?;
    let [best_total, total] = [best.iter().sum(), choice.drafts.iter().sum()];
    let regret = if best_total == total {
        // Equally many rows take equally long, however they are divided.
        let [own, even] = [trial.tokens(&choice.drafts), trial.tokens(&best)];
        Interval { median: 1.0 - own / even, half: 0.0 }
    } else {
        pairs(bed, args, (&trial, context), [&choice.drafts, &best])?
    };
    let reason = choice.reason.to_string();
    Ok(Cell { context: cell.0, batch, chance, chosen: total, best: best_total, reason, regret })
}

/// Regret of the first plan against the second, from steps that take turns.
fn pairs(bed: &mut Bed, args: &PlansArgs, (trial, context): (&Trial, u32), plans: [&[u32]; 2]) -> Result<Interval> {
    let tokens = plans.map(|drafts| trial.tokens(drafts));
    let mut regrets = Vec::new();
    for _ in 0..args.pairs {
        let [chosen, best] = [bed.step(context, plans[0])?.seconds, bed.step(context, plans[1])?.seconds];
        regrets.push(1.0 - tokens[0] / chosen / (tokens[1] / best));
    }
    interval(&regrets).context("a time was no number")
}

/// The same on recorded times, where a step takes what the table says.
pub(super) fn replayed(recording: &Recording, args: &PlansArgs) -> Result<Vec<Cell>> {
    let steps = RecordedSteps::of(recording.steps.iter().filter(|step| step.reads.is_none()));
    let mut cells = Vec::new();
    for (context, batch) in steps.cells() {
        for &chance in &args.acceptance {
            cells.extend(replay(recording, &steps, args, (context, batch, chance))?);
        }
    }
    Ok(cells)
}

fn replay(
    recording: &Recording,
    steps: &RecordedSteps,
    args: &PlansArgs,
    (context, batch, chance): (u64, u32, f64),
) -> Result<Option<Cell>> {
    let head = &recording.head;
    let cell = (context, batch);
    let Some(most) = steps.rows(cell).max() else { return Ok(None) };
    let time = |rows: u32| steps.time(cell, rows).context("the recording lacks steps without drafts");
    time(batch)?;
    let kv_bytes = f64::from(batch) * (context + 1) as f64 * head.work.kv_bytes;
    let trial = Trial { sequences: batch, offered: args.drafts.min(most / batch - 1), chance, kv_bytes };
    let (best, rate) = trial.best(most - batch, |rows| steps.time(cell, rows).unwrap_or(f64::INFINITY));
    let mut speculator = Speculator::new(SpeculationOptions {
        max_drafts: args.drafts,
        max_rows: most,
        model: StepModel::Roofline(head.work.cost, head.work.ceilings),
    });
    let run = |drafts: &[u32]| time(batch + drafts.iter().sum::<u32>()).map(StepTime::Measured);
    let choice = trial.settle(&mut speculator, (args.warm_up, args.seed), run)?;
    let own = trial.tokens(&choice.drafts) / time(choice.rows)?;
    let regret = Interval { median: 1.0 - own / rate, half: 0.0 };
    let (chosen, reason) = (choice.rows - batch, choice.reason.to_string());
    Ok(Some(Cell { context, batch, chance, chosen, best, reason, regret }))
}
