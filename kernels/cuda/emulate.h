//! The device's language for a plain C++17 compiler: blocks of threads as fibers, warps that meet, shared memory, halves.
//!
//! Kernels of this folder compile against this instead of CUDA, so that they run and can be tested where there is no GPU.
//! A fiber runs until it meets others (barrier, shuffle, mma); the order in which fibers run in between is a choice of the
//! launch, so a missing barrier shows as another result. Shared memory begins as garbage, and a copy that was begun lands
//! only when it is waited for. `emulate.cpp` has the scheduler and what a host calls.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstring>

#define __device__
#define __host__
#define __forceinline__ inline
#define AIO_UNROLL
#define AIO_APART static
#define AIO_DYNAMIC_SHARED(name) u8* name = emulate::dynamic_shared()
#define AIO_SHARED(type, name, len) alignas(16) static thread_local type name[len]
#define AIO_WHOLE_KERNEL(name, Args) AIO_KERNEL(name, Args)
#define AIO_KERNEL(name, Args)                                                                                         \
    static void name(const Args& a);                                                                                   \
    static const emulate::Entry entry_##name(                                                                          \
        #name, sizeof(Args), [](const void* args) { name(*static_cast<const Args*>(args)); });                         \
    static void name(const Args& a)

struct uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(8) float2 {
    f32 x, y;
};
struct alignas(16) float4 {
    f32 x, y, z, w;
};
struct Index3 {
    u32 x, y, z;
};

namespace emulate {

/// A fiber, and where it stands.
struct Thread {
    Index3 thread;
    u32 lane;
};

/// What the running fiber sees.
struct View {
    Thread* thread;
    Index3 block, grid, block_size;
    u8* dynamic_shared;
    bool burst; // all blocks of the launch run at once, and the kernel runs others as its tasks
};
static thread_local View view;

inline u8* dynamic_shared() { return view.dynamic_shared; }

/// A kernel in the table of names.
struct Entry {
    const char* name;
    size_t args_bytes;
    void (*run)(const void* args);
    const Entry* next;
    Entry(const char* name, size_t args_bytes, void (*run)(const void*));
};

/// What a warp's lanes bring to a meeting, by lane.
struct Meeting {
    void* brought[32];
};

/// Waits until all lanes of the warp are at a meeting of this kind; then `act` runs once.
void meet_warp(const char* kind, void* brings, void (*act)(Meeting&));
void meet_block();

/// One turn of waiting for another block of a burst.
void wait_for_other_blocks();
/// Ends the launch with an error.
void give_up(const char* error);
/// Runs kernel `index` of the table as a function.
void run_task(u32 index, const void* args);

void copy_begin(void* to, const void* from, u32 bytes);
void copies_close();
void copies_wait(u32 groups);

void mma_i8(i32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1, u32 k);
void mma_f16(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1);
void mma_bf16(f32 (&c)[4], const u32 (&a)[4], u32 b0, u32 b1);

/// A value that lanes exchange, and from which lane each takes.
template <class T>
struct Exchange {
    T value, taken;
    u32 from;
};

template <class T>
T exchange(T value, u32 from) {
    Exchange<T> mine{value, value, from};
    meet_warp("shuffle", &mine, [](Meeting& m) {
        for (void* lane : m.brought) {
            auto* e = static_cast<Exchange<T>*>(lane);
            e->taken = static_cast<Exchange<T>*>(m.brought[e->from % 32])->value;
        }
    });
    return mine.taken;
}

} // namespace emulate

#define threadIdx (emulate::view.thread->thread)
#define blockIdx (emulate::view.block)
#define gridDim (emulate::view.grid)
#define blockDim (emulate::view.block_size)

inline void __syncthreads() { emulate::meet_block(); }
inline void __syncwarp() {
    emulate::meet_warp("syncwarp", nullptr, [](emulate::Meeting&) {});
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

template <class T>
T __shfl_sync(u32, T value, u32 lane) {
    return emulate::exchange(value, lane);
}
template <class T>
T __shfl_xor_sync(u32, T value, u32 mask) {
    return emulate::exchange(value, emulate::view.thread->lane ^ mask);
}
/// Below the distance, a lane keeps its own value.
template <class T>
T __shfl_up_sync(u32, T value, u32 by) {
    u32 lane = emulate::view.thread->lane;
    return emulate::exchange(value, lane < by ? lane : lane - by);
}
inline u32 __ballot_sync(u32, bool vote) {
    u32 all = 0;
    for (u32 l = 0; l < 32; l++) all |= u32(emulate::exchange(u32(vote), l)) << l;
    return all;
}

inline u32 atomicAdd(u32* at, u32 v) { return __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST); }
inline u64 atomicAdd(u64* at, u64 v) { return __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST); }
template <class T>
T atomicMax(T* at, T v) {
    T seen = __atomic_load_n(at, __ATOMIC_SEQ_CST);
    while (seen < v && !__atomic_compare_exchange_n(at, &seen, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    return seen;
}

template <class To, class From>
To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline f32 __uint_as_float(u32 x) { return bits_as<f32>(x); }
inline f32 __int_as_float(i32 x) { return bits_as<f32>(x); }
inline u32 __float_as_uint(f32 x) { return bits_as<u32>(x); }
/// Compiled without contraction (-ffp-contract=off), so plain operators round one by one.
inline f32 __fadd_rn(f32 a, f32 b) { return a + b; }
inline f32 __fsub_rn(f32 a, f32 b) { return a - b; }
inline f32 __fmul_rn(f32 a, f32 b) { return a * b; }
inline f32 __fdiv_rn(f32 a, f32 b) { return a / b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline u32 __umulhi(u32 a, u32 b) { return u32(u64(a) * b >> 32); }
/// Truncates and saturates; NaN gives 0.
inline u32 __float2uint_rz(f32 x) { return !(x > 0) ? 0 : x >= 4294967296.0f ? 0xFFFFFFFFu : u32(x); }
inline i32 __float2int_rz(f32 x) {
    if (x != x) return 0;
    return x <= -2147483648.0f ? -2147483647 - 1 : x >= 2147483648.0f ? 2147483647 : i32(x);
}

inline f32 f32_of_f16(u16 h) {
    u32 sign = u32(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7F800000 | mantissa << 13);
    if (exponent == 0) return (sign ? -1.0f : 1.0f) * f32(mantissa) * 0x1p-24f;
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

/// Rounds to nearest, ties to even.
inline u16 f16_of(f32 x) {
    u32 bits = __float_as_uint(x), sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
    if (size > 0x7F800000) return u16(sign | 0x7E00);
    if (size >= 0x477FF000) return u16(sign | 0x7C00);
    // Below 2^-14 the last place is 2^-24: adding 0.5 leaves the rounded count of it in the low bits.
    if (size < 0x38800000) return u16(sign | (__float_as_uint(__uint_as_float(size) + 0.5f) - 0x3F000000));
    return u16(sign | (size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13);
}

inline u16 bf16_of(f32 x) {
    u32 bits = __float_as_uint(x);
    if ((bits & 0x7FFFFFFF) > 0x7F800000) return u16(bits >> 16 | 0x40);
    return u16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}
