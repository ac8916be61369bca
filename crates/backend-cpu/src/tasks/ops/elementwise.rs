//! Ops on one element at a time, broadcasting; f32 or i64 inside, whatever the stored type.

use super::elements::{PIECE, load_floats, load_ints, store_floats, store_ints};
use super::single::{Node, Single};
use super::tensor::{Extents, OpTensor};
use super::walk::{Piece, Walk};
use crate::kernels::rows::GateArgs;
use crate::pool::Worker;
use crate::step::StepView;
use aio_ir::float::{maximum, minimum};
use aio_ir::{DType, Op};
use std::cmp::Ordering;

/// One op on up to three operands.
pub(crate) struct Elementwise {
    op: Op,
    /// The relation of `compare`.
    kind: &'static str,
    inputs: Vec<OpTensor>,
    out: OpTensor,
}

impl Elementwise {
    pub(crate) fn new(node: &Node<'_>) -> Elementwise {
        let kind = if node.node.op == Op::Compare { node.node.word("kind") } else { "" };
        let inputs = node.inputs.iter().flatten().cloned().collect();
        Elementwise { op: node.node.op, kind, inputs, out: node.outs[0].clone() }
    }

    /// The type the op computes in.
    fn dtype(&self) -> DType {
        self.inputs[self.inputs.len() - 1].dtype
    }
}

impl Single for Elementwise {
    fn run(&self, step: &StepView<'_>, worker: Worker<'_>) {
        let out = self.out.extents(step);
        let range = worker.share(out.elems());
        if range.is_empty() {
            return;
        }
        // Absent operands read the last one; the result is ignored.
        let input = |i: usize| &self.inputs[i.min(self.inputs.len() - 1)];
        let sizes: [Extents; 3] = std::array::from_fn(|i| input(i).extents(step));
        let walk = Walk::broadcast(&out, [&sizes[0], &sizes[1], &sizes[2]]);
        let strides = walk.strides();
        // SAFETY: earlier tasks wrote all operands.
        let bytes: [&[u8]; 3] = std::array::from_fn(|i| unsafe { input(i).bytes(step) }.unwrap_or(&[]));
        let size = self.out.dtype.block_bytes();
        walk.pieces(range, |piece| {
            // SAFETY: elements of the result are shared out.
            let target = unsafe { self.out.part::<u8>(step, piece.at * size..(piece.at + piece.len) * size) };
            let piece = PieceInputs { op: self, piece, strides, bytes };
            match (self.op, self.dtype().is_float()) {
                (Op::Select, true) => piece.select_floats(target),
                (Op::Select, false) => piece.select_ints(target),
                (_, true) => piece.floats(step, target),
                (_, false) => piece.ints(target),
            }
        });
    }
}

/// The operands of a piece.
struct PieceInputs<'a> {
    op: &'a Elementwise,
    piece: Piece<3>,
    strides: [usize; 3],
    bytes: [&'a [u8]; 3],
}

impl PieceInputs<'_> {
    fn load_floats(&self, i: usize, out: &mut [f32; PIECE]) {
        let out = &mut out[..self.piece.len];
        load_floats(self.op.inputs[i].dtype, self.bytes[i], self.piece.from[i], self.strides[i], out);
    }

    fn load_ints(&self, i: usize, out: &mut [i64; PIECE]) {
        let out = &mut out[..self.piece.len];
        load_ints(self.op.inputs[i].dtype, self.bytes[i], self.piece.from[i], self.strides[i], out);
    }

    fn floats(&self, step: &StepView<'_>, target: &mut [u8]) {
        let (mut a, mut b, mut y) = ([0.0; PIECE], [0.0; PIECE], [0.0; PIECE]);
        self.load_floats(0, &mut a);
        let len = self.piece.len;
        if self.op.inputs.len() == 1 {
            unary(step, self.op.op, &a[..len], &mut y[..len]);
            return store_floats(self.op.out.dtype, &y[..len], target);
        }
        self.load_floats(1, &mut b);
        let (a, b) = (&a[..len], &b[..len]);
        if self.op.op == Op::Compare {
            return compare(self.op.kind, a, b, target);
        }
        binary(self.op.op, a, b, &mut y[..len]);
        store_floats(self.op.out.dtype, &y[..len], target);
    }

    fn ints(&self, target: &mut [u8]) {
        let (mut a, mut b) = ([0; PIECE], [0; PIECE]);
        self.load_ints(0, &mut a);
        let len = self.piece.len;
        if self.op.inputs.len() == 1 {
            let y = a.map(|x| int_unary(self.op.op, x));
            return store_ints(self.op.out.dtype, &y[..len], target);
        }
        self.load_ints(1, &mut b);
        if self.op.op == Op::Compare {
            return compare(self.op.kind, &a[..len], &b[..len], target);
        }
        for (x, y) in a.iter_mut().zip(b) {
            *x = int_binary(self.op.op, *x, y);
        }
        store_ints(self.op.out.dtype, &a[..len], target);
    }

    fn select_floats(&self, target: &mut [u8]) {
        let (mut c, mut a, mut b) = ([0; PIECE], [0.0; PIECE], [0.0; PIECE]);
        self.load_ints(0, &mut c);
        self.load_floats(1, &mut a);
        self.load_floats(2, &mut b);
        choose(&c, &mut a, &b);
        store_floats(self.op.out.dtype, &a[..self.piece.len], target);
    }

    fn select_ints(&self, target: &mut [u8]) {
        let (mut c, mut a, mut b) = ([0; PIECE], [0; PIECE], [0; PIECE]);
        self.load_ints(0, &mut c);
        self.load_ints(1, &mut a);
        self.load_ints(2, &mut b);
        choose(&c, &mut a, &b);
        store_ints(self.op.out.dtype, &a[..self.piece.len], target);
    }
}

fn choose<T: Copy>(condition: &[i64], a: &mut [T], b: &[T]) {
    for ((c, a), b) in condition.iter().zip(a).zip(b) {
        *a = if *c != 0 { *a } else { *b };
    }
}

fn compare<T: PartialOrd>(kind: &str, a: &[T], b: &[T], target: &mut [u8]) {
    let holds: fn(Option<Ordering>) -> bool = match kind {
        "eq" => |o| o == Some(Ordering::Equal),
        "ne" => |o| o != Some(Ordering::Equal),
        "lt" => |o| o == Some(Ordering::Less),
        "le" => |o| o.is_some_and(Ordering::is_le),
        "gt" => |o| o == Some(Ordering::Greater),
        _ => |o| o.is_some_and(Ordering::is_ge),
    };
    for ((a, b), out) in a.iter().zip(b).zip(target) {
        *out = u8::from(holds(a.partial_cmp(b)));
    }
}

fn binary(op: Op, a: &[f32], b: &[f32], out: &mut [f32]) {
    match op {
        Op::Add => zip(a, b, out, |x, y| x + y),
        Op::Sub => zip(a, b, out, |x, y| x - y),
        Op::Mul => zip(a, b, out, |x, y| x * y),
        Op::Div => zip(a, b, out, |x, y| x / y),
        Op::Min => zip(a, b, out, minimum),
        Op::Max => zip(a, b, out, maximum),
        other => unreachable!("`{}` has one operand", other.mnemonic()),
    }
}

fn zip(a: &[f32], b: &[f32], out: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = f(*a, *b);
    }
}

fn int_unary(op: Op, x: i64) -> i64 {
    match op {
        Op::Neg => x.wrapping_neg(),
        other => unreachable!("V006: `{}` takes no integers", other.mnemonic()),
    }
}

fn int_binary(op: Op, x: i64, y: i64) -> i64 {
    match op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x.wrapping_mul(y),
        // As in the oracle, division by zero gives zero.
        Op::Div => x.checked_div(y).unwrap_or(0),
        Op::Min => x.min(y),
        Op::Max => x.max(y),
        other => unreachable!("`{}` has one operand", other.mnemonic()),
    }
}

/// As `kernels::rows::gelu_mul`, for any number.
fn gelu(x: f32) -> f32 {
    /// 2 sqrt(2 / pi).
    const SLOPE: f32 = 1.595_769_2;
    x / (1.0 + (-SLOPE * (x + 0.044_715 * x * x * x)).exp())
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn unary(step: &StepView<'_>, op: Op, x: &[f32], out: &mut [f32]) {
    if matches!(op, Op::Silu | Op::Gelu) && x.iter().all(|v| v.is_finite()) {
        // The gated-activation kernels, which require finite numbers.
        let args = GateArgs { gate: x, up: &ONES[..x.len()], out };
        return if op == Op::Silu { step.kernels.silu_mul(args) } else { step.kernels.gelu_mul(args) };
    }
    match op {
        Op::Neg => map(x, out, |x| -x),
        Op::Silu => map(x, out, |x| x * sigmoid(x)),
        Op::Gelu => map(x, out, gelu),
        Op::Relu => map(x, out, |x| maximum(x, 0.0)),
        Op::Tanh => map(x, out, f32::tanh),
        Op::Sigmoid => map(x, out, sigmoid),
        Op::Exp => map(x, out, f32::exp),
        Op::Log => map(x, out, f32::ln),
        Op::Sqrt => map(x, out, f32::sqrt),
        Op::Rsqrt => map(x, out, |x| 1.0 / x.sqrt()),
        Op::Sin => map(x, out, f32::sin),
        Op::Cos => map(x, out, f32::cos),
        other => unreachable!("`{}` is no function of one number", other.mnemonic()),
    }
}

fn map(x: &[f32], out: &mut [f32], f: impl Fn(f32) -> f32) {
    for (x, out) in x.iter().zip(out) {
        *out = f(*x);
    }
}

static ONES: [f32; PIECE] = [1.0; PIECE];
