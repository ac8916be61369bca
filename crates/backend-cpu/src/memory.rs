//! Zeroed, 64-byte aligned memory, on huge pages where available.
//!
//! Streaming weights from 2 MiB pages misses the TLB less, and aligned vectors never split a cache line. Pages are placed
//! on first touch, so a chunk lies near the thread that packs it. Used for packed weights, KV pages and the arena.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Alignment of small buffers, in bytes.
const LINE_BYTES: usize = 64;
/// Buffers of at least this size are mapped, aligned to it, and advised to use huge pages.
const HUGE_BYTES: usize = 2 << 20;

/// An owned byte buffer, initially zero.
#[derive(Debug)]
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    backing: Backing,
}

/// The source of the bytes, which determines how they are freed.
#[derive(Debug)]
enum Backing {
    Heap(Layout),
    #[cfg(target_os = "linux")]
    Map {
        base: NonNull<u8>,
        len: usize,
    },
}

// SAFETY: the buffer is owned and has no interior mutability; sharing follows the borrow rules.
unsafe impl Send for AlignedBytes {}
// SAFETY: as above: `&AlignedBytes` only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// A zeroed buffer of `len` bytes. Large buffers are not touched here.
    ///
    /// # Panics
    /// If `len` exceeds the maximum size of an allocation. Running out of memory aborts the process, as for `Vec`.
    pub fn zeroed(len: usize) -> AlignedBytes {
        let oom = || handle_alloc_error(Layout::from_size_align(len, LINE_BYTES).expect("a buffer's size fits isize"));
        AlignedBytes::try_zeroed(len).unwrap_or_else(oom)
    }

    /// A zeroed buffer of `len` bytes, or `None` if allocation fails.
    pub fn try_zeroed(len: usize) -> Option<AlignedBytes> {
        #[cfg(target_os = "linux")]
        if len >= HUGE_BYTES {
            return AlignedBytes::mapped(len);
        }
        let layout = Layout::from_size_align(len.max(1), LINE_BYTES).ok()?;
        // SAFETY: the layout's size is at least 1.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(AlignedBytes { start, len, backing: Backing::Heap(layout) })
    }

    /// Anonymous pages, which the system zeroes on first touch. An aligned heap allocation would touch them all.
    #[cfg(target_os = "linux")]
    fn mapped(len: usize) -> Option<AlignedBytes> {
        let whole = len.checked_add(HUGE_BYTES)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping; it affects no existing memory.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), whole, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return None;
        }
        let base = NonNull::new(base.cast::<u8>())?;
        let skip = base.as_ptr().align_offset(HUGE_BYTES);
        // SAFETY: `skip` is below `HUGE_BYTES`, and the mapping is that much larger than `len`.
        let start = unsafe { base.add(skip) };
        // SAFETY: the range is ours and page-aligned; the advice does not change its contents. A failure is harmless, so
        // the result is ignored.
        unsafe { libc::madvise(start.as_ptr().cast(), len & !4095, libc::MADV_HUGEPAGE) };
        Some(AlignedBytes { start, len, backing: Backing::Map { base, len: whole } })
    }

    /// Pointer to the first byte, for writers that split the buffer into disjoint ranges.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        match self.backing {
            // SAFETY: allocated by `try_zeroed` with this layout.
            Backing::Heap(layout) => unsafe { dealloc(self.start.as_ptr(), layout) },
            #[cfg(target_os = "linux")]
            // SAFETY: mapped by `mapped` with this range, which is no longer borrowed.
            Backing::Map { base, len } => unsafe {
                libc::munmap(base.as_ptr().cast(), len);
            },
        }
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

/// Prefetches bytes into the second-level cache; does nothing on targets without a prefetch instruction.
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE_BYTES) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a hint that reads nothing; the address is valid as well.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_zeroed() {
        for len in [0, 1, 63, 4097, HUGE_BYTES, HUGE_BYTES + 5] {
            let mut bytes = AlignedBytes::zeroed(len);
            assert_eq!(bytes.as_mut_ptr() as usize % LINE_BYTES, 0);
            assert!(bytes.len() == len && bytes.iter().all(|b| *b == 0));
        }
    }
}
