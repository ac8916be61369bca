//! Sampling by coupled noise: the bit-exact definition of the `sample` op.
//!
//! The token of an output row is the arg-max of `filtered / temperature + gumbel(seed, choice, position, token)`. The
//! noise depends only on the row's position in its sequence, so a row samples the same token however it is batched, and
//! a draft is right exactly if it equals that sample. Speculation therefore never changes the text.
//!
//! The chain: bias, penalties over the recent tokens, top-k, top-p, min-p, temperature. Temperature 0 is the arg-max
//! after bias and penalties. Tokens rank by logit, then by id; both zeros are equal. A row with a NaN or positive
//! infinity after bias and penalties has no token: the result is [`NO_TOKEN`]. Negative infinity bars a token; if all
//! are barred, the first is chosen. Each filter keeps a prefix in rank order, so a token's probability depends on no
//! other order. Probabilities of top-p are integers, [`weight`], whose sums are exact in any order.
//!
//! Noise: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) with key (seed) and
//! counter (token / 4, position, choice, 0); word token % 4 gives `u = (word / 2^9 + 1/2) * 2^-23` and `gumbel =
//! -ln(-ln(u))`. [`ln`] and [`exp`] are f32 formulas that use only operations IEEE 754 rounds uniquely. The oracle runs
//! this code; back ends give the same tokens.

use std::cmp::Ordering;

/// The result of `argmax` and `sample` for a row without a token, because an element is NaN or positive infinity.
pub const NO_TOKEN: u32 = u32::MAX;

/// Whether a logit leaves its row without a token.
pub fn is_broken(logit: f32) -> bool {
    logit.is_nan() || logit == f32::INFINITY
}

/// The largest element's index, the lowest on ties; [`NO_TOKEN`] for a broken or empty row. What the `argmax` op means.
pub fn argmax(row: &[f32]) -> u32 {
    if row.iter().copied().any(is_broken) {
        return NO_TOKEN;
    }
    let larger = |best: Option<(usize, f32)>, (i, &v): (usize, &f32)| Some(best.filter(|b| b.1 >= v).unwrap_or((i, v)));
    row.iter().enumerate().fold(None, larger).map_or(NO_TOKEN, |(i, _)| i as u32)
}

/// Accepted drafts of a run of rows and the token after them: row `i` samples what row `i + 1` should hold, and `drafts` has
/// what each row holds. A row without a token agrees with no draft. What the `verify` op means; `None` without any row.
pub fn accepted(sampled: &[u32], drafts: &[u32]) -> Option<(u32, u32)> {
    let agrees = |&(&sampled, &draft): &(&u32, &u32)| sampled == draft && sampled != NO_TOKEN;
    let hits = sampled.iter().zip(drafts.get(1..)?).take_while(agrees).count();
    Some((hits as u32, *sampled.get(hits)?))
}

/// The numbers of one row, in the order of the `sample` op's `params` operand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SampleParams {
    /// 0 for the most likely token.
    pub temperature: f32,
    /// Keeps the k most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keeps the fewest most likely tokens whose total probability reaches p; 1 keeps all.
    pub top_p: f32,
    /// Drops tokens less likely than p times the most likely; 0 drops none.
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens; 1 for none.
    pub repeat_penalty: f32,
    /// Subtracted from logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted from logits of recent tokens, times their count.
    pub frequency_penalty: f32,
}

impl SampleParams {
    /// The most likely token, no penalties.
    pub const GREEDY: SampleParams = SampleParams {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
    };

    /// The parameters as a row of the op's operand.
    pub fn to_row(self) -> [f32; crate::SAMPLE_PARAMS as usize] {
        let SampleParams { temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty } =
            self;
        [temperature, top_k as f32, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty]
    }

    /// The parameters from a row of the op's operand.
    pub fn from_row(row: &[f32]) -> SampleParams {
        SampleParams {
            temperature: row[0],
            top_k: row[1] as u32,
            top_p: row[2],
            min_p: row[3],
            repeat_penalty: row[4],
            presence_penalty: row[5],
            frequency_penalty: row[6],
        }
    }

    /// Whether the token is simply the arg-max of the logits.
    pub fn is_plain_argmax(&self) -> bool {
        self.temperature == 0.0 && !self.penalizes()
    }

    /// Whether any penalty applies.
    pub fn penalizes(&self) -> bool {
        self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }

    /// The penalised logit of a token that occurs `count` times, at least once, among the recent ones.
    pub fn penalized(&self, logit: f32, count: usize) -> f32 {
        let logit = if logit > 0.0 { logit / self.repeat_penalty } else { logit * self.repeat_penalty };
        logit - (self.presence_penalty + self.frequency_penalty * count as f32)
    }

    /// The smallest logit that min-p keeps if the largest is `top`. `top` itself is always kept.
    pub fn min_p_floor(&self, top: f32) -> f32 {
        if self.min_p > 0.0 { (top + ln(self.min_p)).min(top) } else { f32::NEG_INFINITY }
    }
}

/// Everything besides the logits that a row's token depends on.
#[derive(Clone, Copy, Debug)]
pub struct SampleRow<'a> {
    /// Sampling parameters.
    pub params: SampleParams,
    /// Seed (low word, high word), choice, position.
    pub noise: [u32; 4],
    /// Recent tokens of the row's prefix; negative entries are padding.
    pub recent: &'a [i32],
    /// Added to the logits; minus infinity bars a token.
    pub bias: Option<&'a [f32]>,
}

/// A candidate token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its logit after bias and penalties.
    pub logit: f32,
    /// Its id.
    pub token: u32,
}

impl Candidate {
    /// Rank order: larger logit first, then lower id.
    pub fn by_rank(&self, other: &Candidate) -> Ordering {
        let larger = number(other.logit).partial_cmp(&number(self.logit)).expect("NaN has another number");
        larger.then(self.token.cmp(&other.token))
    }

    /// The candidate with its logit divided by the temperature and its noise added.
    pub fn noisy(&self, temperature: f32, noise: [u32; 4]) -> Candidate {
        Candidate { logit: number(self.logit / temperature + gumbel(noise, self.token)), token: self.token }
    }
}

/// Maps NaN, which an invalid temperature can produce, to negative infinity.
fn number(x: f32) -> f32 {
    if x.is_nan() { f32::NEG_INFINITY } else { x }
}

/// The row's token, or [`NO_TOKEN`]. `scratch` is cleared and filled; if it has room for all logits, nothing is
/// allocated.
pub fn sample(logits: &[f32], row: &SampleRow<'_>, scratch: &mut Vec<Candidate>) -> u32 {
    adjust(logits, row, scratch);
    if scratch.iter().any(|c| is_broken(c.logit)) {
        return NO_TOKEN;
    }
    let SampleParams { temperature, .. } = row.params;
    if temperature <= 0.0 {
        return first(scratch.iter().copied());
    }
    let kept = filter(scratch, &row.params);
    first(scratch[..kept].iter().map(|c| c.noisy(temperature, row.noise)))
}

/// The first in rank; [`NO_TOKEN`] if there are no candidates.
fn first(candidates: impl Iterator<Item = Candidate>) -> u32 {
    candidates.min_by(Candidate::by_rank).map_or(NO_TOKEN, |c| c.token)
}

/// All tokens with their logits after bias and penalties. Each distinct recent token is penalised once, by its count.
fn adjust(logits: &[f32], row: &SampleRow<'_>, candidates: &mut Vec<Candidate>) {
    let bias = |i: usize| row.bias.map_or(0.0, |b| b[i]);
    candidates.clear();
    candidates.extend(logits.iter().enumerate().map(|(i, &l)| Candidate { logit: l + bias(i), token: i as u32 }));
    let recent = if row.params.penalizes() { row.recent } else { &[] };
    for (i, &token) in recent.iter().enumerate() {
        let seen_before = recent[..i].contains(&token);
        let Some(c) = usize::try_from(token).ok().and_then(|t| candidates.get_mut(t)) else { continue };
        if seen_before {
            continue;
        }
        let count = recent[i..].iter().filter(|&&t| t == token).count();
        c.logit = row.params.penalized(c.logit, count);
    }
}

/// Moves the tokens that pass top-k, top-p and min-p to the front. Returns their number, at least one if there are any.
fn filter(candidates: &mut [Candidate], p: &SampleParams) -> usize {
    let mut kept = candidates.len();
    if p.top_k > 0 && (p.top_k as usize) < kept {
        kept = p.top_k as usize;
        candidates.select_nth_unstable_by(kept - 1, Candidate::by_rank);
    }
    let sorted = &mut candidates[..kept];
    if p.top_p < 1.0 || p.min_p > 0.0 {
        sorted.sort_unstable_by(Candidate::by_rank);
    }
    let Some(&Candidate { logit: top, .. }) = sorted.first() else { return 0 };
    if p.top_p < 1.0 {
        kept = nucleus(sorted, p.top_p);
    }
    if p.min_p > 0.0 {
        kept = sorted[..kept].partition_point(|c| c.logit >= p.min_p_floor(top));
    }
    kept
}

/// The number of sorted candidates needed to reach probability `p`.
fn nucleus(sorted: &[Candidate], p: f32) -> usize {
    let weights = || sorted.iter().map(|c| u64::from(weight(c.logit, sorted[0].logit)));
    let total = weights().sum();
    let mut sum = 0;
    let reached = weights().position(|weight| {
        sum += weight;
        reaches(sum, p, total)
    });
    reached.map_or(sorted.len(), |i| i + 1)
}

/// Whether a part of the weights reaches probability `p`. Exact up to 2^23 tokens; beyond, a sum may not fit f64.
pub fn reaches(part: u64, p: f32, total: u64) -> bool {
    part as f64 >= f64::from(p) * total as f64
}

/// A token's unnormalised probability for top-p: `e^(logit - top) * 2^30`, truncated. `top` is the largest logit;
/// neither is NaN. The difference of equal infinities counts as 0.
pub fn weight(logit: f32, top: f32) -> u32 {
    (exp(-(top - logit).max(0.0)) * WEIGHT_ONE) as u32
}

/// The weight of the most likely token.
pub const WEIGHT_ONE: f32 = (1u32 << 30) as f32;

/// Gumbel noise of a token. `noise` is seed (two words), choice, position.
pub fn gumbel(noise: [u32; 4], token: u32) -> f32 {
    let [seed_low, seed_high, choice, position] = noise;
    let words = philox([token / 4, position, choice, 0], [seed_low, seed_high]);
    gumbel_of(words[(token % 4) as usize])
}

/// Gumbel noise of a random word, non-decreasing in the word.
pub const fn gumbel_of(word: u32) -> f32 {
    let u = ((word >> 9) as f32 + 0.5) * (1.0 / 8_388_608.0);
    -ln(-ln(u))
}

/// An upper bound of a word's noise without a logarithm: the noise of the largest word with as many leading ones.
pub fn gumbel_bound(word: u32) -> f32 {
    BOUNDS[word.leading_ones() as usize]
}

/// Upper bound of the noise.
pub const MAX_GUMBEL: f32 = BOUNDS[32];

/// Bounds by number of leading ones.
const BOUNDS: [f32; 33] = {
    let mut bounds = [gumbel_of(u32::MAX); 33];
    let mut ones = 0;
    while ones < 32 {
        bounds[ones] = gumbel_of(!(1 << (31 - ones)));
        ones += 1;
    }
    bounds
};

/// Philox4x32 with ten rounds.
pub fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// `e^x` within 2 units in the last place for x in -86..=0; e^-86 below that.
///
/// `x = n ln 2 + r` with `|r| <= ln(2) / 2`; `e^r` by its power series, times `2^n` by adding to the exponent. As in
/// [`ln`], no step may be contracted.
pub fn exp(x: f32) -> f32 {
    /// Adding this leaves a rounded integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-86.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln(2) in two parts, the first short enough that its product with n is exact.
    let r = x - n * 0.693_359_4;
    let r = r - n * -2.121_944_4e-4;
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5].iter().fold(1.0 / 5040.0, |p, c| p * r + c);
    let e = series * r * r + r + 1.0;
    f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// Natural logarithm of a positive normal number, within a few units in the last place.
///
/// `x = m * 2^e` with `m` in \[1/sqrt(2), sqrt(2)); `ln m = 2 artanh(t)`, `t = (m - 1) / (m + 1)`, by its power series.
/// No step may be contracted to a fused multiply-add: every back end must produce the same bits.
pub const fn ln(x: f32) -> f32 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 23) as i32 - 127;
    let mut m = f32::from_bits((bits & 0x007F_FFFF) | 0x3F80_0000);
    if m > std::f32::consts::SQRT_2 {
        m *= 0.5;
        exponent += 1;
    }
    let t = (m - 1.0) / (m + 1.0);
    let s = t * t;
    let series = 1.0 + s * (1.0 / 3.0 + s * (1.0 / 5.0 + s * (1.0 / 7.0 + s * (1.0 / 9.0))));
    2.0 * t * series + exponent as f32 * std::f32::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_matches_the_published_test_vectors() {
        // From the Random123 distribution's known-answer file (kat_vectors, philox4x32 10).
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn ln_is_close() {
        for i in 1..20_000u32 {
            let x = i as f32 / 7_000.0;
            let want = f64::from(x).ln();
            assert!((f64::from(ln(x)) - want).abs() <= 3e-7 * want.abs().max(1.0), "{x}");
        }
    }

    #[test]
    fn exp_is_close() {
        for i in 0..=86_000u32 {
            let x = -(i as f32) / 1000.0;
            let want = f64::from(x).exp();
            assert!((f64::from(exp(x)) - want).abs() <= 2.5e-7 * want, "{x}");
        }
        assert_eq!((exp(0.0), exp(-0.0), exp(f32::NEG_INFINITY)), (1.0, 1.0, exp(-86.0)));
    }

    #[test]
    fn noise_never_falls_as_its_word_grows_and_stays_below_its_bound() {
        let mut before = f32::NEG_INFINITY;
        for bits in 0..1u32 << 23 {
            let noise = gumbel_of(bits << 9);
            assert!(noise >= before, "{bits}: {noise} after {before}");
            assert!(noise <= gumbel_bound(bits << 9), "{bits}: {noise}");
            before = noise;
        }
        assert!(before == MAX_GUMBEL, "{before}");
    }

    #[test]
    fn weights_hold_at_infinities() {
        let inf = f32::INFINITY;
        let one = WEIGHT_ONE as u32;
        assert_eq!((weight(inf, inf), weight(3.0, inf), weight(-inf, inf)), (one, 0, 0));
        assert_eq!((weight(-inf, -inf), weight(-inf, 3.0), weight(3.0, 3.0)), (one, 0, one));
    }

    fn row(params: SampleParams, seed: u32) -> SampleRow<'static> {
        SampleRow { params, noise: [seed, 0, 0, 7], recent: &[], bias: None }
    }

    #[test]
    fn temperature_one_follows_the_softmax() {
        let logits = [1.0f32, 0.0, 2.0, -1.0];
        let params = SampleParams { temperature: 1.0, ..SampleParams::GREEDY };
        let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
        let mut counts = [0u32; 4];
        let draws = 20_000;
        let mut scratch = Vec::new();
        for seed in 0..draws {
            counts[sample(&logits, &row(params, seed), &mut scratch) as usize] += 1;
        }
        let chi2: f64 = (0..4)
            .map(|i| {
                let want = f64::from(draws) * f64::from(logits[i]).exp() / total;
                (f64::from(counts[i]) - want).powi(2) / want
            })
            .sum();
        // 99.9th percentile of chi-square with 3 degrees of freedom.
        assert!(chi2 < 16.27, "{chi2} {counts:?}");
    }

    #[test]
    fn a_row_with_nan_or_infinity_has_no_token_and_a_barred_row_the_first() {
        let mut scratch = Vec::new();
        let noise = SampleParams { temperature: 0.8, top_k: 2, top_p: 0.9, min_p: 0.1, ..SampleParams::GREEDY };
        let penal = SampleParams { repeat_penalty: 1.5, ..noise };
        let bar = [0.0, f32::NEG_INFINITY, 0.0];
        for params in [SampleParams::GREEDY, SampleParams { temperature: 1.0, ..SampleParams::GREEDY }, noise, penal] {
            let free = SampleRow { params, noise: [1, 2, 3, 4], recent: &[1, 1], bias: None };
            let barred = SampleRow { bias: Some(&bar), ..free };
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
                assert_eq!(sample(&[3.0, bad, 1.0], &free, &mut scratch), NO_TOKEN, "{bad} {params:?}");
                assert_eq!(sample(&[3.0, bad, 1.0], &barred, &mut scratch), NO_TOKEN, "{bad} barred {params:?}");
            }
            assert_eq!(sample(&[f32::NEG_INFINITY; 3], &free, &mut scratch), 0, "{params:?}");
            assert_eq!(sample(&[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY], &free, &mut scratch), 1, "{params:?}");
        }
    }

    #[test]
    fn filters_keep_what_they_should() {
        let all = |n: u32| (0..n).map(|i| Candidate { logit: -(i as f32), token: i }).collect::<Vec<_>>();
        let base = SampleParams { temperature: 1.0, ..SampleParams::GREEDY };
        assert_eq!(filter(&mut all(10), &SampleParams { top_k: 3, ..base }), 3);
        // Weights 1, 0.37, 0.14: the first two hold 0.864 of ten.
        assert_eq!(filter(&mut all(10), &SampleParams { top_p: 0.8, ..base }), 2);
        assert_eq!(filter(&mut all(10), &SampleParams { min_p: 0.1, ..base }), 3);
        assert_eq!(filter(&mut all(10), &SampleParams { top_p: 0.0, ..base }), 1);
    }

    #[test]
    fn penalties_and_bias_change_the_greedy_choice() {
        let mut scratch = Vec::new();
        let params = SampleParams { repeat_penalty: 2.0, ..SampleParams::GREEDY };
        let recent = [1, -1, 1];
        let row = SampleRow { params, noise: [0; 4], recent: &recent, bias: None };
        assert_eq!(sample(&[1.0, 1.5], &row, &mut scratch), 0);
        let barred = [f32::NEG_INFINITY, 0.0];
        let row = SampleRow { params: SampleParams::GREEDY, noise: [0; 4], recent: &[], bias: Some(&barred) };
        assert_eq!(sample(&[9.0, 1.5], &row, &mut scratch), 1);
    }
}
