//! Reads codes and scales from the blocks of a model file.
//!
//! The layouts are those `aio_ir::quant` decodes; here codes stay integers, offset so that none is negative. Called by
//! packing, one block of one row at a time.

use aio_ir::DType;
use aio_ir::quant::{k4_scale_min, q3_scales};

/// The 32 codes of run `run` (columns `32 * run ..`) of a block, as `crate::format` stores them:
/// iq4_nl as table indices, q8_0 plus 128, all else as the file has them.
pub(super) fn codes(dtype: DType, block: &[u8], run: usize) -> [u8; 32] {
    let (half, quarter) = (run / 4, run % 4);
    match dtype {
        DType::Q4_0 | DType::IQ4NL => nibble_pairs(&block[2..]),
        DType::Q4_1 => nibble_pairs(&block[4..]),
        DType::Q5_0 => with_word(nibble_pairs(&block[6..]), &block[2..6]),
        DType::Q5_1 => with_word(nibble_pairs(&block[8..]), &block[4..8]),
        DType::Q8_0 => std::array::from_fn(|i| block[2 + i] ^ 0x80),
        DType::Q2K => bits(&block[16 + 32 * half..], 2 * quarter, 3),
        DType::Q3K => join(bits(&block[32 + 32 * half..], 2 * quarter, 3), bits(block, run, 1), 2),
        DType::Q4K => bits(&block[16 + 32 * (run / 2)..], 4 * (run % 2), 15),
        DType::Q5K => join(bits(&block[48 + 32 * (run / 2)..], 4 * (run % 2), 15), bits(&block[16..], run, 1), 4),
        DType::Q6K => {
            let low = bits(&block[64 * half + 32 * (quarter % 2)..], 4 * (quarter / 2), 15);
            join(low, bits(&block[128 + 32 * half..], 2 * quarter, 3), 4)
        }
        _ => unreachable!("{dtype} is no block format"),
    }
}

/// 32 fields of neighbouring bytes.
fn bits(bytes: &[u8], shift: usize, mask: u8) -> [u8; 32] {
    std::array::from_fn(|i| bytes[i] >> shift & mask)
}

fn join(low: [u8; 32], high: [u8; 32], shift: u32) -> [u8; 32] {
    std::array::from_fn(|i| low[i] | high[i] << shift)
}

/// Byte `j` holds codes `j` and `j + 16`.
fn nibble_pairs(qs: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| qs[i % 16] >> (4 * (i / 16)) & 15)
}

/// Adds bit `i` of a little-endian word as bit 4 of code `i`.
fn with_word(low: [u8; 32], word: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| low[i] | (word[i / 8] >> (i % 8) & 1) << 4)
}

/// The block's f16 scale and, where it has one, minimum.
pub(super) fn halves(dtype: DType, block: &[u8]) -> [[u8; 2]; 2] {
    let at = match dtype {
        DType::Q2K => 80,
        DType::Q3K => 108,
        DType::Q6K => 208,
        _ => 0,
    };
    let half = |at: usize| [block[at], block[at + 1]];
    // Types without a minimum ignore the second; q3_k and q6_k have nothing after the first.
    [half(at), if at + 4 <= block.len() { half(at + 2) } else { [0; 2] }]
}

/// The 16 bytes a row contributes to a super-block's head, in its order.
pub(super) fn small_scales(dtype: DType, block: &[u8]) -> [u8; 16] {
    match dtype {
        DType::Q2K => std::array::from_fn(|j| block[j]),
        DType::Q3K => q3_scales(&block[96..108]).map(|s| s as u8),
        DType::Q6K => std::array::from_fn(|j| block[192 + j]),
        _ => std::array::from_fn(|j| {
            let (s, m) = k4_scale_min(&block[4..16], j % 8);
            if j < 8 { s } else { m }
        }),
    }
}
