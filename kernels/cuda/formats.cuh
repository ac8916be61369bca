//! Packed weights: how each type's steps are cut, and a lane's share of their products (README, "Weights").
//!
//! A format is a struct of constants and functions, so that every kernel is one template. `product.cuh` walks over steps
//! and calls `multiply` on each; `embed.cu` calls `value`.
#pragma once
#include "ptx.cuh"

/// Token rows of a tile, and tiles that go over the weights together.
#define TILE_ROWS 8u
#define ROW_TILES 3u
#define PASS_ROWS 24u

/// A lane's sums of 16 x 8 outputs for N tiles of token rows: rows g, g + 8 of the tile by token rows 2q, 2q + 1.
template <u32 N>
struct SumsOf {
    f32 c[N][4];
};
typedef SumsOf<ROW_TILES> Sums;

/// Bytes of a step of 64 columns of prepared activations in tiles of so many rows.
__device__ inline u32 act_step_bytes(u32 kind, u32 tile_rows) {
    return kind == ACT_Q8 ? 64 * tile_rows + 128 : 256 * tile_rows + 32;
}

/// Which lane's words of a tile with so many rows a lane takes: those of absent rows take the last row's, so that nothing
/// is read for them. Their sums are never stored.
__device__ inline u32 place_among(u32 rows, u32 lane) { return least(lane, 4 * (rows - 1) + lane % 4); }

/// Activations in device memory: tiles of 8 rows, of which the first `rows` are there.
struct TiledActs {
    const u8* start;
    u64 tile_bytes;
    u32 rows;

    __device__ u32 tile_rows() const { return TILE_ROWS; }
    __device__ u32 place(u32 t, u32 lane) const { return place_among(rows - t * TILE_ROWS, lane); }
    __device__ const u8* tile(u32 t) const { return start + t * tile_bytes; }
};

/// Few rows in shared memory, one tile of just those.
struct FewActs {
    const u8* start;
    u32 rows;

    __device__ u32 tile_rows() const { return rows; }
    __device__ u32 place(u32, u32 lane) const { return place_among(rows, lane); }
    __device__ const u8* tile(u32) const { return start; }
};

/// Adding an integer below 2^22 in size to these bits of 3 * 2^22 makes the bits of that float plus the integer.
#define FLOAT_BITS 0x4B400000
#define FLOAT_OFFSET 12582912.0f

__device__ inline u32 word_at(const u8* at) { return *reinterpret_cast<const u32*>(at); }
__device__ inline uint2 words2_at(const u8* at) { return *reinterpret_cast<const uint2*>(at); }
__device__ inline uint4 words4_at(const u8* at) { return *reinterpret_cast<const uint4*>(at); }
__device__ inline f32 low_half(u32 w) { return f32_of_f16(u16(w)); }
__device__ inline f32 high_half(u32 w) { return f32_of_f16(u16(w >> 16)); }
__device__ inline f32 signed_byte(u32 low, u32 high, u32 i) { return f32(i8((i < 4 ? low : high) >> 8 * (i % 4))); }
__device__ inline f32 unsigned_byte(u32 low, u32 high, u32 i) { return f32(u8((i < 4 ? low : high) >> 8 * (i % 4))); }

/// 64 columns of a tile of token rows as a lane holds them.
struct ActBlocks {
    uint4 codes;    // b0, b1 of the first block of 32 columns, then of the second
    float2 scale[2]; // of token rows 2q, 2q + 1, by block
    float2 sum[2];
};

template <bool SUMS, class A>
__device__ inline void load_acts(ActBlocks& x, const A& acts, const u8* step, u32 t, u32 lane) {
    const u8* scales = step + 64 * acts.tile_rows() + 8 * (lane % 4);
    x.codes = words4_at(step + 16 * acts.place(t, lane));
    AIO_UNROLL
    for (u32 b = 0; b < 2; b++) {
        x.scale[b] = *reinterpret_cast<const float2*>(scales + 32 * b);
        if (SUMS) x.sum[b] = *reinterpret_cast<const float2*>(scales + 64 + 32 * b);
    }
}

/// Scales of a block of 32 columns for rows g, g + 8, and minimums where the format has them.
struct Scales {
    f32 d[2], m[2];
};

__device__ inline void add_products(f32 (&sum)[4], const i32 (&dots)[4], const Scales& s, float2 scale) {
    for (u32 i = 0; i < 4; i++) {
        f32 dot = __int_as_float(dots[i]) - FLOAT_OFFSET;
        sum[i] = fmaf(dot * s.d[i / 2], i % 2 ? scale.y : scale.x, sum[i]);
    }
}

__device__ inline void add_minimums(f32 (&sum)[4], const Scales& s, float2 sums) {
    for (u32 i = 0; i < 4; i++) sum[i] = fmaf(s.m[i / 2], i % 2 ? sums.y : sums.x, sum[i]);
}

/// Formats of blocks of 32 columns: adds a step's products for `tiles` tiles of token rows. F gives `fragment` (codes of a
/// block as the A operand) and `scales`.
template <class F, u32 N, class A>
__device__ inline void multiply_blocks(SumsOf<N>& sums, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
    const u32 act_bytes = act_step_bytes(ACT_Q8, acts.tile_rows());
    for (u32 pair = 0; pair < F::COLS / 64; pair++) {
        u32 a[2][4];
        Scales s[2];
        for (u32 b = 0; b < 2; b++) {
            F::fragment(a[b], step, 2 * pair + b, lane);
            F::scales(s[b], step, 2 * pair + b, lane);
        }
        AIO_UNROLL
        for (u32 t = 0; t < N; t++) {
            if (t >= tiles) break;
            ActBlocks x;
            load_acts<F::HAS_MIN>(x, acts, acts.tile(t) + (at + pair) * act_bytes, t, lane);
            for (u32 b = 0; b < 2; b++) {
                i32 dots[4] = {FLOAT_BITS, FLOAT_BITS, FLOAT_BITS, FLOAT_BITS};
                mma_i8_k32(dots, a[b], b ? x.codes.z : x.codes.x, b ? x.codes.w : x.codes.y);
                add_products(sums.c[t], dots, s[b], x.scale[b]);
                if (F::HAS_MIN) add_minimums(sums.c[t], s[b], x.sum[b]);
            }
        }
    }
}

/// A lane's words of a nibble pair: block 0 in the low, block 1 in the high nibbles.
__device__ inline uint4 nibble_words(const u8* pairs, u32 block, u32 lane) {
    return words4_at(pairs + 512 * (block / 2) + 16 * lane);
}

/// Byte of the 8-bit fragments' form: row r and column c of a block of 32.
__device__ inline u32 fragment_byte(u32 r, u32 c) { return 16 * (r % 8 * 4 + c % 16 / 4) + 4 * (r / 8 + c / 16 * 2) + c % 4; }

/// Nibble of column c of a step.
__device__ inline u32 nibble(const u8* pairs, u32 r, u32 c) {
    u32 byte = pairs[512 * (c / 64) + fragment_byte(r, c % 32)];
    return c / 32 % 2 ? byte >> 4 : byte & 15;
}

__device__ inline f32 half_in(const u8* at, u32 index) { return f32_of_f16(reinterpret_cast<const u16*>(at)[index]); }

struct FormatQ8_0 {
    static const u32 COLS = 64, BYTES = 1088, DEPTH1 = 5, DEPTH2 = 3, ACTS = ACT_Q8;
    static const bool HAS_MIN = false;

    static __device__ void fragment(u32 (&a)[4], const u8* step, u32 block, u32 lane) {
        uint4 w = words4_at(step + 512 * block + 16 * lane);
        a[0] = w.x, a[1] = w.y, a[2] = w.z, a[3] = w.w;
    }
    static __device__ void scales(Scales& s, const u8* step, u32 block, u32 lane) {
        u32 w = word_at(step + 1024 + 32 * block + lane / 4 * 4);
        s.d[0] = low_half(w), s.d[1] = high_half(w);
    }
    template <u32 N, class A>
    static __device__ void multiply(SumsOf<N>& s, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
        multiply_blocks<FormatQ8_0>(s, step, acts, at, tiles, lane);
    }
    static __device__ f32 value(const u8* step, u32 r, u32 c) {
        f32 code = f32(i8(step[512 * (c / 32) + fragment_byte(r, c % 32)]));
        return __fmul_rn(half_in(step + 1024 + 32 * (c / 32) + r % 8 * 4, r / 8), code);
    }
};

struct FormatQ4_0 {
    static const u32 COLS = 64, BYTES = 576, DEPTH1 = 8, DEPTH2 = 5, ACTS = ACT_Q8;
    static const bool HAS_MIN = false;

    /// Codes less 8, times 16: the nibble in the high bits with its sign turned. The scale is a sixteenth.
    static __device__ void fragment(u32 (&a)[4], const u8* step, u32 block, u32 lane) {
        uint4 w = nibble_words(step, block, lane);
        u32 left = block % 2 ? 0 : 4;
        a[0] = (w.x << left & 0xF0F0F0F0u) ^ 0x80808080u;
        a[1] = (w.y << left & 0xF0F0F0F0u) ^ 0x80808080u;
        a[2] = (w.z << left & 0xF0F0F0F0u) ^ 0x80808080u;
        a[3] = (w.w << left & 0xF0F0F0F0u) ^ 0x80808080u;
    }
    static __device__ void scales(Scales& s, const u8* step, u32 block, u32 lane) {
        u32 w = word_at(step + 512 + 32 * block + lane / 4 * 4);
        s.d[0] = low_half(w) * 0.0625f, s.d[1] = high_half(w) * 0.0625f;
    }
    template <u32 N, class A>
    static __device__ void multiply(SumsOf<N>& s, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
        multiply_blocks<FormatQ4_0>(s, step, acts, at, tiles, lane);
    }
    static __device__ f32 value(const u8* step, u32 r, u32 c) {
        f32 code = f32(nibble(step, r, c)) - 8.0f;
        return __fmul_rn(half_in(step + 512 + 32 * (c / 32) + r % 8 * 4, r / 8), code);
    }
};

/// Codes of a nibble pair as they are.
__device__ inline void plain_nibbles(u32 (&a)[4], const u8* pairs, u32 block, u32 lane) {
    uint4 w = nibble_words(pairs, block, lane);
    u32 right = block % 2 * 4;
    a[0] = w.x >> right & 0x0F0F0F0Fu;
    a[1] = w.y >> right & 0x0F0F0F0Fu;
    a[2] = w.z >> right & 0x0F0F0F0Fu;
    a[3] = w.w >> right & 0x0F0F0F0Fu;
}

struct FormatQ4_1 {
    static const u32 COLS = 64, BYTES = 640, DEPTH1 = 8, DEPTH2 = 4, ACTS = ACT_Q8;
    static const bool HAS_MIN = true;

    static __device__ void fragment(u32 (&a)[4], const u8* step, u32 block, u32 lane) { plain_nibbles(a, step, block, lane); }
    static __device__ void scales(Scales& s, const u8* step, u32 block, u32 lane) {
        uint2 w = words2_at(step + 512 + 64 * block + lane / 4 * 8);
        s.d[0] = low_half(w.x), s.d[1] = high_half(w.x);
        s.m[0] = low_half(w.y), s.m[1] = high_half(w.y);
    }
    template <u32 N, class A>
    static __device__ void multiply(SumsOf<N>& s, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
        multiply_blocks<FormatQ4_1>(s, step, acts, at, tiles, lane);
    }
    static __device__ f32 value(const u8* step, u32 r, u32 c) {
        const u8* scales = step + 512 + 64 * (c / 32) + r % 8 * 8;
        return __fadd_rn(__fmul_rn(half_in(scales, r / 8), f32(nibble(step, r, c))), half_in(scales, 2 + r / 8));
    }
};

struct FormatQ4_K {
    static const u32 COLS = 256, BYTES = 2368, DEPTH1 = 2, DEPTH2 = 2, ACTS = ACT_Q8;
    static const bool HAS_MIN = true;

    static __device__ void fragment(u32 (&a)[4], const u8* step, u32 block, u32 lane) { plain_nibbles(a, step, block, lane); }
    static __device__ void scales(Scales& s, const u8* step, u32 block, u32 lane) {
        u32 g = lane / 4;
        uint2 super = words2_at(step + 2304 + 8 * g);
        for (u32 h = 0; h < 2; h++) {
            uint4 w = words4_at(step + 2048 + 32 * g + 16 * h);
            s.d[h] = (h ? high_half(super.x) : low_half(super.x)) * unsigned_byte(w.x, w.y, block);
            s.m[h] = -(h ? high_half(super.y) : low_half(super.y)) * unsigned_byte(w.z, w.w, block);
        }
    }
    template <u32 N, class A>
    static __device__ void multiply(SumsOf<N>& s, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
        multiply_blocks<FormatQ4_K>(s, step, acts, at, tiles, lane);
    }
    static __device__ f32 value(const u8* step, u32 r, u32 c) {
        const u8* small = step + 2048 + 32 * (r % 8) + 16 * (r / 8);
        const u8* super = step + 2304 + 8 * (r % 8);
        f32 d = __fmul_rn(half_in(super, r / 8), f32(small[c / 32]));
        f32 m = __fmul_rn(half_in(super, 2 + r / 8), f32(small[8 + c / 32]));
        return __fsub_rn(__fmul_rn(d, f32(nibble(step, r, c))), m);
    }
};

struct FormatQ6_K {
    static const u32 COLS = 128, BYTES = 1696, DEPTH1 = 3, DEPTH2 = 2, ACTS = ACT_Q8;

    /// Codes less 32, times 4: six bits at the top of the byte with the sign turned. The scale is a quarter.
    static __device__ u32 codes(u32 low, u32 high, u32 block) {
        u32 nibbles = low >> block % 2 * 4 & 0x0F0F0F0Fu, crumbs = high >> 2 * block & 0x03030303u;
        return (nibbles << 2 | crumbs << 6) ^ 0x80808080u;
    }
    template <u32 N, class A>
    static __device__ void multiply(SumsOf<N>& sums, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
        u32 g = lane / 4, act_bytes = act_step_bytes(ACT_Q8, acts.tile_rows());
        uint4 high = words4_at(step + 1024 + 16 * lane), small = words4_at(step + 1536 + 16 * g);
        u32 super = word_at(step + 1664 + 4 * g);
        f32 d0 = low_half(super) * 0.25f, d1 = high_half(super) * 0.25f;
        AIO_UNROLL
        for (u32 b = 0; b < 4; b++) {
            uint4 low = nibble_words(step, b, lane);
            u32 a[4] = {codes(low.x, high.x, b), codes(low.y, high.y, b), codes(low.z, high.z, b), codes(low.w, high.w, b)};
            AIO_UNROLL
            for (u32 t = 0; t < N; t++) {
                if (t >= tiles) break;
                const u8* x = acts.tile(t) + (at + b / 2) * act_bytes;
                const u8* scales = x + 64 * acts.tile_rows() + 32 * (b % 2) + 8 * (lane % 4);
                uint2 codes = words2_at(x + 16 * acts.place(t, lane) + 8 * (b % 2));
                float2 scale = *reinterpret_cast<const float2*>(scales);
                for (u32 run = 0; run < 2; run++) {
                    i32 dots[4] = {FLOAT_BITS, FLOAT_BITS, FLOAT_BITS, FLOAT_BITS};
                    mma_i8_k16(dots, a[2 * run], a[2 * run + 1], run ? codes.y : codes.x);
                    u32 i = 2 * b + run;
                    Scales s = {{d0 * signed_byte(small.x, small.y, i), d1 * signed_byte(small.z, small.w, i)}, {0, 0}};
                    add_products(sums.c[t], dots, s, scale);
                }
            }
        }
    }
    static __device__ f32 value(const u8* step, u32 r, u32 c) {
        u32 high = step[1024 + fragment_byte(r, c % 32)] >> 2 * (c / 32) & 3;
        f32 code = f32(nibble(step, r, c) | high << 4) - 32.0f;
        f32 scale = f32(i8(step[1536 + 16 * (r % 8) + 8 * (r / 8) + c / 16]));
        return __fmul_rn(__fmul_rn(half_in(step + 1664 + 4 * (r % 8), r / 8), scale), code);
    }
};

struct ProductBF16 {
    static __device__ void mma(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_bf16(c, a, b0, b1); }
    static __device__ f32 decode(u16 x) { return f32_of_bf16(x); }
};
struct ProductF16 {
    static __device__ void mma(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_f16(c, a, b0, b1); }
    static __device__ f32 decode(u16 x) { return f32_of_f16(x); }
};

/// Plain 16-bit weights against activations in two parts.
template <class Product, u32 KIND>
struct Format16 {
    static const u32 COLS = 64, BYTES = 2048, DEPTH1 = 3, DEPTH2 = 2, ACTS = KIND;

    template <u32 N, class A>
    static __device__ void multiply(SumsOf<N>& sums, const u8* step, const A& acts, u32 at, u32 tiles, u32 lane) {
        const u32 run_bytes = 64 * acts.tile_rows();
        const u64 from = u64(at) * act_step_bytes(KIND, acts.tile_rows());
        f32 part[N][4] = {};
        AIO_UNROLL
        for (u32 c = 0; c < 4; c++) {
            uint4 w = words4_at(step + 512 * c + 16 * lane);
            const u32 a[4] = {w.x, w.y, w.z, w.w};
            AIO_UNROLL
            for (u32 t = 0; t < N; t++) {
                if (t >= tiles) break;
                uint4 x = words4_at(acts.tile(t) + from + c * run_bytes + 16 * acts.place(t, lane));
                Product::mma(part[t], a, x.x, x.y);
                Product::mma(part[t], a, x.z, x.w);
            }
        }
        AIO_UNROLL
        for (u32 t = 0; t < N; t++) {
            if (t >= tiles) break;
            float2 scale = *reinterpret_cast<const float2*>(acts.tile(t) + from + 4 * run_bytes + 8 * (lane % 4));
            for (u32 i = 0; i < 4; i++) sums.c[t][i] = fmaf(part[t][i], i % 2 ? scale.y : scale.x, sums.c[t][i]);
        }
    }
    static __device__ f32 value(const u8* step, u32 r, u32 c) {
        u32 word = r / 8 + c % 16 / 8 * 2;
        const u8* at = step + 512 * (c / 16) + 16 * (r % 8 * 4 + c % 8 / 2) + 4 * word + c % 2 * 2;
        return Product::decode(*reinterpret_cast<const u16*>(at));
    }
};
typedef Format16<ProductBF16, ACT_BF16> FormatBF16;
typedef Format16<ProductF16, ACT_F16> FormatF16;

/// One kernel for each weight type. A host that compiles for one model may define this itself, with the types it needs.
#ifndef FOR_EACH_FORMAT
#define FOR_EACH_FORMAT(KERNEL)                                                                                        \
    KERNEL(bf16, FormatBF16)                                                                                           \
    KERNEL(f16, FormatF16)                                                                                             \
    KERNEL(q8_0, FormatQ8_0)                                                                                           \
    KERNEL(q4_0, FormatQ4_0)                                                                                           \
    KERNEL(q4_1, FormatQ4_1)                                                                                           \
    KERNEL(q4_k, FormatQ4_K)                                                                                           \
    KERNEL(q6_k, FormatQ6_K)
#endif
/// The types that have kernels for many rows. Those with scales of scales spill registers there on some architectures.
#ifndef FOR_EACH_WIDE_FORMAT
#define FOR_EACH_WIDE_FORMAT(KERNEL)                                                                                   \
    KERNEL(bf16, FormatBF16)                                                                                           \
    KERNEL(f16, FormatF16)                                                                                             \
    KERNEL(q8_0, FormatQ8_0)                                                                                           \
    KERNEL(q4_0, FormatQ4_0)                                                                                           \
    KERNEL(q4_1, FormatQ4_1)
#endif
