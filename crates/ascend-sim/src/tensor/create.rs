//! Creation and destruction of tensors, scalars, arrays and lists.

use std::ffi::c_void;
use std::sync::Arc;

use super::dtype::DType;
use super::half::{bf16_to_f32, f16_to_f32};
use super::handles::{Object, Scalar, destroy, get, insert, replace, tensor};
use super::refuse::{ACL_INVALID_PARAM, guard, guard_handle, invalid, null};
use super::view::View;
use crate::task::Error;

/// Most dimensions of a tensor.
const MAX_DIMS: u64 = 16;

/// Copies `len` values of the caller's array.
///
/// # Safety
/// `from` is null or points to `len` values.
pub(super) unsafe fn copy_array<T: Copy>(from: *const T, len: u64, name: &str) -> Result<Vec<T>, Error> {
    if len == 0 {
        return Ok(Vec::new());
    }
    if from.is_null() {
        return Err(null(name));
    }
    let len = usize::try_from(len).map_err(|_| invalid(format!("{name}: {len} values")))?;
    if len > 1 << 32 {
        return Err(invalid(format!("{name}: {len} values")));
    }
    // SAFETY: not null, and the caller vouches for `len` values; unaligned arrays are read bytewise.
    Ok((0..len).map(|i| unsafe { from.add(i).read_unaligned() }).collect())
}

fn sizes(values: &[i64], name: &str) -> Result<Vec<usize>, Error> {
    let size = |&v: &i64| usize::try_from(v).ok().filter(|&v| v < 1 << 48);
    let bad = || invalid(format!("{name} {values:?} has a value that is negative or too large"));
    values.iter().map(size).collect::<Option<_>>().ok_or_else(bad)
}

fn check_span(view: &View) -> Result<(), Error> {
    let mut reach = view.offset as u128;
    let mut elems = 1u128;
    for (&n, &stride) in view.dims.iter().zip(&view.strides) {
        elems = elems.saturating_mul(n as u128);
        reach = reach.saturating_add((n.saturating_sub(1) as u128).saturating_mul(stride as u128));
    }
    if reach >= 1 << 48 || elems >= 1 << 48 {
        return Err(invalid(format!("a tensor of shape {:?} is too large", view.dims)));
    }
    Ok(())
}

/// Arguments of `aclCreateTensor` and `aclInitTensor`.
struct Described {
    dims: *const i64,
    rank: u64,
    dtype: i32,
    strides: *const i64,
    offset: i64,
    format: i32,
    storage: *const i64,
    storage_rank: u64,
    data: *mut c_void,
}

/// # Safety
/// The arrays are null or as long as their counts say.
unsafe fn describe(d: &Described) -> Result<View, Error> {
    if d.rank > MAX_DIMS || d.storage_rank > MAX_DIMS {
        return Err(invalid(format!("a tensor has at most {MAX_DIMS} dimensions")));
    }
    let dtype = DType::from_acl(d.dtype)
        .ok_or_else(|| invalid(format!("data type {} is not supported by the simulated device", d.dtype)))?;
    // SAFETY: the caller of the exported function vouches for the arrays.
    let (dims, strides, storage) = unsafe {
        let strides = if d.strides.is_null() { Vec::new() } else { copy_array(d.strides, d.rank, "stride")? };
        (copy_array(d.dims, d.rank, "viewDims")?, strides, copy_array(d.storage, d.storage_rank, "storageDims")?)
    };
    let dims = sizes(&dims, "viewDims")?;
    let strides = if strides.is_empty() { super::view::dense(&dims) } else { sizes(&strides, "stride")? };
    let offset = sizes(&[d.offset], "offset")?[0];
    let format = d.format;
    let rank = dims.len();
    let view =
        View { addr: d.data as usize, dtype, dims, strides, offset, format, storage: sizes(&storage, "storageDims")? };
    check_span(&view)?;
    match format {
        -1..=3 | 16 | 27 | 30 | 35 | 47 => Ok(view),
        super::view::FRACTAL_NZ if rank >= 2 => Ok(view),
        super::view::FRACTAL_NZ => Err(invalid("a tensor in FRACTAL_NZ needs at least two dimensions")),
        other => Err(invalid(format!("format {other} is not supported by the simulated device"))),
    }
}

/// Defines a function that describes a tensor, after its other parameters; the body gets the description.
macro_rules! describing {
    ($($(#[$doc:meta])* $name:ident($($lead:ident: $l:ty,)*) -> $result:ty = |$d:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// The arrays hold as many values as their counts say.
        #[allow(non_snake_case, clippy::too_many_arguments, reason = "the C name and argument list")]
        pub unsafe extern "C" fn $name(
            $($lead: $l,)*
            dims: *const i64,
            rank: u64,
            dtype: i32,
            strides: *const i64,
            offset: i64,
            format: i32,
            storage: *const i64,
            storage_rank: u64,
            data: *mut c_void,
        ) -> $result {
            let $d = Described { dims, rank, dtype, strides, offset, format, storage, storage_rank, data };
            $body
        }
    )*};
}

describing! {
    /// `aclCreateTensor`: null if the description is invalid.
    aclCreateTensor() -> *mut c_void = |d| {
        // SAFETY: passed on from the caller.
        guard_handle(|| Ok(insert(Object::Tensor(Arc::new(unsafe { describe(&d)? }))))) as *mut c_void
    };
    /// `aclInitTensor`: describes a live tensor anew.
    aclInitTensor(handle: *mut c_void,) -> i32 = |d| guard(ACL_INVALID_PARAM, || {
        tensor(handle, "tensor")?;
        // SAFETY: passed on from the caller.
        replace(handle as usize, Object::Tensor(Arc::new(unsafe { describe(&d)? })));
        Ok(())
    });
}

/// # Safety
/// `value` points to a value of the type with number `code`.
unsafe fn read_scalar(value: *const c_void, code: i32) -> Result<Scalar, Error> {
    if value.is_null() {
        return Err(null("value"));
    }
    macro_rules! read {
        ($t:ty) => {
            // SAFETY: not null, and the caller vouches for a value of this type.
            unsafe { value.cast::<$t>().read_unaligned() }
        };
    }
    let float = |x: f64| (x, x as i64);
    let int = |x: i64| (x as f64, x);
    const DOUBLE: i32 = 11;
    let (float, int) = match (code, DType::from_acl(code)) {
        (DOUBLE, _) => float(read!(f64)),
        (_, Some(DType::F32)) => float(f64::from(read!(f32))),
        (_, Some(DType::F16)) => float(f64::from(f16_to_f32(read!(u16)))),
        (_, Some(DType::Bf16)) => float(f64::from(bf16_to_f32(read!(u16)))),
        (_, Some(DType::I8)) => int(i64::from(read!(i8))),
        (_, Some(DType::U8)) => int(i64::from(read!(u8))),
        (_, Some(DType::I16)) => int(i64::from(read!(i16))),
        (_, Some(DType::I32)) => int(i64::from(read!(i32))),
        (_, Some(DType::U32)) => int(i64::from(read!(u32))),
        (_, Some(DType::I64)) => int(read!(i64)),
        (_, Some(DType::U64)) => int(read!(u64) as i64),
        (_, Some(DType::Bool)) => int(i64::from(read!(u8) != 0)),
        _ => return Err(invalid(format!("a scalar of data type {code} is not supported"))),
    };
    Ok(Scalar { float, int, dtype: DType::from_acl(code) })
}

/// `aclCreateScalar`: copies the value.
///
/// # Safety
/// `value` points to a value of that type.
#[allow(non_snake_case, reason = "the C name")]
pub unsafe extern "C" fn aclCreateScalar(value: *mut c_void, dtype: i32) -> *mut c_void {
    // SAFETY: passed on from the caller.
    guard_handle(|| Ok(insert(Object::Scalar(unsafe { read_scalar(value, dtype)? })))) as *mut c_void
}

macro_rules! create_array {
    ($($name:ident($t:ty) $object:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: copies the values.")]
        ///
        /// # Safety
        /// `value` points to `size` values.
        #[allow(non_snake_case, reason = "the C name")]
        pub unsafe extern "C" fn $name(value: *const $t, size: u64) -> *mut c_void {
            // SAFETY: passed on from the caller.
            guard_handle(|| Ok(insert($object(unsafe { copy_array(value, size, "value")? })?))) as *mut c_void
        }
    )*};
}

fn members(values: Vec<*const c_void>, want: fn(&Object) -> bool) -> Result<Arc<Vec<usize>>, Error> {
    for &member in &values {
        if !want(&get(member, "member of the list")?) {
            return Err(invalid("a member of the list is of another kind"));
        }
    }
    Ok(Arc::new(values.into_iter().map(|v| v as usize).collect()))
}

create_array! {
    aclCreateIntArray(i64) |v| Ok::<_, Error>(Object::Ints(Arc::new(v)));
    aclCreateFloatArray(f32) |v| Ok::<_, Error>(Object::Floats(Arc::new(v)));
    aclCreateBoolArray(u8) |v: Vec<u8>| Ok::<_, Error>(Object::Bools(Arc::new(v.into_iter().map(|b| b != 0).collect())));
    aclCreateTensorList(*const c_void) |v| members(v, |o| matches!(o, Object::Tensor(_))).map(Object::Tensors);
    aclCreateScalarList(*const c_void) |v| members(v, |o| matches!(o, Object::Scalar(_))).map(Object::Scalars);
}

macro_rules! destroy_object {
    ($($name:ident $kind:literal;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: an unknown handle is refused.")]
        #[allow(non_snake_case, reason = "the C name")]
        pub extern "C" fn $name(handle: *const c_void) -> i32 {
            guard(ACL_INVALID_PARAM, || destroy(handle, $kind))
        }
    )*};
}

destroy_object! {
    aclDestroyTensor "aclTensor";
    aclDestroyScalar "aclScalar";
    aclDestroyIntArray "aclIntArray";
    aclDestroyFloatArray "aclFloatArray";
    aclDestroyBoolArray "aclBoolArray";
    aclDestroyTensorList "aclTensorList";
    aclDestroyScalarList "aclScalarList";
}
