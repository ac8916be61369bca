//! `op_map`, `op_gather`, `op_rows`: element-wise ops, look-ups, and ops along the last dimension.
//!
//! For any element type and up to eight dimensions; `tensor.cuh` has what they share.
#include "keys.cuh"
#include "tensor.cuh"

__device__ inline f32 unary(u32 code, f32 x) {
    switch (code) {
    case MAP_NEG: return -x;
    case MAP_SILU: return __fdiv_rn(x, 1.0f + expf(-x));
    case MAP_GELU: return gelu(x);
    case MAP_RELU: return larger(x, 0.0f);
    case MAP_TANH: return tanhf(x);
    case MAP_SIGMOID: return __fdiv_rn(1.0f, 1.0f + expf(-x));
    case MAP_EXP: return expf(x);
    case MAP_LOG: return logf(x);
    case MAP_SQRT: return sqrtf(x);
    case MAP_RSQRT: return __fdiv_rn(1.0f, sqrtf(x));
    case MAP_SIN: return sinf(x);
    case MAP_COS: return cosf(x);
    default: return x;
    }
}

template <class T>
__device__ inline bool compare(u32 code, T a, T b) {
    switch (code) {
    case MAP_EQ: return a == b;
    case MAP_NE: return a != b;
    case MAP_LT: return a < b;
    case MAP_LE: return a <= b;
    case MAP_GT: return a > b;
    default: return a >= b;
    }
}

__device__ inline f32 binary(u32 code, f32 a, f32 b) {
    switch (code) {
    case MAP_ADD: return __fadd_rn(a, b);
    case MAP_SUB: return __fsub_rn(a, b);
    case MAP_MUL: return __fmul_rn(a, b);
    case MAP_DIV: return __fdiv_rn(a, b);
    case MAP_MIN: return smaller(a, b);
    default: return larger(a, b);
    }
}

/// Division by zero gives 0; the host's plans have none.
__device__ inline i64 binary(u32 code, i64 a, i64 b) {
    switch (code) {
    case MAP_ADD: return a + b;
    case MAP_SUB: return a - b;
    case MAP_MUL: return a * b;
    case MAP_DIV: return b == 0 ? 0 : a / b;
    case MAP_MIN: return a < b ? a : b;
    default: return a > b ? a : b;
    }
}

/// One operand.
__device__ inline void map_one(const MapArgs& a, u64 i, u64 from) {
    if (a.code == MAP_COPY) return copy_element(a.out, i, a.a, from);
    bool floats = is_float(a.a.element);
    if (a.code == MAP_CAST && floats) return store_converted(a.out, i, load_float(a.a, from));
    if (a.code == MAP_CAST) return store_converted(a.out, i, load_int(a.a, from));
    if (floats) store_float(a.out, i, unary(a.code, load_float(a.a, from)));
    else store_int(a.out, i, -load_int(a.a, from));
}

/// Two operands of one type.
__device__ inline void map_two(const MapArgs& a, u64 i, u64 first, u64 second) {
    bool floats = is_float(a.a.element);
    if (a.code >= MAP_EQ) {
        bool yes = floats ? compare(a.code, load_float(a.a, first), load_float(a.b, second))
                          : compare(a.code, load_int(a.a, first), load_int(a.b, second));
        return store_int(a.out, i, yes);
    }
    if (floats) store_float(a.out, i, binary(a.code, load_float(a.a, first), load_float(a.b, second)));
    else store_int(a.out, i, binary(a.code, load_int(a.a, first), load_int(a.b, second)));
}

__device__ inline void map_element(const MapArgs& a, const Sized& out, const Sized& x, const Sized& y, const Sized& c, u64 i) {
    if (a.code == MAP_FILL) return store_converted(a.out, i, a.value);
    if (a.code == MAP_IOTA) return store_converted(a.out, i, i64(i % out.last()));
    u64 first = x.broadcast(out, i);
    if (a.code == MAP_SELECT) {
        if (load_int(a.c, c.broadcast(out, i))) copy_element(a.out, i, a.a, first);
        else copy_element(a.out, i, a.b, y.broadcast(out, i));
    } else if (a.code >= MAP_ADD && a.code <= MAP_GE) map_two(a, i, first, y.broadcast(out, i));
    else map_one(a, i, first);
}

AIO_KERNEL(op_map, MapArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized out(a.out, a.step), x(a.a, a.step), y(a.b, a.step), c(a.c, a.step);
    for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < out.len; i += u64(gridDim.x) * THREADS) {
        map_element(a, out, x, y, c, i);
    }
}

AIO_KERNEL(op_gather, GatherArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized out(a.out, a.step), x(a.x, a.step), index(a.index, a.step);
    u64 slice = x.dims[0] ? x.len / x.dims[0] : 1;
    for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < out.len; i += u64(gridDim.x) * THREADS) {
        i64 row = load_int(a.index, i / slice);
        if (row >= 0 && row < x.dims[0]) copy_element(a.out, i, a.x, row * slice + i % slice);
        else if (is_float(a.out.element)) store_float(a.out, i, 0.0f);
        else store_int(a.out, i, 0);
    }
}

__device__ inline f32 block_max(f32 x) {
    AIO_SHARED(f32, part, WARPS);
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    f32 top = part[0];
    for (u32 w = 1; w < WARPS; w++) top = fmaxf(top, part[w]);
    return top;
}

/// One row of `n` elements from `at` on; a block works together.
struct Row {
    const RowsArgs& a;
    u64 at;
    u32 n;

    __device__ f32 x(u32 i) const { return load_float(a.x, at + i); }
    __device__ void store(u32 i, f32 v) const {
        if (a.weight) v = __fmul_rn(v, a.weight[i]);
        if (a.bias) v = __fadd_rn(v, a.bias[i]);
        store_float(a.out, at + i, v);
    }
    /// Sum of (x - centre)^2.
    __device__ f32 squares(f32 centre) const {
        f32 sum = 0;
        for (u32 i = threadIdx.x; i < n; i += THREADS) sum = fmaf(x(i) - centre, x(i) - centre, sum);
        return block_sum(sum);
    }
    __device__ void norm(bool centred) const {
        f32 sum = 0;
        for (u32 i = threadIdx.x; centred && i < n; i += THREADS) sum += x(i);
        f32 centre = centred ? __fdiv_rn(block_sum(sum), f32(n)) : 0.0f;
        f32 factor = __fdiv_rn(1.0f, sqrtf(__fdiv_rn(squares(centre), f32(n)) + a.eps));
        for (u32 i = threadIdx.x; i < n; i += THREADS) store(i, __fmul_rn(x(i) - centre, factor));
    }
    __device__ void softmax() const {
        f32 top = __uint_as_float(0xFF800000u), sum = 0;
        for (u32 i = threadIdx.x; i < n; i += THREADS) top = fmaxf(top, x(i));
        top = block_max(top);
        for (u32 i = threadIdx.x; i < n; i += THREADS) sum += expf(x(i) - top);
        sum = block_sum(sum);
        for (u32 i = threadIdx.x; i < n; i += THREADS) store(i, __fdiv_rn(expf(x(i) - top), sum));
    }
    __device__ void argmax(u64 row) const {
        AIO_SHARED(u64, best, 1);
        if (threadIdx.x == 0) best[0] = 0;
        __syncthreads();
        for (u32 i = threadIdx.x; i < n; i += THREADS) atomicMax(&best[0], rank_key(x(i), i));
        __syncthreads();
        if (threadIdx.x == 0) store_int(a.out, row, token_of_key(best[0]));
    }
};

AIO_KERNEL(op_rows, RowsArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized x(a.x, a.step);
    u32 n = x.last();
    u64 rows = a.code == ROWS_ARGMAX && n == 0 ? Sized(a.out, a.step).len : n ? x.len / n : 0;
    for (u64 i = blockIdx.x; i < rows; i += gridDim.x) {
        Row row = {a, i * n, n};
        __syncthreads();
        if (a.code == ROWS_ARGMAX) row.argmax(i);
        else if (a.code == ROWS_SOFTMAX) row.softmax();
        else row.norm(a.code == ROWS_LAYER_NORM);
    }
}
