//! Streaming reads of a large buffer.

use crate::isa::{Isa, IsaLevel};
use crate::memory::AlignedBytes;
use crate::pool::Pool;
use std::hint::black_box;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Fill value of the buffer: pages never written may all map to one page of zeros.
const FILL: u8 = 0x11;

/// Memory to stream. See [`Probe::read_buffer`](super::Probe::read_buffer).
#[derive(Debug)]
pub struct ReadBuffer {
    bytes: AlignedBytes,
}

impl ReadBuffer {
    pub(super) fn new(pool: &Pool, bytes: usize) -> Option<ReadBuffer> {
        let mut buffer = ReadBuffer { bytes: AlignedBytes::try_zeroed(bytes)? };
        let start = buffer.bytes.as_mut_ptr() as usize;
        let buffer_ref = &buffer;
        pool.run(&|worker| {
            let share = buffer_ref.share(worker.tid, worker.threads);
            // SAFETY: threads fill disjoint ranges of the buffer, which lives until `run` returns; nothing reads it.
            unsafe { std::ptr::write_bytes((start as *mut u8).add(share.start), FILL, share.len()) };
        });
        Some(buffer)
    }

    /// Bytes of the buffer.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes that thread `tid` of `threads` reads: whole cache lines.
    pub(super) fn share(&self, tid: usize, threads: usize) -> std::ops::Range<usize> {
        let lines = self.bytes.len() / LINE;
        let at = |t: usize| lines * t.min(threads) / threads.max(1) * LINE;
        at(tid)..at(tid + 1)
    }

    /// Reads this thread's share several times.
    pub(super) fn read(&self, isa: Isa, tid: usize, threads: usize, passes: usize) {
        let share = &self.bytes[self.share(tid, threads)];
        for _ in 0..passes {
            black_box(stream(isa, black_box(share)));
        }
    }
}

/// A sum over the bytes; whole cache lines.
fn stream(isa: Isa, bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    match isa.level() {
        // SAFETY: `isa` proves that the machine has the level.
        IsaLevel::Avx512Vnni => return unsafe { avx512(bytes) },
        // SAFETY: as above.
        IsaLevel::Avx2 => return unsafe { avx2(bytes) },
        IsaLevel::Portable => {}
    }
    let _ = isa;
    let mut sums = [0u64; 8];
    for line in bytes.as_chunks::<LINE>().0 {
        for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Cache lines summed in parallel.
const STRIDE: usize = 4;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(bytes: &[u8]) -> u64 {
    use std::arch::x86_64::*;
    let mut sums = [_mm512_setzero_si512(); STRIDE];
    let (blocks, rest) = bytes.as_chunks::<{ STRIDE * LINE }>();
    for block in blocks {
        for (sum, line) in sums.iter_mut().zip(block.as_chunks::<LINE>().0) {
            // SAFETY: a line is 64 readable bytes; the load needs no alignment.
            *sum = _mm512_add_epi64(*sum, unsafe { _mm512_loadu_si512(line.as_ptr().cast()) });
        }
    }
    for line in rest.as_chunks::<LINE>().0 {
        // SAFETY: as above.
        sums[0] = _mm512_add_epi64(sums[0], unsafe { _mm512_loadu_si512(line.as_ptr().cast()) });
    }
    let sum = sums.into_iter().fold(_mm512_setzero_si512(), |a, b| _mm512_add_epi64(a, b));
    _mm512_reduce_add_epi64(sum) as u64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(bytes: &[u8]) -> u64 {
    use std::arch::x86_64::*;
    let mut sums = [_mm256_setzero_si256(); 2 * STRIDE];
    let (blocks, rest) = bytes.as_chunks::<{ STRIDE * LINE }>();
    let halves = |block: &[u8]| -> usize { block.len() / 32 };
    for block in blocks.iter().map(<[u8; _]>::as_slice).chain(rest.chunks(LINE)) {
        for (half, sum) in sums.iter_mut().enumerate().take(halves(block)) {
            // SAFETY: the block has this many halves of 32 readable bytes; the load needs no alignment.
            let v = unsafe { _mm256_loadu_si256(block.as_ptr().add(32 * half).cast()) };
            *sum = _mm256_add_epi64(*sum, v);
        }
    }
    let sum = sums.into_iter().fold(_mm256_setzero_si256(), |a, b| _mm256_add_epi64(a, b));
    let mut lanes = [0u64; 4];
    // SAFETY: four words have room for 32 bytes.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum) };
    lanes.iter().fold(0, |a, b| a.wrapping_add(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_levels_give_the_same_sum() {
        let bytes: Vec<u8> = (0..64 * 13).map(|i| (i * 7 % 251) as u8).collect();
        let sums = IsaLevel::ALL.into_iter().filter_map(Isa::at).map(|isa| stream(isa, &bytes));
        let sums: Vec<u64> = sums.collect();
        assert!(sums.iter().all(|s| *s == sums[0] && *s != 0), "{sums:?}");
    }
}
