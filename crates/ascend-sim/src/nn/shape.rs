//! Checks of shapes, types and dimensions that many operators share.

use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::refuse::invalid;
use crate::tensor::view::{FRACTAL_NZ, View};

/// A dimension number, counted from the end when negative.
pub fn axis(dim: i64, rank: usize) -> Result<usize, Error> {
    let n = rank.max(1) as i64;
    if dim < -n || dim >= n {
        return Err(invalid(format!("dim {dim} is out of range for {rank} dimensions")));
    }
    Ok((if dim < 0 { dim + n } else { dim }) as usize)
}

/// A set of dimension numbers; all of them when empty.
pub fn axes(dims: &[i64], rank: usize) -> Result<Vec<usize>, Error> {
    if dims.is_empty() {
        return Ok((0..rank).collect());
    }
    let mut out = dims.iter().map(|&d| axis(d, rank)).collect::<Result<Vec<_>, _>>()?;
    out.sort_unstable();
    let count = out.len();
    out.dedup();
    if out.len() < count { Err(invalid(format!("dims {dims:?} name a dimension twice"))) } else { Ok(out) }
}

/// Elements before, in and after a dimension of a dense tensor.
pub fn split(dims: &[usize], axis: usize) -> (usize, usize, usize) {
    let n = dims.get(axis).copied().unwrap_or(1);
    (dims.iter().take(axis).product(), n, dims.iter().skip(axis + 1).product())
}

/// Requires a shape.
pub fn want_dims(name: &str, view: &View, dims: &[usize]) -> Result<(), Error> {
    if view.dims == dims {
        return Ok(());
    }
    Err(invalid(format!("{name} has shape {:?}, expected {dims:?}", view.dims)))
}

/// Requires one of several element types.
pub fn want_type(name: &str, view: &View, types: &[DType]) -> Result<(), Error> {
    if types.contains(&view.dtype) {
        return Ok(());
    }
    let list: Vec<String> = types.iter().map(DType::to_string).collect();
    Err(invalid(format!("{name} has data type {}, supported: {}", view.dtype, list.join(", "))))
}

/// Requires the element type of another parameter.
pub fn same_type(a: (&str, &View), b: (&str, &View)) -> Result<(), Error> {
    if a.1.dtype == b.1.dtype {
        return Ok(());
    }
    Err(invalid(format!("{} is {} and {} is {}; they must be the same", a.0, a.1.dtype, b.0, b.1.dtype)))
}

/// Requires a float type.
pub fn want_float(name: &str, view: &View) -> Result<(), Error> {
    want_type(name, view, &[DType::F32, DType::F16, DType::Bf16])
}

/// Requires an index type.
pub fn want_index(name: &str, view: &View) -> Result<(), Error> {
    want_type(name, view, &[DType::I32, DType::I64])
}

/// Requires the number of dimensions.
pub fn want_rank(name: &str, view: &View, low: usize, high: usize) -> Result<(), Error> {
    if (low..=high).contains(&view.rank()) {
        return Ok(());
    }
    Err(invalid(format!("{name} has {} dimensions, expected {low} to {high}", view.rank())))
}

/// Requires a number of elements.
pub fn want_numel(name: &str, view: &View, n: usize) -> Result<(), Error> {
    if view.numel() == n {
        return Ok(());
    }
    Err(invalid(format!("{name} has {} elements, expected {n}", view.numel())))
}

/// Requires the tiled format.
pub fn want_tiled(name: &str, view: &View) -> Result<(), Error> {
    if view.format == FRACTAL_NZ {
        return Ok(());
    }
    Err(invalid(format!("{name} has format {}, expected FRACTAL_NZ (29)", view.format)))
}
