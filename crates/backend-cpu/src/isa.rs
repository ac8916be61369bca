//! Instruction-set levels, and tokens that prove a level is present.
//!
//! A kernel compiled for AVX-512 is undefined behaviour on a machine without it. `Isa` values
//! exist only where detection made them, so a kernel table made from one is sound. Called once, when
//! a device is opened.

use std::fmt;

/// The levels that kernels are compiled for, in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IsaLevel {
    /// Available on every target.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, VL, DQ and VNNI, besides all of `Avx2`.
    Avx512Vnni,
}

impl IsaLevel {
    /// All levels, in rising order.
    pub const ALL: [IsaLevel; 3] = [IsaLevel::Portable, IsaLevel::Avx2, IsaLevel::Avx512Vnni];

    /// The name that options use.
    pub const fn name(self) -> &'static str {
        match self {
            IsaLevel::Portable => "portable",
            IsaLevel::Avx2 => "avx2",
            IsaLevel::Avx512Vnni => "avx512vnni",
        }
    }

    /// The level with this name.
    pub fn from_name(name: &str) -> Option<IsaLevel> {
        IsaLevel::ALL.into_iter().find(|l| l.name() == name)
    }
}

impl fmt::Display for IsaLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A level that this machine supports. Only detection constructs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Isa(IsaLevel);

impl Isa {
    /// The best level of this machine.
    pub fn detect() -> Isa {
        Isa::detect_up_to(IsaLevel::Avx512Vnni)
    }

    /// The best level of this machine that is no higher than `cap`.
    pub fn detect_up_to(cap: IsaLevel) -> Isa {
        let mut levels = IsaLevel::ALL.into_iter().rev().filter(|l| *l <= cap);
        levels.find_map(Isa::at).unwrap_or(Isa(IsaLevel::Portable))
    }

    /// Exactly this level, if the machine has it.
    pub fn at(level: IsaLevel) -> Option<Isa> {
        has(level).then_some(Isa(level))
    }

    /// The level as plain data.
    pub const fn level(self) -> IsaLevel {
        self.0
    }
}

#[cfg(target_arch = "x86_64")]
fn has(level: IsaLevel) -> bool {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vnni");
    match level {
        IsaLevel::Portable => true,
        IsaLevel::Avx2 => avx2,
        IsaLevel::Avx512Vnni => avx2 && avx512,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn has(level: IsaLevel) -> bool {
    level == IsaLevel::Portable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_caps_hold() {
        for level in IsaLevel::ALL {
            assert_eq!(IsaLevel::from_name(level.name()), Some(level));
            assert!(Isa::detect_up_to(level).level() <= level);
        }
        assert!(Isa::at(IsaLevel::Portable).is_some());
    }
}
