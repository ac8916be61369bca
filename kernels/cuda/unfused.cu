//! `op_matmul`, `op_rope`, `op_page_write`: what fused tasks hold, as nodes of their own.
//!
//! Plans that run node by node use them, and products with matrices that are no packed weights.
#include "tensor.cuh"

AIO_KERNEL(op_matmul, MatmulArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized out(a.out, a.step), x(a.x, a.step);
    u32 k = x.last(), n = out.last(), lane = threadIdx.x % 32;
    for (u64 i = u64(blockIdx.x) * WARPS + threadIdx.x / 32; i < out.len; i += u64(gridDim.x) * WARPS) {
        u64 row = i / n, output = i % n;
        if (a.experts.data) output += u64(load_int(a.experts, row)) * n;
        f32 sum = 0;
        for (u32 c = lane; c < k; c += 32) sum = fmaf(load_float(a.x, row * k + c), load_float(a.w, output * k + c), sum);
        sum = warp_sum(sum);
        if (lane == 0) store_float(a.out, i, sum);
    }
}

/// Rotates the heads of a row; `half` pairs each, and `rest` elements that stay. The block together.
__device__ inline void rope_row(const RopeArgs& a, u32 row, u32 half, u32 rest) {
    u64 start = u64(row) * a.heads * a.head_dim;
    for (u32 i = threadIdx.x; i < a.heads * half; i += THREADS) {
        u32 p = i % half, j = a.rope_pairs ? p : 2 * p, k = a.rope_pairs ? p + half : 2 * p + 1;
        u64 head = start + i / half * a.head_dim;
        const f32* angle = a.rope + (u64(row) * half + p) * 2;
        f32 u = a.x[head + j], v = a.x[head + k];
        a.out[head + j] = __fsub_rn(__fmul_rn(u, angle[0]), __fmul_rn(v, angle[1]));
        a.out[head + k] = __fadd_rn(__fmul_rn(u, angle[1]), __fmul_rn(v, angle[0]));
    }
    for (u32 i = threadIdx.x; i < a.heads * rest; i += THREADS) {
        u64 at = start + i / rest * a.head_dim + 2 * half + i % rest;
        a.out[at] = a.x[at];
    }
}

AIO_KERNEL(op_rope, RopeArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 half = a.rope_dims / 2, rest = a.head_dim - 2 * half;
    AIO_FOR_ROWS(row, a.step->rows) rope_row(a, row, half, rest);
}

/// A row's keys and values to their page. The block together.
__device__ inline void page_write_row(const PageWriteArgs& a, u32 row) {
    u32 width = a.kv_heads * a.head_dim, position = a.positions[row], offset = position % 64;
    u16* page = a.kv + u64(a.table[u64(a.row_seq[row]) * a.step->stride + position / 64]) * a.page_stride;
    for (u32 i = threadIdx.x; i < width; i += THREADS) {
        u32 head = i / a.head_dim, d = i % a.head_dim;
        page[(head * 64 + offset) * a.head_dim + d] = f16_of(a.k[u64(row) * width + i]);
        page[((a.kv_heads + head) * a.head_dim + d) * 64 + offset] = f16_of(a.v[u64(row) * width + i]);
    }
}

AIO_KERNEL(op_page_write, PageWriteArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    AIO_FOR_ROWS(row, a.step->rows) page_write_row(a, row);
}
