//! Runs one step on the device: picks the plan, submits, waits.
//!
//! A step of a size seen before allocates nothing. Called by the engine.

use crate::EngineError;
use crate::dispatch::Dispatch;
use crate::forms::Forms;
use crate::limits::SMALL_ROWS;
use crate::paddings::Paddings;
use crate::step::StepInputs;
use aio_backend::{Bindings, Burst, Counters, Data, Device, Executable, StepReport, WeightSet};
use aio_ir::Dims;
use aio_plan::{Bucket, Plan, PlanFamily, StepInput, Tail};
use smallvec::SmallVec;
use std::sync::Arc;

/// Rows of steps, and rows of the buckets they ran in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowTally {
    /// Rows with a token.
    pub used: u64,
    /// Rows of the buckets. The excess is padding, whose cost depends on the device.
    pub bucket: u64,
}

impl RowTally {
    /// The share of bucket rows without a token; 0 before the first step.
    pub fn padding(&self) -> f64 {
        if self.bucket == 0 { 0.0 } else { 1.0 - self.used as f64 / self.bucket as f64 }
    }
}

impl std::ops::Sub for RowTally {
    type Output = RowTally;

    fn sub(self, before: RowTally) -> RowTally {
        RowTally { used: self.used - before.used, bucket: self.bucket - before.bucket }
    }
}

impl std::ops::AddAssign for RowTally {
    fn add_assign(&mut self, more: RowTally) {
        self.used += more.used;
        self.bucket += more.bucket;
    }
}

struct Loaded {
    bucket: Bucket,
    inputs: Vec<Option<StepInput>>,
    executable: Box<dyn Executable>,
    paddings: Paddings,
}

/// The device's executables, smallest bucket first.
pub(crate) struct Runner {
    device: Arc<dyn Device>,
    weights: WeightSet,
    plans: Vec<Loaded>,
    pub forms: Forms,
    /// Rows of all steps so far.
    pub rows: RowTally,
    /// Plans whose paddings should be reviewed.
    review: SmallVec<[usize; 2]>,
}

impl Runner {
    /// Loads a family's plans. `bandwidth` is the device's, in bytes per second, until steps tell more.
    ///
    /// # Errors
    /// Those of the device.
    pub(crate) fn new(
        device: Arc<dyn Device>,
        family: &PlanFamily,
        weights: WeightSet,
        dispatch: Dispatch,
        bandwidth: f64,
    ) -> Result<Runner, EngineError> {
        let mut plans = Vec::new();
        let load = dispatch.load_options();
        for plan in &family.plans {
            let executable = device.load(family, plan, &weights, &load)?;
            let inputs = plan.inputs.iter().map(|b| StepInput::from_name(&b.name)).collect();
            plans.push(Loaded { bucket: plan.bucket, inputs, executable, paddings: Paddings::default() });
        }
        plans.sort_by_key(|p| (p.bucket.rows, p.bucket.outs));
        let forms = Forms::new(bandwidth);
        Ok(Runner { device, weights, plans, forms, rows: RowTally::default(), review: SmallVec::new() })
    }

    /// Loads a burst with the smallest plan for this tail that verifies a run of sixteen drafts, or else the largest
    /// that verifies any. Returns the reason if there is none.
    pub(crate) fn load_burst(&self, family: &PlanFamily, tail: Tail) -> Result<Box<dyn Burst>, String> {
        let plans = || family.plans.iter().filter(|p| p.bucket.verify && p.bucket.tail == tail);
        let size = |p: &&Plan| (p.bucket.rows, p.bucket.outs);
        let enough = plans().filter(|p| p.bucket.rows >= SMALL_ROWS).min_by_key(size);
        let plan = enough.or_else(|| plans().max_by_key(size)).ok_or("no plan verifies drafts")?;
        self.device.load_burst(family, plan, &self.weights).map_err(|e| e.to_string())
    }

    /// Runs a step into `outputs`, which grow if necessary. `words` has the size of each output in words: one output for
    /// a plain step, three if it verifies drafts.
    pub(crate) fn run(
        &mut self,
        inputs: &StepInputs,
        tail: Tail,
        words: &[usize],
        outputs: &mut [Vec<u32>; 3],
    ) -> Result<StepReport, EngineError> {
        let verify = words.len() > 1;
        let at = self.plans.iter().position(|p| serves(&p.bucket, &inputs.dims, tail, verify));
        let Dims { rows, outs, .. } = inputs.dims;
        let at = at.ok_or(EngineError::StepSize { rows, outs })?;
        let plan = &mut self.plans[at];
        for (output, &words) in outputs.iter_mut().zip(words) {
            if output.len() < words {
                output.resize(words, 0);
            }
        }
        let data: SmallVec<[Option<Data<'_>>; 16]> =
            plan.inputs.iter().map(|i| i.and_then(|i| inputs.data(i))).collect();
        let mut outputs: SmallVec<[&mut [u32]; 3]> = outputs[..words.len()].iter_mut().map(Vec::as_mut_slice).collect();
        let mut bindings = Bindings { dims: inputs.dims, inputs: &data, outputs: &mut outputs };
        let report = self.forms.run(at, &mut *plan.executable, &mut bindings)?;
        self.rows.used += u64::from(rows);
        self.rows.bucket += u64::from(plan.bucket.rows);
        if inputs.dims.seqs == 1 && plan.paddings.observe(&*plan.executable, rows) {
            self.review.push(at);
        }
        Ok(report)
    }

    /// Reviews what the plans that ran are padded to. `seconds`: what a step of so many rows takes at present.
    pub(crate) fn review_paddings(&mut self, seconds: &dyn Fn(u32) -> f64) {
        while let Some(at) = self.review.pop() {
            let Counters { captures, capture_ns, .. } = self.device.counters();
            let capture = capture_ns as f64 * 1e-9 / captures.max(1) as f64;
            let Loaded { executable, paddings, .. } = &mut self.plans[at];
            paddings.review(&mut **executable, seconds, capture);
        }
    }
}

/// Whether a plan of this bucket runs the step.
pub(crate) fn serves(bucket: &Bucket, dims: &Dims, tail: Tail, verify: bool) -> bool {
    bucket.tail == tail && bucket.verify == verify && bucket.holds(dims)
}
