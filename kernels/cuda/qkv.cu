//! `qkv_T`: query, key and value projections, biases, head norms, rotation and page write; `rope_table` for its angles.
//!
//! Blocks take tiles of 16 outputs, so that all of a device works on few heads; products go to scratch memory, and the
//! block that finishes a head's last tile does the rest of that head. Models whose matrices differ in type take a launch
//! for each type (`parts`).
#include "wide.cuh"

/// A part of the projections: queries, keys or values.
struct QkvPart {
    const void* w;
    const f32* bias;
    u32 index;
    u32 first_head; // among all heads of queries, keys and values
    u32 tile;       // within the part
};

struct QkvWork {
    const QkvArgs& a;
    u32 items;
    u64 tile_bytes;

    __device__ static u32 heads_of(const QkvArgs& a, u32 part) {
        return a.parts >> part & 1 ? (part == 0 ? a.heads : a.kv_heads) : 0;
    }

    __device__ QkvPart part_of(u32 tile) const {
        u32 per_head = a.head_dim / 16, queries = heads_of(a, 0) * per_head, keys = heads_of(a, 1) * per_head;
        if (tile < queries) return {a.wq, a.bq, 0, 0, tile};
        if (tile < queries + keys) return {a.wk, a.bk, 1, a.heads, tile - queries};
        return {a.wv, a.bv, 2, a.heads + a.kv_heads, tile - queries - keys};
    }

    __device__ const u8* tile(u32 tile, u32) const {
        QkvPart part = part_of(tile);
        return static_cast<const u8*>(part.w) + part.tile * tile_bytes;
    }

    __device__ u32 raw_width() const { return (a.heads + 2 * a.kv_heads) * a.head_dim; }

    template <class S>
    __device__ void finish(const S& slices, u32 tile, u32 first_row, u32 rows) const {
        QkvPart part = part_of(tile);
        for (u32 i = threadIdx.x; i < 16 * rows; i += THREADS) {
            u32 output = part.tile * 16 + i % 16, column = i / 16;
            f32 sum = slices.total(0, i % 16, column);
            if (part.bias) sum = __fadd_rn(sum, part.bias[output]);
            a.raw[u64(first_row + column) * raw_width() + part.first_head * a.head_dim + output] = sum;
        }
    }

    /// After tiles that the block had in runs of TILES.
    template <u32 TILES>
    __device__ void end(u32 first_row, u32 rows) const {
        u32 per_head = a.head_dim / 16, all_heads = a.heads + 2 * a.kv_heads, own = blockIdx.x * TILES;
        for (u32 i = 0; own + i % TILES < items; i++) {
            u32 tile = own + i % TILES;
            if (i % TILES + 1 == TILES) own += gridDim.x * TILES;
            QkvPart part = part_of(tile);
            u32 head = part.first_head + part.tile / per_head;
            if (!last_to_come(a.tickets + pass_of_block() * all_heads + head, per_head)) continue;
            for (u32 row = threadIdx.x / 32; row < rows; row += WARPS) head_of_row(part, head, first_row + row);
        }
    }

    /// A head of a row, by one warp.
    __device__ void head_of_row(const QkvPart& part, u32 head, u32 row) const {
        const f32* x = a.raw + u64(row) * raw_width() + head * a.head_dim;
        u32 local = head - part.first_head;
        if (part.index == 2) return store_value(x, local, row);
        const f32* norm = part.index == 0 ? a.q_norm : a.k_norm;
        f32 factor = norm ? head_factor(x) : 1.0f;
        u32 half = a.rope_dims / 2, rest = a.head_dim - 2 * half;
        for (u32 p = threadIdx.x % 32; p < half; p += 32) {
            u32 j = a.rope_pairs ? p : 2 * p, k = a.rope_pairs ? p + half : 2 * p + 1;
            f32 u = normed(x, norm, factor, j), v = normed(x, norm, factor, k);
            float2 angle = *reinterpret_cast<const float2*>(a.rope + (u64(row) * half + p) * 2);
            store(part, local, row, j, __fsub_rn(__fmul_rn(u, angle.x), __fmul_rn(v, angle.y)));
            store(part, local, row, k, __fadd_rn(__fmul_rn(u, angle.y), __fmul_rn(v, angle.x)));
        }
        for (u32 i = threadIdx.x % 32; i < rest; i += 32) {
            store(part, local, row, 2 * half + i, normed(x, norm, factor, 2 * half + i));
        }
    }

    __device__ f32 head_factor(const f32* x) const {
        f32 sum = 0;
        for (u32 i = threadIdx.x % 32; i < a.head_dim; i += 32) {
            f32 v = load_shared_by_blocks(x + i);
            sum = fmaf(v, v, sum);
        }
        return __fdiv_rn(1.0f, sqrtf(__fdiv_rn(warp_sum(sum), f32(a.head_dim)) + a.qk_eps));
    }

    __device__ static f32 normed(const f32* x, const f32* norm, f32 factor, u32 i) {
        f32 v = load_shared_by_blocks(x + i);
        return norm ? __fmul_rn(__fmul_rn(v, factor), norm[i]) : v;
    }

    __device__ u16* page(u32 row) const {
        u32 position = a.positions[row];
        return a.kv + u64(a.table[u64(a.row_seq[row]) * a.step->stride + position / 64]) * a.page_stride;
    }

    __device__ void store(const QkvPart& part, u32 head, u32 row, u32 i, f32 v) const {
        if (part.index == 0) a.q[(u64(row) * a.heads + head) * a.head_dim + i] = v;
        else page(row)[(head * 64 + a.positions[row] % 64) * a.head_dim + i] = f16_of(v);
    }

    /// Values lie transposed, behind the keys.
    __device__ void store_value(const f32* x, u32 head, u32 row) const {
        u16* values = page(row) + (a.kv_heads + head) * 64 * a.head_dim + a.positions[row] % 64;
        for (u32 i = threadIdx.x % 32; i < a.head_dim; i += 32) values[i * 64] = f16_of(load_shared_by_blocks(x + i));
    }
};

template <class F>
__device__ inline void qkv(const QkvArgs& a, const PrepareArgs* prepare) {
    u32 heads = QkvWork::heads_of(a, 0) + QkvWork::heads_of(a, 1) + QkvWork::heads_of(a, 2);
    QkvWork work = {a, heads * (a.head_dim / 16), u64(ceil_div(a.k, F::COLS)) * F::BYTES};
    if (prepare) products_of_few<F, 1, 1>(work, *prepare);
    else products<F, 1, 1>(work, a.step, a.acts, a.k, SYM_ROWS);
}

template <class F>
__device__ inline void wide_qkv(const QkvArgs& a) {
    u32 heads = QkvWork::heads_of(a, 0) + QkvWork::heads_of(a, 1) + QkvWork::heads_of(a, 2);
    QkvWork work = {a, heads * (a.head_dim / 16), u64(ceil_div(a.k, F::COLS)) * F::BYTES};
    wide_products<F, 1>(work, a.step, a.acts, a.k, SYM_ROWS);
}

#define QKV(T, F)                                                                                                 \
    AIO_KERNEL(qkv_##T, QkvArgs) { qkv<F>(a, nullptr); }                                                            \
    AIO_KERNEL(norm_qkv_##T, NormQkvArgs) { qkv<F>(a.product, &a.prepare); }
FOR_EACH_FORMAT(QKV)

#define WIDE_QKV(T, F) AIO_KERNEL(wide_qkv_##T, QkvArgs) { wide_qkv<F>(a); }
FOR_EACH_WIDE_FORMAT(WIDE_QKV)

AIO_KERNEL(rope_table, RopeTableArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    AIO_FOR_ROWS(row, a.step->rows) {
        for (u32 i = threadIdx.x; i < a.half; i += THREADS) {
            f32 angle = __fmul_rn(f32(a.positions[row]), a.frequencies[i]);
            f32* out = a.table + (u64(row) * a.half + i) * 2;
            out[0] = __fmul_rn(cosf(angle), a.magnitude);
            out[1] = __fmul_rn(sinf(angle), a.magnitude);
        }
    }
}
