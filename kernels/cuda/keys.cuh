//! Ranks of tokens as 64-bit keys: the larger logit first, then the lower token.
//!
//! A NaN counts as negative infinity and both zeros are equal, as in `ir::sampling`. Used by the head and by sampling.
#pragma once
#include "ptx.cuh"

/// The key of a token; a larger key comes first in rank. Never 0.
__device__ inline u64 rank_key(f32 logit, u32 token) {
    if (logit != logit) logit = __uint_as_float(0xFF800000u);
    u32 bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
    u32 ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return u64(ordered) << 32 | (0xFFFFFFFFu - token);
}

__device__ inline u32 token_of_key(u64 key) { return 0xFFFFFFFFu - u32(key); }

__device__ inline f32 logit_of_key(u64 key) {
    u32 ordered = u32(key >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7FFFFFFFu : ~ordered);
}
