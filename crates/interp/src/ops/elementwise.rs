//! Elementwise ops, with numpy broadcasting.

use super::args::{OpArgs, Results};
use crate::tensor::{Tensor, wrap};
use aio_ir::float::{maximum, minimum};
use aio_ir::{DType, Op};

pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let shape = a.shape(0);
    let out = match a.node.op {
        Op::Compare => compare(a, shape),
        Op::Select => select(a, shape),
        op if op.spec().operands.len() == 2 => binary(a, shape),
        _ => unary(a, shape),
    };
    Ok(vec![out])
}

/// For each element of `shape`, the index of the operand's element that is broadcast to it.
fn places(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let mut places = vec![0usize];
    for (d, &size) in shape.iter().enumerate() {
        let lead = shape.len() - from.len();
        let (step, moves) = if d < lead { (1, false) } else { (from[d - lead], from[d - lead] != 1) };
        places = places.iter().flat_map(|&p| (0..size).map(move |i| p * step + if moves { i } else { 0 })).collect();
    }
    places
}

fn pick<T: Copy>(values: &[T], from: &[usize], shape: &[usize]) -> Vec<T> {
    places(from, shape).into_iter().map(|i| values[i]).collect()
}

fn is_float(t: &Tensor<'_>) -> bool {
    t.dtype.is_float()
}

fn pair_floats(a: &OpArgs<'_, '_>, i: usize, shape: &[usize]) -> (Vec<f32>, Vec<f32>) {
    let (x, y) = (a.input(i), a.input(i + 1));
    (pick(&x.floats(), &x.shape, shape), pick(&y.floats(), &y.shape, shape))
}

fn pair_ints(a: &OpArgs<'_, '_>, i: usize, shape: &[usize]) -> (Vec<i64>, Vec<i64>) {
    let (x, y) = (a.input(i), a.input(i + 1));
    (pick(x.ints(), &x.shape, shape), pick(y.ints(), &y.shape, shape))
}

fn zip<T: Copy, R>((x, y): (Vec<T>, Vec<T>), f: impl Fn(T, T) -> R) -> Vec<R> {
    x.iter().zip(&y).map(|(&a, &b)| f(a, b)).collect()
}

fn binary<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Tensor<'w> {
    let dtype = a.input(0).dtype;
    if is_float(a.input(0)) {
        let op = |x: f32, y: f32| match a.node.op {
            Op::Add => x + y,
            Op::Sub => x - y,
            Op::Mul => x * y,
            Op::Div => x / y,
            Op::Min => minimum(x, y),
            Op::Max => maximum(x, y),
            other => unreachable!("`{}` has one operand", other.mnemonic()),
        };
        let values = zip(pair_floats(a, 0, &shape), op);
        return Tensor::stored(dtype, shape, &values);
    }
    let op = |x: i64, y: i64| match a.node.op {
        Op::Add => x + y,
        Op::Sub => x - y,
        Op::Mul => x.wrapping_mul(y),
        // Integer division by zero gives zero: the oracle must not fault where a device would not.
        Op::Div => x.checked_div(y).unwrap_or(0),
        Op::Min => x.min(y),
        Op::Max => x.max(y),
        other => unreachable!("`{}` has one operand", other.mnemonic()),
    };
    let values = zip(pair_ints(a, 0, &shape), op).into_iter().map(|v| wrap(dtype, v)).collect();
    Tensor::int(dtype, shape, values)
}

fn compare<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Tensor<'w> {
    let kind = a.node.word("kind");
    fn holds<T: PartialOrd>(kind: &str, x: T, y: T) -> i64 {
        i64::from(match kind {
            "eq" => x == y,
            "ne" => x != y,
            "lt" => x < y,
            "le" => x <= y,
            "gt" => x > y,
            _ => x >= y,
        })
    }
    let values = if is_float(a.input(0)) {
        zip(pair_floats(a, 0, &shape), |x, y| holds(kind, x, y))
    } else {
        zip(pair_ints(a, 0, &shape), |x, y| holds(kind, x, y))
    };
    Tensor::int(DType::Bool, shape, values)
}

fn select<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Tensor<'w> {
    let condition = pick(a.input(0).ints(), &a.input(0).shape, &shape);
    fn choose<T: Copy>(condition: &[i64], (x, y): (Vec<T>, Vec<T>)) -> Vec<T> {
        condition.iter().enumerate().map(|(i, &c)| if c != 0 { x[i] } else { y[i] }).collect()
    }
    let dtype = a.input(1).dtype;
    if is_float(a.input(1)) {
        let values = choose(&condition, pair_floats(a, 1, &shape));
        return Tensor::stored(dtype, shape, &values);
    }
    let values = choose(&condition, pair_ints(a, 1, &shape));
    Tensor::int(dtype, shape, values)
}

fn unary<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Tensor<'w> {
    let x = a.input(0);
    if !is_float(x) {
        let integer = |v: i64| match a.node.op {
            Op::Neg => -v,
            other => unreachable!("V006: `{}` takes no integers", other.mnemonic()),
        };
        let values = x.ints().iter().map(|&v| wrap(x.dtype, integer(v))).collect();
        return Tensor::int(x.dtype, shape, values);
    }
    let values: Vec<f32> = x.floats().iter().map(|&v| function(a.node.op, v)).collect();
    Tensor::stored(x.dtype, shape, &values)
}

/// The tanh form of GELU (Hendrycks and Gimpel, arXiv 1606.08415), `x (1 + tanh(u)) / 2` with `u = sqrt(2 / pi) (x +
/// 0.044715 x^3)`, computed as `x / (1 + e^(-2u))` because 1 + tanh(u) would cancel for negative x. In f64, because u
/// is large there and its rounding error counts in full.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let twice = (8.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
    (x / (1.0 + (-twice).exp())) as f32
}

fn function(op: Op, x: f32) -> f32 {
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match op {
        Op::Neg => -x,
        Op::Silu => x * sigmoid(x),
        Op::Gelu => gelu(x),
        Op::Relu => maximum(x, 0.0),
        Op::Tanh => x.tanh(),
        Op::Sigmoid => sigmoid(x),
        Op::Exp => x.exp(),
        Op::Log => x.ln(),
        Op::Sqrt => x.sqrt(),
        Op::Rsqrt => 1.0 / x.sqrt(),
        Op::Sin => x.sin(),
        Op::Cos => x.cos(),
        other => unreachable!("`{}` is no function of one number", other.mnemonic()),
    }
}

#[cfg(test)]
mod tests {
    use super::places;

    #[test]
    fn broadcasting_repeats_dimensions_of_one() {
        assert_eq!(places(&[3], &[2, 3]), [0, 1, 2, 0, 1, 2]);
        assert_eq!(places(&[2, 1], &[2, 3]), [0, 0, 0, 1, 1, 1]);
        assert_eq!(places(&[], &[2]), [0, 0]);
        assert_eq!(places(&[2, 3], &[2, 3]), [0, 1, 2, 3, 4, 5]);
    }
}
