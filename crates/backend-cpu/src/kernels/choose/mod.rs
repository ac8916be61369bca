//! Kernels that choose tokens: the largest logits of blocks, those above a floor, weights of top-p, noise.
//!
//! Most of a vocabulary can neither pass a filter nor win. A row's survey, the largest logit of each block of 64, tells
//! which blocks to examine. Called through `super::Kernels`; `tasks::ops::sample` combines them, and `aio_ir::sampling`
//! defines the result to the bit.

mod noise;
mod survey;

use aio_ir::float::maximum;
use aio_ir::sampling::NO_TOKEN;
pub(super) use noise::{noisy_best, noisy_list};
pub(super) use survey::{gather, mass, survey};

/// Tokens of a block: the noise of 64 tokens is one vector of counters.
pub const BLOCK_TOKENS: usize = 64;

/// A row of logits, or a part of one, with its survey.
#[derive(Clone, Copy, Debug)]
pub struct Surveyed<'a> {
    /// The logits.
    pub x: &'a [f32],
    /// The largest of each block of 64; NaN if there is one in it.
    pub maxima: &'a [f32],
}

impl<'a> Surveyed<'a> {
    /// The logits of a block.
    fn block(&self, block: usize) -> &'a [f32] {
        let rest = &self.x[block * BLOCK_TOKENS..];
        &rest[..rest.len().min(BLOCK_TOKENS)]
    }

    /// Blocks with a logit of at least `floor`.
    fn blocks(&self, floor: f32) -> impl Iterator<Item = usize> + use<'a> {
        self.maxima.iter().enumerate().filter(move |(_, m)| **m >= floor).map(|(i, _)| i)
    }

    /// The largest logit; negative infinity if there is none, NaN if one is NaN.
    pub fn top(&self) -> f32 {
        self.maxima.iter().copied().fold(f32::NEG_INFINITY, maximum)
    }

    /// The first token with the largest logit; [`NO_TOKEN`] if there is none. No logit is NaN.
    pub fn argmax(&self) -> u32 {
        let top = self.top();
        let found = self.blocks(top).find_map(|b| Some((b, self.block(b).iter().position(|x| *x == top)?)));
        found.map_or(NO_TOKEN, |(block, at)| (block * BLOCK_TOKENS + at) as u32)
    }
}

/// The best token after noise of a part of a row.
#[derive(Clone, Copy, Debug)]
pub struct NoisyArgs<'a> {
    /// The part.
    pub part: Surveyed<'a>,
    /// The token of its first logit, a multiple of [`BLOCK_TOKENS`].
    pub first: u32,
    /// Divides the logits; positive.
    pub temperature: f32,
    /// Seed (low word, high word), choice, position.
    pub noise: [u32; 4],
}
