//! Triangles of matrices.

use super::arg::Tensor;
use super::shape::want_dims;
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::memory::Values;
use crate::tensor::refuse::invalid;
use crate::tensor::view::View;

fn triangle(name: &'static str, x: &View, diagonal: i64, out: &View, upper: bool) -> Result<Plan, Error> {
    want_dims("out", out, &x.dims)?;
    if x.rank() < 2 {
        return Err(invalid(format!("self {:?} must have at least two dimensions", x.dims)));
    }
    let (rows, cols) = (x.dims[x.rank() - 2], x.last());
    let keeps = move |k: usize| {
        let distance = (k % cols) as i64 - (k / cols % rows) as i64;
        if upper { distance >= diagonal } else { distance <= diagonal }
    };
    let mut plan = Plan::new(name);
    let (i, o) = (plan.input("self", x), plan.output("out", out));
    Ok(plan.run(1, move |memory| {
        let mut values = memory.values(i);
        match &mut values {
            Values::Float(x) => x.iter_mut().enumerate().filter(|(k, _)| !keeps(*k)).for_each(|(_, x)| *x = 0.0),
            Values::Int(x) => x.iter_mut().enumerate().filter(|(k, _)| !keeps(*k)).for_each(|(_, x)| *x = 0),
        }
        memory.put_values(o, &values);
        Ok(())
    }))
}

/// Zeros below the diagonal.
pub fn triu(x: Tensor, diagonal: i64, out: Tensor) -> Result<Plan, Error> {
    triangle("triu", &x, diagonal, &out, true)
}

/// Zeros below the diagonal, in place.
pub fn inplace_triu(x: Tensor, diagonal: i64) -> Result<Plan, Error> {
    triangle("triu", &x, diagonal, &x, true)
}

/// Zeros above the diagonal.
pub fn tril(x: Tensor, diagonal: i64, out: Tensor) -> Result<Plan, Error> {
    triangle("tril", &x, diagonal, &out, false)
}
