//! Reads what C passes: structs that may be older or newer than this library's, arrays, texts; and writes what it asks for.
//!
//! A struct begins with its size in bytes as the caller knows it. One that is shorter lacks fields, which are zero; one that is
//! longer has fields that this library does not know, which must be zero (the convention of Linux's `clone3`). Used by all
//! entry points.

use crate::status::{Error, Failure, Outcome, Status};
use bytemuck::Zeroable;
use std::ffi::c_char;
use std::path::PathBuf;

/// A struct of the ABI that begins with its size.
///
/// # Safety
/// `repr(C)`, the first field is the `u32` size, and all zero bytes past the size are a valid value, as are all bit patterns that the
/// header allows a caller to write.
pub(crate) unsafe trait Sized32: Zeroable + Copy {
    /// Its name in C, for messages.
    const NAME: &'static str;
    /// Its size when it first appeared: the end of the last field it had then, whatever fields come after.
    const FIRST_SIZE: usize;
}

/// The most bytes that a struct may have: a size beyond is taken for memory that nobody set.
const MOST: usize = 4096;

/// Copies a struct that the caller filled.
///
/// # Safety
/// `from` is null, or points to as many readable bytes as its first four say, and to four at least.
pub(crate) unsafe fn read<T: Sized32>(from: *const T) -> Outcome<T> {
    // SAFETY: the caller's promise.
    let size = unsafe { checked_size(from)? };
    let ours = size_of::<T>();
    if size > ours {
        // SAFETY: the caller says that the struct has `size` bytes.
        let more = unsafe { std::slice::from_raw_parts(from.cast::<u8>().add(ours), size - ours) };
        if more.iter().any(|&b| b != 0) {
            let message = format!("{} has fields set that this version of the library does not know", T::NAME);
            return Err(Failure::new(Status::Unsupported, message));
        }
    }
    let mut value = T::zeroed();
    // SAFETY: both have at least so many bytes; the trait promises that the result is valid.
    unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), (&raw mut value).cast::<u8>(), size.min(ours)) };
    Ok(value)
}

/// Refuses a field that has no meaning yet, so that it can get one.
pub(crate) fn reserved(value: u32, of: &str) -> Outcome {
    let message = || format!("reserved of {of} is {value}; it must be 0");
    if value == 0 { Ok(()) } else { Err(Failure::new(Status::Unsupported, message())) }
}

/// Fills a struct of the caller, as much of it as the caller knows.
///
/// # Safety
/// As of [`read`], and writable.
pub(crate) unsafe fn write<T: Sized32>(to: *mut T, value: T) -> Outcome {
    // SAFETY: the caller's promise.
    let size = unsafe { checked_size(to.cast_const())? };
    let (skip, ours) = (size_of::<u32>(), size_of::<T>());
    // SAFETY: both have at least `size.min(ours)` bytes, of which the first four, the caller's size, stay.
    unsafe {
        let from = (&raw const value).cast::<u8>();
        std::ptr::copy_nonoverlapping(from.add(skip), to.cast::<u8>().add(skip), size.min(ours) - skip);
        to.cast::<u8>().add(size.min(ours)).write_bytes(0, size.saturating_sub(ours));
    }
    Ok(())
}

unsafe fn checked_size<T: Sized32>(at: *const T) -> Outcome<usize> {
    if at.is_null() {
        return Err(Failure::argument(format!("{} is null", T::NAME)));
    }
    if !at.is_aligned() {
        return Err(Failure::argument(format!("{} is not aligned", T::NAME)));
    }
    // SAFETY: not null, aligned, and four bytes are readable.
    let size = unsafe { at.cast::<u32>().read() } as usize;
    if !(T::FIRST_SIZE..=MOST).contains(&size) {
        let message = format!("struct_size of {} is {size}; it is at least {}", T::NAME, T::FIRST_SIZE);
        return Err(Failure::argument(message));
    }
    Ok(size)
}

/// An array of the caller.
///
/// # Safety
/// `at` is null or points to `len` valid elements, which nobody changes during the call.
pub(crate) unsafe fn slice<'a, T>(at: *const T, len: u64, what: &str) -> Outcome<&'a [T]> {
    let fits =
        usize::try_from(len).ok().filter(|&n| n.checked_mul(size_of::<T>()).is_some_and(|b| b <= isize::MAX as usize));
    match fits {
        Some(0) => Ok(&[]),
        _ if at.is_null() => Err(Failure::argument(format!("{what} is null, but there are {len}"))),
        _ if !at.is_aligned() => Err(Failure::argument(format!("{what} is not aligned"))),
        // SAFETY: not null, aligned, and the caller promises so many elements.
        Some(len) => Ok(unsafe { std::slice::from_raw_parts(at, len) }),
        None => Err(Failure::argument(format!("{what}: {len} elements do not fit in memory"))),
    }
}

/// A text of the caller with its length in bytes.
///
/// # Safety
/// As of [`slice`].
pub(crate) unsafe fn text<'a>(at: *const c_char, len: u64, what: &str) -> Outcome<&'a str> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(at.cast::<u8>(), len, what)? };
    std::str::from_utf8(bytes).map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// A text of the caller that ends with a zero byte; `None` if it is null.
///
/// # Safety
/// `at` is null or points to bytes that end with a zero, which nobody changes during the call.
pub(crate) unsafe fn c_text<'a>(at: *const c_char, what: &str) -> Outcome<Option<&'a str>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let text = unsafe { std::ffi::CStr::from_ptr(at) };
    text.to_str().map(Some).map_err(|_| Failure::argument(format!("{what} is not UTF-8")))
}

/// A path of the caller, ended by a zero byte: any bytes where the system allows that.
///
/// # Safety
/// As of [`c_text`].
pub(crate) unsafe fn path(at: *const c_char, what: &str) -> Outcome<PathBuf> {
    if at.is_null() {
        return Err(Failure::argument(format!("{what} is null")));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { std::ffi::CStr::from_ptr(at) };
    #[cfg(unix)]
    let path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(text.to_bytes());
    #[cfg(not(unix))]
    let path = text.to_str().map_err(|_| Failure::argument(format!("{what} is not UTF-8")))?;
    Ok(PathBuf::from(std::ffi::OsStr::new(path)))
}

/// Checks that a struct of the caller can be filled, before there is anything to fill it with.
///
/// # Safety
/// As of [`read`].
pub(crate) unsafe fn check<T: Sized32>(to: *mut T) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { checked_size(to.cast_const()) }.map(drop)
}

/// Checks that a value can be written, before there is one.
pub(crate) fn place<T>(to: *mut T, what: &str) -> Outcome {
    if to.is_null() || !to.is_aligned() {
        return Err(Failure::argument(format!("the place for {what} is null or not aligned")));
    }
    Ok(())
}

/// Writes one value.
///
/// # Safety
/// `to` is null or writable.
pub(crate) unsafe fn put<T>(to: *mut T, value: T, what: &str) -> Outcome {
    place(to, what)?;
    // SAFETY: not null, aligned, writable.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes an array into a buffer of `capacity` elements, and its length to `len`, also where the buffer is too small.
///
/// # Safety
/// `to` is null or has room for `capacity` elements; `len` is null or writable.
pub(crate) unsafe fn fill<T: Copy>(to: *mut T, capacity: u64, len: *mut u64, values: &[T]) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { put(len, values.len() as u64, "the length")? };
    if capacity < values.len() as u64 {
        let message = format!("the buffer has room for {capacity}, needed are {}", values.len());
        return Err(Failure::new(Status::BufferTooSmall, message));
    }
    if values.is_empty() {
        return Ok(());
    }
    if to.is_null() || !to.is_aligned() {
        return Err(Failure::argument("the buffer is null or not aligned"));
    }
    // SAFETY: there is room for all, and a buffer of the caller overlaps no value of ours.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), to, values.len()) };
    Ok(())
}

/// Writes a text and a zero byte after it. `len` gets the bytes without the zero.
///
/// # Safety
/// As of [`fill`].
pub(crate) unsafe fn fill_text(to: *mut c_char, capacity: u64, len: *mut u64, text: &str) -> Outcome {
    // SAFETY: the caller's promise; the length alone is written before the buffer is known to suffice.
    unsafe {
        put(len, text.len() as u64, "the length")?;
        if capacity <= text.len() as u64 {
            let message = format!("the buffer has {capacity} bytes, needed are {} and a zero", text.len());
            return Err(Failure::new(Status::BufferTooSmall, message));
        }
        if to.is_null() {
            return Err(Failure::argument("the buffer is null"));
        }
        std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast::<u8>(), text.len());
        to.add(text.len()).write(0);
    }
    Ok(())
}

// SAFETY: `repr(C)`, begins with its size; any bytes are a message.
unsafe impl Sized32 for Error {
    const NAME: &'static str = "aio_error";
    const FIRST_SIZE: usize = 16;
}

/// Writes a failure where the caller wants it, as much of the message as there is room for.
///
/// # Safety
/// `to` is null, or writable for as many bytes as its first four say, and for four at least.
pub(crate) unsafe fn report(to: *mut Error, failure: &Failure) {
    if to.is_null() || !to.is_aligned() {
        return;
    }
    // SAFETY: four bytes are readable.
    let size = unsafe { to.cast::<u32>().read() } as usize;
    let head = std::mem::offset_of!(Error, message);
    if !(Error::FIRST_SIZE..=MOST).contains(&size) {
        return;
    }
    let room = size.min(size_of::<Error>()) - head - 1;
    let cut = failure.message.floor_char_boundary(room);
    // SAFETY: inside the size that the caller gave.
    unsafe {
        (&raw mut (*to).status).write(failure.status as i32);
        let message = to.cast::<u8>().add(head);
        std::ptr::copy_nonoverlapping(failure.message.as_ptr(), message, cut);
        message.add(cut).write(0);
    }
}
