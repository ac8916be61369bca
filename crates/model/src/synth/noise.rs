//! Random weights in every storage type, from a counter-based generator.
//!
//! A block's bytes are random; then its scale fields are set so that the decoded values have mean 0 and the requested
//! standard deviation. No value depends on how many were drawn before, so the same seed gives the same file on every
//! machine.

use std::io::{self, Write};

use aio_ir::DType;
use half::{bf16, f16};

/// Approximate number of bytes written at a time.
const CHUNK: u64 = 1 << 20;

/// Random numbers of one tensor.
pub(super) struct Noise {
    key: u64,
    counter: u64,
}

impl Noise {
    pub(super) fn new(seed: u64, tensor: u64) -> Noise {
        Noise { key: mix(mix(seed) ^ tensor), counter: 0 }
    }

    fn next(&mut self) -> u64 {
        self.counter += 1;
        mix(self.key.wrapping_add(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }

    /// Approximately normal, mean 0, standard deviation 1: the sum of four uniform 16-bit numbers.
    pub(super) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u32 & 0xffff).sum();
        (sum as f32 / 65_535.0 - 2.0) * 3.0f32.sqrt()
    }
}

/// A bijection of 64-bit numbers in which every output bit depends on all input bits (SplitMix64).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The positions and required values of a block's scales.
struct BlockForm {
    /// Byte offset of the f16 scale.
    scale_at: usize,
    /// Byte offset of the f16 minimum, and its ratio to the scale for mean 0.
    min: Option<(usize, f32)>,
    /// Standard deviation of the decoded values at scale 1.
    deviation: f32,
}

/// The deviations follow from the formats' decoding formulas with all bits uniform.
fn block_form(dtype: DType) -> Option<BlockForm> {
    let form = |scale_at, min, deviation| Some(BlockForm { scale_at, min, deviation });
    match dtype {
        DType::Q4_0 => form(0, None, 4.64),
        DType::Q4_1 => form(0, Some((2, -7.5)), 4.61),
        DType::Q5_0 => form(0, None, 9.25),
        DType::Q5_1 => form(0, Some((2, -15.5)), 9.23),
        DType::Q8_0 => form(0, None, 73.9),
        DType::Q2K => form(80, Some((82, 1.5)), 13.9),
        DType::Q3K => form(108, None, 43.3),
        DType::Q4K => form(0, Some((2, 7.5)), 258.3),
        DType::Q5K => form(0, Some((2, 15.5)), 526.9),
        DType::Q6K => form(208, None, 1365.7),
        DType::IQ4NL => form(0, None, 67.4),
        _ => None,
    }
}

/// Writes `elems` values with standard deviation `sigma` around `mean`, in the layout of `dtype`. Quantised types
/// ignore `mean`.
pub(super) fn write(
    noise: &mut Noise,
    dtype: DType,
    elems: u64,
    mean: f32,
    sigma: f32,
    out: &mut dyn Write,
) -> io::Result<()> {
    let block_bytes = dtype.block_bytes() as u64;
    let mut left = elems / dtype.block_elems() as u64;
    let mut buffer = Vec::new();
    while left > 0 {
        let blocks = left.min(CHUNK / block_bytes);
        buffer.clear();
        buffer.resize((blocks * block_bytes) as usize, 0);
        match block_form(dtype) {
            Some(form) => fill_blocks(noise, &form, block_bytes as usize, sigma, &mut buffer),
            None => fill_plain(noise, dtype, mean, sigma, &mut buffer)?,
        }
        out.write_all(&buffer)?;
        left -= blocks;
    }
    Ok(())
}

fn fill_blocks(noise: &mut Noise, form: &BlockForm, block_bytes: usize, sigma: f32, buffer: &mut [u8]) {
    noise.fill(buffer);
    for block in buffer.chunks_exact_mut(block_bytes) {
        // Up to a quarter up or down, so that scales differ. Signs differ in formats without a minimum, because the
        // mean of their quants is half a step off zero.
        let bits = noise.next();
        let wobble = 0.75 + 0.5 * (bits as u32 as f32 / u32::MAX as f32);
        let sign = if form.min.is_none() && bits >> 63 == 1 { -1.0 } else { 1.0 };
        let scale = f16::from_f32(sign * wobble * sigma / form.deviation);
        block[form.scale_at..][..2].copy_from_slice(&scale.to_le_bytes());
        if let Some((at, ratio)) = form.min {
            let min = f16::from_f32(scale.to_f32() * ratio);
            block[at..][..2].copy_from_slice(&min.to_le_bytes());
        }
    }
}

fn fill_plain(noise: &mut Noise, dtype: DType, mean: f32, sigma: f32, buffer: &mut [u8]) -> io::Result<()> {
    for element in buffer.chunks_exact_mut(dtype.block_bytes()) {
        let value = mean + sigma * noise.normal();
        match dtype {
            DType::F32 => element.copy_from_slice(&value.to_le_bytes()),
            DType::F16 => element.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
            DType::BF16 => element.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            other => return Err(io::Error::other(format!("{other} cannot hold weights"))),
        }
    }
    Ok(())
}
