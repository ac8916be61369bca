//! Twins of the tensor cores' products: a warp's fragments become small matrices, which are multiplied plainly.
//!
//! What lane holds what follows the PTX manual ("Matrix Fragments for mma.m16n8k16 / m16n8k32"). Called through `ptx.cuh`.
#pragma once

namespace emulate {

/// What a lane brings to a product.
template <class C>
struct Fragment {
    C* c;
    const u32* a;
    u32 b[2];
};

/// Adds a product of 16 x 8 to the lanes' sums.
template <class C>
void scatter(Meeting& m, const C (&sum)[16][8]) {
    for (u32 l = 0; l < 32; l++) {
        C* c = static_cast<Fragment<C>*>(m.brought[l])->c;
        u32 g = l / 4, n = l % 4 * 2;
        c[0] += sum[g][n];
        c[1] += sum[g][n + 1];
        c[2] += sum[g + 8][n];
        c[3] += sum[g + 8][n + 1];
    }
}

/// Fragments of bytes as matrices of 16-bit numbers: words a_j and b_j hold four columns, 16 columns apart.
template <u32 K>
void product_i8(Meeting& m) {
    alignas(64) short a[16][K], b[8][K];
    for (u32 l = 0; l < 32; l++) {
        auto* f = static_cast<Fragment<i32>*>(m.brought[l]);
        u32 g = l / 4, q = l % 4 * 4;
        for (u32 j = 0; j < K / 8; j++) {
            for (u32 i = 0; i < 4; i++) a[g + 8 * (j % 2)][q + 16 * (j / 2) + i] = i8(f->a[j] >> 8 * i);
        }
        for (u32 j = 0; j < K / 16; j++) {
            for (u32 i = 0; i < 4; i++) b[g][q + 16 * j + i] = i8(f->b[j] >> 8 * i);
        }
    }
    i32 sum[16][8];
    for (u32 r = 0; r < 16; r++) {
        for (u32 n = 0; n < 8; n++) {
            i32 s = 0;
            for (u32 k = 0; k < K; k++) s += i32(a[r][k]) * b[n][k];
            sum[r][n] = s;
        }
    }
    scatter(m, sum);
}

inline void mma_i8(i32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, u32 k) {
    Fragment<i32> mine{c, a, {b0, b1}};
    if (k == 32) meet_warp("mma of 32 bytes", &mine, product_i8<32>);
    else meet_warp("mma of 16 bytes", &mine, product_i8<16>);
}

/// Fragments of halves: words a_j and b_j hold two columns, 8 columns apart.
template <f32 DECODE(u16)>
void product_halves(Meeting& m) {
    alignas(64) f32 a[16][16], b[16][8];
    for (u32 l = 0; l < 32; l++) {
        auto* f = static_cast<Fragment<f32>*>(m.brought[l]);
        u32 g = l / 4, q = l % 4 * 2;
        for (u32 j = 0; j < 4; j++) {
            for (u32 i = 0; i < 2; i++) a[g + 8 * (j % 2)][q + 8 * (j / 2) + i] = DECODE(u16(f->a[j] >> 16 * i));
        }
        for (u32 j = 0; j < 2; j++) {
            for (u32 i = 0; i < 2; i++) b[q + 8 * j + i][g] = DECODE(u16(f->b[j] >> 16 * i));
        }
    }
    f32 sum[16][8] = {};
    for (u32 r = 0; r < 16; r++) {
        for (u32 k = 0; k < 16; k++) {
            for (u32 n = 0; n < 8; n++) sum[r][n] += a[r][k] * b[k][n];
        }
    }
    scatter(m, sum);
}

inline f32 decode_bf16(u16 x) { return __uint_as_float(u32(x) << 16); }

inline void mma_f16(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    Fragment<f32> mine{c, a, {b0, b1}};
    meet_warp("mma of halves", &mine, product_halves<f32_of_f16>);
}
inline void mma_bf16(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    Fragment<f32> mine{c, a, {b0, b1}};
    meet_warp("mma of bf16", &mine, product_halves<decode_bf16>);
}

} // namespace emulate
