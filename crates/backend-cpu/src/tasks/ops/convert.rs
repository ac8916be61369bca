//! Ops that change the element type: `cast`, `quantize`, `dequantize`.

use super::elements::{PIECE, load_floats, load_ints, saturate, store_floats, store_ints};
use super::single::{Node, Single};
use super::tensor::OpTensor;
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::quant;

/// `cast` between plain types.
pub(crate) struct Cast {
    x: OpTensor,
    out: OpTensor,
}

impl Cast {
    pub(crate) fn new(node: &Node<'_>) -> Cast {
        Cast { x: node.input(0).clone(), out: node.outs[0].clone() }
    }
}

impl Single for Cast {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (from, to) = (self.x.dtype, self.out.dtype);
        let width = to.block_bytes();
        // SAFETY: an earlier task or the caller wrote x.
        let x = unsafe { self.x.bytes(step) }.unwrap_or(&[]);
        let range = worker.share(self.out.extents(step).elems());
        for first in range.clone().step_by(PIECE) {
            let len = PIECE.min(range.end - first);
            // SAFETY: elements of the result are shared out.
            let out = unsafe { self.out.part::<u8>(step, first * width..(first + len) * width) };
            let (mut floats, mut ints) = ([0.0f32; PIECE], [0i64; PIECE]);
            let (floats, ints) = (&mut floats[..len], &mut ints[..len]);
            if to.is_float() {
                load_floats(from, x, first, 1, floats);
                store_floats(to, floats, out);
                continue;
            }
            if from.is_float() {
                load_floats(from, x, first, 1, floats);
                for (int, v) in ints.iter_mut().zip(&*floats) {
                    *int = saturate(to, f64::from(*v));
                }
            } else {
                load_ints(from, x, first, 1, ints);
                for int in ints.iter_mut() {
                    *int = saturate(to, *int as f64);
                }
            }
            store_ints(to, ints, out);
        }
    }
}

/// `quantize` and `dequantize`: whole blocks.
pub(crate) struct Blocks {
    x: OpTensor,
    out: OpTensor,
}

impl Blocks {
    pub(crate) fn new(node: &Node<'_>) -> Blocks {
        Blocks { x: node.input(0).clone(), out: node.outs[0].clone() }
    }
}

impl Single for Blocks {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let (from, to) = (self.x.dtype, self.out.dtype);
        let block = from.block_elems().max(to.block_elems());
        let mine = worker.share(self.out.extents(step).elems() / block);
        let bytes = |t: &OpTensor| block / t.dtype.block_elems() * t.dtype.block_bytes();
        let (x_len, out_len) = (bytes(&self.x), bytes(&self.out));
        // SAFETY: an earlier task or the caller wrote x; blocks of the result are shared out.
        let x = &unsafe { self.x.bytes(step) }.unwrap_or(&[])[mine.start * x_len..mine.end * x_len];
        if to.is_quantized() {
            // SAFETY: as above.
            let out = unsafe { self.out.part::<u8>(step, mine.start * out_len..mine.end * out_len) };
            quant::encode(to, bytemuck::cast_slice(x), out).expect("V006: the type has an encoder");
        } else {
            // SAFETY: as above.
            let out = unsafe { self.out.part::<f32>(step, mine.start * block..mine.end * block) };
            quant::dequantize(from, x, out).expect("whole blocks of a float type");
        }
    }
}
