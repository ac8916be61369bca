//! Operators that write by index, in place: the ways into a KV cache.

use super::arg::Tensor;
use super::gather::row;
use super::shape::{axis, same_type, want_dims, want_index, want_numel, want_rank};
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::refuse::invalid;
use crate::tensor::view::View;

/// Charges the elements moved, not the whole target.
fn charge(mut plan: Plan, moved: &View, index: &View) -> Plan {
    (plan.cost.read, plan.cost.write, plan.cost.vector_ops) = (moved.bytes() + index.bytes(), moved.bytes(), 0);
    plan
}

/// `self[.., index[i], ..] = source[.., i, ..]`.
pub fn inplace_index_copy(this: Tensor, dim: i64, index: Tensor, source: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, this.rank())?;
    want_index("index", &index)?;
    want_rank("index", &index, 0, 1)?;
    same_type(("selfRef", &this), ("source", &source))?;
    let mut dims = this.dims.clone();
    if dims.is_empty() {
        return Err(invalid("selfRef has no dimensions"));
    }
    let rows = dims[at];
    dims[at] = index.numel();
    want_dims("source", &source, &dims)?;
    let mut plan = Plan::new("index_copy");
    let (x, s, o) = (plan.input("index", &index), plan.input("source", &source), plan.output("selfRef", &this));
    let plan = plan.run(0, move |memory| {
        let index = memory.ints(x).into_iter().map(|k| row(k, rows)).collect::<Result<Vec<_>, _>>()?;
        for (i, k) in index.into_iter().enumerate() {
            memory.put_values_in(&one(memory.view(o), at, k), &memory.values_of(&one(memory.view(s), at, i)));
        }
        Ok(())
    });
    Ok(charge(plan, &source, &index))
}

/// The view cut to one position of a dimension.
fn one(view: &View, at: usize, index: usize) -> View {
    let mut cut = view.clone();
    cut.offset += index * view.strides[at];
    cut.dims[at] = 1;
    cut
}

/// Writes the slices of `updates` at (batch, position): `indices` holds a start along `axis` for each batch (one
/// dimension), or pairs of batch and start (two dimensions).
pub fn inplace_scatter_update(data: Tensor, indices: Tensor, updates: Tensor, axis_number: i64) -> Result<Plan, Error> {
    let at = axis(axis_number, data.rank())?;
    want_index("indices", &indices)?;
    same_type(("data", &data), ("updates", &updates))?;
    want_rank("updates", &updates, data.rank(), data.rank())?;
    want_rank("indices", &indices, 1, 2)?;
    let pairs = indices.rank() == 2;
    if at == 0 || data.rank() < 2 || (pairs && indices.dims[1] != 2) {
        return Err(invalid("axis must not be 0, and indices are starts or pairs of batch and start"));
    }
    for d in (1..data.rank()).filter(|&d| d != at) {
        if updates.dims[d] != data.dims[d] {
            return Err(invalid(format!("updates {:?} and data {:?} differ in dim {d}", updates.dims, data.dims)));
        }
    }
    if updates.dims[0] != indices.dims[0] {
        return Err(invalid(format!("{} indices for {} updates", indices.dims[0], updates.dims[0])));
    }
    let mut plan = Plan::new("scatter_update");
    let (x, s, o) = (plan.input("indices", &indices), plan.input("updates", &updates), plan.output("data", &data));
    let plan = plan.run(0, move |memory| {
        let index = memory.ints(x);
        let (data, updates) = (memory.view(o), memory.view(s));
        let steps = updates.dims[at];
        for b in 0..updates.dims[0] {
            let (batch, start) = if pairs { (index[2 * b], index[2 * b + 1]) } else { (b as i64, index[b]) };
            let (batch, first) = (row(batch, data.dims[0])?, row(start, data.dims[at])?);
            row((first + steps.max(1) - 1) as i64, data.dims[at])?;
            let mut target = one(data, 0, batch);
            target.offset += first * data.strides[at];
            target.dims[at] = steps;
            memory.put_values_in(&target, &memory.values_of(&one(updates, 0, b)));
        }
        Ok(())
    });
    Ok(charge(plan, &updates, &indices))
}

/// Writes slices of `updates` where rows of `indices` point, one number for each leading dimension.
pub fn scatter_nd_update(this: Tensor, indices: Tensor, updates: Tensor) -> Result<Plan, Error> {
    want_index("indices", &indices)?;
    same_type(("varRef", &this), ("updates", &updates))?;
    let depth = indices.last();
    if indices.rank() == 0 || depth == 0 || depth > this.rank() {
        return Err(invalid(format!("indices {:?} do not fit varRef {:?}", indices.dims, this.dims)));
    }
    let inner: usize = this.dims[depth..].iter().product();
    let count = indices.numel() / depth;
    want_numel("updates", &updates, count * inner)?;
    let mut plan = Plan::new("scatter_nd_update");
    let (x, s, o) = (plan.input("indices", &indices), plan.input("updates", &updates), plan.output("varRef", &this));
    let lead = updates.rank() - (this.rank() - depth).min(updates.rank());
    let plan = plan.run(0, move |memory| {
        let index = memory.ints(x);
        let (target, updates) = (memory.view(o), memory.view(s));
        for i in 0..count {
            let at = (0..depth).map(|d| row(index[i * depth + d], target.dims[d])).collect::<Result<Vec<_>, _>>()?;
            let mut from = vec![0; lead];
            let mut rest = i;
            for d in (0..lead).rev() {
                from[d] = rest % updates.dims[d].max(1);
                rest /= updates.dims[d].max(1);
            }
            memory.put_values_in(&target.at(&at), &memory.values_of(&updates.at(&from)));
        }
        Ok(())
    });
    Ok(charge(plan, &updates, &indices))
}
