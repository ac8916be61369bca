//! Sorting along a dimension: the order, and the k first.

use super::arg::Tensor;
use super::shape::{axis, split, want_dims, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::refuse::invalid;

/// Positions of a run in order; equal elements keep their order, NaN counts as the largest.
fn order(run: &[f32], descending: bool) -> Vec<usize> {
    let key = |i: usize| if run[i].is_nan() { f32::INFINITY } else { run[i] };
    let rank = |i: usize| u8::from(run[i].is_nan());
    let mut at: Vec<usize> = (0..run.len()).collect();
    at.sort_by(|&a, &b| {
        let order = key(a).total_cmp(&key(b)).then(rank(a).cmp(&rank(b)));
        if descending { order.reverse() } else { order }
    });
    at
}

/// Position of element `k` of run (`b`, `i`).
fn place(b: usize, k: usize, i: usize, n: usize, inner: usize) -> usize {
    (b * n + k) * inner + i
}

/// Positions that sort each run.
pub fn argsort(x: Tensor, dim: i64, descending: bool, out: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, x.rank())?;
    want_type("out", &out, &[DType::I64, DType::I32])?;
    want_dims("out", &out, &x.dims)?;
    let (outer, n, inner) = split(&x.dims, at);
    let mut plan = Plan::new("sort");
    let (i, o) = (plan.input("self", &x), plan.output("out", &out));
    Ok(plan.run(16, move |memory| {
        let values = memory.floats(i);
        let mut all = vec![0; values.len()];
        for (b, i) in (0..outer).flat_map(|b| (0..inner).map(move |i| (b, i))) {
            let run: Vec<f32> = (0..n).map(|k| values[place(b, k, i, n, inner)]).collect();
            for (k, from) in order(&run, descending).into_iter().enumerate() {
                all[place(b, k, i, n, inner)] = from as i64;
            }
        }
        memory.put_ints(o, &all);
        Ok(())
    }))
}

/// The k largest or smallest of each run, with their positions, in order.
pub fn topk(
    x: Tensor,
    k: i64,
    dim: i64,
    largest: bool,
    _sorted: bool,
    values: Tensor,
    indices: Tensor,
) -> Result<Plan, Error> {
    let at = axis(dim, x.rank())?;
    let (outer, n, inner) = split(&x.dims, at);
    let count =
        usize::try_from(k).ok().filter(|&k| k <= n).ok_or_else(|| invalid(format!("k is {k}, must be 0 to {n}")))?;
    let mut dims = x.dims.clone();
    dims.get_mut(at).into_iter().for_each(|d| *d = count);
    want_dims("valuesOut", &values, &dims)?;
    want_dims("indicesOut", &indices, &dims)?;
    want_type("indicesOut", &indices, &[DType::I64, DType::I32])?;
    let mut plan = Plan::new("top_k");
    let i = plan.input("self", &x);
    let (v, p) = (plan.output("valuesOut", &values), plan.output("indicesOut", &indices));
    let mut plan = plan.run(0, move |memory| {
        let from = memory.floats(i);
        let (mut best, mut places) = (vec![0f32; outer * count * inner], vec![0i64; outer * count * inner]);
        for (b, i) in (0..outer).flat_map(|b| (0..inner).map(move |i| (b, i))) {
            let run: Vec<f32> = (0..n).map(|k| from[place(b, k, i, n, inner)]).collect();
            for (k, at) in order(&run, largest).into_iter().take(count).enumerate() {
                best[place(b, k, i, count, inner)] = run[at];
                places[place(b, k, i, count, inner)] = at as i64;
            }
        }
        memory.put(v, &best);
        memory.put_ints(p, &places);
        Ok(())
    });
    plan.cost.vector_ops = 4 * x.numel() as u64;
    Ok(plan)
}
