//! Operators that move elements: copies, joins, cuts, permutations, repetition.

use super::arg::{Ints, Num, Tensor, Tensors};
use super::shape::{axis, split, want_dims};
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::memory::Values;
use crate::tensor::refuse::invalid;
use crate::tensor::view::View;

/// Reads `from` through another description of its elements and writes `to`.
fn through(name: &'static str, from: &View, seen: View, to: &View) -> Result<Plan, Error> {
    want_dims("out", to, &seen.dims)?;
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", from), plan.output("out", to));
    Ok(plan.run(0, move |memory| {
        let seen = View { addr: memory.view(i).addr, ..seen.clone() };
        memory.put_values(o, &memory.values_of(&seen));
        Ok(())
    }))
}

/// Picks elements of `from` by index in dense order and writes `to`; `None` takes `fill`.
fn picked(
    name: &'static str,
    from: &View,
    to: &View,
    fill: Num,
    pick: impl Fn(usize) -> Option<usize> + Send + Sync + 'static,
) -> Plan {
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", from), plan.output("out", to));
    let n = to.numel();
    plan.run(0, move |memory| {
        let values = match memory.values(i) {
            Values::Float(x) => Values::Float((0..n).map(|k| pick(k).map_or(fill.float as f32, |p| x[p])).collect()),
            Values::Int(x) => Values::Int((0..n).map(|k| pick(k).map_or(fill.int, |p| x[p])).collect()),
        };
        memory.put_values(o, &values);
        Ok(())
    })
}

const ZERO: Num = Num { float: 0.0, int: 0, dtype: None };

/// The index of a dense element, one number a dimension.
fn unravel(mut i: usize, dims: &[usize]) -> Vec<usize> {
    let mut out = vec![0; dims.len()];
    for d in (0..dims.len()).rev() {
        out[d] = i % dims[d].max(1);
        i /= dims[d].max(1);
    }
    out
}

fn ravel(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |at, (i, n)| at * n + i)
}

/// Copies with conversion and broadcasting.
pub fn inplace_copy(this: Tensor, src: Tensor) -> Result<Plan, Error> {
    through("copy", &src, src.broadcast(&this.dims)?, &this)
}

/// Reorders the dimensions.
pub fn permute(this: Tensor, dims: Ints, out: Tensor) -> Result<Plan, Error> {
    let order = dims.iter().map(|&d| axis(d, this.rank())).collect::<Result<Vec<_>, _>>()?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if sorted != (0..this.rank()).collect::<Vec<_>>() {
        return Err(invalid(format!("dims {dims:?} do not name each of the {} dimensions once", this.rank())));
    }
    let take = |from: &[usize]| order.iter().map(|&d| from[d]).collect::<Vec<_>>();
    let seen = View { dims: take(&this.dims), strides: take(&this.strides), ..(*this).clone() };
    through("transpose", &this, seen, &out)
}

/// A range of one dimension.
pub fn slice(this: Tensor, dim: i64, start: i64, end: i64, step: i64, out: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, this.rank())?;
    if step <= 0 || this.rank() == 0 {
        return Err(invalid(format!("step is {step}, must be positive, of a tensor with dimensions")));
    }
    let n = this.dims[at] as i64;
    let clip = |x: i64| (if x < 0 { x.saturating_add(n) } else { x }).clamp(0, n);
    let (start, end) = (clip(start), clip(end));
    let mut seen = (*this).clone();
    seen.dims[at] = ((end - start).max(0) as usize).div_ceil(step as usize);
    seen.offset += start as usize * this.strides[at];
    seen.strides[at] = this.strides[at].saturating_mul(step as usize);
    through("slice", &this, seen, &out)
}

/// Joins tensors along a dimension.
pub fn cat(list: Tensors, dim: i64, out: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, out.rank())?;
    let mut starts = Vec::new();
    let mut total = 0;
    for view in &list {
        starts.push(total);
        total += view.dims.get(at).copied().unwrap_or(0);
        let mut dims = out.dims.clone();
        dims[at] = view.dims.get(at).copied().unwrap_or(0);
        want_dims("a tensor of the list", view, &dims)?;
    }
    if total != out.dims[at] {
        return Err(invalid(format!("the tensors have {total} in dim {at}, out has {}", out.dims[at])));
    }
    let mut plan = Plan::new("concat");
    let inputs = plan.list("tensors", &list);
    let o = plan.output("out", &out);
    Ok(plan.run(0, move |memory| {
        let parts: Vec<Values> = inputs.iter().map(|&i| memory.values(i)).collect();
        for ((&i, &start), values) in inputs.iter().zip(&starts).zip(&parts) {
            let mut part = memory.view(o).clone();
            part.dims[at] = memory.view(i).dims[at];
            part.offset += start * part.strides[at];
            memory.put_values_in(&part, values);
        }
        Ok(())
    }))
}

/// Tiles a tensor.
pub fn repeat(this: Tensor, repeats: Ints, out: Tensor) -> Result<Plan, Error> {
    let lead = repeats.len().checked_sub(this.rank());
    let lead = lead.ok_or_else(|| invalid(format!("{} repeats for {} dimensions", repeats.len(), this.rank())))?;
    let mut from = vec![1; lead];
    from.extend(&this.dims);
    let times = repeats.iter().map(|&r| usize::try_from(r).ok()).collect::<Option<Vec<_>>>();
    let times = times.ok_or_else(|| invalid(format!("repeats {repeats:?} has a negative number")))?;
    let dims: Vec<usize> = from.iter().zip(&times).map(|(n, t)| n.saturating_mul(*t)).collect();
    want_dims("out", &out, &dims)?;
    Ok(picked("tile", &this, &out, ZERO, move |k| {
        let index: Vec<usize> = unravel(k, &dims).into_iter().zip(&from).map(|(i, n)| i % n).collect();
        Some(ravel(&index, &from))
    }))
}

/// Repeats each element of a dimension.
pub fn repeat_interleave(this: Tensor, repeats: i64, dim: i64, output_size: i64, out: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, this.rank())?;
    let times = usize::try_from(repeats).map_err(|_| invalid(format!("repeats is {repeats}")))?;
    let mut dims = this.dims.clone();
    if dims.is_empty() {
        return Err(invalid("self has no dimensions"));
    }
    dims[at] = dims[at].saturating_mul(times);
    if output_size != dims[at] as i64 {
        return Err(invalid(format!("outputSize is {output_size}, expected {}", dims[at])));
    }
    want_dims("out", &out, &dims)?;
    let (_, n, inner) = split(&dims, at);
    Ok(picked("repeat_interleave", &this, &out, ZERO, move |k| {
        let (row, rest) = (k / (n * inner), k % (n * inner));
        Some((row * (n / times) + rest / inner / times) * inner + rest % inner)
    }))
}

/// Pads with a constant; the pairs (before, after) start at the last dimension.
pub fn constant_pad(this: Tensor, pad: Ints, value: Num, out: Tensor) -> Result<Plan, Error> {
    if !pad.len().is_multiple_of(2) || pad.len() / 2 > this.rank() {
        return Err(invalid(format!("pad {pad:?} does not fit {} dimensions", this.rank())));
    }
    let mut before = vec![0i64; this.rank()];
    let mut dims: Vec<i64> = this.dims.iter().map(|&n| n as i64).collect();
    for (pair, d) in pad.chunks(2).zip((0..this.rank()).rev()) {
        before[d] = pair[0];
        dims[d] = dims[d].saturating_add(pair[0]).saturating_add(pair[1]);
    }
    if dims.iter().any(|&n| n < 0) {
        return Err(invalid(format!("pad {pad:?} cuts more than there is")));
    }
    let dims: Vec<usize> = dims.into_iter().map(|n| n as usize).collect();
    want_dims("out", &out, &dims)?;
    let from = this.dims.clone();
    Ok(picked("pad", &this, &out, value, move |k| {
        let index = unravel(k, &dims);
        let moved = index
            .iter()
            .zip(&before)
            .zip(&from)
            .map(|((&i, b), &n)| usize::try_from(i as i64 - b).ok().filter(|&i| i < n));
        moved.collect::<Option<Vec<_>>>().map(|index| ravel(&index, &from))
    }))
}

/// Rotates the elements along dimensions.
pub fn roll(this: Tensor, shifts: Ints, dims: Ints, out: Tensor) -> Result<Plan, Error> {
    want_dims("out", &out, &this.dims)?;
    if shifts.len() != dims.len() {
        return Err(invalid(format!("{} shifts for {} dims", shifts.len(), dims.len())));
    }
    let axes = dims.iter().map(|&d| axis(d, this.rank())).collect::<Result<Vec<_>, _>>()?;
    let (shape, shifts) = (this.dims.clone(), shifts.to_vec());
    Ok(picked("roll", &this, &out, ZERO, move |k| {
        let mut index = unravel(k, &shape);
        for (&at, &by) in axes.iter().zip(&shifts) {
            index[at] = (index[at] as i64 - by % shape[at] as i64).rem_euclid(shape[at] as i64) as usize;
        }
        Some(ravel(&index, &shape))
    }))
}
