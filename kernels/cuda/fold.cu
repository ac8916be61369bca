//! `op_fold`, `op_top_k`: ops that fold a dimension or rank its elements.
#include "keys.cuh"
#include "tensor.cuh"

/// A line of elements along a dimension.
struct Line {
    u64 start, step;
    u32 len;
};

/// Sums and means in f64, as they are few.
__device__ inline f32 folded(const FoldArgs& a, const Line& line) {
    double sum = 0;
    f32 best = __uint_as_float(a.code == FOLD_MAX ? 0xFF800000u : 0x7F800000u);
    for (u32 i = 0; i < line.len; i++) {
        f32 x = load_float(a.x, line.start + i * line.step);
        sum += x;
        best = a.code == FOLD_MAX ? larger(best, x) : smaller(best, x);
    }
    if (a.code == FOLD_MAX || a.code == FOLD_MIN) return best;
    return f32(a.code == FOLD_MEAN ? sum / line.len : sum);
}

__device__ inline void running_sum(const FoldArgs& a, const Line& line) {
    f32 sum = 0;
    i64 whole = 0;
    for (u32 i = 0; i < line.len; i++) {
        u64 at = line.start + i * line.step;
        if (is_float(a.x.element)) {
            f32 x = load_float(a.x, at);
            sum = i == 0 ? x : __fadd_rn(sum, x);
            store_float(a.out, at, sum);
        } else {
            whole += load_int(a.x, at);
            store_int(a.out, at, whole);
        }
    }
}

AIO_KERNEL(op_fold, FoldArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized x(a.x, a.step);
    u64 inner = 1, lines = 1;
    for (u32 d = 0; d < a.x.rank; d++) {
        if (d > a.axis) inner *= x.dims[d];
        if (d != a.axis) lines *= x.dims[d];
    }
    u32 len = a.x.rank ? x.dims[a.axis] : 1;
    for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < lines; i += u64(gridDim.x) * THREADS) {
        Line line = {i / inner * inner * len + i % inner, inner, len};
        if (a.code == FOLD_CUMSUM) running_sum(a, line);
        else store_float(a.out, i, folded(a, line));
    }
}

AIO_KERNEL(op_top_k, TopKArgs) {
    AIO_SHARED(u64, best, 1);
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized x(a.x, a.step);
    u32 n = x.last();
    u64 rows = n ? x.len / n : 0;
    for (u64 row = blockIdx.x; row < rows; row += gridDim.x) {
        u64 below = ~u64(0);
        for (u32 i = 0; i < a.k; i++) {
            __syncthreads();
            if (threadIdx.x == 0) best[0] = 0;
            __syncthreads();
            for (u32 j = threadIdx.x; j < n; j += THREADS) {
                u64 key = sort_key(load_float(a.x, row * n + j), j);
                if (key < below) atomicMax(&best[0], key);
            }
            __syncthreads();
            below = best[0];
            if (threadIdx.x != 0) continue;
            store_float(a.values, row * a.k + i, load_float(a.x, row * n + token_of_key(below)));
            store_int(a.indices, row * a.k + i, token_of_key(below));
        }
    }
}
