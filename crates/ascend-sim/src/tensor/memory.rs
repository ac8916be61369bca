//! Typed access of kernels to simulated device memory: every operand is checked against the allocations first.

use super::dtype::DType;
use super::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::refuse::fault;
use super::view::{FRACTAL_NZ, View, nz_c0, nz_index, nz_size};
use crate::rt::block::check_range;
use crate::task::{Access, Fault};

/// A tensor of a call, with what the kernel does to it.
#[derive(Clone, Debug)]
pub struct Operand {
    /// The description, address included.
    pub view: View,
    /// Read, or written (and perhaps read too).
    pub access: Access,
    /// Name of the parameter, for messages.
    pub name: &'static str,
    /// Position among the operator's inputs or outputs, and within a list.
    pub position: (usize, usize),
}

/// Number of an operand, given out when the call is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub usize);

/// Elements in the form kernels compute with.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of a float tensor.
    Float(Vec<f32>),
    /// Of an integer or bool tensor.
    Int(Vec<i64>),
}

/// The operands of a running kernel; all ranges have been checked.
pub struct Memory<'a> {
    operands: &'a [Operand],
}

/// Elements of a view's span, typed.
macro_rules! typed {
    ($view:expr, $t:ty) => {{
        let (start, end) = $view.span();
        if start == end {
            &[][..]
        } else {
            // SAFETY: `Memory::open` checked that this range lies in one live allocation and is aligned; allocations are
            // ordinary initialised host memory that only stream workers and copies touch.
            unsafe { std::slice::from_raw_parts(($view.addr as *const $t).add(start), end - start) }
        }
    }};
}

macro_rules! typed_mut {
    ($view:expr, $t:ty) => {{
        let (start, end) = $view.span();
        if start == end {
            &mut [][..]
        } else {
            // SAFETY: as for reading; the reference lives only while one operand is written.
            unsafe { std::slice::from_raw_parts_mut(($view.addr as *mut $t).add(start), end - start) }
        }
    }};
}

/// Calls `f` with the first index, stride and length of each innermost row, relative to the view's first element.
pub fn rows(view: &View, mut f: impl FnMut(usize, usize, usize)) {
    if view.numel() == 0 {
        return;
    }
    if view.is_dense() {
        return f(0, 1, view.numel());
    }
    let inner = view.rank() - 1;
    let mut index = vec![0; inner];
    loop {
        let start = index.iter().zip(&view.strides).map(|(i, s)| i * s).sum();
        f(start, view.strides[inner], view.dims[inner]);
        let Some(turn) = (0..inner).rev().find(|&d| index[d] + 1 < view.dims[d]) else { return };
        index[turn] += 1;
        index[turn + 1..].fill(0);
    }
}

/// Element indices of an NZ view in the order of the view, relative to the storage's first element.
fn nz_indices(view: &View) -> Vec<usize> {
    let (rows, cols, transposed) = view.nz_matrix();
    let (rank, c0) = (view.rank(), nz_c0(view.dtype));
    let batch: usize = view.dims[..rank - 2].iter().product();
    let mut out = Vec::with_capacity(view.numel());
    for b in 0..batch {
        let base = b * nz_size(rows, cols, view.dtype);
        for i in 0..view.dims[rank - 2] {
            for j in 0..view.dims[rank - 1] {
                let (r, c) = if transposed { (j, i) } else { (i, j) };
                out.push(base + nz_index(r, c, rows, c0));
            }
        }
    }
    out
}

fn gather<T: Copy, R>(view: &View, from: &[T], convert: impl Fn(T) -> R) -> Vec<R> {
    if view.format == FRACTAL_NZ {
        return nz_indices(view).into_iter().map(|i| convert(from[i])).collect();
    }
    let mut out = Vec::with_capacity(view.numel());
    rows(view, |start, stride, n| match stride {
        0 => out.extend((0..n).map(|_| convert(from[start]))),
        1 => out.extend(from[start..start + n].iter().map(|&x| convert(x))),
        _ => out.extend(from[start..].iter().step_by(stride).take(n).map(|&x| convert(x))),
    });
    out
}

fn scatter<T: Copy, R: Copy>(view: &View, to: &mut [T], values: &[R], convert: impl Fn(R) -> T) {
    if view.format == FRACTAL_NZ {
        nz_indices(view).into_iter().zip(values).for_each(|(i, &x)| to[i] = convert(x));
        return;
    }
    let mut values = values.iter();
    rows(view, |start, stride, n| {
        let row = to[start..].iter_mut().step_by(stride.max(1));
        row.zip(values.by_ref().take(n)).for_each(|(slot, &x)| *slot = convert(x));
    });
}

/// The signed 4-bit number at an element index.
#[inline(always)]
pub fn nibble(bytes: &[u8], index: usize) -> i64 {
    let byte = bytes[index / 2];
    let half = if index.is_multiple_of(2) { byte & 15 } else { byte >> 4 };
    i64::from((half << 4) as i8 >> 4)
}

fn nibble_indices(view: &View) -> Vec<usize> {
    if view.format == FRACTAL_NZ {
        return nz_indices(view);
    }
    let mut out = Vec::with_capacity(view.numel());
    rows(view, |start, stride, n| out.extend((0..n).map(|i| start + i * stride + view.offset)));
    out
}

/// Bytes of an INT4 view, from the address on.
fn int4_bytes(view: &View) -> usize {
    view.span().1.div_ceil(2)
}

/// Checks that an operand's range is live and aligned.
fn check(operand: &Operand) -> Result<(), Fault> {
    let view = &operand.view;
    let (start, end) = view.span();
    if start == end {
        return Ok(());
    }
    let size = view.dtype.bits();
    if !view.addr.is_multiple_of(size.div_ceil(8)) {
        return Err(fault(format!("{}: address {:#x} is not aligned to {}", operand.name, view.addr, view.dtype)));
    }
    let (low, high) = (start * size / 8, (end * size).div_ceil(8));
    let addr = view.addr.checked_add(low).filter(|a| a.checked_add(high - low).is_some());
    let addr = addr.ok_or_else(|| fault(format!("{}: the range wraps round the address space", operand.name)))?;
    check_range(addr, high - low, operand.access)
        .map_err(|e| fault(format!("{} ({} {:?}): {}", operand.name, view.dtype, view.dims, e.message)))
}

impl<'a> Memory<'a> {
    /// Checks all operands of a kernel that is about to run.
    pub fn open(operands: &'a [Operand]) -> Result<Self, Fault> {
        operands.iter().try_for_each(check)?;
        Ok(Self { operands })
    }

    /// The description of an operand.
    pub fn view(&self, slot: Slot) -> &View {
        &self.operands[slot.0].view
    }

    /// All elements of an operand as f32, in order of the view.
    pub fn floats(&self, slot: Slot) -> Vec<f32> {
        self.floats_of(self.view(slot))
    }

    /// All elements as f32 of a part of an operand, or of an operand broadcast.
    pub fn floats_of(&self, view: &View) -> Vec<f32> {
        match view.dtype {
            DType::F32 => gather(view, typed!(view, f32), |x| x),
            DType::F16 => gather(view, typed!(view, u16), f16_to_f32),
            DType::Bf16 => gather(view, typed!(view, u16), bf16_to_f32),
            _ => self.ints_of(view).into_iter().map(|x| x as f32).collect(),
        }
    }

    /// All elements of an operand as integers.
    pub fn ints(&self, slot: Slot) -> Vec<i64> {
        self.ints_of(self.view(slot))
    }

    /// All elements as integers of a part of an operand, or of an operand broadcast.
    pub fn ints_of(&self, view: &View) -> Vec<i64> {
        match view.dtype {
            DType::I8 => gather(view, typed!(view, i8), i64::from),
            DType::U8 => gather(view, typed!(view, u8), i64::from),
            DType::Bool => gather(view, typed!(view, u8), |b| i64::from(b != 0)),
            DType::I16 => gather(view, typed!(view, i16), i64::from),
            DType::I32 => gather(view, typed!(view, i32), i64::from),
            DType::U32 => gather(view, typed!(view, u32), i64::from),
            DType::I64 => gather(view, typed!(view, i64), |x| x),
            DType::U64 => gather(view, typed!(view, u64), |x| x as i64),
            DType::I4 => {
                let whole =
                    View { offset: 0, dims: vec![int4_bytes(view)], strides: vec![1], format: 2, ..view.clone() };
                let bytes = typed!(whole, u8);
                nibble_indices(view).into_iter().map(|i| nibble(bytes, i)).collect()
            }
            DType::F32 | DType::F16 | DType::Bf16 => self.floats_of(view).into_iter().map(|x| x as i64).collect(),
        }
    }

    /// All elements of an operand, in the form of its type.
    pub fn values(&self, slot: Slot) -> Values {
        self.values_of(self.view(slot))
    }

    /// All elements of a part of an operand, in the form of its type.
    pub fn values_of(&self, view: &View) -> Values {
        if view.dtype.is_float() { Values::Float(self.floats_of(view)) } else { Values::Int(self.ints_of(view)) }
    }

    /// Writes an operand from f32, rounded to its type.
    pub fn put(&self, slot: Slot, values: &[f32]) {
        self.put_in(self.view(slot), values);
    }

    /// Writes a part of an operand from f32.
    pub fn put_in(&self, view: &View, values: &[f32]) {
        match view.dtype {
            DType::F32 => scatter(view, typed_mut!(view, f32), values, |x| x),
            DType::F16 => scatter(view, typed_mut!(view, u16), values, f32_to_f16),
            DType::Bf16 => scatter(view, typed_mut!(view, u16), values, f32_to_bf16),
            DType::Bool => scatter(view, typed_mut!(view, u8), values, |x| u8::from(x != 0.0)),
            _ => self.put_ints_in(view, &values.iter().map(|&x| x as i64).collect::<Vec<_>>()),
        }
    }

    /// Writes an operand from integers.
    pub fn put_ints(&self, slot: Slot, values: &[i64]) {
        self.put_ints_in(self.view(slot), values);
    }

    /// Writes a part of an operand from integers.
    pub fn put_ints_in(&self, view: &View, values: &[i64]) {
        match view.dtype {
            DType::I8 => scatter(view, typed_mut!(view, i8), values, |x| x as i8),
            DType::U8 => scatter(view, typed_mut!(view, u8), values, |x| x as u8),
            DType::Bool => scatter(view, typed_mut!(view, u8), values, |x| u8::from(x != 0)),
            DType::I16 => scatter(view, typed_mut!(view, i16), values, |x| x as i16),
            DType::I32 => scatter(view, typed_mut!(view, i32), values, |x| x as i32),
            DType::U32 => scatter(view, typed_mut!(view, u32), values, |x| x as u32),
            DType::I64 => scatter(view, typed_mut!(view, i64), values, |x| x),
            DType::U64 => scatter(view, typed_mut!(view, u64), values, |x| x as u64),
            DType::I4 => {
                let whole =
                    View { offset: 0, dims: vec![int4_bytes(view)], strides: vec![1], format: 2, ..view.clone() };
                let bytes = typed_mut!(whole, u8);
                for (i, &x) in nibble_indices(view).into_iter().zip(values) {
                    let shift = (i % 2) * 4;
                    bytes[i / 2] = bytes[i / 2] & !(15 << shift) | ((x as u8 & 15) << shift);
                }
            }
            DType::F32 | DType::F16 | DType::Bf16 => {
                self.put_in(view, &values.iter().map(|&x| x as f32).collect::<Vec<_>>());
            }
        }
    }

    /// Writes an operand in the form of its type.
    pub fn put_values(&self, slot: Slot, values: &Values) {
        self.put_values_in(self.view(slot), values);
    }

    /// Writes a part of an operand in the form of its type.
    pub fn put_values_in(&self, view: &View, values: &Values) {
        match values {
            Values::Float(x) => self.put_in(view, x),
            Values::Int(x) => self.put_ints_in(view, x),
        }
    }

    /// The bytes of an operand's span, from its first element on (for INT4 from the address on).
    pub fn raw(&self, slot: Slot) -> &'a [u8] {
        self.raw_of(self.view(slot))
    }

    /// The same of a part of an operand.
    pub fn raw_of(&self, view: &View) -> &'a [u8] {
        let (start, end) = view.span();
        let low = if view.dtype == DType::I4 { 0 } else { view.dtype.bytes(start) };
        let bytes = view.dtype.bytes(end) - low;
        let whole =
            View { dtype: DType::U8, offset: low, dims: vec![bytes], strides: vec![1], format: 2, ..view.clone() };
        typed!(whole, u8)
    }

    /// The 16-bit elements of an operand's span, from its first element on.
    pub fn raw16(&self, slot: Slot) -> &'a [u16] {
        self.raw16_of(self.view(slot))
    }

    /// The same of a part of an operand.
    pub fn raw16_of(&self, view: &View) -> &'a [u16] {
        debug_assert_eq!(view.dtype.bits(), 16, "raw16 is for 16-bit types");
        typed!(view, u16)
    }
}
