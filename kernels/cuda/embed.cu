//! `embed_T`: rows of a packed table, decoded. One block an id.
//!
//! The table of models whose head shares it lies packed; values are those of `ir::quant::dequantize`, to the bit.
#include "formats.cuh"

template <class F>
__device__ inline void embed(const EmbedArgs& a) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 count = a.per * count_of(a.step, a.symbol);
    AIO_FOR_ROWS(i, count) {
        u32 id = a.ids[i];
        const u8* tile = static_cast<const u8*>(a.w) + u64(id / 16) * ceil_div(a.k, F::COLS) * F::BYTES;
        for (u32 c = threadIdx.x; c < a.k; c += THREADS) {
            f32 x = id < a.n ? F::value(tile + u64(c / F::COLS) * F::BYTES, id % 16, c % F::COLS) : 0.0f;
            a.out[u64(i) * a.k + c] = x;
        }
    }
}

#define EMBED(T, F) AIO_KERNEL(embed_##T, EmbedArgs) { embed<F>(a); }
FOR_EACH_FORMAT(EMBED)
