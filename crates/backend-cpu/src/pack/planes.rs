//! The planes in which the codes of a block are stored; see `crate::format` for their definition.
//!
//! Writer and reader are kept together so that they can be checked against each other; the reader is the portable kernels'
//! decoder. Called by packing and by `kernels::portable`.

use crate::format::Codes;
use aio_ir::quant::IQ4_NL_VALUES;

/// A block's codes: vector `g`, byte `4 * row + column % 4`, column `4 * g + column % 4`.
pub(crate) type Decoded = [[u8; 64]; 8];

/// Stores the codes of a block in `out`, `codes.bytes()` long.
pub(super) fn write(codes: Codes, vectors: &Decoded, out: &mut [u8]) {
    match codes {
        Codes::Nibble | Codes::Table => write_nibbles(vectors, out),
        Codes::Five => {
            write_nibbles(vectors, &mut out[..256]);
            write_bits(vectors, 4, &mut out[256..]);
        }
        Codes::Six => {
            write_nibbles(vectors, &mut out[..256]);
            write_crumbs(vectors, 4, &mut out[256..]);
        }
        Codes::Three => {
            write_crumbs(vectors, 0, &mut out[..128]);
            write_bits(vectors, 2, &mut out[128..]);
        }
        Codes::Two => write_crumbs(vectors, 0, out),
        Codes::Byte => out.copy_from_slice(vectors.as_flattened()),
    }
}

fn write_nibbles(vectors: &Decoded, out: &mut [u8]) {
    let (low, high) = vectors.as_flattened().split_at(256);
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = (low & 15) | high << 4;
    }
}

/// Bits `shift` and `shift + 1` of every code.
fn write_crumbs(vectors: &Decoded, shift: u32, out: &mut [u8]) {
    for (out, four) in out.chunks_exact_mut(64).zip(vectors.chunks_exact(4)) {
        for (i, out) in out.iter_mut().enumerate() {
            let crumb = |j: usize| (four[j][i] >> shift & 3) << (2 * j);
            *out = crumb(0) | crumb(1) | crumb(2) | crumb(3);
        }
    }
}

/// Bit `shift` of every code.
fn write_bits(vectors: &Decoded, shift: u32, out: &mut [u8]) {
    for (out, eight) in out.iter_mut().zip(vectors.as_flattened().chunks_exact(8)) {
        *out = (0..8).fold(0, |byte, i| byte | (eight[i] >> shift & 1) << i);
    }
}

/// Reads the codes of a block back.
pub(crate) fn read(codes: Codes, block: &[u8]) -> Decoded {
    let mut vectors = [[0u8; 64]; 8];
    let out = vectors.as_flattened_mut();
    match codes {
        Codes::Nibble => read_nibbles(block, out),
        Codes::Table => {
            read_nibbles(block, out);
            for code in out {
                *code = (i16::from(IQ4_NL_VALUES[usize::from(*code)]) + 128) as u8;
            }
        }
        Codes::Five => {
            read_nibbles(&block[..256], out);
            add_bits(&block[256..], 4, out);
        }
        Codes::Six => {
            read_nibbles(&block[..256], out);
            add_crumbs(&block[256..], 4, out);
        }
        Codes::Three => {
            add_crumbs(&block[..128], 0, out);
            add_bits(&block[128..], 2, out);
        }
        Codes::Two => add_crumbs(block, 0, out),
        Codes::Byte => out.copy_from_slice(block),
    }
    vectors
}

fn read_nibbles(plane: &[u8], out: &mut [u8]) {
    let (low, high) = out.split_at_mut(256);
    for ((byte, low), high) in plane.iter().zip(low).zip(high) {
        (*low, *high) = (byte & 15, byte >> 4);
    }
}

fn add_crumbs(plane: &[u8], shift: u32, out: &mut [u8]) {
    for (vector, out) in out.chunks_exact_mut(64).enumerate() {
        let bytes = &plane[64 * (vector / 4)..][..64];
        for (byte, out) in bytes.iter().zip(out) {
            *out |= (byte >> (2 * (vector % 4)) & 3) << shift;
        }
    }
}

fn add_bits(plane: &[u8], shift: u32, out: &mut [u8]) {
    for (byte, out) in plane.iter().zip(out.chunks_exact_mut(8)) {
        for (i, out) in out.iter_mut().enumerate() {
            *out |= (byte >> i & 1) << shift;
        }
    }
}
