//! What the host computes after a step: sampling, verification of drafts, committed lengths.
//!
//! AscendCL has no operator that samples to the bit as `ir::sampling` defines, and the rest works on a few integers. The
//! values come back in the step's own submission.

use super::{Lowering, unsupported};
use crate::acl::Call;
use crate::view::{Elem, View};
use aio_backend::{Bindings, Data, DeviceError};
use aio_ir::sampling::{NO_TOKEN, SampleParams, SampleRow, accepted, sample};
use aio_ir::{DType, Op, SAMPLE_PARAMS, Sym, TensorType};
use aio_plan::{Loc, Task};
use std::collections::HashMap;

/// A task of the host.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HostTask {
    Sample {
        logits: Loc,
        params: Loc,
        noise: Loc,
        recent: Loc,
        bias: Loc,
        vocabulary: usize,
        token: Loc,
    },
    Verify {
        sampled: Loc,
        drafts: Loc,
        spans: Loc,
        accepted: Loc,
        next: Loc,
    },
    /// Of whole numbers, wrapping.
    Add {
        a: Loc,
        b: Loc,
        sum: Loc,
    },
}

/// Whether a type is a whole number for each sequence. The host computes with them, so they have no padding.
pub(super) fn is_count(ty: &TensorType) -> bool {
    ty.dtype == DType::U32 && ty.shape.dims() == [Sym::Seqs.into()]
}

impl Lowering<'_> {
    /// Whether an operand is one that only the host has.
    pub(super) fn is_hosted(&self, task: &Task) -> bool {
        task.operands.iter().any(|loc| self.hosted.contains(loc))
    }

    /// Lets the host compute a task.
    pub(super) fn on_host(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        let at = |name: &str| task.operands[op.place(name)];
        let done = match op {
            Op::Sample => {
                let operands = ["params", "noise", "recent", "bias"].map(at);
                if operands.iter().any(|loc| !matches!(loc, Loc::Input(_) | Loc::Absent)) {
                    return Err(unsupported(task, "parameters that no step binds"));
                }
                let [params, noise, recent, bias] = operands;
                let width = task.body.values().next().map(|(_, v)| v.ty.shape.last().resolve(&self.dims));
                let vocabulary = width.unwrap_or(0) as usize;
                let (logits, token) = (at("logits"), task.results[0]);
                HostTask::Sample { logits, params, noise, recent, bias, vocabulary, token }
            }
            Op::Verify => HostTask::Verify {
                sampled: at("sampled"),
                drafts: at("drafts"),
                spans: at("spans"),
                accepted: task.results[0],
                next: task.results[1],
            },
            _ => {
                let mut shapes = task.body.values().map(|(_, v)| &v.ty.shape);
                let first = shapes.next();
                if !shapes.all(|shape| Some(shape) == first) {
                    return Err(unsupported(task, "a sum of the host that broadcasts"));
                }
                HostTask::Add { a: task.operands[0], b: task.operands[1], sum: task.results[0] }
            }
        };
        for &loc in &task.operands {
            self.fetch(task, loc)?;
        }
        if task.results.iter().any(|loc| matches!(loc, Loc::State(_))) {
            return Err(unsupported(task, "a state that the host would update"));
        }
        self.hosted.extend(task.results.iter().copied());
        self.host.push(done);
        Ok(())
    }

    /// Sees to it that the host has an operand.
    fn fetch(&mut self, task: &Task, loc: Loc) -> Result<(), DeviceError> {
        let has = matches!(loc, Loc::Input(_) | Loc::Absent) || self.hosted.contains(&loc);
        if has || self.results.sources.iter().any(|(known, _)| *known == loc) {
            return Ok(());
        }
        let view = self.value(task, loc)?;
        let to = self.results.tensor(loc, view.elem, view.dims.iter().copied());
        self.calls.push(Call::Copy { from: view, to });
        Ok(())
    }

    /// The best token of each row of logits; the host turns a broken logit into no token.
    pub(super) fn best(&mut self, loc: Loc, logits: View) {
        let rows = logits.rows();
        let (value, index) = self.results.best(loc, rows.elem, rows.dims[0]);
        self.calls.push(Call::Largest { x: rows, value, index });
        self.hosted.insert(loc);
    }
}

/// Values that the host has after a step, as words. Floats are f32.
#[derive(Debug, Default)]
pub(crate) struct HostValues(pub HashMap<Loc, Vec<u32>>);

impl HostValues {
    fn get<'v>(&'v self, loc: Loc, bindings: &'v Bindings<'_, '_>) -> &'v [u32] {
        match loc {
            Loc::Input(i) => match bindings.inputs[i.index()] {
                Some(Data::U32(words)) => words,
                Some(Data::F32(words)) => bytemuck::cast_slice(words),
                Some(Data::I32(words)) => bytemuck::cast_slice(words),
                _ => &[],
            },
            loc => self.0.get(&loc).map_or(&[], Vec::as_slice),
        }
    }

    /// Runs a task of the host.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] for drafts outside the step, which the engine never binds.
    pub(crate) fn run(&mut self, task: &HostTask, bindings: &Bindings<'_, '_>) -> Result<(), DeviceError> {
        match *task {
            HostTask::Sample { logits, params, noise, recent, bias, vocabulary, token } => {
                let tokens = self.sample([logits, params, noise, recent, bias], vocabulary, bindings);
                self.0.insert(token, tokens);
            }
            HostTask::Verify { sampled, drafts, spans, accepted, next } => {
                let (counts, tokens) = self.verify([sampled, drafts, spans], bindings)?;
                self.0.insert(accepted, counts);
                self.0.insert(next, tokens);
            }
            HostTask::Add { a, b, sum } => {
                let (a, b) = (self.get(a, bindings), self.get(b, bindings));
                let total = a.iter().zip(b).map(|(a, b)| a.wrapping_add(*b)).collect();
                self.0.insert(sum, total);
            }
        }
        Ok(())
    }

    fn sample(&self, locs: [Loc; 5], vocabulary: usize, bindings: &Bindings<'_, '_>) -> Vec<u32> {
        let [logits, params, noise, recent, bias] = locs.map(|loc| self.get(loc, bindings));
        let params: &[f32] = bytemuck::cast_slice(params);
        let rows = params.len() / SAMPLE_PARAMS as usize;
        if rows == 0 {
            return Vec::new();
        }
        let (logits, bias): (&[f32], &[f32]) = (bytemuck::cast_slice(logits), bytemuck::cast_slice(bias));
        let recent: &[i32] = bytemuck::cast_slice(recent);
        let look_back = recent.len() / rows;
        let mut scratch = Vec::new();
        let row = |i: usize| SampleRow {
            params: SampleParams::from_row(&params[i * SAMPLE_PARAMS as usize..][..SAMPLE_PARAMS as usize]),
            noise: std::array::from_fn(|j| noise.get(4 * i + j).copied().unwrap_or(0)),
            recent: &recent[i * look_back..][..look_back],
            bias: (!bias.is_empty()).then(|| &bias[i * vocabulary..][..vocabulary]),
        };
        // The device's rows of logits may be padded; those of the step come first.
        (0..rows).map(|i| sample(&logits[i * vocabulary..][..vocabulary], &row(i), &mut scratch)).collect()
    }

    fn verify(&self, locs: [Loc; 3], bindings: &Bindings<'_, '_>) -> Result<(Vec<u32>, Vec<u32>), DeviceError> {
        let [sampled, drafts, spans] = locs.map(|loc| self.get(loc, bindings));
        let one = |span: &[u32]| {
            let (first, count) = (span[0] as usize, span[1] as usize);
            let rows = first..first.saturating_add(count).saturating_add(1);
            let both = sampled.get(rows.clone()).zip(drafts.get(rows));
            let outside =
                || DeviceError::Failed(format!("drafts {span:?} are outside the step's {} rows", sampled.len()));
            let (sampled, drafts) = both.ok_or_else(outside)?;
            Ok(accepted(sampled, drafts).unwrap_or((0, NO_TOKEN)))
        };
        let runs = spans.chunks_exact(2).map(one).collect::<Result<Vec<_>, DeviceError>>()?;
        Ok(runs.into_iter().unzip())
    }
}

/// The elements of a graph's type as words, or as many words as their bytes fill. Halves that stand for f32 become f32.
pub(crate) fn words(elem: Elem, dtype: DType, bytes: &[u8]) -> Vec<u32> {
    if elem == Elem::F16 && dtype == DType::F32 {
        let halves = bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]));
        return halves.map(|h| h.to_f32().to_bits()).collect();
    }
    let mut words = vec![0u32; bytes.len().div_ceil(4)];
    bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
    words
}
