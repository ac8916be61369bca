//! Ranks of tokens as 64-bit keys: the larger logit first, then the lower token.
//!
//! Both zeros are equal, and a NaN or positive infinity among the logits leaves a row without a token, as in
//! `ir::sampling`: its key beats all others and names `NO_TOKEN`. Used by the head, by sampling and by the ops that rank.
#pragma once
#include "ptx.cuh"

/// The key of what is no logit. The key 0, which no token has, names `NO_TOKEN` too.
#define BROKEN_KEY 0xFFFFFFFF00000000ull

/// The place of a number among others, by its upper word; no NaN. A larger key comes first in rank. Never 0.
__device__ inline u64 number_key(f32 logit, u32 token) {
    u32 bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
    u32 ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return u64(ordered) << 32 | (0xFFFFFFFFu - token);
}

/// The key of a token's logit.
__device__ inline u64 rank_key(f32 logit, u32 token) {
    return logit < __uint_as_float(0x7F800000u) ? number_key(logit, token) : BROKEN_KEY;
}

/// The key of an element where all have a rank: a NaN is larger than any number. Less than all ones.
__device__ inline u64 sort_key(f32 x, u32 i) { return number_key(x != x ? __uint_as_float(0x7FC00000u) : x, i); }

__device__ inline u32 token_of_key(u64 key) { return 0xFFFFFFFFu - u32(key); }

__device__ inline f32 logit_of_key(u64 key) {
    u32 ordered = u32(key >> 32);
    return __uint_as_float(ordered & 0x80000000u ? ordered & 0x7FFFFFFFu : ~ordered);
}
