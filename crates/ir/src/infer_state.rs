//! Shape rules of ops on states: KV pages, committed lengths, and slots of recurrent state.
//!
//! Named by the op table.

use crate::DType;
use crate::infer::{Args, InferError, Types, same};
use crate::kv::{self, KvShape};
use crate::shape::{Dim, Sym};
use crate::slots::{ConvShape, DeltaShape};
use smallvec::smallvec;

/// Key-value heads and head size of a KV state.
fn kv_dims(a: &Args<'_>, i: usize) -> Result<(Dim, Dim), InferError> {
    let kv = KvShape::of(a.input(i)).ok_or_else(|| a.bad(i, kv::EXPECTED))?;
    Ok((u64::from(kv.heads).into(), u64::from(kv.head_dim).into()))
}

/// Checks the page table, row sequences and positions, from operand `i` on.
fn row_places(a: &Args<'_>, i: usize, rows: Dim) -> Result<(), InferError> {
    a.exact(i, DType::U32, &[Sym::Seqs.into(), Sym::Stride.into()])?;
    a.exact(i + 1, DType::U32, &[rows])?;
    a.exact(i + 2, DType::U32, &[rows])
}

pub(crate) fn page_write(a: &Args<'_>) -> Result<Types, InferError> {
    let (heads, head) = kv_dims(a, 0)?;
    let k = a.plain_float(1)?;
    a.require(1, k.shape.rank() == 3, "rank 3: rows, heads, head size")?;
    let rows = k.shape.dims()[0];
    a.exact(1, DType::F32, &[rows, heads, head])?;
    a.exact(2, DType::F32, &[rows, heads, head])?;
    row_places(a, 3, rows)?;
    same(a.input(0))
}

pub(crate) fn attend(a: &Args<'_>) -> Result<Types, InferError> {
    let q = a.plain_float(0)?;
    a.require(0, q.shape.rank() == 3, "rank 3: rows, heads, head size")?;
    let (kv_heads, head) = kv_dims(a, 1)?;
    let &[rows, heads, q_head] = q.shape.dims() else { unreachable!("rank is 3") };
    let grouped = match (heads.known(), kv_heads.known()) {
        (Some(h), Some(k)) => h > 0 && k > 0 && h % k == 0,
        _ => false,
    };
    a.require(0, grouped && q_head == head, format!("heads a multiple of {kv_heads}, head size {head}"))?;
    row_places(a, 2, rows)?;
    if a.optional(5).is_some() {
        a.exact(5, DType::F32, &[heads])?;
    }
    if a.int(1) < 0 {
        return Err(a.bad_attr(1, "0 (no window) or more"));
    }
    same(q)
}

pub(crate) fn commit(a: &Args<'_>) -> Result<Types, InferError> {
    a.exact(0, DType::U32, &[Sym::Seqs.into()])?;
    a.exact(1, DType::U32, &[Sym::Seqs.into()])?;
    same(a.input(0))
}

/// Checks the slots, row counts and row sequences, from operand `i` on.
fn slot_rows(a: &Args<'_>, i: usize, rows: Dim) -> Result<(), InferError> {
    a.exact(i, DType::U32, &[Sym::Seqs.into(), Dim::Const(2)])?;
    a.exact(i + 1, DType::U32, &[Sym::Seqs.into(), Dim::Const(2)])?;
    a.exact(i + 2, DType::U32, &[rows])
}

/// The state and a row for each row of the step.
fn updated(a: &Args<'_>, out: usize) -> Result<Types, InferError> {
    Ok(smallvec![a.input(0).clone(), a.input(out).clone()])
}

pub(crate) fn conv(a: &Args<'_>) -> Result<Types, InferError> {
    let (x, weight) = (a.plain_float(1)?, a.plain_float(2)?);
    a.require(1, x.shape.rank() == 2, "rank 2: rows, channels")?;
    let channels = x.shape.last();
    let taps = weight.shape.last();
    a.require(2, taps.known().is_some_and(|n| n > 0), "channels, taps; at least one tap")?;
    a.exact(2, DType::F32, &[channels, taps])?;
    let expected = || format!("f32[slots, {taps} - 1 + room for drafts, {channels}]");
    ConvShape::of(a.input(0), weight).ok_or_else(|| a.bad(0, expected()))?;
    slot_rows(a, 3, x.shape.dims()[0])?;
    if a.optional(6).is_some() {
        a.exact(6, DType::F32, &[channels])?;
    }
    updated(a, 1)
}

pub(crate) fn delta_rule(a: &Args<'_>) -> Result<Types, InferError> {
    let (q, v) = (a.plain_float(1)?, a.plain_float(3)?);
    a.require(1, q.shape.rank() == 3, "rank 3: rows, key heads, key size")?;
    a.require(3, v.shape.rank() == 3, "rank 3: rows, heads, value size")?;
    let (rows, heads) = (q.shape.dims()[0], v.shape.dims()[1]);
    a.exact(2, DType::F32, q.shape.dims())?;
    a.require(3, v.shape.dims()[0] == rows, format!("{rows} rows"))?;
    a.exact(4, DType::F32, &[rows, heads])?;
    a.exact(5, DType::F32, &[rows, heads])?;
    let expected = || "f32[slots, heads, key size * value size + room * (key size + value size + 2)], heads a multiple of key heads";
    DeltaShape::of(a.input(0), q, v).ok_or_else(|| a.bad(0, expected()))?;
    slot_rows(a, 6, rows)?;
    updated(a, 3)
}
