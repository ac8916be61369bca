//! Tokens from stored logits: arg-max and the sampling chain.

use super::{Scratch, unsupported};
use crate::executable::Bounds;
use crate::pool::Worker;
use crate::step::Step;
use aio_backend::{Data, DeviceError};
use aio_ir::sampling::{Candidate, SampleParams, SampleRow, sample};
use aio_ir::{SAMPLE_PARAMS, Sym};
use aio_plan::{Plan, Slot, Task};
use std::sync::{Mutex, PoisonError};

/// Elements of a row of f32 `[outs, n]`.
fn width(task: &Task, plan: &Plan) -> Result<usize, DeviceError> {
    let ty = match task.operands[0] {
        Slot::Buffer(b) => &plan.buffers[b.index()].ty,
        Slot::Input(i) => &plan.inputs[i.index()].ty,
        Slot::Output(o) => &plan.outputs[o.index()].ty,
        _ => return Err(unsupported(task, "logits that are a weight or state")),
    };
    let rows_first = ty.shape.rank() == 2 && ty.shape.dims()[0] == Sym::Outs.into();
    let n = ty.shape.last().known().filter(|_| rows_first);
    n.map(|n| n as usize).ok_or_else(|| unsupported(task, format!("logits {ty}")))
}

/// `argmax` of f32 `[outs, n]`.
pub(crate) struct Argmax {
    logits: Slot,
    out: Slot,
    n: usize,
}

impl Argmax {
    pub(crate) fn new(task: &Task, plan: &Plan) -> Result<Argmax, DeviceError> {
        Ok(Argmax { logits: task.operands[0], out: task.results[0], n: width(task, plan)? })
    }

    pub(crate) fn scratch(&self, _: &Bounds) -> Scratch {
        Scratch::default()
    }

    pub(crate) fn run(&self, step: &Step<'_>, worker: Worker<'_>) {
        let outs = step.dims.outs as usize;
        // SAFETY: an earlier task or the caller wrote all rows.
        let logits = unsafe { step.floats(self.logits, outs * self.n) };
        let out: *mut u32 = step.address(self.out).cast();
        for row in worker.share(outs) {
            let best = step.kernels.argmax(&logits[row * self.n..][..self.n], 0);
            // SAFETY: the result has a word for each row, and rows are shared out.
            unsafe { *out.add(row) = if best.index == u32::MAX { 0 } else { best.index } };
        }
    }
}

/// `sample`: the chain of `aio_ir::sampling` on each output row.
pub(crate) struct Sample {
    logits: Slot,
    params: Slot,
    noise: Slot,
    recent: Slot,
    bias: Slot,
    out: Slot,
    n: usize,
    /// One list of candidates for each output row that may run at the same time, with room for all tokens.
    scratch: Vec<Mutex<Vec<Candidate>>>,
}

impl Sample {
    pub(crate) fn new(task: &Task, plan: &Plan) -> Result<Sample, DeviceError> {
        let o = &task.operands;
        let n = width(task, plan)?;
        let lists = (plan.bucket.outs as usize).min(64);
        let scratch = (0..lists).map(|_| Mutex::new(Vec::with_capacity(n))).collect();
        Ok(Sample {
            logits: o[0],
            params: o[1],
            noise: o[2],
            recent: o[3],
            bias: o[4],
            out: task.results[0],
            n,
            scratch,
        })
    }

    pub(crate) fn run(&self, step: &Step<'_>, worker: Worker<'_>) {
        let outs = step.dims.outs as usize;
        let width = SAMPLE_PARAMS as usize;
        // SAFETY: an earlier task wrote the logits, the caller bound the parameters.
        let (logits, params) =
            unsafe { (step.floats(self.logits, outs * self.n), step.floats(self.params, outs * width)) };
        let noise = step.words(self.noise);
        let recent = match step.input(self.recent) {
            Some(Data::I32(tokens)) => tokens,
            _ => &[],
        };
        let bias = match step.input(self.bias) {
            Some(Data::F32(bias)) => Some(bias),
            _ => None,
        };
        let recent_len = step.dims.recent as usize;
        let out: *mut u32 = step.address(self.out).cast();
        for row in worker.share(outs) {
            let sample_row = SampleRow {
                params: SampleParams::from_row(&params[row * width..][..width]),
                noise: std::array::from_fn(|i| noise[row * 4 + i]),
                recent: &recent[row * recent_len..][..recent_len],
                bias: bias.map(|b| &b[row * self.n..][..self.n]),
            };
            let list = &self.scratch[row % self.scratch.len()];
            let mut candidates = list.lock().unwrap_or_else(PoisonError::into_inner);
            let token = sample(&logits[row * self.n..][..self.n], &sample_row, &mut candidates);
            // SAFETY: the result has a word for each row, and rows are shared out.
            unsafe { *out.add(row) = token };
        }
    }
}
