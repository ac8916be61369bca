//! Zeroed, 64-byte aligned memory on huge pages where the system gives them.
//!
//! Weights stream through the translation buffers faster on 2 MiB pages, and aligned vectors never
//! split a cache line. Pages are placed on first touch, so a thread that packs its own chunk also
//! owns it. Used for packed weights, KV pages and the arena.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of small buffers, bytes.
const LINE_BYTES: usize = 64;
/// Buffers of at least this size are aligned to it and advised to be huge pages.
const HUGE_BYTES: usize = 2 << 20;

/// An owned byte buffer, zero at first.
#[derive(Debug)]
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: the buffer is owned and has no interior mutability; sharing follows the borrow rules.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above: `&AlignedBytes` only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// A zeroed buffer of `len` bytes. Large buffers are not touched here.
    ///
    /// # Panics
    /// If `len` overflows an allocation's size.
    pub fn zeroed(len: usize) -> AlignedBytes {
        let align = if len >= HUGE_BYTES { HUGE_BYTES } else { LINE_BYTES };
        let layout = Layout::from_size_align(len.max(1), align).expect("a buffer's size fits isize");
        // SAFETY: the layout's size is at least 1.
        let raw = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(raw) else { handle_alloc_error(layout) };
        advise_huge(start, len);
        AlignedBytes { start, len, layout }
    }

    /// The first byte, for writers that share the buffer by disjoint ranges.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

#[cfg(target_os = "linux")]
fn advise_huge(start: NonNull<u8>, len: usize) {
    if len < HUGE_BYTES {
        return;
    }
    // SAFETY: the range is ours and aligned to a page; the advice changes no contents. A refusal is
    // harmless, so the result is not looked at.
    unsafe { libc::madvise(start.as_ptr().cast(), len & !(4095), libc::MADV_HUGEPAGE) };
}

#[cfg(not(target_os = "linux"))]
fn advise_huge(_: NonNull<u8>, _: usize) {}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: allocated by `zeroed` with this very layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` has `len` initialised (zeroed) bytes, owned by `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zeroed() {
        for len in [0, 1, 63, 4097, HUGE_BYTES + 5] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert_eq!(bytes.as_mut_ptr() as usize % LINE_BYTES, 0);
            assert!(bytes.len() == len && bytes.iter().all(|b| *b == 0));
        }
    }
}
