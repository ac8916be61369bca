//! `attend`: attention over pages, and `attend_plan`, which cuts a step's rows into blocks that read pages together.
//!
//! An item is a block of rows of one sequence, a key-value head and a split of 256 positions. The columns of its products
//! are the rows times the query heads of the group, up to 24. Scores are keys times queries, results values times weights,
//! both on tensor cores with queries and weights in two halves, so that they count as f32. Every sum of a row is taken over
//! the positions of a split in one order, and splits are folded in order (`fold`), whoever does it.
#include "attend_split.cuh"

/// Columns of a block, written where the next product reads them. `o` holds sums, `m` and `l` maximum and weight.
__device__ inline void finish_columns(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    for (u32 i = threadIdx.x; i < item.columns * a.head_dim; i += THREADS) {
        u32 column = i / a.head_dim;
        f32 m = s.run_m[column], l = s.run_l[column], o = s.run_o[i];
        if (a.sinks) {
            f32 sink = a.sinks[item.head(column)], top = fmaxf(m, sink), keep = expf(m - top);
            l = fmaf(l, keep, expf(sink - top));
            o = __fmul_rn(o, keep);
        }
        o = __fdiv_rn(o, l);
        if (a.out) a.out[(u64(item.row(column)) * a.heads + item.head(column)) * a.head_dim + i % a.head_dim] = o;
        s.run_o[i] = o;
    }
    __syncthreads();
    if (!a.acts_out) return;
    u32 per_head = a.head_dim / 32, width = a.heads * a.head_dim;
    ActsOut acts = acts_out(a.acts_out, width);
    for (u32 i = threadIdx.x / 32; i < item.columns * per_head; i += WARPS) {
        u32 column = i / per_head, block = i % per_head, head = item.head(column);
        f32 o = s.run_o[column * a.head_dim + block * 32 + threadIdx.x % 32];
        store_block(acts, a.acts_kind, item.row(column), head * per_head + block, o);
        bool last = head + 1 == a.heads && block + 1 == per_head;
        if (last && width % 64) store_block(acts, a.acts_kind, item.row(column), width / 32, 0.0f);
    }
    __syncthreads();
}

/// Nothing seen yet.
__device__ inline void begin_columns(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    for (u32 i = threadIdx.x; i < item.columns * a.head_dim; i += THREADS) s.run_o[i] = 0.0f;
    for (u32 i = threadIdx.x; i < item.columns; i += THREADS) s.run_m[i] = MINUS_INFINITY, s.run_l[i] = 0.0f;
    __syncthreads();
}

/// Folds the split just computed into what was seen before it.
__device__ inline void fold_split(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    for (u32 i = threadIdx.x; i < item.columns * a.head_dim; i += THREADS) {
        u32 column = i / a.head_dim;
        f32 m = s.run_m[column], l = s.run_l[column];
        fold(m, l, s.run_o[i], s.m[column], s.l[column], s.result(a, column, i % a.head_dim));
    }
    __syncthreads();
    for (u32 i = threadIdx.x; i < item.columns; i += THREADS) {
        f32 none = 0.0f;
        fold(s.run_m[i], s.run_l[i], none, s.m[i], s.l[i], 0.0f);
    }
    __syncthreads();
}

__device__ inline f32* partial(const AttendArgs& a, const AttendItem& item, u32 column, u32 split) {
    u64 index = (u64(item.row(column)) * a.heads + item.head(column)) * a.max_splits + split;
    return a.partials + index * (a.head_dim + 2);
}

/// Keeps the split just computed for the block that comes last.
__device__ inline void store_partials(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 split) {
    for (u32 i = threadIdx.x; i < item.columns * a.head_dim; i += THREADS) {
        u32 column = i / a.head_dim, d = i % a.head_dim;
        f32* at = partial(a, item, column, split);
        if (d == 0) at[0] = s.m[column], at[1] = s.l[column];
        at[2 + d] = s.result(a, column, d);
    }
}

/// Splits of a column that a thread has in hand at once.
#define JOINED 4u

/// Maximum, weight and an element's sum of some splits in a row; absent ones have seen nothing.
struct PartsInHand {
    f32 m[JOINED], l[JOINED], o[JOINED];

    __device__ void load(const f32* first, u64 pitch, u32 d, u32 count) {
        AIO_UNROLL
        for (u32 i = 0; i < JOINED; i++) {
            m[i] = MINUS_INFINITY, l[i] = o[i] = 0.0f;
            if (i >= count) continue;
            const f32* at = first + i * pitch;
            m[i] = load_shared_by_blocks(at);
            l[i] = load_shared_by_blocks(at + 1);
            o[i] = load_shared_by_blocks(at + 2 + d);
        }
    }
};

/// Folds all splits of the columns, as `fold_split` does one by one.
__device__ inline void join_partials(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    u32 splits = item.block.splits;
    for (u32 i = threadIdx.x; i < item.columns * a.head_dim; i += THREADS) {
        u32 column = i / a.head_dim, d = i % a.head_dim;
        const f32* first = partial(a, item, column, item.block.first_split);
        f32 m = MINUS_INFINITY, l = 0.0f, o = 0.0f;
        for (u32 from = 0; from < splits; from += JOINED) {
            PartsInHand hand;
            hand.load(first + from * (a.head_dim + 2), a.head_dim + 2, d, splits - from);
            AIO_UNROLL
            for (u32 j = 0; j < JOINED; j++) fold(m, l, o, hand.m[j], hand.l[j], hand.o[j]);
        }
        s.run_o[i] = o;
        if (d == 0) s.run_m[column] = m, s.run_l[column] = l;
    }
    __syncthreads();
}

/// The block that an item of split mode belongs to.
__device__ inline u32 block_of(const AttendBlock* blocks, u32 count, u32 index) {
    u32 low = 0;
    while (count - low > 1) {
        u32 middle = (low + count) / 2;
        if (blocks[middle].items_before <= index) low = middle;
        else count = middle;
    }
    return low;
}

/// Item `index` of a key-value head: a block of rows, and one of its splits or, where there is no split mode, all.
__device__ inline AttendItem item_of(const AttendArgs& a, u32 index, u32 kv_head) {
    const auto* blocks = reinterpret_cast<const AttendBlock*>(a.plan + 1);
    AttendBlock b = blocks[a.max_splits ? block_of(blocks, a.plan->blocks, index) : index];
    u32 group = a.heads / a.kv_heads, columns = b.rows * group;
    u32 first = a.max_splits ? b.first_split + index - b.items_before : b.first_split;
    return AttendItem{b, kv_head, group, columns, ceil_div(columns, TILE_ROWS), first, a.max_splits ? 1 : b.splits};
}

/// Folds splits as they come where it has all of the rows; else the last of the rows' splits joins them.
__device__ inline void attend_item(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    ask_for_split(a, item, item.first_split);
    load_queries(a, s, item);
    bool all = item.splits == item.block.splits;
    if (all) begin_columns(a, s, item);
    for (u32 n = 0; n < item.splits; n++) {
        if (n + 1 < item.splits) ask_for_split(a, item, item.first_split + n + 1);
        attend_split(a, s, item, item.first_split + n);
        if (all) fold_split(a, s, item);
    }
    if (!all) {
        store_partials(a, s, item, item.first_split);
        if (!last_to_come(a.tickets + u64(item.block.first_row) * a.heads + item.kv_head, item.block.splits)) return;
        join_partials(a, s, item);
    }
    finish_columns(a, s, item);
}

AIO_KERNEL(attend, AttendArgs) {
    AIO_DYNAMIC_SHARED(shared);
    AttendSpace space(a, reinterpret_cast<f32*>(shared));
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    AIO_SHARED(AttendItem, item, 1);
    u32 items = a.max_splits ? a.plan->items : a.plan->blocks;
    for (u32 i = blockIdx.x; i < items * a.kv_heads; i += gridDim.x) {
        __syncthreads();
        if (threadIdx.x == 0) item[0] = item_of(a, i / a.kv_heads, i % a.kv_heads);
        __syncthreads();
        attend_item(a, space, item[0]);
    }
}

/// Adds a row to a block; the first one opens it.
__device__ inline void add_row(const AttendPlanArgs& a, AttendBlock& b, u32 row, u32 seq, u32 position) {
    u32 first = a.window && position + 1 > a.window ? (position + 1 - a.window) / 256 : 0, end = position / 256 + 1;
    if (b.rows == 0) {
        u32 items = b.items_before + b.splits;
        b = AttendBlock{row, 1, seq, first, end - first, position, items, 0};
        return;
    }
    u32 old_end = b.first_split + b.splits;
    b.first_split = least(b.first_split, first);
    b.splits = most(old_end, end) - b.first_split;
    b.last_position = most(b.last_position, position);
    b.rows += 1;
}

AIO_KERNEL(attend_plan, AttendPlanArgs) {
    AIO_SHARED(u32, seqs, THREADS);
    AIO_SHARED(u32, positions, THREADS);
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    if (blockIdx.x != 0) return;
    auto* blocks = reinterpret_cast<AttendBlock*>(a.plan + 1);
    AttendBlock block = {0, 0, 0, 0, 0, 0, 0, 0};
    u32 done = 0, rows = a.step->rows;
    for (u32 from = 0; from < rows; from += THREADS) {
        u32 here = least(rows - from, THREADS);
        __syncthreads();
        if (threadIdx.x < here) {
            seqs[threadIdx.x] = a.row_seq[from + threadIdx.x];
            positions[threadIdx.x] = a.positions[from + threadIdx.x];
        }
        __syncthreads();
        for (u32 i = 0; threadIdx.x == 0 && i < here; i++) {
            if (block.rows > 0 && (block.rows == a.block_rows || block.seq != seqs[i])) {
                blocks[done++] = block;
                block.rows = 0;
            }
            add_row(a, block, from + i, seqs[i], positions[i]);
        }
    }
    if (threadIdx.x != 0) return;
    if (block.rows > 0) blocks[done++] = block;
    a.plan->blocks = done;
    a.plan->items = block.items_before + block.splits;
}
