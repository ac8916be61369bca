//! `head_T`: logits of the output rows, or their arg-max. An item is a tile of 16 tokens.
//!
//! The arg-max is the largest of keys that order as (logit, then the lower token) do, so neither blocks nor their order
//! matter: each block brings its best, the last one writes the tokens and clears the keys.
#include "keys.cuh"
#include "product.cuh"

struct HeadWork {
    const HeadArgs& a;
    u32 items;
    u64 tile_bytes;
    u64* mine; // [24]: this block's best

    __device__ const u8* tile(u32 tile, u32) const { return static_cast<const u8*>(a.w) + tile * tile_bytes; }

    template <class S>
    __device__ void finish(const S& slices, u32 tile, u32 first_row, u32 rows) const {
        for (u32 i = threadIdx.x; i < 16 * rows; i += THREADS) {
            u32 token = tile * 16 + i % 16, column = i / 16;
            f32 logit = slices.total(0, i % 16, column);
            bool counts = token < a.n;
            if (a.logits && counts) a.logits[u64(first_row + column) * a.n + token] = logit;
            if (a.tokens && counts) atomicMax(&mine[column], rank_key(logit, token));
        }
    }

    template <u32 TILES>
    __device__ void end(u32 first_row, u32 rows) const {
        if (!a.tokens) return;
        if (threadIdx.x < rows && mine[threadIdx.x]) atomicMax(&a.best[first_row + threadIdx.x], mine[threadIdx.x]);
        // Each pass has a ticket and keys of its own, since passes of one launch end in any order.
        if (!last_to_come(a.tickets + pass_of_block(), gridDim.x)) return;
        for (u32 row = threadIdx.x; row < rows; row += THREADS) {
            u64 best = atomicMax(&a.best[first_row + row], u64(0));
            a.tokens[first_row + row] = token_of_key(best);
            a.best[first_row + row] = 0;
        }
    }
};

template <class F>
__device__ inline void head(const HeadArgs& a, const PrepareArgs* prepare) {
    AIO_SHARED(u64, mine, PASS_ROWS);
    if (threadIdx.x < PASS_ROWS) mine[threadIdx.x] = 0;
    __syncthreads();
    HeadWork work = {a, ceil_div(a.n, 16), u64(ceil_div(a.k, F::COLS)) * F::BYTES, mine};
    if (prepare) products_of_few<F, 1, 1>(work, *prepare);
    else products<F, 1, 1>(work, a.step, a.acts, a.k, SYM_OUTS);
}

#define HEAD(T, F)                                                                                                 \
    AIO_KERNEL(head_##T, HeadArgs) { head<F>(a, nullptr); }                                                            \
    AIO_KERNEL(norm_head_##T, NormHeadArgs) { head<F>(a.product, &a.prepare); }
FOR_EACH_FORMAT(HEAD)
