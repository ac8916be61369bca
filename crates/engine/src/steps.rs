//! What one step at a time may use: the executables, the buffers of their inputs, and the bursts.
//!
//! The engine keeps it behind a lock.

use crate::EngineError;
use crate::burst::Bursts;
use crate::outputs::{OutputBuffer, Outputs};
use crate::recurrent::Advance;
use crate::runner::Runner;
use crate::step::{DraftOutcome, Step, StepInputs};
use aio_plan::{PoolSizes, StepTime, Tail};

/// Words of a row's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widths {
    pub vocabulary: u32,
    pub hidden: u32,
}

/// See the module docs.
pub(crate) struct Steps {
    pub runner: Runner,
    pub bursts: Bursts,
    inputs: StepInputs,
}

impl Steps {
    pub(crate) fn new(runner: Runner) -> Steps {
        Steps { runner, bursts: Bursts::default(), inputs: StepInputs::default() }
    }

    /// Runs a step that was checked. Returns the outputs and how long it took.
    pub(crate) fn run<'o>(
        &mut self,
        step: &Step<'_, '_>,
        advances: &[Advance],
        (widths, pools): (Widths, PoolSizes),
        out: &'o mut OutputBuffer,
    ) -> Result<(Outputs<'o>, StepTime), EngineError> {
        let tail = self.inputs.fill(step, advances, pools);
        let width = match tail {
            Tail::Logits => widths.vocabulary as usize,
            Tail::Hidden => widths.hidden as usize,
            Tail::Argmax | Tail::Sample => 1,
        };
        let one = [self.inputs.dims.outs as usize * width];
        let three = [step.drafts.len(); 3];
        let sizes: &[usize] = if step.drafts.is_empty() { &one } else { &three };
        let time = self.runner.run(&self.inputs, tail, sizes, &mut out.words)?.time;
        let [first, next, lens] = &out.words;
        let first = &first[..sizes[0]];
        let outputs = if !step.drafts.is_empty() {
            Outputs::Verified(DraftOutcome { accepted: first, next: &next[..sizes[1]], lens: &lens[..sizes[2]] })
        } else {
            match tail {
                Tail::Logits => Outputs::Logits(bytemuck::cast_slice(first)),
                Tail::Hidden => Outputs::Hidden(bytemuck::cast_slice(first)),
                Tail::Argmax | Tail::Sample => Outputs::Tokens(first),
            }
        };
        Ok((outputs, time))
    }
}
