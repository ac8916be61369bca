//! What every kernel file begins with: the device's or the emulation's language, named the same.
//!
//! Kernels use the macros and functions here where CUDA and a plain C++ compiler differ, so that one source serves both.
#pragma once
#include "args.h"

#ifdef AIO_EMULATE
#include "emulate.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>

/// A kernel of 256 threads a block that takes its arguments by value, and that no other kernel runs in itself.
#define AIO_WHOLE_KERNEL(name, Args) extern "C" __global__ void __launch_bounds__(256, 2) name(const __grid_constant__ Args a)
/// Every other kernel. What it computes does not depend on the grid, so `burst.cu` takes it as a function and runs it in the
/// blocks that are there.
#ifdef AIO_BURST
#define AIO_KERNEL(name, Args) static __device__ __forceinline__ void name(const Args& a)
#else
#define AIO_KERNEL(name, Args) AIO_WHOLE_KERNEL(name, Args)
#endif
/// A function that the compiler gives registers of its own, so that nothing is carried across it.
#define AIO_APART static __device__ __noinline__
/// Shared memory whose size the launch says.
#define AIO_DYNAMIC_SHARED(name) extern __shared__ __align__(16) u8 name[]
/// Before a loop whose body indexes registers.
#define AIO_UNROLL _Pragma("unroll")
/// An array in shared memory.
#define AIO_SHARED(type, name, len) __shared__ __align__(16) type name[len]

__device__ inline u16 f16_of(f32 x) { return __half_as_ushort(__float2half_rn(x)); }
__device__ inline f32 f32_of_f16(u16 x) { return __half2float(__ushort_as_half(x)); }
__device__ inline u16 bf16_of(f32 x) { return __bfloat16_as_ushort(__float2bfloat16_rn(x)); }
#endif

/// Goes through the rows (or ids) of a kernel that takes one a block: in a launch of its own there is a block for each, in a
/// burst the blocks that are there share them.
#if defined(AIO_EMULATE) || defined(AIO_BURST)
#define AIO_FOR_ROWS(row, count) for (u32 row = blockIdx.x; row < (count); row += gridDim.x)
#else
#define AIO_FOR_ROWS(row, count) for (u32 row = blockIdx.x, first = 1; first && row < (count); first = 0)
#endif

#define THREADS 256u
#define WARPS 8u
#define ALL_LANES 0xFFFFFFFFu

__device__ inline f32 f32_of_bf16(u16 x) { return __uint_as_float(u32(x) << 16); }

/// What a rounded number leaves; of an infinity nothing, whose difference to itself is no number.
__device__ inline f32 rest_of(f32 x, f32 rounded) {
    return fabsf(rounded) < __uint_as_float(0x7F800000u) ? __fsub_rn(x, rounded) : 0.0f;
}

__device__ inline u32 least(u32 a, u32 b) { return a < b ? a : b; }
__device__ inline u32 most(u32 a, u32 b) { return a > b ? a : b; }
__device__ inline u32 ceil_div(u32 a, u32 b) { return (a + b - 1) / b; }

/// The header's count that a dimension grows by.
__device__ inline u32 count_of(const StepHeader* step, u32 symbol) {
    switch (symbol) {
    case SYM_ROWS: return step->rows;
    case SYM_SEQS: return step->seqs;
    case SYM_OUTS: return step->outs;
    case SYM_PAGES: return step->pages;
    case SYM_STRIDE: return step->stride;
    case SYM_RECENT: return step->recent;
    default: return 1;
    }
}

/// Which rows a block of a product has: grid y is the pass. A burst has no more rows than one pass.
#ifdef AIO_BURST
__device__ inline u32 pass_of_block() { return 0; }
#else
__device__ inline u32 pass_of_block() { return blockIdx.y; }
#endif

/// x (1 + tanh(u)) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), as x / (1 + e^(-2u)): 1 + tanh(u) cancels where x is negative.
__device__ inline f32 gelu(f32 x) { return __fdiv_rn(x, 1.0f + expf(-1.5957691216f * (x + 0.044715f * x * x * x))); }

/// Sum over a warp, the same bits in all lanes.
__device__ inline f32 warp_sum(f32 x) {
    for (u32 d = 16; d > 0; d /= 2) x += __shfl_xor_sync(ALL_LANES, x, d);
    return x;
}

__device__ inline f32 warp_max(f32 x) {
    for (u32 d = 16; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, d));
    return x;
}

/// Sum over a block, in one order whatever the grid. All threads get it; the block must call this together.
__device__ inline f32 block_sum(f32 x) {
    AIO_SHARED(f32, part, WARPS);
    x = warp_sum(x);
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = x;
    __syncthreads();
    f32 sum = 0;
    for (u32 w = 0; w < WARPS; w++) sum += part[w];
    return sum;
}

/// Whether this block is the last of `count` that come here; it then sees what the others wrote, and the ticket is zero again.
/// The block must call this together.
__device__ inline bool last_to_come(u32* ticket, u32 count) {
    AIO_SHARED(u32, last, 1);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last[0] = atomicAdd(ticket, 1u) + 1 == count;
        if (last[0]) *ticket = 0;
    }
    __syncthreads();
    bool is_last = last[0] != 0;
    if (is_last) __threadfence();
    return is_last;
}
