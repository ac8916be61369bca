//! Tensors of the op kernels: sizes in this step, elements of any type.
//!
//! The op kernels serve the few nodes that no fused task holds, and plans that are run node by node, so they are written to be
//! general and short, not fast.
#pragma once
#include "ptx.cuh"

/// The larger and the smaller of two numbers; a NaN stays, which `fmaxf` and `fminf` pass over.
__device__ inline f32 larger(f32 a, f32 b) { return a > b || a != a ? a : b; }
__device__ inline f32 smaller(f32 a, f32 b) { return a < b || a != a ? a : b; }

/// A dimension in this step.
__device__ inline u32 size_in(const Dim& d, const StepHeader* step) { return d.value * count_of(step, d.symbol); }

/// A tensor with its sizes in this step.
struct Sized {
    const Tensor& t;
    u32 dims[MAX_RANK];
    u64 len;

    __device__ Sized(const Tensor& t, const StepHeader* step) : t(t), len(1) {
        for (u32 i = 0; i < t.rank; i++) {
            dims[i] = size_in(t.dims[i], step);
            len *= dims[i];
        }
    }
    __device__ u32 last() const { return t.rank ? dims[t.rank - 1] : 1; }

    /// Where this tensor's element for element `index` of a broadcast result lies.
    __device__ u64 broadcast(const Sized& to, u64 index) const {
        u64 at = 0, stride = 1;
        for (u32 i = 0; i < t.rank; i++) {
            u32 own = dims[t.rank - 1 - i], other = to.dims[to.t.rank - 1 - i];
            if (own != 1) at += index % other * stride;
            index /= other;
            stride *= own;
        }
        return at;
    }
};

__device__ inline bool is_float(u32 element) { return element <= EL_BF16; }

__device__ inline u32 element_bytes(u32 element) {
    return element == EL_F32 || element == EL_I32 || element == EL_U32 ? 4 : element == EL_F16 || element == EL_BF16 ? 2 : 1;
}

__device__ inline f32 load_float(const Tensor& t, u64 i) {
    switch (t.element) {
    case EL_F32: return static_cast<const f32*>(t.data)[i];
    case EL_F16: return f32_of_f16(static_cast<const u16*>(t.data)[i]);
    default: return f32_of_bf16(static_cast<const u16*>(t.data)[i]);
    }
}

__device__ inline i64 load_int(const Tensor& t, u64 i) {
    switch (t.element) {
    case EL_I32: return static_cast<const i32*>(t.data)[i];
    case EL_U32: return static_cast<const u32*>(t.data)[i];
    case EL_I8: return static_cast<const i8*>(t.data)[i];
    default: return static_cast<const u8*>(t.data)[i];
    }
}

__device__ inline void store_float(const Tensor& t, u64 i, f32 v) {
    switch (t.element) {
    case EL_F32: static_cast<f32*>(t.data)[i] = v; break;
    case EL_F16: static_cast<u16*>(t.data)[i] = f16_of(v); break;
    default: static_cast<u16*>(t.data)[i] = bf16_of(v);
    }
}

/// Wraps to the type.
__device__ inline void store_int(const Tensor& t, u64 i, i64 v) {
    switch (t.element) {
    case EL_I32: static_cast<i32*>(t.data)[i] = i32(v); break;
    case EL_U32: static_cast<u32*>(t.data)[i] = u32(v); break;
    case EL_BOOL: static_cast<u8*>(t.data)[i] = u8(v & 1); break;
    default: static_cast<u8*>(t.data)[i] = u8(v);
    }
}

/// Truncates and saturates; NaN gives 0.
__device__ inline i64 saturated(u32 element, f32 v) {
    if (v != v) return 0;
    i64 low = element == EL_I32 ? -2147483648ll : element == EL_I8 ? -128 : 0;
    i64 high = element == EL_I32 ? 2147483647ll : element == EL_U32 ? 4294967295ll : element == EL_I8 ? 127 : 255;
    if (element == EL_BOOL) return v != 0.0f;
    return v <= f32(low) ? low : v >= f32(high) ? high : i64(v);
}

__device__ inline i64 saturated(u32 element, i64 v) {
    i64 low = element == EL_I32 ? -2147483648ll : element == EL_I8 ? -128 : 0;
    i64 high = element == EL_I32 ? 2147483647ll : element == EL_U32 ? 4294967295ll : element == EL_I8 ? 127 : 255;
    return element == EL_BOOL ? v != 0 : v < low ? low : v > high ? high : v;
}

/// A number as an element of any type.
template <class T>
__device__ inline void store_converted(const Tensor& out, u64 i, T v) {
    if (is_float(out.element)) store_float(out, i, f32(v));
    else store_int(out, i, saturated(out.element, v));
}

__device__ inline void copy_element(const Tensor& out, u64 to, const Tensor& from, u64 i) {
    u32 bytes = element_bytes(out.element);
    if (bytes == 4) static_cast<u32*>(out.data)[to] = static_cast<const u32*>(from.data)[i];
    else if (bytes == 2) static_cast<u16*>(out.data)[to] = static_cast<const u16*>(from.data)[i];
    else static_cast<u8*>(out.data)[to] = static_cast<const u8*>(from.data)[i];
}
