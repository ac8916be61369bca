//! All inline PTX, each instruction beside a twin for the emulation that computes the same thing.
//!
//! Kernels call these by what they do. Called with whole warps where the comment says so.
#pragma once
#include "device.cuh"

/// Adds to a counter of all blocks; what this thread did and saw before is seen by whoever finds the sum.
__device__ inline void add_release(u32* at, u32 x) {
#ifdef AIO_EMULATE
    __atomic_fetch_add(at, x, __ATOMIC_RELEASE);
#else
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(at), "r"(x) : "memory");
#endif
}

/// Polls after which a wait is given up: half a minute and more, so nothing that still goes on is cut off, and what never
/// comes does not hold the device for ever.
#define MOST_POLLS (1u << 26)

/// Waits until a counter has come to `goal`; it may wrap around. What was done before it was added to is seen from then on.
/// The polls are relaxed, with one fence after the last: an acquire at each would empty the first-level cache each time.
__device__ inline void wait_acquire(const u32* at, u32 goal) {
    u32 polls = 0;
#ifdef AIO_EMULATE
    while (i32(__atomic_load_n(at, __ATOMIC_ACQUIRE) - goal) < 0) {
        if (++polls == MOST_POLLS) emulate::give_up("a block waits for others that never come");
        emulate::wait_for_other_blocks();
    }
#else
    for (;;) {
        u32 seen;
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(at) : "memory");
        if (i32(seen - goal) >= 0) break;
        if (++polls == MOST_POLLS) __trap();
    }
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
#endif
}

/// Stores a word for the host, which sees all that this thread did and saw before.
__device__ inline void store_for_host(u32* at, u32 x) {
#ifdef AIO_EMULATE
    __atomic_store_n(at, x, __ATOMIC_RELEASE);
#else
    asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(at), "r"(x) : "memory");
#endif
}

/// A word that the host may change at any time.
__device__ inline u32 load_from_host(const u32* at) {
#ifdef AIO_EMULATE
    return __atomic_load_n(at, __ATOMIC_RELAXED);
#else
    u32 x;
    asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(x) : "l"(at) : "memory");
    return x;
#endif
}

/// A barrier of all blocks of a grid that are there at once: how often each has come, and what the counter then is.
struct GridBarrier {
    u32* counter; // zero before the launch
    u32 goal;     // the counter once all have come to the last one that this block came to
    u32 met;      // the goal that was waited for last
};

/// The block's own.
__device__ inline GridBarrier& grid_barrier() {
    AIO_SHARED(GridBarrier, barrier, 1);
    return barrier[0];
}

/// The thread's number, read where it is wanted: a register that is kept across a task is one that the task lacks.
__device__ inline u32 thread_read_anew() {
#ifdef AIO_EMULATE
    return threadIdx.x;
#else
    u32 x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
#endif
}

/// One lane: waits until all blocks have come as often as this one.
__device__ inline void meet_at_grid_barrier() {
    GridBarrier& b = grid_barrier();
    if (b.met != b.goal) wait_acquire(b.counter, b.goal);
    b.met = b.goal;
}

/// Comes to the barrier. The block together; what it does next must not read what other blocks write before it has waited.
/// A block that had nothing to do since the last one, and so did not wait for it, waits for it now: if it came twice, its
/// second coming would stand for another block's first.
__device__ inline void come_to_grid_barrier() {
    __syncthreads();
    if (thread_read_anew() != 0) return;
    meet_at_grid_barrier();
    GridBarrier& b = grid_barrier();
    b.goal += gridDim.x;
    add_release(b.counter, 1);
}

/// Waits until all blocks have come as often as this one. The block together.
__device__ inline void wait_for_grid_barrier() {
    if (thread_read_anew() == 0) meet_at_grid_barrier();
    __syncthreads();
}

/// Waits until the kernels before this one are done and seen; from then on it may read their results and write. Inside a
/// burst those are the tasks before the last grid barrier.
__device__ inline void wait_for_earlier_kernels() {
#ifdef AIO_EMULATE
    if (emulate::view.burst) wait_for_grid_barrier();
#elif defined(AIO_BURST)
    wait_for_grid_barrier();
#elif __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel begin; it still waits for this one's end before it reads.
__device__ inline void let_next_kernel_begin() {
#if !defined(AIO_EMULATE) && !defined(AIO_BURST) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Begins to copy 16 bytes from global to shared memory, past the first-level cache.
__device__ inline void copy16_begin(void* shared, const void* global) {
#ifdef AIO_EMULATE
    emulate::copy_begin(shared, global, 16);
#else
    u32 at = u32(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global) : "memory");
#endif
}

/// Closes a group of copies.
__device__ inline void copies_close() {
#ifdef AIO_EMULATE
    emulate::copies_close();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/// Waits until at most N of the thread's last groups are under way.
template <u32 N>
__device__ inline void copies_wait() {
#ifdef AIO_EMULATE
    emulate::copies_wait(N);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

/// Asks for the line of 128 bytes that an address lies in, to be brought to the second-level cache.
__device__ inline void prefetch_line(const void* at) {
#ifdef AIO_EMULATE
    (void)*static_cast<const volatile u8*>(at); // so that an address beyond all memory shows
#else
    asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
#endif
}

/// A float that another block of this kernel may have written.
__device__ inline f32 load_shared_by_blocks(const f32* at) {
#ifdef AIO_EMULATE
    return *at;
#else
    f32 v;
    asm volatile("ld.global.cg.f32 %0, [%1];" : "=f"(v) : "l"(at) : "memory");
    return v;
#endif
}

/// c += a * b on 16 x 32 by 32 x 8 signed bytes, exact. The whole warp.
__device__ inline void mma_i8_k32(i32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef AIO_EMULATE
    emulate::mma_i8(c, a, b0, b1, 32);
#else
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// c += a * b on 16 x 16 by 16 x 8 signed bytes, exact. The whole warp.
__device__ inline void mma_i8_k16(i32 (&c)[4], u32 a0, u32 a1, u32 b0) {
#ifdef AIO_EMULATE
    const u32 a[4] = {a0, a1, 0, 0};
    emulate::mma_i8(c, a, b0, 0, 16);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a0), "r"(a1), "r"(b0));
#endif
}

/// c += a * b on 16 x 16 by 16 x 8 halves, summed in f32. The whole warp.
__device__ inline void mma_f16(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef AIO_EMULATE
    emulate::mma_f16(c, a, b0, b1);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// The same for bf16.
__device__ inline void mma_bf16(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
#ifdef AIO_EMULATE
    emulate::mma_bf16(c, a, b0, b1);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
