//! Operators that make values: ranges and fills.

use super::arg::{Ints, Num, Tensor};
use super::shape::{axis, split, want_numel, want_rank};
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::memory::Values;
use crate::tensor::refuse::invalid;

/// `start, start + step, ...` up to `end`, exclusive.
pub fn arange(start: Num, end: Num, step: Num, out: Tensor) -> Result<Plan, Error> {
    if step.float == 0.0 || (end.float - start.float) * step.float < 0.0 {
        return Err(invalid(format!("step {} does not lead from {} to {}", step.float, start.float, end.float)));
    }
    want_rank("out", &out, 1, 1)?;
    let n = ((end.float - start.float) / step.float).ceil() as usize;
    want_numel("out", &out, n)?;
    let mut plan = Plan::new("arange");
    let o = plan.output("out", &out);
    Ok(plan.run(1, move |memory| {
        if memory.view(o).dtype.is_float() {
            let values: Vec<f32> = (0..n).map(|i| (start.float + i as f64 * step.float) as f32).collect();
            memory.put(o, &values);
        } else {
            let values: Vec<i64> = (0..n as i64).map(|i| start.int.wrapping_add(i.wrapping_mul(step.int))).collect();
            memory.put_ints(o, &values);
        }
        Ok(())
    }))
}

/// Fills a tensor with a scalar.
pub fn inplace_fill_scalar(this: Tensor, value: Num) -> Result<Plan, Error> {
    let mut plan = Plan::new("fill");
    let o = plan.output("selfRef", &this);
    let n = this.numel();
    Ok(plan.run(1, move |memory| {
        let float = memory.view(o).dtype.is_float();
        memory.put_values(
            o,
            &if float { Values::Float(vec![value.float as f32; n]) } else { Values::Int(vec![value.int; n]) },
        );
        Ok(())
    }))
}

/// Fills a tensor with zeros.
pub fn inplace_zero(this: Tensor) -> Result<Plan, Error> {
    inplace_fill_scalar(this, Num { float: 0.0, int: 0, dtype: None })
}

/// Fills the given positions of one dimension with a scalar.
pub fn inplace_index_fill(this: Tensor, dim: i64, index: Ints, value: Num) -> Result<Plan, Error> {
    let at = axis(dim, this.rank())?;
    let (outer, n, inner) = split(&this.dims, at);
    let picks = index.iter().map(|&i| axis(i, n)).collect::<Result<Vec<_>, _>>()?;
    let mut plan = Plan::new("index_fill");
    let (i, o) = (plan.input("self", &this), plan.output("selfRef", &this));
    Ok(plan.run(1, move |memory| {
        let mut values = memory.values(i);
        for row in (0..outer).flat_map(|b| picks.iter().map(move |p| (b * n + p) * inner)) {
            match &mut values {
                Values::Float(x) => x[row..row + inner].fill(value.float as f32),
                Values::Int(x) => x[row..row + inner].fill(value.int),
            }
        }
        memory.put_values(o, &values);
        Ok(())
    }))
}
