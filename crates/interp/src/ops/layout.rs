//! Ops that create, select, move or convert elements.

use super::args::{OpArgs, Results};
use crate::error::EvalError;
use crate::tensor::{Data, Tensor};
use aio_ir::{Attr, DType, Op};

pub(crate) fn apply<'w>(a: &OpArgs<'_, 'w>) -> Results<'w> {
    let shape = a.shape(0);
    let out = match a.node.op {
        Op::Fill => converted(a, shape.clone(), vec![f64::from(a.node.f32("value")); shape.iter().product()]),
        Op::Iota => {
            let n = shape.last().copied().unwrap_or(1).max(1);
            let count: usize = shape.iter().product();
            converted(a, shape, (0..count).map(|i| (i % n) as f64).collect())
        }
        Op::Embed => embed(a, shape)?,
        Op::Gather => picked(a, shape, &gather_places(a)?),
        Op::Scatter => scatter(a, shape)?,
        Op::Slice => picked(a, shape, &slice_places(a)),
        Op::Concat => concat(a, shape),
        Op::Reshape => Tensor { shape, ..a.input(0).clone() },
        Op::Transpose => picked(a, shape, &transpose_places(a)),
        Op::Broadcast => picked(a, shape.clone(), &broadcast_places(&a.input(0).shape, &shape)),
        Op::Cast => cast(a, shape),
        Op::Quantize => Tensor::stored(target(a, "to"), shape, &a.input(0).floats()),
        _ => Tensor::f32(shape, a.input(0).floats().into_owned()),
    };
    Ok(vec![out])
}

fn target(a: &OpArgs<'_, '_>, name: &str) -> DType {
    match a.node.attr(name) {
        Attr::DType(t) => *t,
        _ => unreachable!("V004: the attribute is an element type"),
    }
}

fn converted<'w>(a: &OpArgs<'_, '_>, shape: Vec<usize>, values: Vec<f64>) -> Tensor<'w> {
    let dtype = target(a, "dtype");
    if dtype.is_float() {
        let floats: Vec<f32> = values.iter().map(|&v| v as f32).collect();
        return Tensor::stored(dtype, shape, &floats);
    }
    Tensor::int(dtype, shape, values.iter().map(|&v| saturate(dtype, v)).collect())
}

/// Truncates and saturates like Rust's `as`.
fn saturate(dtype: DType, v: f64) -> i64 {
    match dtype {
        DType::I32 => i64::from(v as i32),
        DType::U32 => i64::from(v as u32),
        DType::I8 => i64::from(v as i8),
        DType::U8 => i64::from(v as u8),
        _ => i64::from(v != 0.0),
    }
}

fn cast<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Tensor<'w> {
    let x = a.input(0);
    let to = target(a, "to");
    if to.is_float() {
        return Tensor::stored(to, shape, &x.floats());
    }
    let values = match &x.data {
        Data::Int(v) => v.iter().map(|&n| saturate(to, n as f64)).collect(),
        _ => x.floats().iter().map(|&v| saturate(to, f64::from(v))).collect(),
    };
    Tensor::int(to, shape, values)
}

fn embed<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Result<Tensor<'w>, EvalError> {
    let table = a.input(0);
    let mut out = Vec::with_capacity(shape.iter().product());
    for &id in a.input(1).ints() {
        out.extend_from_slice(&table.row(a.checked("token", id, table.shape[0])?));
    }
    Ok(Tensor::f32(shape, out))
}

/// A tensor whose element `i` (or block `i`, for a quantised type) is element `places[i]` of operand 0.
fn picked<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>, places: &[usize]) -> Tensor<'w> {
    let x = a.input(0);
    let data = match &x.data {
        Data::F32(v) => Data::F32(places.iter().map(|&i| v[i]).collect()),
        Data::Int(v) => Data::Int(places.iter().map(|&i| v[i]).collect()),
        Data::Raw(b) => {
            let size = x.dtype.block_bytes();
            Data::Raw(places.iter().flat_map(|&i| b[i * size..(i + 1) * size].iter().copied()).collect())
        }
    };
    Tensor { dtype: x.dtype, shape, data }
}

/// Number of elements, or blocks, in one slice of the first dimension.
fn slice_units(x: &Tensor<'_>) -> usize {
    x.shape[1..].iter().product::<usize>() / x.dtype.block_elems()
}

fn gather_places(a: &OpArgs<'_, '_>) -> Result<Vec<usize>, EvalError> {
    let x = a.input(0);
    let inner = slice_units(x);
    let mut places = Vec::new();
    for &index in a.input(1).ints() {
        let start = a.checked("row", index, x.shape[0])? * inner;
        places.extend(start..start + inner);
    }
    Ok(places)
}

fn scatter<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Result<Tensor<'w>, EvalError> {
    let (x, updates) = (a.input(0), a.input(2));
    let mut out = x.to_bytes();
    let from = updates.to_bytes();
    let size = slice_units(x) * x.dtype.block_bytes();
    for (i, &index) in a.input(1).ints().iter().enumerate() {
        let at = a.checked("row", index, x.shape[0])? * size;
        out[at..at + size].copy_from_slice(&from[i * size..(i + 1) * size]);
    }
    let ty =
        aio_ir::TensorType::new(x.dtype, aio_ir::Shape::consts(&shape.iter().map(|&d| d as u64).collect::<Vec<_>>()));
    Ok(Tensor::from_bytes(&ty, a.dims, out.into()).expect("the bytes of x"))
}

fn slice_places(a: &OpArgs<'_, '_>) -> Vec<usize> {
    let x = a.input(0);
    let (axis, start, len) = (a.node.int("axis") as usize, a.node.int("start") as usize, a.node.int("len") as usize);
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let size = x.shape[axis];
    (0..outer).flat_map(|o| ((o * size + start) * inner)..((o * size + start + len) * inner)).collect()
}

fn concat<'w>(a: &OpArgs<'_, 'w>, shape: Vec<usize>) -> Tensor<'w> {
    let (x, y) = (a.input(0), a.input(1));
    let axis = a.node.int("axis") as usize;
    let chunk = |t: &Tensor<'_>| t.shape[axis..].iter().product::<usize>() * t.dtype.block_bytes();
    let (xb, yb) = (x.to_bytes(), y.to_bytes());
    let (p, q) = (chunk(x), chunk(y));
    let parts = |i: usize| [&xb[i * p..(i + 1) * p], &yb[i * q..(i + 1) * q]];
    let outer: usize = shape[..axis].iter().product();
    let bytes: Vec<u8> = (0..outer).flat_map(parts).flatten().copied().collect();
    let ty =
        aio_ir::TensorType::new(x.dtype, aio_ir::Shape::consts(&shape.iter().map(|&d| d as u64).collect::<Vec<_>>()));
    Tensor::from_bytes(&ty, a.dims, bytes.into()).expect("the bytes of both operands")
}

fn transpose_places(a: &OpArgs<'_, '_>) -> Vec<usize> {
    let x = a.input(0);
    let Attr::Ints(perm) = a.node.attr("perm") else { unreachable!("V004: the attribute is a list") };
    let stride = |d: usize| x.shape[d + 1..].iter().product::<usize>();
    let mut places = vec![0];
    for &p in perm {
        let (size, step) = (x.shape[p as usize], stride(p as usize));
        places = places.iter().flat_map(|&at| (0..size).map(move |i| at + i * step)).collect();
    }
    places
}

fn broadcast_places(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let lead = shape.len() - from.len();
    let stride = |d: usize| if from[d] == 1 { 0 } else { from[d + 1..].iter().product::<usize>() };
    let mut places = vec![0];
    for (d, &size) in shape.iter().enumerate() {
        let step = if d < lead { 0 } else { stride(d - lead) };
        places = places.iter().flat_map(|&at| (0..size).map(move |i| at + i * step)).collect();
    }
    places
}
