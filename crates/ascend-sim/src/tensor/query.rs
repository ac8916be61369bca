//! Questions about a tensor: shapes, strides, offset, format, element type, address.

use std::ffi::c_void;
use std::sync::Arc;

use super::handles::{Object, replace, tensor};
use super::refuse::{ACL_INVALID_PARAM, guard, null};
use super::view::View;
use crate::task::Error;

/// # Safety
/// `to` is null or writable.
unsafe fn write<T>(to: *mut T, value: T, name: &str) -> Result<(), Error> {
    if to.is_null() {
        return Err(null(name));
    }
    // SAFETY: not null, and the caller vouches that it can be written.
    unsafe { to.write_unaligned(value) };
    Ok(())
}

/// Hands the caller an array that it releases with C++ `delete[]`: the memory must come from the C allocator.
///
/// # Safety
/// `to` and `count` are null or writable.
unsafe fn write_array(values: &[usize], to: *mut *mut i64, count: *mut u64) -> Result<(), Error> {
    unsafe extern "C" {
        fn malloc(bytes: usize) -> *mut c_void;
    }
    // SAFETY: plain allocation; null is handled below.
    let memory = unsafe { malloc(values.len().max(1) * 8) }.cast::<i64>();
    if memory.is_null() {
        return Err(Error { code: 200_000, message: "EL0004: no host memory".into() });
    }
    for (i, &value) in values.iter().enumerate() {
        // SAFETY: within the array just allocated.
        unsafe { memory.add(i).write(value as i64) };
    }
    // SAFETY: passed on from the caller.
    unsafe {
        write(to, memory, "dims")?;
        write(count, values.len() as u64, "count")
    }
}

macro_rules! query_array {
    ($($name:ident $field:ident;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`: the caller releases the array.")]
        ///
        /// # Safety
        /// The two results are null or writable.
        #[allow(non_snake_case, reason = "the C name")]
        pub unsafe extern "C" fn $name(handle: *const c_void, dims: *mut *mut i64, count: *mut u64) -> i32 {
            // SAFETY: passed on from the caller.
            guard(ACL_INVALID_PARAM, || unsafe { write_array(&tensor(handle, "tensor")?.$field, dims, count) })
        }
    )*};
}

query_array! {
    aclGetViewShape dims;
    aclGetStorageShape storage;
    aclGetViewStrides strides;
}

macro_rules! query_value {
    ($($name:ident $t:ty, $value:expr;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        ///
        /// # Safety
        /// The result is null or writable.
        #[allow(non_snake_case, reason = "the C name")]
        pub unsafe extern "C" fn $name(handle: *const c_void, to: *mut $t) -> i32 {
            let value: fn(&View) -> $t = $value;
            // SAFETY: passed on from the caller.
            guard(ACL_INVALID_PARAM, || unsafe { write(to, value(&*tensor(handle, "tensor")?), "result") })
        }
    )*};
}

query_value! {
    aclGetViewOffset i64, |view| view.offset as i64;
    aclGetFormat i32, |view| view.format;
    aclGetDataType i32, |view| view.dtype.acl();
    aclGetRawTensorAddr *mut c_void, |view| view.addr as *mut c_void;
}

/// `aclSetRawTensorAddr`: executors made before keep the old address.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclSetRawTensorAddr(handle: *mut c_void, addr: *mut c_void) -> i32 {
    guard(ACL_INVALID_PARAM, || {
        let view = View { addr: addr as usize, ..(*tensor(handle, "tensor")?).clone() };
        replace(handle as usize, Object::Tensor(Arc::new(view)));
        Ok(())
    })
}
