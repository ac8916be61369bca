//! `prepare_q8`, `prepare_bf16`, `prepare_f16`: the norm of a row, then its form for products. One block a row.
#include "acts.cuh"

template <u32 KIND>
__device__ inline void prepare(const PrepareArgs& a) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 rows = count_of(a.step, a.symbol);
    AIO_FOR_ROWS(row, rows) prepare_row<KIND>(a, acts_out(a.acts, a.k), row, row);
}

AIO_KERNEL(prepare_q8, PrepareArgs) { prepare<ACT_Q8>(a); }
AIO_KERNEL(prepare_bf16, PrepareArgs) { prepare<ACT_BF16>(a); }
AIO_KERNEL(prepare_f16, PrepareArgs) { prepare<ACT_F16>(a); }
