//! Parameters of the exported functions: the C type of each kind, and how a value is checked and taken.

use std::ffi::{CStr, c_char, c_void};
use std::sync::Arc;

use crate::task::Error;
use crate::tensor::handles::{self, Object, Scalar};
use crate::tensor::refuse::null;
use crate::tensor::view::View;

/// A tensor parameter.
pub type Tensor = Arc<View>;
/// A tensor that may be null.
pub type MaybeTensor = Option<Arc<View>>;
/// A scalar parameter.
pub type Num = Scalar;
/// A scalar that may be null.
pub type MaybeNum = Option<Scalar>;
/// A list of tensors.
pub type Tensors = Vec<Arc<View>>;
/// An integer array.
pub type Ints = Arc<Vec<i64>>;
/// An integer array that may be null.
pub type MaybeInts = Option<Arc<Vec<i64>>>;
/// A C string.
pub type Text = String;
/// A C string that may be null.
pub type MaybeText = Option<String>;

/// A kind of parameter.
pub trait Arg: Sized {
    /// Its type in C.
    type C: Copy;

    /// Checks and takes the caller's value.
    ///
    /// # Safety
    /// A string points to a terminated string or is null.
    unsafe fn take(c: Self::C, name: &str) -> Result<Self, Error>;
}

macro_rules! handle_arg {
    ($($t:ty = $get:expr;)*) => {$(
        impl Arg for $t {
            type C = *const c_void;

            unsafe fn take(c: Self::C, name: &str) -> Result<Self, Error> {
                $get(c, name)
            }
        }

        impl Arg for Option<$t> {
            type C = *const c_void;

            unsafe fn take(c: Self::C, name: &str) -> Result<Self, Error> {
                if c.is_null() { Ok(None) } else { $get(c, name).map(Some) }
            }
        }
    )*};
}

fn tensors(handle: *const c_void, name: &str) -> Result<Tensors, Error> {
    handles::tensors(handle, name)
}

handle_arg! {
    Tensor = handles::tensor;
    Scalar = handles::scalar;
    Ints = handles::ints;
    Tensors = tensors;
}

macro_rules! plain_arg {
    ($($t:ty)*) => {$(
        impl Arg for $t {
            type C = $t;

            unsafe fn take(c: Self::C, _name: &str) -> Result<Self, Error> {
                Ok(c)
            }
        }
    )*};
}

plain_arg!(i8 i32 i64 f64 u64 f32);

impl Arg for bool {
    // A C caller may pass any byte.
    type C = u8;

    unsafe fn take(c: Self::C, _name: &str) -> Result<Self, Error> {
        Ok(c != 0)
    }
}

impl Arg for Text {
    type C = *const c_char;

    unsafe fn take(c: Self::C, name: &str) -> Result<Self, Error> {
        if c.is_null() {
            return Err(null(name));
        }
        // SAFETY: not null, and the caller vouches for a terminated string.
        Ok(unsafe { CStr::from_ptr(c) }.to_string_lossy().into_owned())
    }
}

impl Arg for Option<Text> {
    type C = *const c_char;

    unsafe fn take(c: Self::C, name: &str) -> Result<Self, Error> {
        // SAFETY: passed on from the caller.
        if c.is_null() { Ok(None) } else { unsafe { Text::take(c, name).map(Some) } }
    }
}

/// Whether a handle is a live object of any kind.
pub fn is_live(handle: *const c_void) -> bool {
    matches!(handles::get(handle, ""), Ok(Object::Tensor(_) | Object::Scalar(_) | Object::Ints(_) | Object::Tensors(_)))
}
