//! `prepare_q8`, `prepare_bf16`, `prepare_f16`: the norm of a row, then its form for products. One block a row.
//!
//! The sum of squares is taken by 256 threads in one order, so a row's bits do not depend on the step.
#include "acts.cuh"

/// What a row is multiplied by before the norm's weight.
__device__ inline f32 norm_factor(const f32* x, u32 k, f32 eps) {
    f32 sum = 0;
    for (u32 i = threadIdx.x; i < k; i += THREADS) sum = fmaf(x[i], x[i], sum);
    return __fdiv_rn(1.0f, sqrtf(__fdiv_rn(block_sum(sum), f32(k)) + eps));
}

template <u32 KIND>
__device__ inline void prepare(const PrepareArgs& a) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 row = blockIdx.x, lane = threadIdx.x % 32;
    if (row >= count_of(a.step, a.symbol)) return;
    const f32* x = a.x + u64(a.row_index ? a.row_index[row] : row) * a.k;
    f32 factor = a.norm ? norm_factor(x, a.k, a.eps) : 1.0f;
    for (u32 column = threadIdx.x / 32 * 64; column < a.k; column += WARPS * 64) {
        f32 v[2];
        for (u32 i = 0; i < 2; i++) {
            u32 c = column + lane + 32 * i;
            v[i] = c < a.k ? x[c] : 0.0f;
            if (a.norm && c < a.k) v[i] = __fmul_rn(__fmul_rn(v[i], factor), a.norm[c]);
        }
        if (KIND == ACT_F16) store_f16(a.acts, a.k, row, column, v[0], v[1]);
        else {
            store_block(a.acts, KIND, a.k, row, column / 32, v[0]);
            store_block(a.acts, KIND, a.k, row, column / 32 + 1, v[1]);
        }
    }
}

AIO_KERNEL(prepare_q8, PrepareArgs) { prepare<ACT_Q8>(a); }
AIO_KERNEL(prepare_bf16, PrepareArgs) { prepare<ACT_BF16>(a); }
AIO_KERNEL(prepare_f16, PrepareArgs) { prepare<ACT_F16>(a); }
