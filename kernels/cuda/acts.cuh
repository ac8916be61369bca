//! Activations in the form in which products read them (README, "Activations"): the writing side.
//!
//! A warp writes 32 or 64 columns of a row at a time. `prepare.cu` writes whole rows, `gate_up.cu` and `attend.cu` what they
//! have just computed, all through these, so that the bits are the same.
#pragma once
#include "formats.cuh"

/// The step of 64 columns that a column of a row lies in.
__device__ inline u8* act_step(void* acts, u32 k, u32 row, u32 column, u32 step_bytes) {
    u64 step = u64(row / TILE_ROWS) * ceil_div(k, 64) + column / 64;
    return static_cast<u8*>(acts) + step * step_bytes;
}

/// The larger, or a NaN if there is one, so that it does not vanish.
__device__ inline f32 larger_or_nan(f32 a, f32 b) { return a != a ? a : b != b || b > a ? b : a; }

/// Quantises 32 columns of a row, a value a lane: `ir::quant::quantize_q8` to the bit. The whole warp.
__device__ inline void store_q8(void* acts, u32 k, u32 row, u32 block, f32 x) {
    u32 lane = threadIdx.x % 32, i = row % TILE_ROWS, b = block % 2;
    f32 most = fabsf(x);
    for (u32 d = 16; d > 0; d /= 2) most = larger_or_nan(most, __shfl_xor_sync(ALL_LANES, most, d));
    f32 scale = __fdiv_rn(most, 127.0f);
    i32 code = 0;
    if (scale < 1.17549435e-38f) scale = 0;
    else code = __float2int_rz(__fsub_rn(__fadd_rn(__fmul_rn(x, __fdiv_rn(1.0f, scale)), FLOAT_OFFSET), FLOAT_OFFSET));
    code = code < -128 ? -128 : code > 127 ? 127 : code;
    i32 sum = code;
    for (u32 d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, d);
    u8* step = act_step(acts, k, row, 32 * block, ACT_Q8_BYTES);
    step[16 * (4 * i + lane % 16 / 4) + 4 * (2 * b + lane / 16) + lane % 4] = u8(code);
    if (lane != 0) return;
    *reinterpret_cast<f32*>(step + 512 + 32 * b + 4 * i) = scale;
    *reinterpret_cast<f32*>(step + 576 + 32 * b + 4 * i) = __fmul_rn(scale, f32(sum));
}

/// Stores the two parts of an element.
__device__ inline void store_parts(u8* step, u32 row, u32 column, u16 high, u16 low) {
    u32 e = column % 16;
    u8* at = step + 512 * (column % 64 / 16) + 16 * (row % TILE_ROWS * 4 + e % 8 / 2) + 4 * (e / 8) + 2 * (e % 2);
    *reinterpret_cast<u16*>(at) = high;
    *reinterpret_cast<u16*>(at + 8) = low;
}

/// Stores 32 columns of a row as bf16, a value a lane. The whole warp.
__device__ inline void store_bf16(void* acts, u32 k, u32 row, u32 block, f32 x) {
    u32 lane = threadIdx.x % 32;
    u8* step = act_step(acts, k, row, 32 * block, ACT_16_BYTES);
    u16 high = bf16_of(x);
    store_parts(step, row, 32 * block + lane, high, bf16_of(__fsub_rn(x, f32_of_bf16(high))));
    if (lane == 0) *reinterpret_cast<f32*>(step + 2048 + 4 * (row % TILE_ROWS)) = 1.0f;
}

/// The power of two of a number; 1 for those that are subnormal, infinite or no numbers.
__device__ inline f32 power_of_two(f32 x) {
    u32 exponent = __float_as_uint(x) & 0x7F800000u;
    return exponent == 0 || exponent >= 0x7F000000u ? 1.0f : __uint_as_float(exponent);
}

/// Stores 64 columns of a row as f16, two values a lane. The whole warp.
__device__ inline void store_f16(void* acts, u32 k, u32 row, u32 column, f32 x, f32 y) {
    u32 lane = threadIdx.x % 32;
    u8* step = act_step(acts, k, row, column, ACT_16_BYTES);
    f32 scale = power_of_two(warp_max(fmaxf(fabsf(x), fabsf(y))));
    for (u32 i = 0; i < 2; i++) {
        f32 scaled = __fdiv_rn(i ? y : x, scale);
        u16 high = f16_of(scaled);
        store_parts(step, row, lane + 32 * i, high, f16_of(__fsub_rn(scaled, f32_of_f16(high))));
    }
    if (lane == 0) *reinterpret_cast<f32*>(step + 2048 + 4 * (row % TILE_ROWS)) = scale;
}

/// 32 columns of a row, a value a lane, in a form that needs no more than those. The whole warp.
__device__ inline void store_block(void* acts, u32 kind, u32 k, u32 row, u32 block, f32 x) {
    if (kind == ACT_Q8) store_q8(acts, k, row, block, x);
    else store_bf16(acts, k, row, block, x);
}
