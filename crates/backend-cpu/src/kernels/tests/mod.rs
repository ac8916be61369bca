//! Every kernel against a scalar reference, and row independence as bit equality.
//!
//! Seeds are fixed and printed by a failing assertion; a level that the machine lacks prints SKIP.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod attend;
mod matmul;
mod rows;

use crate::isa::{Isa, IsaLevel};
use crate::kernels::Kernels;

/// A small generator (splitmix64), so that test data need no dependency.
pub(crate) struct Rng(pub u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// About normal: the sum of four uniforms, variance 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let sum: f64 = (0..4).map(|_| (self.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5).sum();
        (sum * 3f64.sqrt()) as f32
    }

    pub(crate) fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// Runs `test` at every level of this machine.
pub(crate) fn at_every_level(name: &str, test: impl Fn(&Kernels)) {
    for level in IsaLevel::ALL {
        match Isa::at(level) {
            Some(isa) => test(&Kernels::new(isa)),
            None => println!("SKIP {name} at {level}: the machine lacks it"),
        }
    }
}

/// Mean squared error over mean square.
pub(super) fn nmse(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let error: f64 = got.iter().zip(expected).map(|(g, e)| (f64::from(*g) - e).powi(2)).sum();
    error / expected.iter().map(|e| e * e).sum::<f64>().max(1e-300)
}
