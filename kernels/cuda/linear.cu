//! `linear_T`: product, bias, residual. An item is a tile of 16 outputs.
#include "wide.cuh"

struct LinearWork {
    const LinearArgs& a;
    u32 items;
    u64 tile_bytes;

    __device__ const u8* tile(u32 tile, u32) const { return static_cast<const u8*>(a.w) + tile * tile_bytes; }

    template <class S>
    __device__ void finish(const S& slices, u32 tile, u32 first_row, u32 rows) const {
        for (u32 i = threadIdx.x; i < 16 * rows; i += THREADS) {
            u32 output = tile * 16 + i % 16, column = i / 16;
            if (output >= a.n) continue;
            u64 at = u64(first_row + column) * a.n + output;
            f32 sum = slices.total(0, i % 16, column);
            if (a.bias) sum = __fadd_rn(sum, a.bias[output]);
            a.out[at] = a.residual ? __fadd_rn(sum, a.residual[at]) : sum;
        }
    }
    template <u32 TILES>
    __device__ void end(u32, u32) const {}
};

template <class F>
__device__ inline void linear(const LinearArgs& a) {
    LinearWork work = {a, ceil_div(a.n, 16), u64(ceil_div(a.k, F::COLS)) * F::BYTES};
    products<F, 1, 1>(work, a.step, a.acts, a.k, a.symbol);
}

template <class F>
__device__ inline void wide_linear(const LinearArgs& a) {
    LinearWork work = {a, ceil_div(a.n, 16), u64(ceil_div(a.k, F::COLS)) * F::BYTES};
    wide_products<F, 1>(work, a.step, a.acts, a.k, a.symbol);
}

#define LINEAR(T, F) AIO_KERNEL(linear_##T, LinearArgs) { linear<F>(a); }
FOR_EACH_FORMAT(LINEAR)

#define WIDE_LINEAR(T, F) AIO_KERNEL(wide_linear_##T, LinearArgs) { wide_linear<F>(a); }
FOR_EACH_WIDE_FORMAT(WIDE_LINEAR)
