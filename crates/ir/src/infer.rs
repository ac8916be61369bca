//! Shape rules: result types from operand types and attributes, one function per op or family. Those of ops on states are in
//! `infer_state.rs`.
//!
//! Called by the builder, the parser (types are optional) and the verifier (types must agree).

pub use crate::infer_error::{EmptyAxis, InferError, full_axis};

use crate::attr::Attr;
use crate::op::Op;
use crate::shape::{Dim, Shape, Sym, TensorType};
use crate::{DType, SAMPLE_PARAMS, quant};
use smallvec::{SmallVec, smallvec};

/// Result types in order.
pub type Types = SmallVec<[TensorType; 2]>;

/// A shape rule.
pub type InferRule = fn(&Args<'_>) -> Result<Types, InferError>;

/// The arguments of a shape rule.
pub struct Args<'a> {
    /// The op.
    pub op: Op,
    /// Operand types; `None` for an absent optional operand.
    pub inputs: &'a [Option<&'a TensorType>],
    /// Attributes in table order.
    pub attrs: &'a [Attr],
}

impl<'a> Args<'a> {
    pub(crate) fn input(&self, i: usize) -> &'a TensorType {
        self.optional(i).expect("V003: required operands are present before shapes are inferred")
    }

    pub(crate) fn optional(&self, i: usize) -> Option<&'a TensorType> {
        self.inputs.get(i).copied().flatten()
    }

    pub(crate) fn bad(&self, i: usize, expected: impl Into<String>) -> InferError {
        let operand = self.op.spec().operands[i].name;
        InferError::Operand { operand, expected: expected.into(), got: self.input(i).clone() }
    }

    pub(crate) fn require(&self, i: usize, ok: bool, expected: impl Into<String>) -> Result<(), InferError> {
        if ok { Ok(()) } else { Err(self.bad(i, expected)) }
    }

    /// Requires operand `i` to have exactly this type.
    pub(crate) fn exact(&self, i: usize, dtype: DType, dims: &[Dim]) -> Result<(), InferError> {
        let want = TensorType::new(dtype, Shape::new(dims.iter().copied()));
        self.require(i, *self.input(i) == want, want.to_string())
    }

    pub(crate) fn plain_float(&self, i: usize) -> Result<&'a TensorType, InferError> {
        let t = self.input(i);
        self.require(i, t.dtype == DType::F32, "f32 elements")?;
        Ok(t)
    }

    fn attr(&self, i: usize) -> &'a Attr {
        &self.attrs[i]
    }

    pub(crate) fn int(&self, i: usize) -> i64 {
        match self.attr(i) {
            Attr::Int(v) => *v,
            _ => unreachable!("V004: attribute kinds are checked before shapes are inferred"),
        }
    }

    fn shape(&self, i: usize) -> &'a Shape {
        match self.attr(i) {
            Attr::Shape(s) => s,
            _ => unreachable!("V004: attribute kinds are checked before shapes are inferred"),
        }
    }

    fn dtype(&self, i: usize) -> DType {
        match self.attr(i) {
            Attr::DType(t) => *t,
            _ => unreachable!("V004: attribute kinds are checked before shapes are inferred"),
        }
    }

    pub(crate) fn bad_attr(&self, i: usize, expected: impl Into<String>) -> InferError {
        let name = self.op.spec().attrs[i].name;
        InferError::Attribute { name, expected: expected.into(), got: self.attrs[i].clone() }
    }

    /// Requires the op's axis to have elements or a symbolic size.
    fn full_axis(&self) -> Result<(), InferError> {
        let dims = self.input(0).shape.dims();
        let axis = full_axis(self.op, self.attrs, dims.len());
        axis.filter(|found| dims[found.axis] == Dim::Const(0)).map_or(Ok(()), |found| Err(found.into()))
    }

    /// Attribute `i` as an axis of operand 0.
    fn axis(&self, i: usize) -> Result<usize, InferError> {
        let rank = self.input(0).shape.rank();
        let axis = usize::try_from(self.int(i)).ok().filter(|&a| a < rank);
        axis.ok_or_else(|| self.bad_attr(i, format!("an axis below {rank}")))
    }
}

fn one(dtype: DType, shape: Shape) -> Result<Types, InferError> {
    Ok(smallvec![TensorType::new(dtype, shape)])
}

pub(crate) fn same(t: &TensorType) -> Result<Types, InferError> {
    Ok(smallvec![t.clone()])
}

pub(crate) fn fill(a: &Args<'_>) -> Result<Types, InferError> {
    let Attr::F32(value) = *a.attr(1) else {
        unreachable!("V004: attribute kinds are checked before shapes are inferred")
    };
    let dtype = a.dtype(2);
    if !dtype.is_quantized() && !holds(dtype, value) {
        return Err(a.bad_attr(1, format!("a number that {dtype} can hold")));
    }
    plain_result(a, 2, a.shape(0))
}

/// Whether a plain type can hold the number: exactly for integer types, rounded for float types.
fn holds(dtype: DType, value: f32) -> bool {
    let whole = |from: f64, to: f64| value.fract() == 0.0 && (from..=to).contains(&f64::from(value));
    match dtype {
        DType::I32 => whole(f64::from(i32::MIN), f64::from(i32::MAX)),
        DType::U32 => whole(0.0, f64::from(u32::MAX)),
        DType::I8 => whole(-128.0, 127.0),
        DType::U8 => whole(0.0, 255.0),
        DType::Bool => whole(0.0, 1.0),
        DType::F16 => value.is_infinite() || half::f16::from_f32(value).is_finite(),
        DType::BF16 => value.is_infinite() || half::bf16::from_f32(value).is_finite(),
        _ => true,
    }
}

pub(crate) fn iota(a: &Args<'_>) -> Result<Types, InferError> {
    plain_result(a, 1, a.shape(0))
}

fn plain_result(a: &Args<'_>, attr: usize, shape: &Shape) -> Result<Types, InferError> {
    match a.dtype(attr) {
        t if t.is_quantized() => Err(a.bad_attr(attr, "a plain element type")),
        t => one(t, shape.clone()),
    }
}

pub(crate) fn embed(a: &Args<'_>) -> Result<Types, InferError> {
    let table = a.input(0);
    a.require(0, table.dtype.is_float() && table.shape.rank() == 2, "a float table of rank 2")?;
    index_operand(a, 1)?;
    one(DType::F32, prefixed(&a.input(1).shape, &table.shape.dims()[1..]))
}

fn index_operand(a: &Args<'_>, i: usize) -> Result<(), InferError> {
    let t = a.input(i);
    a.require(i, matches!(t.dtype, DType::U32 | DType::I32), "u32 or i32 elements")
}

fn prefixed(prefix: &Shape, rest: &[Dim]) -> Shape {
    Shape::new(prefix.dims().iter().chain(rest).copied())
}

/// Requires operand 0 to have slices of whole blocks, and operand 1 to be a list of indices.
fn slices(a: &Args<'_>) -> Result<(), InferError> {
    let x = a.input(0);
    let rank = if x.dtype.is_quantized() { 2 } else { 1 };
    a.require(0, x.shape.rank() >= rank, format!("rank {rank} or more"))?;
    index_operand(a, 1)?;
    a.require(1, a.input(1).shape.rank() == 1, "rank 1")
}

pub(crate) fn gather(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.input(0);
    slices(a)?;
    one(x.dtype, prefixed(&a.input(1).shape, &x.shape.dims()[1..]))
}

pub(crate) fn scatter(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.input(0);
    slices(a)?;
    let want = TensorType::new(x.dtype, prefixed(&a.input(1).shape, &x.shape.dims()[1..]));
    a.require(2, *a.input(2) == want, want.to_string())?;
    same(x)
}

pub(crate) fn matmul(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    let w = a.input(1);
    a.require(0, x.shape.rank() >= 1, "rank 1 or more")?;
    let rank = if a.optional(2).is_some() { 3 } else { 2 };
    let fits = w.dtype.is_float() && w.shape.rank() == rank && w.shape.last() == x.shape.last();
    a.require(1, fits, format!("rank {rank} with rows of {}", x.shape.last()))?;
    if a.optional(2).is_some() {
        let lead = &x.shape.dims()[..x.shape.rank() - 1];
        a.exact(2, DType::U32, lead)?;
    }
    one(DType::F32, x.shape.with_last(w.shape.dims()[rank - 2]))
}

/// The numpy rule: aligned at the last dimension, sizes are equal or one of them is 1.
fn broadcast_shapes(a: &Shape, b: &Shape) -> Option<Shape> {
    let rank = a.rank().max(b.rank());
    let at = |s: &Shape, i: usize| {
        let skip = rank - s.rank();
        if i < skip { Dim::Const(1) } else { s.dims()[i - skip] }
    };
    let mut dims = SmallVec::<[Dim; 4]>::new();
    for i in 0..rank {
        dims.push(match (at(a, i), at(b, i)) {
            (x, y) if x == y => x,
            (Dim::Const(1), y) => y,
            (x, Dim::Const(1)) => x,
            _ => return None,
        });
    }
    Some(Shape(dims))
}

fn broadcast_operands(a: &Args<'_>, i: usize, j: usize) -> Result<TensorType, InferError> {
    let (x, y) = (a.input(i), a.input(j));
    a.require(i, !x.dtype.is_quantized(), "a plain element type")?;
    let shape = broadcast_shapes(&x.shape, &y.shape).filter(|_| x.dtype == y.dtype);
    let shape = shape.ok_or_else(|| a.bad(j, format!("{} in a shape that broadcasts with {}", x.dtype, x.shape)))?;
    Ok(TensorType::new(x.dtype, shape))
}

pub(crate) fn binary(a: &Args<'_>) -> Result<Types, InferError> {
    Ok(smallvec![broadcast_operands(a, 0, 1)?])
}

pub(crate) fn compare(a: &Args<'_>) -> Result<Types, InferError> {
    one(DType::Bool, broadcast_operands(a, 0, 1)?.shape)
}

pub(crate) fn select(a: &Args<'_>) -> Result<Types, InferError> {
    a.require(0, a.input(0).dtype == DType::Bool, "bool elements")?;
    let t = broadcast_operands(a, 1, 2)?;
    let shape = broadcast_shapes(&a.input(0).shape, &t.shape);
    one(t.dtype, shape.ok_or_else(|| a.bad(0, format!("a shape that broadcasts with {}", t.shape)))?)
}

pub(crate) fn unary(a: &Args<'_>) -> Result<Types, InferError> {
    a.require(0, !a.input(0).dtype.is_quantized(), "a plain element type")?;
    same(a.input(0))
}

pub(crate) fn unary_float(a: &Args<'_>) -> Result<Types, InferError> {
    same(a.plain_float(0)?)
}

pub(crate) fn softmax(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    a.full_axis()?;
    same(x)
}

pub(crate) fn norm(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    a.require(0, x.shape.rank() >= 1, "rank 1 or more")?;
    a.full_axis()?;
    for i in (1..a.inputs.len()).filter(|&i| a.optional(i).is_some()) {
        a.exact(i, DType::F32, &[x.shape.last()])?;
    }
    same(x)
}

pub(crate) fn rope(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    a.require(0, x.shape.rank() == 3, "rank 3: rows, heads, head size")?;
    a.exact(1, DType::U32, &x.shape.dims()[..1])?;
    let dims = a.int(1);
    let fits = dims > 0 && dims % 2 == 0 && x.shape.last().known().is_some_and(|d| dims as u64 <= d);
    if !fits {
        return Err(a.bad_attr(1, format!("an even number from 2 to {}", x.shape.last())));
    }
    if a.optional(2).is_some() {
        a.exact(2, DType::F32, &[Dim::Const(dims as u64 / 2)])?;
    }
    same(x)
}

pub(crate) fn slice(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.input(0);
    a.require(0, !x.dtype.is_quantized(), "a plain element type")?;
    let axis = a.axis(0)?;
    let (start, len) = (a.int(1), a.int(2));
    let size = x.shape.dims()[axis].known().ok_or_else(|| a.bad_attr(0, "an axis of known size"))?;
    if start < 0 {
        return Err(a.bad_attr(1, "0 or more"));
    }
    if len < 0 {
        return Err(a.bad_attr(2, "0 or more"));
    }
    if (start as u64).checked_add(len as u64).is_none_or(|end| end > size) {
        return Err(a.bad_attr(2, format!("start + len at most {size}")));
    }
    let mut shape = x.shape.clone();
    shape.0[axis] = Dim::Const(len as u64);
    one(x.dtype, shape)
}

pub(crate) fn concat(a: &Args<'_>) -> Result<Types, InferError> {
    let (x, y) = (a.input(0), a.input(1));
    a.require(0, !x.dtype.is_quantized(), "a plain element type")?;
    let axis = a.axis(0)?;
    let mut shape = x.shape.clone();
    let fits = x.dtype == y.dtype && x.shape.rank() == y.shape.rank();
    let sum = (|| x.shape.dims()[axis].known()?.checked_add(y.shape.dims().get(axis)?.known()?))();
    let sum = sum.filter(|_| fits).ok_or_else(|| a.bad(1, format!("{} along axis {axis} of known size", x)))?;
    shape.0[axis] = y.shape.dims()[axis];
    a.require(1, shape == y.shape, format!("{shape} except for axis {axis}"))?;
    shape.0[axis] = Dim::Const(sum);
    one(x.dtype, shape)
}

pub(crate) fn reshape(a: &Args<'_>) -> Result<Types, InferError> {
    let (x, shape) = (a.input(0), a.shape(0));
    let (from, to) = (x.shape.factors(), shape.factors());
    if from != to || from.0.is_none() {
        return Err(a.bad_attr(0, format!("as many elements as {}", x.shape)));
    }
    a.require(0, !x.dtype.is_quantized(), "a plain element type")?;
    one(x.dtype, shape.clone())
}

pub(crate) fn transpose(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.input(0);
    a.require(0, !x.dtype.is_quantized(), "a plain element type")?;
    let Attr::Ints(perm) = a.attr(0) else { unreachable!("V004") };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..x.shape.rank() as i64) {
        return Err(a.bad_attr(0, format!("each axis below {} once", x.shape.rank())));
    }
    one(x.dtype, Shape::new(perm.iter().map(|&i| x.shape.dims()[i as usize])))
}

pub(crate) fn broadcast(a: &Args<'_>) -> Result<Types, InferError> {
    let (x, shape) = (a.input(0), a.shape(0));
    a.require(0, !x.dtype.is_quantized(), "a plain element type")?;
    if broadcast_shapes(&x.shape, shape).as_ref() != Some(shape) {
        return Err(a.bad_attr(0, format!("a shape that {} broadcasts to", x.shape)));
    }
    one(x.dtype, shape.clone())
}

pub(crate) fn cast(a: &Args<'_>) -> Result<Types, InferError> {
    a.require(0, !a.input(0).dtype.is_quantized(), "a plain element type")?;
    plain_result(a, 0, &a.input(0).shape)
}

pub(crate) fn quantize(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    let to = a.dtype(0);
    let fits = to.is_quantized()
        && quant::has_encoder(to)
        && x.shape.last().known().is_some_and(|n| to.row_bytes(n).is_some());
    if !fits {
        return Err(a.bad_attr(0, format!("a quantised type with an encoder, whose block divides {}", x.shape.last())));
    }
    one(to, x.shape.clone())
}

pub(crate) fn dequantize(a: &Args<'_>) -> Result<Types, InferError> {
    a.require(0, a.input(0).dtype.is_float(), "a float type")?;
    one(DType::F32, a.input(0).shape.clone())
}

pub(crate) fn reduce(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    let axis = a.axis(1)?;
    a.full_axis()?;
    let mut shape = x.shape.clone();
    shape.0[axis] = Dim::Const(1);
    one(x.dtype, shape)
}

pub(crate) fn argmax(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    a.require(0, x.shape.rank() >= 1, "rank 1 or more")?;
    a.full_axis()?;
    one(DType::U32, Shape::new(x.shape.dims()[..x.shape.rank() - 1].iter().copied()))
}

pub(crate) fn top_k(a: &Args<'_>) -> Result<Types, InferError> {
    let x = a.plain_float(0)?;
    a.full_axis()?;
    let k = a.int(0);
    let fits = k > 0 && x.shape.rank() >= 1 && x.shape.last().known().is_some_and(|n| k as u64 <= n);
    if !fits {
        return Err(a.bad_attr(0, format!("1 to {}", x.shape.last())));
    }
    let shape = x.shape.with_last(Dim::Const(k as u64));
    Ok(smallvec![TensorType::f32(shape.clone()), TensorType::new(DType::U32, shape)])
}

pub(crate) fn sample(a: &Args<'_>) -> Result<Types, InferError> {
    let logits = a.plain_float(0)?;
    a.require(0, logits.shape.rank() == 2, "rank 2: rows, vocabulary")?;
    a.full_axis()?;
    let rows = logits.shape.dims()[0];
    a.exact(1, DType::F32, &[rows, Dim::Const(SAMPLE_PARAMS)])?;
    a.exact(2, DType::U32, &[rows, Dim::Const(4)])?;
    a.exact(3, DType::I32, &[rows, Sym::Recent.into()])?;
    if a.optional(4).is_some() {
        a.exact(4, DType::F32, logits.shape.dims())?;
    }
    one(DType::U32, Shape::new([rows]))
}

pub(crate) fn verify(a: &Args<'_>) -> Result<Types, InferError> {
    let sampled = a.input(0);
    a.require(0, sampled.dtype == DType::U32 && sampled.shape.rank() == 1, "u32 of rank 1")?;
    a.exact(1, DType::U32, sampled.shape.dims())?;
    // For each sequence, the index of its first sampled row and the number of drafts after it.
    a.exact(2, DType::U32, &[Sym::Seqs.into(), Dim::Const(2)])?;
    let per_seq = TensorType::new(DType::U32, Shape::new([Sym::Seqs.into()]));
    Ok(smallvec![per_seq.clone(), per_seq])
}
