//! `probe_read`, `probe_int8`, `probe_bf16`: what the device can do at best, to compare steps with.
//!
//! A read of a buffer by 16 bytes a thread, several under way, as a plain loop would; multiply-adds on tensor cores from
//! registers. Results go where nobody looks, under a condition that only the device knows to be false.
#include "ptx.cuh"

/// Loads that a thread has under way.
#define LOADS 4u
/// Products that a warp has under way.
#define CHAINS 8u

AIO_KERNEL(probe_read, ProbeArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    const uint4* from = reinterpret_cast<const uint4*>(a.from);
    u64 stride = u64(gridDim.x) * THREADS;
    u32 mixed = 0;
    for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < a.count; i += LOADS * stride) {
        uint4 v[LOADS];
        AIO_UNROLL
        for (u32 l = 0; l < LOADS; l++) v[l] = i + l * stride < a.count ? from[i + l * stride] : uint4{0, 0, 0, 0};
        AIO_UNROLL
        for (u32 l = 0; l < LOADS; l++) mixed ^= v[l].x ^ v[l].y ^ v[l].z ^ v[l].w;
    }
    if (mixed == a.never) a.sink[0] = mixed;
}

AIO_KERNEL(probe_int8, ProbeArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 lane = threadIdx.x % 32;
    const u32 x[4] = {lane, lane + 1, lane + 2, lane + 3};
    i32 sums[CHAINS][4] = {};
    for (u64 i = 0; i < a.count; i++) {
        AIO_UNROLL
        for (u32 c = 0; c < CHAINS; c++) mma_i8_k32(sums[c], x, lane, c);
    }
    u32 mixed = 0;
    AIO_UNROLL
    for (u32 c = 0; c < CHAINS; c++) mixed ^= u32(sums[c][0] ^ sums[c][1] ^ sums[c][2] ^ sums[c][3]);
    if (mixed == a.never) a.sink[0] = mixed;
}

AIO_KERNEL(probe_bf16, ProbeArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 lane = threadIdx.x % 32;
    const u32 x[4] = {lane, lane + 1, lane + 2, lane + 3};
    f32 sums[CHAINS][4] = {};
    for (u64 i = 0; i < a.count; i++) {
        AIO_UNROLL
        for (u32 c = 0; c < CHAINS; c++) mma_bf16(sums[c], x, lane, c);
    }
    f32 all = 0;
    AIO_UNROLL
    for (u32 c = 0; c < CHAINS; c++) all += sums[c][0] + sums[c][1] + sums[c][2] + sums[c][3];
    if (__float_as_uint(all) == a.never) a.sink[0] = a.never;
}
