//! Operators that read by index.

use super::arg::Tensor;
use super::shape::{axis, same_type, split, want_dims, want_index, want_rank};
use crate::task::{Error, Fault};
use crate::tensor::exec::Plan;
use crate::tensor::memory::Values;
use crate::tensor::refuse::{fault, invalid};

/// An index of the device as a row number.
pub fn row(index: i64, rows: usize) -> Result<usize, Fault> {
    let at = if index < 0 { index + rows as i64 } else { index };
    let at = usize::try_from(at).ok().filter(|&at| at < rows);
    at.ok_or_else(|| fault(format!("index {index} is out of range for {rows} rows")))
}

/// Picks slices of a dimension; the index may have any shape.
pub fn gather(this: Tensor, dim: i64, index: Tensor, out: Tensor) -> Result<Plan, Error> {
    let at = axis(dim, this.rank())?;
    if this.rank() == 0 {
        return Err(invalid("self has no dimensions"));
    }
    want_index("index", &index)?;
    same_type(("self", &this), ("out", &out))?;
    let mut dims = this.dims[..at].to_vec();
    dims.extend(&index.dims);
    dims.extend(&this.dims[at + 1..]);
    want_dims("out", &out, &dims)?;
    let (outer, rows, inner) = split(&this.dims, at);
    let picks = index.numel();
    let mut plan = Plan::new("gather");
    let (i, x, o) = (plan.input("self", &this), plan.input("index", &index), plan.output("out", &out));
    let mut plan = plan.run(0, move |memory| {
        let index = memory.ints(x);
        let table = memory.view(i);
        let picked = index.iter().map(|&k| row(k, rows)).collect::<Result<Vec<_>, _>>()?;
        let mut all = Vec::with_capacity(outer * picks);
        for b in 0..outer {
            all.extend(picked.iter().map(|&k| {
                // One slice of the table: leading dimensions fixed to `b`, this one to `k`.
                let mut rest = b;
                let mut at_index = vec![0; at + 1];
                for d in (0..at).rev() {
                    at_index[d] = rest % table.dims[d];
                    rest /= table.dims[d];
                }
                at_index[at] = k;
                memory.values_of(&table.at(&at_index))
            }));
        }
        memory.put_values(o, &join(all, table.dtype.is_float(), outer * picks * inner));
        Ok(())
    });
    // Only the picked rows are read.
    plan.cost.read = out.bytes() + index.bytes();
    Ok(plan)
}

fn join(parts: Vec<Values>, float: bool, n: usize) -> Values {
    if float {
        let mut all = Vec::with_capacity(n);
        parts.into_iter().for_each(|part| {
            if let Values::Float(x) = part {
                all.extend(x)
            }
        });
        Values::Float(all)
    } else {
        let mut all = Vec::with_capacity(n);
        parts.into_iter().for_each(|part| {
            if let Values::Int(x) = part {
                all.extend(x)
            }
        });
        Values::Int(all)
    }
}

/// Picks slices of a dimension by a list.
pub fn index_select(this: Tensor, dim: i64, index: Tensor, out: Tensor) -> Result<Plan, Error> {
    want_rank("index", &index, 0, 1)?;
    gather(this, dim, index, out)
}

/// Rows of an embedding table.
pub fn embedding(weight: Tensor, indices: Tensor, out: Tensor) -> Result<Plan, Error> {
    want_rank("weight", &weight, 2, 2)?;
    gather(weight, 0, indices, out)
}
