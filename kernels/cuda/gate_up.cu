//! `gate_up_T`: act(gate product) * (up product). An item is two tiles of 16 outputs, each of both matrices together.
//!
//! Thirty-two outputs are what a block of quantised activations takes, so the next product's activations are written here.
#include "acts.cuh"
#include "wide.cuh"

__device__ inline f32 silu(f32 x) { return __fdiv_rn(x, 1.0f + expf(-x)); }

struct GateUpWork {
    const GateUpArgs& a;
    u32 items, tiles;
    u64 tile_bytes;
    f32 first[4]; // the thread's results of the item's first tile

    /// An item's second tile may lie beyond the matrix; the last one stands in for it.
    __device__ const u8* tile(u32 tile, u32 m) const {
        return static_cast<const u8*>(m ? a.up : a.gate) + least(tile, tiles - 1) * tile_bytes;
    }

    template <class S>
    __device__ f32 result(const S& slices, u32 output, u32 column) const {
        if (output >= a.n) return 0.0f;
        f32 gate = slices.total(0, output % 16, column), up = slices.total(1, output % 16, column);
        return __fmul_rn(a.activation ? gelu(gate) : silu(gate), up);
    }

    template <class S>
    __device__ void finish(const S& slices, u32 tile, u32 first_row, u32 rows) {
        f32 y[S::PER_THREAD];
        AIO_UNROLL
        for (u32 j = 0; j < S::PER_THREAD; j++) {
            u32 i = threadIdx.x + j * THREADS, output = tile * 16 + i % 16, column = i / 16;
            if (column >= rows) continue;
            y[j] = result(slices, output, column);
            if (a.out && output < a.n) a.out[u64(first_row + column) * a.n + output] = y[j];
        }
        if (tile % 2 == 1) return store_acts(slices, y, tile / 2, first_row, rows);
        AIO_UNROLL
        for (u32 j = 0; j < S::PER_THREAD; j++) first[j] = y[j];
    }

    /// The item's 32 outputs of each row, gathered where the sums lay.
    template <class S>
    __device__ void store_acts(const S& slices, const f32 (&second)[S::PER_THREAD], u32 block, u32 first_row, u32 rows) {
        if (!a.acts_out) return;
        f32* gathered = slices.gathered();
        __syncthreads();
        AIO_UNROLL
        for (u32 j = 0; j < S::PER_THREAD; j++) {
            u32 i = threadIdx.x + j * THREADS, r = i % 16, column = i / 16;
            if (column >= rows) continue;
            gathered[column * 32 + r] = first[j];
            gathered[column * 32 + 16 + r] = second[j];
        }
        __syncthreads();
        for (u32 column = threadIdx.x / 32; column < rows; column += WARPS) {
            f32 y = gathered[column * 32 + threadIdx.x % 32];
            store_block(acts_out(a.acts_out, a.n), a.acts_kind, first_row + column, block, y);
        }
    }

    /// Columns that fill the last step of 64.
    template <u32 TILES>
    __device__ void end(u32 first_row, u32 rows) const {
        if (!a.acts_out || items % 2 == 0 || blockIdx.x != 0) return;
        for (u32 column = threadIdx.x / 32; column < rows; column += WARPS) {
            store_block(acts_out(a.acts_out, a.n), a.acts_kind, first_row + column, items, 0.0f);
        }
    }
};

template <class F>
__device__ inline void gate_up(const GateUpArgs& a, const PrepareArgs* prepare) {
    u64 tile_bytes = u64(ceil_div(a.k, F::COLS)) * F::BYTES;
    GateUpWork work = {a, ceil_div(a.n, 32), ceil_div(a.n, 16), tile_bytes, {}};
    if (prepare) products_of_few<F, 2, 2>(work, *prepare);
    else products<F, 2, 2>(work, a.step, a.acts, a.k, SYM_ROWS);
}

template <class F>
__device__ inline void wide_gate_up(const GateUpArgs& a) {
    u64 tile_bytes = u64(ceil_div(a.k, F::COLS)) * F::BYTES;
    GateUpWork work = {a, ceil_div(a.n, 32), ceil_div(a.n, 16), tile_bytes, {}};
    wide_products<F, 2>(work, a.step, a.acts, a.k, SYM_ROWS);
}

#define GATE_UP(T, F)                                                                                                 \
    AIO_KERNEL(gate_up_##T, GateUpArgs) { gate_up<F>(a, nullptr); }                                                            \
    AIO_KERNEL(norm_gate_up_##T, NormGateUpArgs) { gate_up<F>(a.product, &a.prepare); }
FOR_EACH_FORMAT(GATE_UP)

#define WIDE_GATE_UP(T, F) AIO_KERNEL(wide_gate_up_##T, GateUpArgs) { wide_gate_up<F>(a); }
FOR_EACH_WIDE_FORMAT(WIDE_GATE_UP)
