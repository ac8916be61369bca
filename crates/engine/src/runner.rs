//! One step on the device: picks the plan, fills the bindings, submits, waits.
//!
//! The buffers here are kept and reused, so a step of a size that was seen before allocates nothing.

use crate::{Dispatch, EngineError};
use aio_backend::{Bindings, Data, Device, Executable, WeightImage, WeightSet};
use aio_ir::Dims;
use aio_plan::{Bucket, PlanFamily, Tail};
use smallvec::SmallVec;
use std::sync::Arc;

/// Inputs of a step in the form that plans bind them. Filled by the engine.
#[derive(Debug, Default)]
pub(crate) struct StepInputs {
    pub dims: Dims,
    pub tokens: Vec<u32>,
    pub positions: Vec<u32>,
    pub row_seq: Vec<u32>,
    pub page_table: Vec<u32>,
    pub out_rows: Vec<u32>,
    pub sampling: Vec<f32>,
    pub noise: Vec<u32>,
    pub recent: Vec<i32>,
    pub logit_bias: Option<Vec<f32>>,
}

impl StepInputs {
    fn data(&self, name: &str) -> Option<Data<'_>> {
        match name {
            "tokens" => Some(Data::U32(&self.tokens)),
            "positions" => Some(Data::U32(&self.positions)),
            "row_seq" => Some(Data::U32(&self.row_seq)),
            "page_table" => Some(Data::U32(&self.page_table)),
            "out_rows" => Some(Data::U32(&self.out_rows)),
            "sampling" => Some(Data::F32(&self.sampling)),
            "noise" => Some(Data::U32(&self.noise)),
            "recent" => Some(Data::I32(&self.recent)),
            "logit_bias" => self.logit_bias.as_deref().map(Data::F32),
            _ => None,
        }
    }
}

struct Loaded {
    bucket: Bucket,
    inputs: Vec<String>,
    executable: Box<dyn Executable>,
}

/// The device's executables, smallest bucket first.
pub(crate) struct Runner {
    device: Arc<dyn Device>,
    weights: WeightSet,
    plans: Vec<Loaded>,
    /// 32-bit words of the last step's output: tokens or logits.
    pub output: Vec<u32>,
}

impl Runner {
    pub(crate) fn new(
        device: Arc<dyn Device>,
        family: &PlanFamily,
        weights: WeightSet,
        dispatch: Dispatch,
    ) -> Result<Runner, EngineError> {
        let mut plans = Vec::new();
        let options = dispatch.load_options();
        for plan in &family.plans {
            let executable = device.load(family, plan, &weights, &options)?;
            let inputs = plan.inputs.iter().map(|b| b.name.clone()).collect();
            plans.push(Loaded { bucket: plan.bucket, inputs, executable });
        }
        plans.sort_by_key(|p| (p.bucket.rows, p.bucket.outs));
        Ok(Runner { device, weights, plans, output: Vec::new() })
    }

    pub(crate) fn device(&self) -> &dyn Device {
        &*self.device
    }

    pub(crate) fn image(&self) -> Result<WeightImage, EngineError> {
        Ok(self.device.image(&self.weights)?)
    }

    pub(crate) fn copy_pages(&self, pages: &[(u32, u32)]) -> Result<(), EngineError> {
        Ok(self.device.copy_pages(&self.weights, pages)?)
    }

    /// The smallest bucket that holds the step.
    pub(crate) fn bucket(&self, dims: &Dims, tail: Tail) -> Option<Bucket> {
        self.plans.iter().map(|p| p.bucket).find(|b| b.tail == tail && b.holds(dims))
    }

    /// Runs a step; its result is in `output`, whose first `out_words` words are valid.
    pub(crate) fn run(&mut self, inputs: &StepInputs, tail: Tail, out_words: usize) -> Result<(), EngineError> {
        let plan = self.plans.iter_mut().find(|p| p.bucket.tail == tail && p.bucket.holds(&inputs.dims));
        let Dims { rows, outs, .. } = inputs.dims;
        let plan = plan.ok_or(EngineError::StepSize { rows, outs })?;
        if self.output.len() < out_words {
            self.output.resize(out_words, 0);
        }
        let data: SmallVec<[Option<Data<'_>>; 12]> = plan.inputs.iter().map(|n| inputs.data(n)).collect();
        let mut bindings = Bindings { dims: inputs.dims, inputs: &data, outputs: &mut [&mut self.output] };
        plan.executable.submit(&mut bindings)?.wait()?;
        Ok(())
    }
}
