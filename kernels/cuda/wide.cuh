//! Products of many token rows: up to 48 go over the weights together, and a block shares what it has read.
//!
//! A block takes runs of 8 tiles of 16 output rows (4 of each of two matrices), a warp has one of them with all token rows.
//! Stages of a step's weights and activations come to shared memory, so each is read once for 48 rows or 128 outputs. The
//! bits are those of `product.cuh`: there a warp adds up the steps s, s + 8, .. and the block the warps' sums; here a warp
//! goes through the steps in that order and keeps both sums. Prefill uses it.
#pragma once
#include "product.cuh"

#define WIDE_ROWS 48u
/// Tiles of 8 token rows that a warp multiplies in one go; two such groups are all rows. Four tiles a group spill registers
/// on some architectures.
#define GROUP_TILES ROW_TILES
/// Floats from an output row's totals to the next's.
#define WIDE_PITCH 56u

/// Sizes of a block's shared memory, in bytes.
template <class F, u32 M>
struct WideShape {
    static const u32 RUN = WARPS / M;
    static const u32 ACT_BYTES = F::COLS / 64 * (F::ACTS == ACT_Q8 ? 640 : 2080);
    static const u32 STAGE = WARPS * F::BYTES + 2 * GROUP_TILES * ACT_BYTES;
    static const u32 STAGES = 3 * STAGE <= 100000 ? 3 : 2;
};

/// A warp's totals of one tile of each matrix, as `finish` of a product wants them.
template <u32 M>
struct WideTotals {
    static const u32 PER_THREAD = 16 * WIDE_ROWS / THREADS;
    const f32* start; // of the first matrix's tile; that of the second lies half of all tiles behind it
    f32* free;        // [48][32]

    __device__ f32 total(u32 m, u32 r, u32 column) const {
        return start[(m * (WARPS / M) * 16 + r) * WIDE_PITCH + column];
    }
    __device__ f32* gathered() const { return free; }
};

/// Activations of a stage: tiles of 8 rows.
struct StagedActs {
    const u8* start;
    u32 bytes;

    __device__ u32 tile_rows() const { return TILE_ROWS; }
    __device__ u32 place(u32, u32 lane) const { return lane; }
    __device__ const u8* tile(u32 t) const { return start + t * bytes; }
};

/// The stages of a run, in the order of the sums.
template <class F, u32 M, class Work>
struct Stages {
    typedef WideShape<F, M> S;
    const Work& work;
    const u8* acts; // of the pass
    u8* ring;
    u32 steps, row_tiles;
    u32 tile, matrix;    // the warp's
    u32 step, left, entry; // to ask for next

    __device__ void begin(u32 run) {
        u32 warp = threadIdx.x / 32;
        tile = least(run * S::RUN + warp % S::RUN, work.items * M - 1);
        matrix = warp / S::RUN;
        step = entry = 0;
        left = steps;
        for (u32 i = 0; i + 1 < S::STAGES; i++) ask();
    }

    __device__ u8* at(u32 index) const { return ring + index * S::STAGE; }

    /// Asks for the next stage; the group is closed even if there is none.
    __device__ void ask() {
        if (left > 0) {
            u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
            const u8* weights = work.tile(tile, matrix) + u64(step) * F::BYTES;
            u8* to = at(entry) + warp * F::BYTES;
            for (u32 i = lane * 16; i < F::BYTES; i += 512) copy16_begin(to + i, weights + i);
            to = at(entry) + WARPS * F::BYTES;
            for (u32 i = threadIdx.x * 16; i < row_tiles * S::ACT_BYTES; i += THREADS * 16) {
                u64 from = u64(i / S::ACT_BYTES) * steps + step;
                copy16_begin(to + i, acts + from * S::ACT_BYTES + i % S::ACT_BYTES);
            }
            step = next(step);
            left -= 1;
        }
        copies_close();
        entry = entry + 1 == S::STAGES ? 0 : entry + 1;
    }

    /// The step after one: eight further on, else the first of the next slice.
    __device__ u32 next(u32 after) const { return after + WARPS < steps ? after + WARPS : after % WARPS + 1; }
};

/// A lane's sums of a group of token rows: of the slice under way, and of those before it.
struct GroupSums {
    SumsOf<GROUP_TILES> slice, total;

    __device__ void close() {
        AIO_UNROLL
        for (u32 t = 0; t < GROUP_TILES; t++) {
            AIO_UNROLL
            for (u32 i = 0; i < 4; i++) total.c[t][i] = __fadd_rn(total.c[t][i], slice.c[t][i]), slice.c[t][i] = 0.0f;
        }
    }
    /// To the totals of the warp's tile.
    __device__ void store(f32* totals, u32 group) const {
        u32 lane = threadIdx.x % 32;
        AIO_UNROLL
        for (u32 t = 0; t < GROUP_TILES; t++) {
            f32* row = totals + lane / 4 * WIDE_PITCH + (group * GROUP_TILES + t) * TILE_ROWS + lane % 4 * 2;
            *reinterpret_cast<float2*>(row) = float2{total.c[t][0], total.c[t][1]};
            *reinterpret_cast<float2*>(row + 8 * WIDE_PITCH) = float2{total.c[t][2], total.c[t][3]};
        }
    }
};

/// The products of a run, left as totals where the ring was.
template <class F, u32 M, class Work>
__device__ inline void wide_run(Stages<F, M, Work>& stages, u32 run) {
    typedef WideShape<F, M> S;
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, step = 0, entry = 0;
    GroupSums groups[2] = {};
    stages.begin(run);
    for (u32 n = 0; n < stages.steps; n++) {
        copies_wait<S::STAGES - 2>();
        __syncthreads();
        stages.ask();
        const u8* stage = stages.at(entry);
        AIO_UNROLL
        for (u32 g = 0; g < 2; g++) {
            u32 before = g * GROUP_TILES;
            if (stages.row_tiles <= before) break;
            StagedActs x = {stage + WARPS * F::BYTES + before * S::ACT_BYTES, S::ACT_BYTES};
            F::multiply(groups[g].slice, stage + warp * F::BYTES, x, 0, least(stages.row_tiles - before, GROUP_TILES), lane);
            if (step + WARPS >= stages.steps) groups[g].close();
        }
        step = stages.next(step);
        entry = entry + 1 == S::STAGES ? 0 : entry + 1;
    }
    copies_wait<0>();
    __syncthreads();
    f32* totals = reinterpret_cast<f32*>(stages.ring) + warp * 16 * WIDE_PITCH;
    AIO_UNROLL
    for (u32 g = 0; g < 2; g++) groups[g].store(totals, g);
    __syncthreads();
}

/// As `products`, with 48 token rows a pass (grid y) and runs of tiles (grid x).
template <class F, u32 M, class Work>
__device__ inline void wide_products(Work& work, const StepHeader* header, const void* acts, u32 k, u32 symbol) {
    AIO_DYNAMIC_SHARED(shared);
    typedef WideShape<F, M> S;
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 all = count_of(header, symbol), first_row = pass_of_block() * WIDE_ROWS;
    if (first_row >= all) return;
    u32 rows = least(all - first_row, WIDE_ROWS), steps = ceil_div(k, F::COLS), tiles = work.items * M;
    const u8* from = static_cast<const u8*>(acts) + u64(first_row / TILE_ROWS) * steps * S::ACT_BYTES;
    Stages<F, M, Work> stages = {work, from, shared, steps, ceil_div(rows, TILE_ROWS), 0, 0, 0, 0, 0};
    f32* totals = reinterpret_cast<f32*>(shared);
    for (u32 run = blockIdx.x; run * S::RUN < tiles; run += gridDim.x) {
        wide_run<F, M>(stages, run);
        // What it keeps from tile to tile takes no registers while there are products.
        Work finishing = work;
        for (u32 i = 0; i < S::RUN && run * S::RUN + i < tiles; i++) {
            WideTotals<M> of_tile = {totals + i * 16 * WIDE_PITCH, totals + WARPS * 16 * WIDE_PITCH};
            finishing.finish(of_tile, run * S::RUN + i, first_row, rows);
        }
        __syncthreads();
    }
    work.template end<S::RUN>(first_row, rows);
}
