//! One split of one key-value head: scores, weights and sums of up to 24 columns over 256 positions.
//!
//! Warp w has positions 32 w to 32 w + 31 for the scores; for the sums it has 16 elements of the values, and where heads are
//! small a part of the positions. Called by `attend.cu` with whole blocks.
#pragma once
#include "acts.cuh"

#define SPLIT_POSITIONS 256u
#define PAGE_POSITIONS 64u
#define COLUMNS 24u
/// Floats from a column's scores to the next's: its weights, as halves, are then read without bank conflicts.
#define SCORE_PITCH 272u
#define MINUS_INFINITY __uint_as_float(0xFF800000u)

/// Joins maximum, weight and a sum of later positions to those of earlier ones.
__device__ inline void fold(f32& m, f32& l, f32& o, f32 later_m, f32 later_l, f32 later_o) {
    if (later_m == MINUS_INFINITY) return;
    f32 top = fmaxf(m, later_m), keep = expf(m - top), add = expf(later_m - top);
    l = fmaf(l, keep, __fmul_rn(later_l, add));
    o = fmaf(o, keep, __fmul_rn(later_o, add));
    m = top;
}

/// How the positions of a split are shared among warps for the sums: in so many parts.
__device__ inline u32 value_parts(u32 head_dim) {
    u32 tiles = head_dim / 16;
    return tiles < WARPS && WARPS % tiles == 0 ? WARPS / tiles : 1;
}

/// Shared memory of a block.
struct AttendSpace {
    u8* queries;  // fragments: [3][head_dim / 16][32 lanes][16 bytes]
    f32* scores;  // [24][272]; then weights: 256 high halves, 256 low halves a column
    f32* results; // [parts][24][head_dim]
    f32* run_o;   // [24][head_dim]: of all splits so far
    f32 *m, *l, *run_m, *run_l, *query_scale; // [24]

    __device__ AttendSpace(const AttendArgs& a, f32* start) {
        u32 head = COLUMNS * a.head_dim;
        queries = reinterpret_cast<u8*>(start);
        scores = start + head;
        results = scores + COLUMNS * SCORE_PITCH;
        run_o = results + value_parts(a.head_dim) * head;
        m = run_o + head;
        l = m + COLUMNS;
        run_m = l + COLUMNS;
        run_l = run_m + COLUMNS;
        query_scale = run_l + COLUMNS;
    }

    /// An element of a column's sum over the split.
    __device__ f32 result(const AttendArgs& a, u32 column, u32 d) const {
        f32 sum = 0;
        for (u32 p = 0; p < value_parts(a.head_dim); p++) sum += results[(p * COLUMNS + column) * a.head_dim + d];
        return sum;
    }
};

/// Rows of a sequence and a key-value head.
struct AttendItem {
    AttendBlock block;
    u32 kv_head, group, columns, tiles;

    __device__ AttendItem(const AttendArgs& a, const AttendBlock& b, u32 kv_head) : block(b), kv_head(kv_head) {
        group = a.heads / a.kv_heads;
        columns = block.rows * group;
        tiles = ceil_div(columns, TILE_ROWS);
    }
    __device__ u32 row(u32 column) const { return block.first_row + column / group; }
    __device__ u32 head(u32 column) const { return kv_head * group + column % group; }
};

/// Queries as fragments of two halves, each column divided by the power of two of its largest element.
__device__ inline void load_queries(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    u32 lane = threadIdx.x % 32, blocks = a.head_dim / 16;
    __syncthreads();
    for (u32 column = threadIdx.x / 32; column < item.columns; column += WARPS) {
        const f32* q = a.q + (u64(item.row(column)) * a.heads + item.head(column)) * a.head_dim;
        f32 largest = 0;
        for (u32 i = lane; i < a.head_dim; i += 32) largest = fmaxf(largest, fabsf(q[i]));
        f32 scale = power_of_two(warp_max(largest));
        if (lane == 0) s.query_scale[column] = scale;
        for (u32 i = lane; i < a.head_dim; i += 32) {
            // Lane (g, e / 4) of block i / 16 holds four neighbours: two words of high halves, two of low ones.
            u32 e = i % 16, to = column % 8 * 4 + e / 4;
            u8* at = s.queries + ((column / 8 * blocks + i / 16) * 32 + to) * 16 + e % 4 * 2;
            f32 x = __fdiv_rn(q[i], scale);
            u16 high = f16_of(x);
            *reinterpret_cast<u16*>(at) = high;
            *reinterpret_cast<u16*>(at + 8) = f16_of(rest_of(x, f32_of_f16(high)));
        }
    }
    __syncthreads();
}

/// The page of a position of the item's sequence.
__device__ inline const u16* page_of(const AttendArgs& a, const AttendItem& item, u32 position) {
    u32 page = a.table[u64(item.block.seq) * a.step->pages + position / PAGE_POSITIONS];
    return a.kv + u64(page) * a.page_stride;
}

/// Scores of 16 positions of a warp for all columns.
__device__ inline void score_tile(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 first, u32 split_start) {
    u32 lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, blocks = a.head_dim / 16, last = item.block.last_position;
    f32 sums[ROW_TILES][4] = {};
    if (first <= last) {
        const u16* keys = page_of(a, item, first) + (item.kv_head * PAGE_POSITIONS + first % PAGE_POSITIONS) * a.head_dim;
        for (u32 b = 0; b < blocks; b++) {
            uint2 low = {0, 0}, high = {0, 0};
            if (first + g <= last) low = *reinterpret_cast<const uint2*>(keys + g * a.head_dim + 16 * b + 4 * q);
            if (first + g + 8 <= last) high = *reinterpret_cast<const uint2*>(keys + (g + 8) * a.head_dim + 16 * b + 4 * q);
            const u32 k[4] = {low.x, high.x, low.y, high.y};
            AIO_UNROLL
            for (u32 t = 0; t < ROW_TILES; t++) {
                if (t >= item.tiles) break;
                uint4 x = words4_at(s.queries + ((t * blocks + b) * 32 + lane) * 16);
                mma_f16(sums[t], k, x.x, x.y);
                mma_f16(sums[t], k, x.z, x.w);
            }
        }
    }
    AIO_UNROLL
    for (u32 t = 0; t < ROW_TILES; t++) {
        for (u32 i = 0; i < 4; i++) {
            u32 column = 8 * t + 2 * q + i % 2, position = first + g + i / 2 * 8;
            if (column >= item.columns) continue;
            u32 own = a.positions[item.row(column)];
            f32 score = __fmul_rn(__fmul_rn(sums[t][i], s.query_scale[column]), a.scale);
            if (a.soft_cap > 0.0f) score = __fmul_rn(a.soft_cap, tanhf(__fdiv_rn(score, a.soft_cap)));
            bool seen = position <= own && (a.window == 0 || own - position < a.window);
            s.scores[column * SCORE_PITCH + position - split_start] = seen ? score : MINUS_INFINITY;
        }
    }
}

/// A column's scores become weights in two halves; its maximum and the sum of its weights. One warp.
__device__ inline void weigh_column(const AttendSpace& s, u32 column) {
    u32 lane = threadIdx.x % 32;
    f32* scores = s.scores + column * SCORE_PITCH;
    f32 x[8], top = MINUS_INFINITY, sum = 0;
    AIO_UNROLL
    for (u32 i = 0; i < 8; i++) {
        x[i] = scores[lane + 32 * i];
        top = fmaxf(top, x[i]);
    }
    top = warp_max(top);
    u16* halves = reinterpret_cast<u16*>(scores);
    __syncwarp();
    AIO_UNROLL
    for (u32 i = 0; i < 8; i++) {
        f32 w = x[i] == MINUS_INFINITY ? 0.0f : expf(x[i] - top);
        u16 high = f16_of(w);
        halves[lane + 32 * i] = high;
        halves[SPLIT_POSITIONS + lane + 32 * i] = f16_of(__fsub_rn(w, f32_of_f16(high)));
        sum += w;
    }
    sum = warp_sum(sum);
    if (lane == 0) s.m[column] = top, s.l[column] = sum;
}

/// Eight neighbouring positions of an element of the values; positions after `last` are zeros, whatever lies there.
__device__ inline uint4 load_values(const u16* at, u32 position, u32 last) {
    if (position > last) return uint4{0, 0, 0, 0};
    uint4 v = *reinterpret_cast<const uint4*>(at);
    if (position + 7 <= last) return v;
    u32 count = last + 1 - position; // 1..8
    u32 words[4] = {v.x, v.y, v.z, v.w};
    AIO_UNROLL
    for (u32 j = 0; j < 4; j++) {
        if (2 * j >= count) words[j] = 0;
        else if (2 * j + 1 >= count) words[j] &= 0xFFFFu;
    }
    return uint4{words[0], words[1], words[2], words[3]};
}

/// Sums of 16 elements of the values over the positions of runs `from..to` of 32, for all columns.
__device__ inline void sum_tile(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 start, u32 tile, u32 part, u32 runs) {
    u32 lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, last = item.block.last_position;
    f32 sums[ROW_TILES][4] = {};
    for (u32 run = part * runs; run < (part + 1) * runs; run++) {
        u32 first = start + 32 * run, position = first + 8 * q;
        if (first > last) break;
        u32 element = (a.kv_heads + item.kv_head) * a.head_dim + 16 * tile + g;
        const u16* values = page_of(a, item, first) + element * PAGE_POSITIONS + position % PAGE_POSITIONS;
        uint4 low = load_values(values, position, last), high = load_values(values + 8 * PAGE_POSITIONS, position, last);
        const u32 v0[4] = {low.x, high.x, low.y, high.y}, v1[4] = {low.z, high.z, low.w, high.w};
        AIO_UNROLL
        for (u32 t = 0; t < ROW_TILES; t++) {
            if (t >= item.tiles) break;
            const u8* column = reinterpret_cast<const u8*>(s.scores + (8 * t + g) * SCORE_PITCH) + (32 * run + 8 * q) * 2;
            uint4 w = words4_at(column), rest = words4_at(column + 2 * SPLIT_POSITIONS);
            mma_f16(sums[t], v0, w.x, w.y);
            mma_f16(sums[t], v0, rest.x, rest.y);
            mma_f16(sums[t], v1, w.z, w.w);
            mma_f16(sums[t], v1, rest.z, rest.w);
        }
    }
    AIO_UNROLL
    for (u32 t = 0; t < ROW_TILES; t++) {
        for (u32 i = 0; i < 4; i++) {
            u32 column = 8 * t + 2 * q + i % 2, d = 16 * tile + g + i / 2 * 8;
            if (column < item.columns) s.results[(part * COLUMNS + column) * a.head_dim + d] = sums[t][i];
        }
    }
}

/// Maximum, weight and sums of all columns over a split, left in shared memory.
__device__ inline void attend_split(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 split) {
    u32 warp = threadIdx.x / 32, start = split * SPLIT_POSITIONS;
    score_tile(a, s, item, start + 32 * warp, start);
    score_tile(a, s, item, start + 32 * warp + 16, start);
    __syncthreads();
    for (u32 column = warp; column < item.columns; column += WARPS) weigh_column(s, column);
    __syncthreads();
    u32 tiles = a.head_dim / 16, parts = value_parts(a.head_dim);
    if (parts > 1) sum_tile(a, s, item, start, warp % tiles, warp / tiles, 8 / parts);
    else for (u32 tile = warp; tile < tiles; tile += WARPS) sum_tile(a, s, item, start, tile, 0, 8);
    __syncthreads();
}
