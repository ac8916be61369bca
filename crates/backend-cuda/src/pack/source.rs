//! Reads codes from the blocks of a model file, 32 at a time.
//!
//! The layouts are those that `aio_ir::quant` decodes; here codes remain integers. Called by packing.

use aio_ir::DType;

/// The two bytes of an f16.
pub(super) fn half_at(row: &[u8], at: usize) -> [u8; 2] {
    [row[at], row[at + 1]]
}

/// The 32 codes of run `run` (columns `32 * run ..`) of a row.
pub(super) fn run_codes(dtype: DType, row: &[u8], run: usize) -> [u8; 32] {
    let block = |len: usize, runs: usize| &row[run / runs * len..][..len];
    match dtype {
        DType::Q8_0 => std::array::from_fn(|i| block(34, 1)[2 + i]),
        DType::Q4_0 => halves_apart(&block(18, 1)[2..]),
        DType::Q4_1 => halves_apart(&block(20, 1)[4..]),
        DType::Q4K => {
            let bytes = &block(144, 8)[16 + 32 * (run % 8 / 2)..];
            std::array::from_fn(|i| bytes[i] >> (4 * (run % 2)) & 15)
        }
        DType::Q6K => {
            let (block, half, quarter) = (block(210, 8), run % 8 / 4, run % 4);
            let (low, high) = (&block[64 * half + 32 * (quarter % 2)..], &block[128 + 32 * half..]);
            std::array::from_fn(|i| (low[i] >> (4 * (quarter / 2)) & 15) | (high[i] >> (2 * quarter) & 3) << 4)
        }
        _ => unreachable!("{dtype} has no codes of its own"),
    }
}

/// Byte `i` holds codes `i` and `i + 16`.
fn halves_apart(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| bytes[i % 16] >> (4 * (i / 16)) & 15)
}
