//! The walk over packed weights that all products share: streaming, mma, and the sum over a block's warps.
//!
//! A block goes through items of tiles of 16 output rows. Step s of a tile belongs to warp s mod 8, which keeps a ring of
//! steps of its own in shared memory: while it multiplies one, the copies of the next are under way, across tiles too, so
//! that memory never waits for arithmetic. Then the warps' sums are added in order of the warps. What becomes of them is the
//! business of `Work`, which has
//! - `u32 items`: how many there are;
//! - `const u8* tile(u32 tile, u32 m)`: where a packed tile of its m-th matrix begins;
//! - `void finish(const Slices<M>&, u32 tile, u32 first_row, u32 rows)`: called by the block together;
//! - `void end(u32 first_row, u32 rows)`: the same, after the block's last tile.
#pragma once
#include "acts.cuh"

/// The warps' sums of one tile of each of M matrices, in shared memory: f32 [8][M][16][24].
template <u32 M>
struct Slices {
    /// Columns of a tile that a thread has in hand when the block shares its outputs.
    static const u32 PER_THREAD = 2;
    f32* start;

    /// Memory for 32 outputs of each token row, once all totals of a tile are taken.
    __device__ f32* gathered() const { return start; }

    /// The product of output row r of the tile and token row `column` of the pass.
    __device__ f32 total(u32 m, u32 r, u32 column) const {
        f32 sum = 0;
        for (u32 w = 0; w < WARPS; w++) sum += start[((w * M + m) * 16 + r) * PASS_ROWS + column];
        return sum;
    }
};

/// A warp's stream of steps, and where it stands.
template <class F, u32 M, u32 PER_ITEM, class Work>
struct Stream {
    static const u32 DEPTH = M == 1 ? F::DEPTH1 : F::DEPTH2, RING_BYTES = DEPTH * M * F::BYTES;
    const Work& work;
    u8* ring;
    u32 steps;     // of a tile
    u32 item, sub; // the tile to ask for next
    u32 step;      // the step to ask for next
    u32 oldest;    // the oldest step in the ring

    __device__ Stream(const Work& work, u8* ring, u32 k)
        : work(work), ring(ring), steps(ceil_div(k, F::COLS)), item(blockIdx.x), sub(0), step(threadIdx.x / 32), oldest(0) {}

    __device__ u8* at(u32 m) const { return ring + (oldest * M + m) * F::BYTES; }

    /// Fills the ring.
    __device__ void begin() {
        for (u32 d = 0; d < DEPTH; d++) ask();
    }

    /// Asks for the next step of each matrix, into the oldest place. The group is closed even if there is none.
    __device__ void ask() {
        if (item < work.items && step < steps) {
            for (u32 m = 0; m < M; m++) {
                const u8* from = work.tile(item * PER_ITEM + sub, m) + u64(step) * F::BYTES;
                for (u32 i = threadIdx.x % 32 * 16; i < F::BYTES; i += 512) copy16_begin(at(m) + i, from + i);
            }
            advance();
        }
        copies_close();
        oldest = oldest + 1 == DEPTH ? 0 : oldest + 1;
    }

    __device__ void advance() {
        step += WARPS;
        if (step < steps) return;
        step = threadIdx.x / 32;
        if (++sub < PER_ITEM) return;
        sub = 0;
        item += gridDim.x;
    }

    /// Waits until the oldest step is there for the whole warp.
    __device__ void wait() {
        copies_wait<DEPTH - 1>();
        __syncwarp();
    }
};

/// Keeps a lane's sums where the block can add them up.
template <u32 M>
__device__ inline void store_sums(const Slices<M>& slices, const Sums (&sums)[M]) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    AIO_UNROLL
    for (u32 m = 0; m < M; m++) {
        AIO_UNROLL
        for (u32 t = 0; t < ROW_TILES; t++) {
            const f32* c = sums[m].c[t];
            f32* row = slices.start + ((warp * M + m) * 16 + lane / 4) * PASS_ROWS + t * TILE_ROWS + lane % 4 * 2;
            *reinterpret_cast<float2*>(row) = float2{c[0], c[1]};
            *reinterpret_cast<float2*>(row + 8 * PASS_ROWS) = float2{c[2], c[3]};
        }
    }
}

/// The rows of a pass.
struct Pass {
    u32 first_row, rows;

    __device__ Pass(const StepHeader* header, u32 symbol) : first_row(pass_of_block() * PASS_ROWS), rows(0) {
        u32 all = count_of(header, symbol);
        if (first_row < all) rows = least(all - first_row, PASS_ROWS);
    }
};

/// Multiplies and finishes a block's items.
template <class F, u32 M, u32 PER_ITEM, class Work, class A>
__device__ inline void walk(Stream<F, M, PER_ITEM, Work>& stream, Work& work, const Slices<M>& slices, const A& acts, const Pass& pass) {
    u32 warp = threadIdx.x / 32, tiles = ceil_div(pass.rows, TILE_ROWS);
    for (u32 item = blockIdx.x; item < work.items; item += gridDim.x) {
        for (u32 sub = 0; sub < PER_ITEM; sub++) {
            Sums sums[M] = {};
            for (u32 step = warp; step < stream.steps; step += WARPS) {
                stream.wait();
                AIO_UNROLL
                for (u32 m = 0; m < M; m++) {
                    F::multiply(sums[m], stream.at(m), acts, step * (F::COLS / 64), tiles, threadIdx.x % 32);
                }
                __syncwarp();
                stream.ask();
            }
            store_sums(slices, sums);
            __syncthreads();
            work.finish(slices, item * PER_ITEM + sub, pass.first_row, pass.rows);
            __syncthreads();
        }
    }
    work.template end<1>(pass.first_row, pass.rows);
}

/// All products of a launch with prepared activations. `symbol` counts the token rows; grid y is the pass of 24 of them.
template <class F, u32 M, u32 PER_ITEM, class Work>
__device__ inline void products(Work& work, const StepHeader* header, const void* acts, u32 k, u32 symbol) {
    AIO_DYNAMIC_SHARED(shared);
    typedef Stream<F, M, PER_ITEM, Work> S;
    Slices<M> slices = {reinterpret_cast<f32*>(shared + WARPS * S::RING_BYTES)};
    S stream(work, shared + threadIdx.x / 32 * S::RING_BYTES, k);
    // Weights are on their way while earlier kernels end; but for later passes, which may have no rows, only once that is known.
    if (pass_of_block() == 0) stream.begin();
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Pass pass(header, symbol);
    if (pass.rows == 0) return copies_wait<0>();
    if (pass_of_block() != 0) stream.begin();
    u64 tile_bytes = u64(ceil_div(k, 64)) * act_step_bytes(F::ACTS, TILE_ROWS);
    TiledActs x = {static_cast<const u8*>(acts) + pass.first_row / TILE_ROWS * tile_bytes, tile_bytes, pass.rows};
    walk<F, M, PER_ITEM>(stream, work, slices, x, pass);
}

/// Asks for a vector of constants that all blocks will read, each line by one of them.
__device__ inline void ask_for_vector(const f32* at, u32 len) {
    const u32 line = 32;
    if (!at || threadIdx.x != 0) return;
    for (u32 i = blockIdx.x * line; i < len; i += gridDim.x * line) prefetch_line(at + i);
}

/// The same for up to 4 rows that each block prepares for itself while its first weights are on their way.
template <class F, u32 M, u32 PER_ITEM, class Work>
__device__ inline void products_of_few(Work& work, const PrepareArgs& prepare) {
    AIO_DYNAMIC_SHARED(shared);
    typedef Stream<F, M, PER_ITEM, Work> S;
    Slices<M> slices = {reinterpret_cast<f32*>(shared + WARPS * S::RING_BYTES)};
    u8* acts = reinterpret_cast<u8*>(slices.start + M * WARPS * 16 * PASS_ROWS);
    S stream(work, shared + threadIdx.x / 32 * S::RING_BYTES, prepare.k);
    stream.begin();
    ask_for_vector(prepare.norm, prepare.k);
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Pass pass(prepare.step, prepare.symbol);
    if (pass.rows == 0) return copies_wait<0>();
    ActsOut out = {acts, prepare.k, pass.rows};
    for (u32 row = 0; row < pass.rows; row++) prepare_row<F::ACTS>(prepare, out, row, row);
    __syncthreads();
    walk<F, M, PER_ITEM>(stream, work, slices, FewActs{acts, pass.rows}, pass);
}
