//! One split of one key-value head: scores, weights and sums of up to 24 columns over 256 positions.
//!
//! Warp w has positions 32 w to 32 w + 31 for the scores; for the sums it has 16 elements of the values, and where heads are
//! small a part of the positions. Called by `attend.cu` with whole blocks.
#pragma once
#include "acts.cuh"

#define SPLIT_POSITIONS 256u
#define PAGE_POSITIONS 64u
/// Halves of a cache line.
#define LINE_HALVES 64u
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
    u32* own; // [24]: positions of the columns' rows

    __device__ AttendSpace(const AttendArgs& a, f32* start) {
        AIO_SHARED(u32, own_positions, COLUMNS);
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
        own = own_positions;
    }

    /// An element of a column's sum over the split.
    __device__ f32 result(const AttendArgs& a, u32 column, u32 d) const {
        f32 sum = 0;
        for (u32 p = 0; p < value_parts(a.head_dim); p++) sum += results[(p * COLUMNS + column) * a.head_dim + d];
        return sum;
    }
};

/// Rows of a sequence, a key-value head, and the splits that one block of the device does of them. It lies in shared memory,
/// for registers are scarce.
struct AttendItem {
    AttendBlock block;
    u32 kv_head, group, columns, tiles;
    u32 first_split, splits;

    __device__ u32 row(u32 column) const { return block.first_row + column / group; }
    __device__ u32 head(u32 column) const { return kv_head * group + column % group; }
};

/// The page of a position of the item's sequence.
__device__ inline const u16* page_of(const AttendArgs& a, const AttendItem& item, u32 position) {
    u32 page = a.table[u64(item.block.seq) * a.step->stride + position / PAGE_POSITIONS];
    return a.kv + u64(page) * a.page_stride;
}

/// Asks for all keys and values of a split at once: a thread for the keys of one position and for as many rows of values as a
/// page's 64 threads share. What follows then waits for memory once and not at each turn.
__device__ inline void ask_for_split(const AttendArgs& a, const AttendItem& item, u32 split) {
    u32 position = split * SPLIT_POSITIONS + threadIdx.x, place = threadIdx.x % PAGE_POSITIONS;
    if (position - place > item.block.last_position) return;
    const u16* keys = page_of(a, item, position) + item.kv_head * PAGE_POSITIONS * a.head_dim;
    const u16* values = keys + a.kv_heads * PAGE_POSITIONS * a.head_dim;
    for (u32 i = 0; position <= item.block.last_position && i < a.head_dim; i += LINE_HALVES) {
        prefetch_line(keys + place * a.head_dim + i);
    }
    for (u32 i = place; i < a.head_dim; i += PAGE_POSITIONS) prefetch_line(values + i * PAGE_POSITIONS);
}

/// Queries as fragments of two halves, each column divided by the power of two of its largest element.
__device__ inline void load_queries(const AttendArgs& a, const AttendSpace& s, const AttendItem& item) {
    u32 lane = threadIdx.x % 32, blocks = a.head_dim / 16;
    for (u32 column = threadIdx.x / 32; column < item.columns; column += WARPS) {
        const f32* q = a.q + (u64(item.row(column)) * a.heads + item.head(column)) * a.head_dim;
        u32 own = a.positions[item.row(column)];
        f32 largest = 0;
        for (u32 i = lane; i < a.head_dim; i += 32) largest = fmaxf(largest, fabsf(q[i]));
        f32 scale = power_of_two(warp_max(largest));
        if (lane == 0) s.query_scale[column] = scale, s.own[column] = own;
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

/// Blocks of 16 elements whose keys a lane has in hand at once.
#define KEY_BLOCKS 4u

/// A lane's keys of 32 positions, in rows g, g + 8, g + 16, g + 24 and up to 4 blocks; absent ones are zeros.
struct KeysInHand {
    uint2 k[4][KEY_BLOCKS];

    /// `rows` of them are there, of g, g + 8, .. in turn.
    __device__ void load(const u16* keys, u32 head_dim, u32 rows, u32 blocks) {
        AIO_UNROLL
        for (u32 b = 0; b < KEY_BLOCKS; b++) {
            AIO_UNROLL
            for (u32 r = 0; r < 4; r++) {
                k[r][b] = uint2{0, 0};
                if (r < rows && b < blocks) k[r][b] = *reinterpret_cast<const uint2*>(keys + 8 * r * head_dim + 16 * b);
            }
        }
    }
    /// Adds the products of half the positions with one fragment of queries.
    __device__ void multiply(f32 (&sum)[4], u32 half, u32 b, const uint4& x) const {
        const uint2 low = k[2 * half][b], high = k[2 * half + 1][b];
        const u32 words[4] = {low.x, high.x, low.y, high.y};
        mma_f16(sum, words, x.x, x.y);
        mma_f16(sum, words, x.z, x.w);
    }
};

/// Keys times queries: a warp's 32 positions, as two tiles of 16, for all columns. All keys that it takes in one go are on
/// their way before it multiplies the first.
__device__ inline void multiply_keys(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 first, f32 (&sums)[2][ROW_TILES][4]) {
    u32 lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, blocks = a.head_dim / 16, last = item.block.last_position;
    const u16* keys = page_of(a, item, first) + (item.kv_head * PAGE_POSITIONS + first % PAGE_POSITIONS + g) * a.head_dim + 4 * q;
    u32 rows = first + g > last ? 0 : (last - first - g) / 8 + 1;
    for (u32 from = 0; from < blocks; from += KEY_BLOCKS) {
        KeysInHand hand;
        hand.load(keys + 16 * from, a.head_dim, rows, blocks - from);
        AIO_UNROLL
        for (u32 b = 0; b < KEY_BLOCKS; b++) {
            if (from + b >= blocks) break;
            AIO_UNROLL
            for (u32 t = 0; t < ROW_TILES; t++) {
                if (t >= item.tiles) break;
                uint4 x = words4_at(s.queries + ((t * blocks + from + b) * 32 + lane) * 16);
                hand.multiply(sums[0][t], 0, b, x);
                hand.multiply(sums[1][t], 1, b, x);
            }
        }
    }
}

/// Scores of a warp's 32 positions for all columns.
__device__ inline void score_positions(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 split_start) {
    u32 lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, first = split_start + threadIdx.x / 32 * 32;
    f32 sums[2][ROW_TILES][4] = {};
    if (first <= item.block.last_position) multiply_keys(a, s, item, first, sums);
    AIO_UNROLL
    for (u32 t = 0; t < ROW_TILES; t++) {
        AIO_UNROLL
        for (u32 i = 0; i < 8; i++) {
            u32 column = 8 * t + 2 * q + i % 2, position = first + g + i / 2 * 8;
            if (column >= item.columns) continue;
            u32 own = s.own[column];
            f32 score = __fmul_rn(__fmul_rn(sums[i / 4][t][i % 4], s.query_scale[column]), a.scale);
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

/// Eight neighbouring positions of an element of the values, of which those after `last` become zeros, whatever lies there.
__device__ inline uint4 cut_values(const uint4& v, u32 position, u32 last) {
    if (position + 7 <= last || position > last) return v;
    u32 count = last + 1 - position; // 1..8
    u32 words[4] = {v.x, v.y, v.z, v.w};
    AIO_UNROLL
    for (u32 j = 0; j < 4; j++) {
        if (2 * j >= count) words[j] = 0;
        else if (2 * j + 1 >= count) words[j] &= 0xFFFFu;
    }
    return uint4{words[0], words[1], words[2], words[3]};
}

/// Of two halves the sign bits of those that are NaN or infinite.
__device__ inline u32 broken_halves(u32 two) { return ((two & 0x7C007C00u) + 0x04000400u) & 0x80008000u; }

/// The halves that are broken, all bits of each.
__device__ inline u32 broken_mask(u32 two) { return (broken_halves(two) >> 15) * 0xFFFFu; }

/// A warp's share of the sums: 16 elements of the values over some runs of 32 positions of a split.
struct ValueTile {
    u32 start; // of the split
    u32 tile, part, first_run, runs;
};

/// A lane's values of a run: elements g and g + 8, eight positions of each.
struct RunValues {
    uint4 low, high;
};

/// Begins to load a run's values; zeros where all of them lie after the last position.
__device__ inline RunValues load_run(const AttendArgs& a, const AttendItem& item, const ValueTile& v, u32 run) {
    u32 lane = threadIdx.x % 32, position = v.start + 32 * run + lane % 4 * 8;
    if (position > item.block.last_position) return RunValues{{0, 0, 0, 0}, {0, 0, 0, 0}};
    u32 element = (a.kv_heads + item.kv_head) * a.head_dim + 16 * v.tile + lane / 4;
    const u16* at = page_of(a, item, position) + element * PAGE_POSITIONS + position % PAGE_POSITIONS;
    return RunValues{*reinterpret_cast<const uint4*>(at), *reinterpret_cast<const uint4*>(at + 8 * PAGE_POSITIONS)};
}

/// Makes those sums NaN in which a broken value of the words has a weight: `column` has the weights of a tile's rows.
__device__ inline void mark_broken(const u32 (&words)[4], const u8* column, u32 tiles, f32 (&sums)[ROW_TILES][4]) {
    u32 marks[4];
    AIO_UNROLL
    for (u32 i = 0; i < 4; i++) marks[i] = broken_mask(words[i]) & 0x3C003C00u;
    AIO_UNROLL
    for (u32 t = 0; t < ROW_TILES; t++) {
        if (t >= tiles) break;
        const u32* w = reinterpret_cast<const u32*>(column + t * 8 * SCORE_PITCH * sizeof(f32));
        const u32* rest = w + SPLIT_POSITIONS / 2;
        f32 weight[4] = {};
        mma_f16(weight, marks, w[0], w[1]);
        mma_f16(weight, marks, rest[0], rest[1]);
        for (u32 i = 0; i < 4; i++) {
            if (!(weight[i] == 0.0f)) sums[t][i] = __uint_as_float(0x7FC00000u);
        }
    }
}

/// Sums of the values, each run's loaded while the one before it is multiplied; `next` has the first run's. A row gives
/// positions after its own the weight 0, which would not keep a NaN there out of its sums, so what is no number is taken out
/// of the values and makes those sums NaN in which it has a weight.
__device__ inline void sum_tile(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, const ValueTile& v, RunValues next) {
    u32 lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, last = item.block.last_position;
    f32 sums[ROW_TILES][4] = {};
    u32 spoilt = 0;
    for (u32 run = v.first_run; run < v.first_run + v.runs && v.start + 32 * run <= last; run++) {
        u32 position = v.start + 32 * run + 8 * q;
        uint4 low = next.low, high = next.high;
        if (run + 1 < v.first_run + v.runs) next = load_run(a, item, v, run + 1);
        low = cut_values(low, position, last), high = cut_values(high, position, last);
        u32 v0[4] = {low.x, high.x, low.y, high.y}, v1[4] = {low.z, high.z, low.w, high.w}, broken = 0;
        AIO_UNROLL
        for (u32 i = 0; i < 4; i++) broken |= broken_halves(v0[i]) | broken_halves(v1[i]);
        if (__ballot_sync(ALL_LANES, broken != 0)) {
            spoilt |= 1u << run;
            AIO_UNROLL
            for (u32 i = 0; i < 4; i++) v0[i] &= ~broken_mask(v0[i]), v1[i] &= ~broken_mask(v1[i]);
        }
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
    // Damaged models alone come here, after the loop, whose registers are few.
    for (u32 run = 0; spoilt >> run; run++) {
        if (!(spoilt >> run & 1)) continue;
        u32 position = v.start + 32 * run + 8 * q;
        RunValues values = load_run(a, item, v, run);
        uint4 low = cut_values(values.low, position, last), high = cut_values(values.high, position, last);
        const u32 v0[4] = {low.x, high.x, low.y, high.y}, v1[4] = {low.z, high.z, low.w, high.w};
        const u8* column = reinterpret_cast<const u8*>(s.scores + g * SCORE_PITCH) + (32 * run + 8 * q) * 2;
        mark_broken(v0, column, item.tiles, sums);
        mark_broken(v1, column + 8, item.tiles, sums);
    }
    AIO_UNROLL
    for (u32 t = 0; t < ROW_TILES; t++) {
        for (u32 i = 0; i < 4; i++) {
            u32 column = 8 * t + 2 * q + i % 2, d = 16 * v.tile + g + i / 2 * 8;
            if (column < item.columns) s.results[(v.part * COLUMNS + column) * a.head_dim + d] = sums[t][i];
        }
    }
}

/// Maximum, weight and sums of all columns over a split, left in shared memory.
__device__ inline void attend_split(const AttendArgs& a, const AttendSpace& s, const AttendItem& item, u32 split) {
    u32 warp = threadIdx.x / 32, tiles = a.head_dim / 16, parts = value_parts(a.head_dim), runs = 8 / parts;
    score_positions(a, s, item, split * SPLIT_POSITIONS);
    // Small heads: so many warps a tile. Large ones: a warp has several tiles.
    u32 tile = parts > 1 ? warp % tiles : warp, part = parts > 1 ? warp / tiles : 0;
    ValueTile v = {split * SPLIT_POSITIONS, tile, part, part * runs, runs};
    RunValues first = {{0, 0, 0, 0}, {0, 0, 0, 0}};
    if (v.tile < tiles) first = load_run(a, item, v, v.first_run);
    __syncthreads();
    for (u32 column = warp; column < item.columns; column += WARPS) weigh_column(s, column);
    __syncthreads();
    while (v.tile < tiles) {
        sum_tile(a, s, item, v, first);
        v.tile += parts > 1 ? tiles : WARPS;
        if (v.tile < tiles) first = load_run(a, item, v, v.first_run);
    }
    __syncthreads();
}
