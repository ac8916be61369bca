//! Gated activations: the first half of a dimension, activated, times the second half.

use super::arg::{MaybeTensor, MaybeText, Tensor};
use super::quant::quantize_row;
use super::shape::{axis, same_type, split, want_dims, want_float, want_numel, want_type};
use super::unary::sigmoid_of;
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::refuse::{invalid, no_kernel};
use crate::tensor::view::View;

/// Sizes of a gated activation: before the dimension, half of it, after it.
fn sizes(x: &View, dim: i64) -> Result<(usize, usize, usize, Vec<usize>), Error> {
    want_float("x", x)?;
    let at = axis(dim, x.rank())?;
    let (outer, n, inner) = split(&x.dims, at);
    if x.rank() == 0 || !n.is_multiple_of(2) {
        return Err(invalid(format!("dim {dim} of x {:?} must be even", x.dims)));
    }
    let mut dims = x.dims.clone();
    dims[at] = n / 2;
    Ok((outer, n / 2, inner, dims))
}

/// `silu(first half) * second half` of dense rows of `2 * half`.
fn swiglu(x: &[f32], half: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len() / 2);
    for row in x.chunks_exact(2 * half.max(1)) {
        let (gate, up) = row.split_at(half);
        out.extend(gate.iter().zip(up).map(|(g, u)| g * sigmoid_of(*g) * u));
    }
    out
}

/// SwiGLU along a dimension.
pub fn swi_glu(x: Tensor, dim: i64, out: Tensor) -> Result<Plan, Error> {
    let (_, half, inner, dims) = sizes(&x, dim)?;
    same_type(("x", &x), ("out", &out))?;
    want_dims("out", &out, &dims)?;
    let mut plan = Plan::new("swi_glu");
    let (i, o) = (plan.input("x", &x), plan.output("out", &out));
    Ok(plan.run(6, move |memory| {
        memory.put(o, &swiglu(&memory.floats(i), half * inner));
        Ok(())
    }))
}

/// SwiGLU of the last dimension, quantised by the largest value of each row.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn swi_glu_quant(
    x: Tensor,
    smooth: MaybeTensor,
    offsets: MaybeTensor,
    group_index: MaybeTensor,
    activate_left: bool,
    mode: MaybeText,
    y: Tensor,
    scale: Tensor,
) -> Result<Plan, Error> {
    if offsets.is_some() || group_index.is_some() || mode.as_deref().is_some_and(|m| m != "dynamic") {
        return Err(no_kernel("aclnnSwiGluQuant is simulated for quantMode \"dynamic\" without groups and offsets"));
    }
    let (_, half, _, dims) = sizes(&x, -1)?;
    want_type("yOut", &y, &[DType::I8])?;
    want_dims("yOut", &y, &dims)?;
    want_numel("scaleOut", &scale, y.numel() / half.max(1))?;
    if let Some(smooth) = &smooth {
        want_numel("smoothScales", smooth, half)?;
    }
    let mut plan = Plan::new("swi_glu_quant");
    let (i, s) = (plan.input("x", &x), plan.maybe("smoothScales", smooth.as_deref()));
    let (o, f) = (plan.output("yOut", &y), plan.output("scaleOut", &scale));
    Ok(plan.run(10, move |memory| {
        let mut x = memory.floats(i);
        if !activate_left {
            x.chunks_exact_mut(2 * half.max(1)).for_each(|row| row.rotate_left(half));
        }
        let smooth = s.map(|slot| memory.floats(slot));
        let out = swiglu(&x, half);
        let rows: Vec<(Vec<i64>, f32)> =
            out.chunks(half.max(1)).map(|row| quantize_row(row, smooth.as_deref())).collect();
        memory.put_ints(o, &rows.iter().flat_map(|r| r.0.iter().copied()).collect::<Vec<_>>());
        memory.put(f, &rows.iter().map(|r| r.1).collect::<Vec<_>>());
        Ok(())
    }))
}
