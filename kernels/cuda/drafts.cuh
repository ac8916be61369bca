//! Drafts of a burst: an index of the text's own runs of tokens, made and searched on the device.
//!
//! Whatever followed the last occurrence of the tokens that end the text is the draft. Two tables map a hash of 4 and of 2
//! tokens to the end of the last run that has it; a run of the same hash pushes an older one out, and what is found is
//! compared with the text, so a clash costs a draft and nothing else. No table knows the run that ends the text itself.
#pragma once
#include "ptx.cuh"

#define RUNS 2u

/// Tokens of a run: the longer is asked first.
__device__ inline u32 run_tokens(u32 which) { return which == 0 ? 4 : 2; }

/// The place of the run that ends before `end`: FNV-1a over its tokens (Fowler, Noll, Vo), its upper bits folded in.
__device__ inline u32* run_entry(const BurstArgs& a, u32 which, u32 end) {
    u32 hash = 2166136261u;
    for (u32 i = end - run_tokens(which); i < end; i++) hash = (hash ^ a.history[i]) * 16777619u;
    hash = (hash ^ hash >> 15) * 2246822519u;
    return a.index + which * a.entries + ((hash ^ hash >> 13) & (a.entries - 1));
}

/// Notes the runs that end before `end`. Any threads in any order: the last run wins.
__device__ inline void note_runs(const BurstArgs& a, u32 end) {
    for (u32 which = 0; which < RUNS; which++) {
        if (end >= run_tokens(which)) atomicMax(run_entry(a, which, end), end);
    }
}

/// The index of the history, but for its last runs. All blocks together; a grid barrier must follow.
__device__ inline void build_index(const BurstArgs& a) {
    u32 from = blockIdx.x * THREADS + threadIdx.x, step = gridDim.x * THREADS;
    for (u32 i = from; i < RUNS * a.entries; i += step) a.index[i] = 0;
    come_to_grid_barrier();
    wait_for_grid_barrier();
    for (u32 end = from; end < a.length; end += step) note_runs(a, end);
}

/// The end of an earlier run of the tokens that end the first `length` ones; 0 if none is known.
__device__ inline u32 find_run(const BurstArgs& a, u32 which, u32 length) {
    u32 run = run_tokens(which);
    if (length <= run) return 0;
    u32 end = *run_entry(a, which, length);
    for (u32 i = 1; i <= run && end != 0; i++) {
        if (a.history[end - i] != a.history[length - i]) end = 0;
    }
    return end;
}

/// Puts up to `most` drafts behind the first `length` tokens; how many. A run that reaches the end of the text goes on as a
/// repetition. The block together.
__device__ inline u32 make_drafts(const BurstArgs& a, u32 length, u32 most) {
    AIO_SHARED(u32, found, RUNS);
    if (most == 0) return 0;
    // One thread of a warp each, so that they look at the same time.
    if (threadIdx.x % 32 == 0 && threadIdx.x / 32 < RUNS) found[threadIdx.x / 32] = find_run(a, threadIdx.x / 32, length);
    __syncthreads();
    u32 end = found[0] ? found[0] : found[1];
    if (end == 0) return 0;
    if (threadIdx.x < most) a.history[length + threadIdx.x] = a.history[end + threadIdx.x % (length - end)];
    __syncthreads();
    return most;
}

/// How many drafts the next step tries. Rows are then 2, 4, 8, 16: one more doubling where all were right, one less where none
/// was, and never none, since a step of two rows costs what a plain one does.
__device__ inline u32 next_drafts(u32 tried, u32 drafted, u32 accepted, u32 limit) {
    if (drafted == 0) return tried;
    if (accepted == 0) return most(tried / 2, 1);
    return accepted == tried ? least(2 * tried + 1, limit) : tried;
}
