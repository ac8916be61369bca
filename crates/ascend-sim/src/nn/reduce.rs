//! Reductions along dimensions, the softmax, running sums and the largest element.

use super::arg::{Ints, Num, Tensor};
use super::shape::{axes, axis, split, want_dims, want_float, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::refuse::invalid;
use crate::tensor::view::View;

/// The shape after reducing dimensions.
fn reduced(dims: &[usize], drop: &[usize], keep: bool) -> Vec<usize> {
    let size = |(i, &n): (usize, &usize)| match (drop.contains(&i), keep) {
        (true, true) => Some(1),
        (true, false) => None,
        _ => Some(n),
    };
    dims.iter().enumerate().filter_map(size).collect()
}

/// Reads a view with the reduced dimensions last, so that each result is one consecutive run.
fn runs_last(view: &View, drop: &[usize]) -> View {
    let order: Vec<usize> = (0..view.rank()).filter(|d| !drop.contains(d)).chain(drop.iter().copied()).collect();
    let take = |from: &[usize]| order.iter().map(|&d| from[d]).collect();
    View { dims: take(&view.dims), strides: take(&view.strides), ..view.clone() }
}

fn reduction(
    name: &'static str,
    x: &View,
    dims: &[i64],
    keep: bool,
    out: &View,
    f: impl Fn(&[f32]) -> f32 + Send + Sync + 'static,
) -> Result<Plan, Error> {
    let drop = axes(dims, x.rank())?;
    want_dims("out", out, &reduced(&x.dims, &drop, keep))?;
    let seen = runs_last(x, &drop);
    let run: usize = drop.iter().map(|&d| x.dims[d]).product();
    let results = out.numel();
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", x), plan.output("out", out));
    let mut plan = plan.run(0, move |memory| {
        let values = memory.floats_of(&View { addr: memory.view(i).addr, ..seen.clone() });
        let out: Vec<f32> = (0..results).map(|r| f(&values[r * run..][..run])).collect();
        memory.put(o, &out);
        Ok(())
    });
    plan.cost.vector_ops = x.numel() as u64;
    Ok(plan)
}

fn want_code(dtype: i32, out: &View) -> Result<(), Error> {
    if dtype == out.dtype.acl() {
        Ok(())
    } else {
        Err(invalid(format!("dtype {dtype} is not that of out ({})", out.dtype)))
    }
}

/// Sum along dimensions.
pub fn reduce_sum(x: Tensor, dims: Ints, keep: bool, dtype: i32, out: Tensor) -> Result<Plan, Error> {
    want_code(dtype, &out)?;
    reduction("reduce_sum", &x, &dims, keep, &out, |run| run.iter().sum())
}

/// Mean along dimensions.
pub fn mean(x: Tensor, dims: Ints, keep: bool, dtype: i32, out: Tensor) -> Result<Plan, Error> {
    want_code(dtype, &out)?;
    want_float("self", &x)?;
    reduction("reduce_mean", &x, &dims, keep, &out, |run| run.iter().sum::<f32>() / run.len() as f32)
}

/// p-norm along dimensions.
pub fn norm(x: Tensor, p: Num, dims: Ints, keep: bool, out: Tensor) -> Result<Plan, Error> {
    want_float("self", &x)?;
    let p = p.float as f32;
    reduction("lp_norm", &x, &dims, keep, &out, move |run| match p {
        2.0 => run.iter().map(|x| x * x).sum::<f32>().sqrt(),
        1.0 => run.iter().map(|x| x.abs()).sum(),
        0.0 => run.iter().filter(|&&x| x != 0.0).count() as f32,
        f32::INFINITY => run.iter().fold(0.0, |top, x| top.max(x.abs())),
        f32::NEG_INFINITY => run.iter().fold(f32::INFINITY, |low, x| low.min(x.abs())),
        p => run.iter().map(|x| x.abs().powf(p)).sum::<f32>().powf(1.0 / p),
    })
}

/// Applies a function to each run along a dimension and puts the runs back.
fn along(
    name: &'static str,
    x: &View,
    at: usize,
    out: &View,
    ops: u64,
    f: impl Fn(&mut [f32]) + Send + Sync + 'static,
) -> Result<Plan, Error> {
    want_dims("out", out, &x.dims)?;
    let drop: &[usize] = if x.rank() == 0 { &[] } else { &[at] };
    let (from, to) = (runs_last(x, drop), runs_last(out, drop));
    let run = x.dims.get(at).copied().unwrap_or(1).max(1);
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", x), plan.output("out", out));
    Ok(plan.run(ops, move |memory| {
        let mut values = memory.floats_of(&View { addr: memory.view(i).addr, ..from.clone() });
        values.chunks_mut(run).for_each(&f);
        memory.put_in(&View { addr: memory.view(o).addr, ..to.clone() }, &values);
        Ok(())
    }))
}

/// Softmax of a run, in f32.
pub fn softmax_run(run: &mut [f32]) {
    let top = run.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    run.iter_mut().for_each(|x| *x = (*x - top).exp());
    let total: f32 = run.iter().sum();
    run.iter_mut().for_each(|x| *x /= total);
}

/// Softmax along a dimension.
pub fn softmax(x: Tensor, dim: i64, out: Tensor) -> Result<Plan, Error> {
    want_float("self", &x)?;
    want_float("out", &out)?;
    along("softmax", &x, axis(dim, x.rank())?, &out, 8, softmax_run)
}

/// Running sum along a dimension.
pub fn cumsum(x: Tensor, dim: i64, dtype: i32, out: Tensor) -> Result<Plan, Error> {
    want_code(dtype, &out)?;
    along("cumsum", &x, axis(dim, x.rank())?, &out, 1, |run| {
        let mut total = 0.0;
        run.iter_mut().for_each(|x| {
            total += *x;
            *x = total;
        });
    })
}

/// Position and value of the largest element: the first of equals, and NaN above all.
pub fn top(run: impl Iterator<Item = f32>) -> (usize, f32) {
    let mut best = (0, f32::NEG_INFINITY);
    for (i, x) in run.enumerate() {
        if i == 0 || x > best.1 || (x.is_nan() && !best.1.is_nan()) {
            best = (i, x);
        }
    }
    best
}

fn tops(values: &[f32], sizes: (usize, usize, usize)) -> Vec<(usize, f32)> {
    let (outer, n, inner) = sizes;
    let run = |b: usize, i: usize| (0..n).map(move |k| values[(b * n + k) * inner + i]);
    (0..outer).flat_map(|b| (0..inner).map(move |i| (b, i))).map(|(b, i)| top(run(b, i))).collect()
}

/// Position of the largest element along a dimension.
pub fn argmax(x: Tensor, dim: i64, keep: bool, out: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, x.rank())?;
    let drop: &[usize] = if x.rank() == 0 { &[] } else { &[at] };
    want_type("out", &out, &[DType::I64, DType::I32])?;
    want_dims("out", &out, &reduced(&x.dims, drop, keep))?;
    let sizes = split(&x.dims, at);
    if sizes.1 == 0 {
        return Err(invalid("the dimension is empty"));
    }
    let mut plan = Plan::new("arg_max");
    let (i, o) = (plan.input("self", &x), plan.output("out", &out));
    let mut plan = plan.run(0, move |memory| {
        let found = tops(&memory.floats(i), sizes);
        memory.put_ints(o, &found.into_iter().map(|t| t.0 as i64).collect::<Vec<_>>());
        Ok(())
    });
    plan.cost.vector_ops = x.numel() as u64;
    Ok(plan)
}

/// Largest element along a dimension and its position.
pub fn max_dim(x: Tensor, dim: i64, keep: bool, out: Tensor, indices: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, x.rank())?;
    let drop: &[usize] = if x.rank() == 0 { &[] } else { &[at] };
    let dims = reduced(&x.dims, drop, keep);
    want_type("indices", &indices, &[DType::I64, DType::I32])?;
    want_dims("out", &out, &dims)?;
    want_dims("indices", &indices, &dims)?;
    let sizes = split(&x.dims, at);
    if sizes.1 == 0 {
        return Err(invalid("the dimension is empty"));
    }
    let mut plan = Plan::new("max_dim");
    let (i, o, k) = (plan.input("self", &x), plan.output("out", &out), plan.output("indices", &indices));
    let mut plan = plan.run(0, move |memory| {
        let found = tops(&memory.floats(i), sizes);
        memory.put(o, &found.iter().map(|t| t.1).collect::<Vec<_>>());
        memory.put_ints(k, &found.iter().map(|t| t.0 as i64).collect::<Vec<_>>());
        Ok(())
    });
    plan.cost.vector_ops = x.numel() as u64;
    Ok(plan)
}
