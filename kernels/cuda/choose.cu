//! `sample` and `verify`: tokens from logits, and how far drafts agree with them.
//!
//! `sample` gives the tokens of `ir::sampling`, to the bit: the same formulas without contraction, integer weights, and
//! filters as thresholds on rank keys, which a search by digits of 8 bits finds without sorting. One block a row.
#include "keys.cuh"

/// The numbers of a row, in the order of the op's operand.
struct SampleRow {
    f32 temperature, top_k, top_p, min_p, repeat, presence, frequency;
};

/// e^x as `ir::sampling::exp` has it.
__device__ inline f32 exp_exact(f32 x) {
    x = fmaxf(x, -86.0f);
    f32 shifted = __fadd_rn(__fmul_rn(x, 1.44269504088896340736f), 12582912.0f);
    f32 n = __fsub_rn(shifted, 12582912.0f);
    f32 r = __fsub_rn(x, __fmul_rn(n, 0.6933594f));
    r = __fsub_rn(r, __fmul_rn(n, -2.1219444e-4f));
    const f32 terms[5] = {1.0f / 720.0f, 1.0f / 120.0f, 1.0f / 24.0f, 1.0f / 6.0f, 0.5f};
    f32 series = 1.0f / 5040.0f;
    AIO_UNROLL
    for (u32 i = 0; i < 5; i++) series = __fadd_rn(__fmul_rn(series, r), terms[i]);
    f32 e = __fadd_rn(__fadd_rn(__fmul_rn(__fmul_rn(series, r), r), r), 1.0f);
    return __uint_as_float(__float_as_uint(e) + (__float_as_uint(shifted) << 23));
}

/// ln(x) as `ir::sampling::ln` has it.
__device__ inline f32 ln_exact(f32 x) {
    u32 bits = __float_as_uint(x);
    i32 exponent = i32(bits >> 23) - 127;
    f32 m = __uint_as_float((bits & 0x007FFFFFu) | 0x3F800000u);
    if (m > 1.41421356237309504880f) {
        m = __fmul_rn(m, 0.5f);
        exponent += 1;
    }
    f32 t = __fdiv_rn(__fsub_rn(m, 1.0f), __fadd_rn(m, 1.0f)), s = __fmul_rn(t, t);
    f32 series = __fadd_rn(1.0f / 7.0f, __fmul_rn(s, 1.0f / 9.0f));
    series = __fadd_rn(1.0f / 5.0f, __fmul_rn(s, series));
    series = __fadd_rn(1.0f / 3.0f, __fmul_rn(s, series));
    series = __fadd_rn(1.0f, __fmul_rn(s, series));
    return __fadd_rn(__fmul_rn(__fmul_rn(2.0f, t), series), __fmul_rn(f32(exponent), 0.693147180559945309417f));
}

/// Word `token % 4` of Philox4x32-10 for the token's counter (`ir::sampling::philox`).
__device__ inline u32 philox(const u32* noise, u32 token) {
    u32 c0 = token / 4, c1 = noise[3], c2 = noise[2], c3 = 0, k0 = noise[0], k1 = noise[1];
    for (u32 round = 0; round < 10; round++) {
        u32 high0 = __umulhi(c0, 0xD2511F53u), low0 = c0 * 0xD2511F53u;
        u32 high1 = __umulhi(c2, 0xCD9E8D57u), low1 = c2 * 0xCD9E8D57u;
        c0 = high1 ^ c1 ^ k0, c1 = low1, c2 = high0 ^ c3 ^ k1, c3 = low0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    u32 word = token % 4;
    return word == 0 ? c0 : word == 1 ? c1 : word == 2 ? c2 : c3;
}

__device__ inline f32 gumbel(const u32* noise, u32 token) {
    f32 u = __fmul_rn(__fadd_rn(f32(philox(noise, token) >> 9), 0.5f), 1.0f / 8388608.0f);
    return -ln_exact(-ln_exact(u));
}

/// What top-p takes for a token's probability: `ir::sampling::weight`.
__device__ inline u32 weight(f32 logit, f32 top) {
    f32 below = __fsub_rn(top, logit);
    // NaN where both are the same infinity: no difference.
    below = below > 0.0f ? below : 0.0f;
    return __float2uint_rz(__fmul_rn(exp_exact(-below), 1073741824.0f));
}

/// The largest key of the block; all threads get it.
__device__ inline u64 block_largest(u64 key) {
    AIO_SHARED(u64, largest, 1);
    __syncthreads();
    if (threadIdx.x == 0) largest[0] = 0;
    __syncthreads();
    if (key) atomicMax(&largest[0], key);
    __syncthreads();
    return largest[0];
}

/// What the search over keys adds up.
enum Measure { COUNTS, WEIGHTS };

/// Where a search stops: the first key in rank at which the sum has reached the goal.
struct Goal {
    u64 count;    // COUNTS: reached when so many keys are in
    f32 share;    // WEIGHTS: reached when they hold this share of the total
    u64 total;

    __device__ bool reached(Measure measure, u64 sum) const {
        if (measure == COUNTS) return sum >= count;
        return double(sum) >= __dmul_rn(double(share), double(total));
    }
};

/// A row of keys.
struct Keys {
    u64* at;
    u32 n;

    __device__ u64 measure(Measure m, u64 key, f32 top) const { return m == COUNTS ? 1 : weight(logit_of_key(key), top); }

    /// Sum over the keys from `floor` up.
    __device__ u64 sum(Measure m, u64 floor, f32 top) const {
        AIO_SHARED(u64, all, 1);
        __syncthreads();
        if (threadIdx.x == 0) all[0] = 0;
        __syncthreads();
        u64 mine = 0;
        for (u32 i = threadIdx.x; i < n; i += THREADS) {
            if (at[i] >= floor) mine += measure(m, at[i], top);
        }
        atomicAdd(&all[0], mine);
        __syncthreads();
        return all[0];
    }

    /// The smallest key that belongs to the first in rank that reach the goal, among keys from `floor` up; `floor` if all
    /// together do not. Digit by digit from the top: sums of each digit's keys, then the digit at which the goal is reached.
    __device__ u64 threshold(Measure m, const Goal& goal, u64 floor, f32 top) const {
        AIO_SHARED(u64, bins, 256);
        AIO_SHARED(u64, found, 3); // whether the goal was reached, the prefix, the sum of keys above it
        if (threadIdx.x == 0) found[0] = 1, found[1] = found[2] = 0;
        for (i32 shift = 56; shift >= 0; shift -= 8) {
            __syncthreads();
            bins[threadIdx.x] = 0;
            __syncthreads();
            u64 prefix = found[1];
            for (u32 i = threadIdx.x; i < n; i += THREADS) {
                u64 key = at[i];
                bool here = shift == 56 || key >> (shift + 8) == prefix;
                if (here && key >= floor) atomicAdd(&bins[key >> shift & 255], measure(m, key, top));
            }
            __syncthreads();
            if (threadIdx.x == 0) descend(m, goal, bins, found);
        }
        __syncthreads();
        u64 result = found[0] ? found[1] : floor;
        __syncthreads();
        return result;
    }

    /// One thread: the digit whose keys reach the goal becomes part of the prefix.
    __device__ static void descend(Measure m, const Goal& goal, const u64* bins, u64* found) {
        u64 sum = found[2];
        u32 digit = 255;
        while (digit > 0 && !(bins[digit] > 0 && goal.reached(m, sum + bins[digit]))) sum += bins[digit--];
        if (digit == 0 && !goal.reached(m, sum + bins[0])) found[0] = 0;
        found[1] = found[1] << 8 | digit;
        found[2] = sum;
    }
};

/// The keys of a row's logits with their bias.
__device__ inline void write_keys(const Keys& keys, const f32* logits, const f32* bias) {
    for (u32 i = threadIdx.x; i < keys.n; i += THREADS) {
        keys.at[i] = rank_key(bias ? __fadd_rn(logits[i], bias[i]) : __fadd_rn(logits[i], 0.0f), i);
    }
    __syncthreads();
}

/// Each distinct recent token once, by the thread of its first place.
__device__ inline void penalize(const Keys& keys, const SampleRow& p, const f32* logits, const f32* bias, const i32* recent, u32 len) {
    if (p.repeat == 1.0f && p.presence == 0.0f && p.frequency == 0.0f) return;
    for (u32 i = threadIdx.x; i < len; i += THREADS) {
        i32 token = recent[i];
        if (token < 0 || u32(token) >= keys.n) continue;
        u32 count = 0;
        bool first = true;
        for (u32 j = 0; j < len; j++) {
            if (recent[j] != token) continue;
            count += 1;
            first = first && j >= i;
        }
        if (!first) continue;
        f32 x = __fadd_rn(logits[token], bias ? bias[token] : 0.0f);
        x = x > 0.0f ? __fdiv_rn(x, p.repeat) : __fmul_rn(x, p.repeat);
        x = __fsub_rn(x, __fadd_rn(p.presence, __fmul_rn(p.frequency, f32(count))));
        keys.at[token] = rank_key(x, u32(token));
    }
    __syncthreads();
}

/// The smallest key that the filters let pass.
__device__ inline u64 filtered(const Keys& keys, const SampleRow& p, f32 top) {
    u64 floor = 0;
    u32 k = __float2uint_rz(p.top_k);
    if (k > 0 && k < keys.n) floor = keys.threshold(COUNTS, {k, 0, 0}, floor, top);
    if (p.top_p < 1.0f) {
        Goal goal = {0, p.top_p, keys.sum(WEIGHTS, floor, top)};
        u64 nucleus = keys.threshold(WEIGHTS, goal, floor, top);
        floor = nucleus > floor ? nucleus : floor;
    }
    return floor;
}

/// The smallest logit that min-p lets pass.
__device__ inline f32 min_p_floor(const SampleRow& p, f32 top) {
    if (!(p.min_p > 0.0f)) return __uint_as_float(0xFF800000u);
    return fminf(__fadd_rn(top, ln_exact(p.min_p)), top);
}

/// The token of an output row. The block together.
__device__ inline void sample_row(const SampleArgs& a, u32 row) {
    const f32* numbers = a.params + 7 * row;
    SampleRow p = {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]};
    const f32* logits = a.logits + u64(row) * a.n;
    const f32* bias = a.bias && (a.step->flags & FLAG_BIAS) ? a.bias + u64(row) * a.n : nullptr;
    Keys keys = {a.keys + u64(row) * a.n, a.n};
    write_keys(keys, logits, bias);
    penalize(keys, p, logits, bias, a.recent + u64(row) * a.step->recent, a.step->recent);
    u64 best = 0;
    for (u32 i = threadIdx.x; i < a.n; i += THREADS) best = keys.at[i] > best ? keys.at[i] : best;
    best = block_largest(best);
    if (!(p.temperature <= 0.0f) && best != BROKEN_KEY && a.n > 0) {
        f32 top = logit_of_key(best);
        u64 floor = filtered(keys, p, top);
        f32 least_logit = min_p_floor(p, top);
        best = 0;
        for (u32 i = threadIdx.x; i < a.n; i += THREADS) {
            f32 logit = logit_of_key(keys.at[i]);
            if (keys.at[i] < floor || !(logit >= least_logit)) continue;
            f32 noisy = __fadd_rn(__fdiv_rn(logit, p.temperature), gumbel(a.noise + 4 * row, i));
            // A temperature that is no number gives NaN, which counts as negative infinity.
            u64 key = number_key(noisy != noisy ? __uint_as_float(0xFF800000u) : noisy, i);
            best = key > best ? key : best;
        }
        best = block_largest(best);
    }
    if (threadIdx.x == 0) a.tokens[row] = token_of_key(best);
}

AIO_KERNEL(sample, SampleArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    AIO_FOR_ROWS(row, a.step->outs) sample_row(a, row);
}

AIO_KERNEL(verify, VerifyArgs) {
    wait_for_earlier_kernels();
    let_next_kernel_begin();
    u32 seq = blockIdx.x * THREADS + threadIdx.x;
    if (seq >= a.step->seqs) return;
    u32 row = a.spans[2 * seq], last = row + a.spans[2 * seq + 1], outs = a.step->outs, hits = 0;
    u32 token = row < outs ? a.sampled[row] : 0;
    while (row < last && row + 1 < outs && a.drafts[row + 1] == token && token != NO_TOKEN) {
        token = a.sampled[++row];
        hits += 1;
    }
    a.accepted[seq] = hits;
    a.next[seq] = token;
}
