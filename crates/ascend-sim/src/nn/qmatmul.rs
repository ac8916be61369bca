//! Products of int8 matrices with int32 accumulation, scaled to floats or back to int8.

use super::arg::{MaybeTensor, Tensor};
use super::parallel;
use super::quant::round_to_i8;
use super::shape::{want_dims, want_numel, want_rank, want_tiled, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::memory::{Memory, Slot};
use crate::tensor::refuse::{invalid, no_kernel};
use crate::tensor::view::View;

/// The view with its two dimensions swapped, if asked.
fn turned(view: &View, swap: bool) -> View {
    let mut out = view.clone();
    if swap {
        out.dims.reverse();
        out.strides.reverse();
    }
    out
}

/// Exact products in int32, which wraps as the accumulator does.
fn products(x: &[i64], w: &[i64], m: usize, k: usize, n: usize) -> Vec<i32> {
    let rows = parallel::map(m, m * k * n, |i| {
        let mut out = vec![0i32; n];
        for p in 0..k {
            let a = x[i * k + p] as i32;
            out.iter_mut().zip(&w[p * n..][..n]).for_each(|(o, &b)| *o = o.wrapping_add(a * b as i32));
        }
        out
    });
    rows.concat()
}

/// Scales of a call.
struct Scales {
    column: Option<Slot>,
    row: Option<Slot>,
    offset: Option<Slot>,
    bias: Option<Slot>,
}

/// A scale as f32; the 64-bit form keeps it in its low half.
fn scale_of(memory: &Memory, slot: Slot) -> Vec<f32> {
    if memory.view(slot).dtype.is_float() {
        return memory.floats(slot);
    }
    memory.ints(slot).into_iter().map(|word| f32::from_bits(word as u32)).collect()
}

impl Scales {
    fn apply(&self, memory: &Memory, sums: &[i32], n: usize, out: Slot) {
        let each = |slot: Option<Slot>| slot.map(|slot| scale_of(memory, slot));
        let (column, row, zero) = (each(self.column), each(self.row), each(self.offset));
        let bias = self.bias.map(|slot| (memory.view(slot).dtype, memory.floats(slot)));
        let whole_bias = bias.as_ref().filter(|b| b.0 == DType::I32);
        let float_bias = bias.as_ref().filter(|b| b.0 != DType::I32);
        let pick = |values: &Vec<f32>, i: usize| values[if values.len() == 1 { 0 } else { i }];
        let scaled = sums.iter().enumerate().map(|(at, &sum)| {
            let (i, j) = (at / n, at % n);
            let sum = whole_bias.map_or(sum, |b| sum.wrapping_add(pick(&b.1, j) as i32));
            let x = sum as f32 * column.as_ref().map_or(1.0, |s| pick(s, j)) * row.as_ref().map_or(1.0, |s| pick(s, i));
            x + float_bias.map_or(0.0, |b| pick(&b.1, j)) + zero.as_ref().map_or(0.0, |z| pick(z, j))
        });
        let scaled: Vec<f32> = scaled.collect();
        if memory.view(out).dtype == DType::I8 {
            memory.put_ints(out, &scaled.into_iter().map(round_to_i8).collect::<Vec<_>>());
        } else {
            memory.put(out, &scaled);
        }
    }
}

/// Parameters common to all versions.
struct Given {
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    offset: MaybeTensor,
    row_scale: MaybeTensor,
    bias: MaybeTensor,
    turn: (bool, bool),
    out: Tensor,
}

fn product(g: Given) -> Result<Plan, Error> {
    for (name, view) in [("x1", &g.x1), ("x2", &g.x2)] {
        want_type(name, view, &[DType::I8])?;
        want_rank(name, view, 2, 2)?;
    }
    want_type("out", &g.out, &[DType::F16, DType::Bf16, DType::I8, DType::I32])?;
    want_type("scale", &g.scale, &[DType::F32, DType::Bf16, DType::U64, DType::I64])?;
    let (x, w) = (turned(&g.x1, g.turn.0), turned(&g.x2, g.turn.1));
    let (m, k, n) = (x.dims[0], x.dims[1], w.dims[1]);
    if w.dims[0] != k {
        return Err(invalid(format!("the inner sizes differ: x1 {:?}, x2 {:?}", x.dims, w.dims)));
    }
    want_dims("out", &g.out, &[m, n])?;
    for (name, view) in [("scale", Some(&g.scale)), ("offset", g.offset.as_ref()), ("bias", g.bias.as_ref())] {
        let fits = view.is_none_or(|view| view.numel() == n || (view.numel() == 1 && name != "bias"));
        if !fits {
            return Err(invalid(format!("{name} has {} elements, expected {n}", view.map_or(0, |v| v.numel()))));
        }
    }
    if let Some(row) = &g.row_scale {
        want_type("pertokenScale", row, &[DType::F32])?;
        want_numel("pertokenScale", row, m)?;
    }
    let mut plan = Plan::new("quant_matmul");
    let (i, j) = (plan.input("x1", &g.x1), plan.input("x2", &g.x2));
    let scale = plan.input("scale", &g.scale);
    let offset = plan.maybe("offset", g.offset.as_deref());
    let row = plan.maybe("pertokenScale", g.row_scale.as_deref());
    let bias = plan.maybe("bias", g.bias.as_deref());
    let o = plan.output("out", &g.out);
    // A result in int32 is the raw sum: scales are ignored.
    let raw = g.out.dtype == DType::I32;
    let scales = Scales { column: Some(scale), row, offset, bias };
    let mut plan = plan.run(2, move |memory| {
        let at = |slot, view: &View| View { addr: memory.view(slot).addr, ..view.clone() };
        let sums = products(&memory.ints_of(&at(i, &x)), &memory.ints_of(&at(j, &w)), m, k, n);
        if raw {
            memory.put_ints(o, &sums.into_iter().map(i64::from).collect::<Vec<_>>());
        } else {
            scales.apply(memory, &sums, n, o);
        }
        Ok(())
    });
    plan.cost.cube_int8 = 2 * (m * k * n) as u64;
    Ok(plan)
}

/// `aclnnQuantMatmulV3`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn quant_matmul_v3(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    offset: MaybeTensor,
    bias: MaybeTensor,
    t1: bool,
    t2: bool,
    out: Tensor,
) -> Result<Plan, Error> {
    product(Given { x1, x2, scale, offset, row_scale: None, bias, turn: (t1, t2), out })
}

/// `aclnnQuantMatmulV4`: with a scale for each row of `x1`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn quant_matmul_v4(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    offset: MaybeTensor,
    row_scale: MaybeTensor,
    bias: MaybeTensor,
    t1: bool,
    t2: bool,
    out: Tensor,
) -> Result<Plan, Error> {
    product(Given { x1, x2, scale, offset, row_scale, bias, turn: (t1, t2), out })
}

/// `aclnnQuantMatmulV5`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn quant_matmul_v5(
    x1: Tensor,
    x2: Tensor,
    x1_scale: MaybeTensor,
    x2_scale: Tensor,
    y_scale: MaybeTensor,
    x1_offset: MaybeTensor,
    x2_offset: MaybeTensor,
    y_offset: MaybeTensor,
    bias: MaybeTensor,
    t1: bool,
    t2: bool,
    group: i64,
    out: Tensor,
) -> Result<Plan, Error> {
    let extra = [&y_scale, &x1_offset, &y_offset].into_iter().any(Option::is_some);
    if extra || group != 0 {
        return Err(no_kernel("yScale, x1Offset, yOffset and groups are not implemented by the simulated device"));
    }
    product(Given { x1, x2, scale: x2_scale, offset: x2_offset, row_scale: x1_scale, bias, turn: (t1, t2), out })
}

/// `aclnnQuantMatmulWeightNz`: the same with a weight that must be in FRACTAL_NZ.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn quant_matmul_weight_nz(
    x1: Tensor,
    x2: Tensor,
    x1_scale: MaybeTensor,
    x2_scale: Tensor,
    y_scale: MaybeTensor,
    x1_offset: MaybeTensor,
    x2_offset: MaybeTensor,
    y_offset: MaybeTensor,
    bias: MaybeTensor,
    t1: bool,
    t2: bool,
    group: i64,
    out: Tensor,
) -> Result<Plan, Error> {
    want_tiled("x2", &x2)?;
    quant_matmul_v5(x1, x2, x1_scale, x2_scale, y_scale, x1_offset, x2_offset, y_offset, bias, t1, t2, group, out)
}
