//! Activations in the form in which products read them (README, "Activations"): the writing side.
//!
//! A warp writes 32 or 64 columns of a row at a time. `prepare.cu` writes whole rows, `product.cuh` does for few rows in each
//! block's own memory, `gate_up.cu` and `attend.cu` write what they have just computed: all through these, so that the bits
//! are the same.
#pragma once
#include "formats.cuh"

/// Where activations go: rows of k columns, `tile_rows` of them in a tile.
struct ActsOut {
    u8* start;
    u32 k, tile_rows;

    /// The step of 64 columns that a column of a row lies in.
    __device__ u8* step(u32 row, u32 column, u32 kind) const {
        u64 index = u64(row / tile_rows) * ceil_div(k, 64) + column / 64;
        return start + index * act_step_bytes(kind, tile_rows);
    }
};

/// Activations in device memory.
__device__ inline ActsOut acts_out(void* acts, u32 k) { return ActsOut{static_cast<u8*>(acts), k, TILE_ROWS}; }

/// The larger, or a NaN if there is one, so that it does not vanish.
__device__ inline f32 larger_or_nan(f32 a, f32 b) { return a != a ? a : b != b || b > a ? b : a; }

/// Quantises 32 columns of a row, a value a lane: `ir::quant::quantize_q8` to the bit. The whole warp.
__device__ inline void store_q8(const ActsOut& acts, u32 row, u32 block, f32 x) {
    u32 lane = threadIdx.x % 32, i = row % acts.tile_rows, b = block % 2;
    f32 most = fabsf(x);
    for (u32 d = 16; d > 0; d /= 2) most = larger_or_nan(most, __shfl_xor_sync(ALL_LANES, most, d));
    f32 scale = __fdiv_rn(most, 127.0f);
    i32 code = 0;
    if (scale < 1.17549435e-38f) scale = 0;
    else code = __float2int_rz(__fsub_rn(__fadd_rn(__fmul_rn(x, __fdiv_rn(1.0f, scale)), FLOAT_OFFSET), FLOAT_OFFSET));
    code = code < -128 ? -128 : code > 127 ? 127 : code;
    i32 sum = code;
    for (u32 d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, d);
    u8* step = acts.step(row, 32 * block, ACT_Q8);
    step[16 * (4 * i + lane % 16 / 4) + 4 * (2 * b + lane / 16) + lane % 4] = u8(code);
    if (lane != 0) return;
    u8* scales = step + 64 * acts.tile_rows + 32 * b + 4 * i;
    *reinterpret_cast<f32*>(scales) = scale;
    *reinterpret_cast<f32*>(scales + 64) = __fmul_rn(scale, f32(sum));
}

/// Stores the two parts of an element.
__device__ inline void store_parts(u8* step, u32 tile_rows, u32 row, u32 column, u16 high, u16 low) {
    u32 e = column % 16, run = column % 64 / 16;
    u8* at = step + 64 * tile_rows * run + 16 * (row % tile_rows * 4 + e % 8 / 2) + 4 * (e / 8) + 2 * (e % 2);
    *reinterpret_cast<u16*>(at) = high;
    *reinterpret_cast<u16*>(at + 8) = low;
}

/// Stores 32 columns of a row as bf16, a value a lane. The whole warp.
__device__ inline void store_bf16(const ActsOut& acts, u32 row, u32 block, f32 x) {
    u32 lane = threadIdx.x % 32;
    u8* step = acts.step(row, 32 * block, ACT_BF16);
    u16 high = bf16_of(x);
    store_parts(step, acts.tile_rows, row, 32 * block + lane, high, bf16_of(rest_of(x, f32_of_bf16(high))));
    if (lane == 0) *reinterpret_cast<f32*>(step + 256 * acts.tile_rows + 4 * (row % acts.tile_rows)) = 1.0f;
}

/// The power of two of a number; 1 for those that are subnormal, infinite or no numbers.
__device__ inline f32 power_of_two(f32 x) {
    u32 exponent = __float_as_uint(x) & 0x7F800000u;
    return exponent == 0 || exponent >= 0x7F000000u ? 1.0f : __uint_as_float(exponent);
}

/// Stores 64 columns of a row as f16, two values a lane. The whole warp.
__device__ inline void store_f16(const ActsOut& acts, u32 row, u32 column, f32 x, f32 y) {
    u32 lane = threadIdx.x % 32;
    u8* step = acts.step(row, column, ACT_F16);
    f32 scale = power_of_two(warp_max(fmaxf(fabsf(x), fabsf(y))));
    for (u32 i = 0; i < 2; i++) {
        f32 scaled = __fdiv_rn(i ? y : x, scale);
        u16 high = f16_of(scaled);
        store_parts(step, acts.tile_rows, row, lane + 32 * i, high, f16_of(rest_of(scaled, f32_of_f16(high))));
    }
    if (lane == 0) *reinterpret_cast<f32*>(step + 256 * acts.tile_rows + 4 * (row % acts.tile_rows)) = scale;
}

/// 32 columns of a row, a value a lane, in a form that needs no more than those. The whole warp.
__device__ inline void store_block(const ActsOut& acts, u32 kind, u32 row, u32 block, f32 x) {
    if (kind == ACT_Q8) store_q8(acts, row, block, x);
    else store_bf16(acts, row, block, x);
}

/// What a row is multiplied by before the norm's weight. The block together, in one order.
__device__ inline f32 norm_factor(const f32* x, u32 k, f32 eps) {
    f32 sum = 0;
    for (u32 i = threadIdx.x; i < k; i += THREADS) sum = fmaf(x[i], x[i], sum);
    return __fdiv_rn(1.0f, sqrtf(__fdiv_rn(block_sum(sum), f32(k)) + eps));
}

/// Row `row` of the result: the norm of its row of x, if there is one, in the form for products. The block together.
template <u32 KIND>
__device__ inline void prepare_row(const PrepareArgs& a, const ActsOut& out, u32 row, u32 to_row) {
    u32 lane = threadIdx.x % 32;
    const f32* x = a.x + u64(a.row_index ? a.row_index[row] : row) * a.k;
    f32 factor = a.norm ? norm_factor(x, a.k, a.eps) : 1.0f;
    for (u32 column = threadIdx.x / 32 * 64; column < a.k; column += WARPS * 64) {
        f32 v[2];
        AIO_UNROLL
        for (u32 i = 0; i < 2; i++) {
            u32 c = column + lane + 32 * i;
            v[i] = c < a.k ? x[c] : 0.0f;
            if (a.norm && c < a.k) v[i] = __fmul_rn(__fmul_rn(v[i], factor), a.norm[c]);
        }
        if (KIND == ACT_F16) store_f16(out, to_row, column, v[0], v[1]);
        else {
            store_block(out, KIND, to_row, column / 32, v[0]);
            store_block(out, KIND, to_row, column / 32 + 1, v[1]);
        }
    }
}
