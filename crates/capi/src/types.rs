//! The plain data of the ABI besides parameters: handles, and what a C type is called. Used by the table of functions and by the
//! test that holds the header to it.

use crate::handles::TABLE;
use crate::raw;
use crate::status::{Failure, Outcome};
use std::any::Any;
use std::ffi::{c_char, c_void};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// Has a name in C.
pub trait CType {
    /// Its name in C.
    fn c_name() -> String;
}

macro_rules! c_types {
    ($($ty:ty = $name:literal,)*) => {$(
        impl $crate::types::CType for $ty {
            fn c_name() -> String {
                $name.to_owned()
            }
        }
    )*};
}
pub(crate) use c_types;

c_types! {
    i32 = "int32_t",
    u32 = "uint32_t",
    u64 = "uint64_t",
    f32 = "float",
    f64 = "double",
    c_char = "char",
    c_void = "void",
}

impl<T: CType> CType for *const T {
    fn c_name() -> String {
        format!("const {} *", T::c_name())
    }
}

impl<T: CType> CType for *mut T {
    fn c_name() -> String {
        format!("{} *", T::c_name())
    }
}

/// What an object keeps, for as long as the caller has it. What a panic left is used again: it changes at the end of calls alone.
///
/// # Errors
/// Busy if another call has it.
pub(crate) fn hold<'a, T>(mutex: &'a Mutex<T>, kind: &str) -> Outcome<MutexGuard<'a, T>> {
    match mutex.try_lock() {
        Ok(held) => Ok(held),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(Failure::busy(kind)),
    }
}

/// A handle of one kind of object.
pub(crate) trait Handle: Copy {
    /// What it is called in messages.
    const KIND: &'static str;

    fn new(id: u64) -> Self;

    fn id(self) -> u64;

    /// The object.
    fn get<T: Any + Send + Sync>(self) -> Outcome<Arc<T>> {
        TABLE.get(self.id(), Self::KIND)
    }

    /// The object, which the handle no longer serves.
    fn take<T: Any + Send + Sync>(self) -> Outcome<Arc<T>> {
        TABLE.remove(self.id(), Self::KIND)
    }

    /// Gives the caller a handle of what `make` makes. Nothing is made if there is no place for the handle.
    ///
    /// # Safety
    /// `to` is null or writable.
    unsafe fn give<T: Any + Send + Sync>(to: *mut Self, make: impl FnOnce() -> Outcome<T>) -> Outcome {
        raw::place(to, Self::KIND)?;
        let id = TABLE.insert(Arc::new(make()?))?;
        // SAFETY: the caller's promise.
        unsafe { raw::put(to, Self::new(id), Self::KIND) }
    }
}

macro_rules! handles {
    ($($(#[$doc:meta])* $name:ident = $c:literal, $kind:literal;)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            /// 0 for none.
            pub id: u64,
        }

        impl Handle for $name {
            const KIND: &'static str = $kind;

            fn new(id: u64) -> $name {
                $name { id }
            }

            fn id(self) -> u64 {
                self.id
            }
        }

        c_types! { $name = $c, }
    )*};
}

handles! {
    /// A device that was opened.
    DeviceHandle = "aio_device", "device";
    /// A model on a device.
    EngineHandle = "aio_engine", "engine";
    /// The tokens of one text in the KV cache.
    SequenceHandle = "aio_sequence", "sequence";
    /// One caller's view of an engine: the outputs of its last step.
    ContextHandle = "aio_context", "context";
    /// Requests that are decoded together.
    BatchHandle = "aio_batch", "batch";
    /// A request of a batch.
    RequestHandle = "aio_request", "request";
}
