//! Unfused `rope`: the angles of a row are computed where they are used.

use super::single::{Cx, Node, Single};
use super::tensor::OpTensor;
use crate::bounds::{Bounds, Scratch};
use crate::kernels::rows::{RopeArgs, RopeStyle, rope_angles};
use crate::pool::Worker;
use crate::step::StepView;
use crate::tensor_loc::TensorLoc;
use aio_plan::{Loc, RopePairs, RopeSpec};

/// See the module documentation.
pub(crate) struct Rope {
    style: RopeStyle,
    /// Angle per position of each pair, factors of a weight included.
    frequencies: Vec<f32>,
    magnitude: f32,
    x: OpTensor,
    positions: OpTensor,
    /// Factors that are not a weight: they divide the frequencies in each step.
    factors: Option<OpTensor>,
    out: OpTensor,
}

impl Rope {
    pub(crate) fn new(cx: &Cx<'_>, node: &Node<'_>) -> Rope {
        let spec = RopeSpec::from_node(node.node);
        let factors = node.inputs.get(2).cloned().flatten();
        let constant = match factors.as_ref().map(|f| f.place) {
            Some(TensorLoc::Planned(Loc::Weight(w))) => Some(cx.resident.weights[w.index()].f32s()),
            _ => None,
        };
        let (frequencies, magnitude) = spec.frequencies(constant);
        let style = match spec.pairs {
            RopePairs::Adjacent => RopeStyle::Interleaved,
            RopePairs::Halves => RopeStyle::Halves,
        };
        let factors = factors.filter(|_| constant.is_none());
        let (x, positions, out) = (node.input(0).clone(), node.input(1).clone(), node.outs[0].clone());
        Rope { style, frequencies, magnitude, x, positions, factors, out }
    }
}

impl Single for Rope {
    fn scratch(&self, _: &Bounds) -> Scratch {
        Scratch { private: 3 * self.frequencies.len() * size_of::<f32>(), ..Scratch::default() }
    }

    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let size = self.x.extents(step);
        let (heads, n, half) = (size[1], size[2], self.frequencies.len());
        // SAFETY: earlier tasks or the caller wrote the operands.
        let (x, positions) = unsafe { (self.x.f32s(step), self.positions.indices(step)) };
        // SAFETY: this thread's private memory, as much as `scratch` asked for.
        let angles = unsafe { std::slice::from_raw_parts_mut(step.private(worker.tid).cast::<f32>(), 3 * half) };
        let (frequencies, angles) = angles.split_at_mut(half);
        let (cos, sin) = angles.split_at_mut(half);
        frequencies.copy_from_slice(&self.frequencies);
        // SAFETY: as above.
        if let Some(factors) = self.factors.as_ref().and_then(|f| unsafe { f.values::<f32>(step) }) {
            frequencies.iter_mut().zip(factors).for_each(|(frequency, factor)| *frequency /= factor);
        }
        let mut current = None;
        for i in worker.share(size[0] * heads) {
            if current != Some(i / heads) {
                current = Some(i / heads);
                let position = positions.get(i / heads) as u32;
                rope_angles(position, frequencies, self.magnitude, cos, sin);
            }
            // SAFETY: heads of the result are shared out.
            let head = unsafe { self.out.part::<f32>(step, i * n..(i + 1) * n) };
            head.copy_from_slice(&x[i * n..][..n]);
            step.kernels.rope(RopeArgs { head, cos, sin, style: self.style });
        }
    }
}
