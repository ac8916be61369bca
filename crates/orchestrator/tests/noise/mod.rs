//! Seeded noise for tests and benchmarks: the same seed gives the same texts and times everywhere.
#![allow(dead_code, reason = "each test takes what it needs")]

/// A SplitMix64 stream.
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, mean 0, standard deviation 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// True with probability `p`.
    pub fn happens(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// A text of `letters` equally likely tokens.
    pub fn text(&mut self, len: usize, letters: u64) -> Vec<u32> {
        (0..len).map(|_| self.below(letters) as u32).collect()
    }

    /// A text whose tokens follow Zipf's law over about `letters` tokens, like the words of prose.
    pub fn zipf(&mut self, len: usize, letters: u32) -> Vec<u32> {
        // The inverse of the distribution's continuous form: rank = letters^u.
        (0..len).map(|_| f64::from(letters).powf(self.unit()) as u32).collect()
    }

    /// A text that copies pieces of itself, with an occasional fresh token.
    pub fn copying(&mut self, len: usize, letters: u64) -> Vec<u32> {
        let mut text = self.text(len.min(64), letters);
        while text.len() < len {
            let piece = 4 + self.below(60) as usize;
            let from = self.below((text.len() - 1) as u64) as usize;
            text.extend_from_within(from..(from + piece).min(text.len()));
            text.push(self.below(letters) as u32);
        }
        text.truncate(len);
        text
    }
}
