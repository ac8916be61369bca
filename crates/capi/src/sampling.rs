//! How tokens are sampled, as C says it.

use crate::raw::{self, Sized32};
use crate::status::{Failure, Outcome};
use crate::types::c_types;
use aio::engine::Sampling;
use aio::ir::sampling::SampleParams;
use bytemuck::Zeroable;
use std::mem::offset_of;

/// Parameters of the sampling chain; `aio_sampling` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct SamplingParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// 0 for the most likely token.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the fewest most likely tokens whose total probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than p times the most likely; 0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 for none.
    pub repeat_penalty: f32,
    /// Subtracted from logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from logits of recent tokens, times their count.
    pub frequency_penalty: f32,
    /// Number of recent tokens that penalties apply to.
    pub repeat_last_n: u32,
    /// Which of several choices with the same seed.
    pub choice: u32,
    /// Seed of the noise.
    pub seed: u64,
}

// SAFETY: `repr(C)`, begins with its size, numbers.
unsafe impl Sized32 for SamplingParams {
    const NAME: &'static str = "aio_sampling";
    const FIRST_SIZE: usize = offset_of!(SamplingParams, seed) + 8;
}

c_types! { SamplingParams = "aio_sampling", }

/// Reads how tokens are sampled; null for the most likely ones.
///
/// # Safety
/// `params` is null or as of [`raw::read`].
pub(crate) unsafe fn read(params: *const SamplingParams) -> Outcome<Sampling> {
    if params.is_null() {
        return Ok(Sampling::greedy());
    }
    // SAFETY: the caller's promise.
    let p = unsafe { raw::read(params)? };
    let params = SampleParams {
        temperature: p.temperature,
        top_k: p.top_k,
        top_p: p.top_p,
        min_p: p.min_p,
        repeat_penalty: p.repeat_penalty,
        presence_penalty: p.presence_penalty,
        frequency_penalty: p.frequency_penalty,
    };
    let sampling = Sampling { params, repeat_last_n: p.repeat_last_n as usize, seed: p.seed, choice: p.choice };
    sampling.check().map_err(Failure::from)?;
    Ok(sampling)
}
