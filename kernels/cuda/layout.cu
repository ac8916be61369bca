//! `op_copy`, `op_scatter`: ops that move elements and compute nothing.
#include "tensor.cuh"

AIO_KERNEL(op_copy, CopyArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized out(a.out, a.step), x(a.x, a.step);
    u32 rank = a.out.rank;
    u64 len = a.box_of_x ? x.len : out.len;
    for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < len; i += u64(gridDim.x) * THREADS) {
        u64 left = i, to = 0, from = 0, stride = 1;
        for (u32 d = rank; d-- > 0;) {
            u32 axis = a.perm[d], size = a.box_of_x ? x.dims[axis] : out.dims[d];
            u32 at = u32(left % size);
            left /= size;
            to += (at + size_in(a.to[d], a.step)) * stride;
            stride *= out.dims[d];
            u64 inner = 1;
            for (u32 e = axis + 1; e < rank; e++) inner *= x.dims[e];
            from += (at + size_in(a.from[d], a.step)) * inner;
        }
        copy_element(a.out, to, a.x, from);
    }
}

AIO_KERNEL(op_scatter, ScatterArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    Sized out(a.out, a.step), index(a.index, a.step);
    u64 slice = out.dims[0] ? out.len / out.dims[0] : 1;
    for (u64 i = u64(blockIdx.x) * THREADS + threadIdx.x; i < out.len; i += u64(gridDim.x) * THREADS) {
        i64 found = -1;
        for (u64 j = 0; j < index.len; j++) {
            if (load_int(a.index, j) == i64(i / slice)) found = i64(j);
        }
        if (found < 0) copy_element(a.out, i, a.x, i);
        else copy_element(a.out, i, a.updates, u64(found) * slice + i % slice);
    }
}
