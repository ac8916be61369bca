//! The device profile: results of calibration, as a TOML file.
//!
//! Written by `aio device calibrate`, read by cost models. Figures are medians with their spread, which shows whether
//! the machine was quiet or busy.

use crate::place::position;
use aio_plan::Ceilings;
use serde::{Deserialize, Serialize};

/// Version of the file format.
const VERSION: u32 = 1;

/// Calibration results of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceProfile {
    /// Version of the file format; 1.
    pub version: u32,
    /// Name of the machine.
    pub host: String,
    /// Date of the measurement, `YYYY-MM-DD`, UTC.
    pub date: String,
    /// The device's name in plans, such as `cpu-avx512vnni`.
    pub device: String,
    /// The processor's name.
    pub processor: String,
    /// Threads that the device uses.
    pub threads: u32,
    /// Commit of the program that measured.
    pub commit: String,
    /// Costs of a step besides its work.
    pub costs: Costs,
    /// Read bandwidth, by working set and threads.
    #[serde(rename = "read")]
    pub reads: Vec<ReadLevel>,
    /// Multiply-adds in registers, by kind and threads.
    #[serde(rename = "peak")]
    pub peaks: Vec<Peak>,
}

/// A median and the smallest and largest sample.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Median of the samples.
    pub median: f64,
    /// Smallest sample.
    pub min: f64,
    /// Largest sample.
    pub max: f64,
}

impl Figure {
    /// The figure of `samples`; `None` if there are none or one is not finite.
    pub fn of(samples: &[f64]) -> Option<Figure> {
        if samples.is_empty() || samples.iter().any(|s| !s.is_finite()) {
            return None;
        }
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
        Some(Figure { median, min: sorted[0], max: sorted[sorted.len() - 1] })
    }

    /// Multiplies every number by a factor above 0.
    pub fn scaled(self, factor: f64) -> Figure {
        Figure { median: self.median * factor, min: self.min * factor, max: self.max * factor }
    }
}

/// Read bandwidth of one working set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadLevel {
    /// `L1`, `L2`, `L3` or `memory`.
    pub level: String,
    /// Bytes of the working set of all threads together.
    pub bytes: u64,
    /// Threads that read.
    pub threads: u32,
    /// 10^9 bytes per second.
    pub gb_s: Figure,
}

/// Multiply-add throughput of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peak {
    /// `int8` or `f32`.
    pub kind: String,
    /// Threads that compute.
    pub threads: u32,
    /// 10^9 multiply-adds per second.
    pub gmac_s: Figure,
}

/// Costs of a step besides its work, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// An empty submission to an awake device.
    pub submission_us: Figure,
    /// A barrier at which all threads arrive together.
    pub barrier_us: Figure,
    /// An empty submission to a sleeping device.
    pub wake_us: Figure,
}

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The text is not a profile.
    #[error("not a device profile: {0}")]
    Form(String),
    /// Another format version.
    #[error("a device profile of version {found}, this program reads version {VERSION}; calibrate again")]
    Version {
        /// The file's version.
        found: u32,
    },
    /// A figure is impossible.
    #[error("the device profile's {field} is {value}, expected a number above 0; calibrate again")]
    Value {
        /// The figure's name.
        field: String,
        /// Its value.
        value: f64,
    },
}

/// The version alone, which can be read even if other fields of another version are unknown.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

/// Share of the register peak that kernels of 9 to 17 rows reach (`benches/NOTES.md`, 21).
const FEW_ROWS_SHARE: f64 = 1.0 / 3.0;

impl DeviceProfile {
    /// The current version of the file format.
    pub const VERSION: u32 = VERSION;

    /// The profile as TOML text.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("tables come after plain fields, and keys are strings")
    }

    /// Parses TOML text.
    ///
    /// # Errors
    /// [`ProfileError`].
    pub fn from_toml(text: &str) -> Result<DeviceProfile, ProfileError> {
        let form = |e: toml::de::Error| ProfileError::Form(one_line(&e, text));
        let head: Head = toml::from_str(text).map_err(form)?;
        if head.version != VERSION {
            return Err(ProfileError::Version { found: head.version });
        }
        let profile: DeviceProfile = toml::from_str(text).map_err(form)?;
        profile.check()?;
        Ok(profile)
    }

    /// Read bandwidth of memory with the most threads, in 10^9 bytes per second.
    pub fn memory_gb_s(&self) -> Option<f64> {
        let memory = self.reads.iter().filter(|r| r.level == "memory");
        memory.max_by_key(|r| r.threads).map(|r| r.gb_s.median)
    }

    /// Peak of a kind with the most threads, in 10^9 multiply-adds per second.
    pub fn peak_gmac_s(&self, kind: &str) -> Option<f64> {
        let peaks = self.peaks.iter().filter(|p| p.kind == kind);
        peaks.max_by_key(|p| p.threads).map(|p| p.gmac_s.median)
    }

    /// The ceilings for steps of few rows: memory bandwidth, and a share of the int8 register peak. `None` if either is
    /// missing.
    pub fn ceilings(&self) -> Option<Ceilings> {
        let (bandwidth, peak) = (self.memory_gb_s()?, self.peak_gmac_s("int8")?);
        Some(Ceilings { bandwidth: bandwidth * 1e9, peak: FEW_ROWS_SHARE * peak * 1e9 })
    }

    fn check(&self) -> Result<(), ProfileError> {
        let reads = self.reads.iter().map(|r| (format!("read.{}", r.level), r.gb_s));
        let peaks = self.peaks.iter().map(|p| (format!("peak.{}", p.kind), p.gmac_s));
        let costs = [
            ("costs.submission_us".to_owned(), self.costs.submission_us),
            ("costs.barrier_us".to_owned(), self.costs.barrier_us),
            ("costs.wake_us".to_owned(), self.costs.wake_us),
        ];
        for (field, figure) in reads.chain(peaks).chain(costs) {
            let bad = [figure.median, figure.min, figure.max].into_iter().find(|v| !(v.is_finite() && *v > 0.0));
            if let Some(value) = bad {
                return Err(ProfileError::Value { field, value });
            }
        }
        Ok(())
    }
}

/// The error's message with its line number. The library's own text spans several lines.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|s| position(text, s.start).0);
    let message = error.message().replace('\n', " ");
    line.map_or(message.clone(), |l| format!("line {l}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_within_a_character_is_shown() {
        for text in ["é", "name = \"é", "名 = 1", "a = 世", "[é]\nx"] {
            assert!(DeviceProfile::from_toml(text).is_err(), "{text}");
            let error = toml::from_str::<toml::Table>(text).expect_err("it is no profile");
            // A span of another text, or one that splits a character, still gives a message.
            assert!(!one_line(&error, "é").is_empty() && !one_line(&error, "").is_empty());
        }
    }

    fn figure(median: f64) -> Figure {
        Figure { median, min: median / 2.0, max: median * 2.0 }
    }

    fn profile() -> DeviceProfile {
        let read = |level: &str, threads, gb_s| ReadLevel {
            level: level.to_owned(),
            bytes: 1 << 20,
            threads,
            gb_s: figure(gb_s),
        };
        DeviceProfile {
            version: VERSION,
            host: "a \"quoted\" host".to_owned(),
            date: "2026-11-23".to_owned(),
            device: "cpu-avx2".to_owned(),
            processor: "a processor".to_owned(),
            threads: 2,
            commit: "abc".to_owned(),
            costs: Costs { submission_us: figure(1.0), barrier_us: figure(0.2), wake_us: figure(40.0) },
            reads: vec![read("L1", 1, 200.0), read("memory", 1, 14.0), read("memory", 2, 28.0)],
            peaks: vec![Peak { kind: "int8".to_owned(), threads: 2, gmac_s: figure(400.0) }],
        }
    }

    #[test]
    fn a_profile_survives_its_text() {
        let profile = profile();
        assert_eq!(DeviceProfile::from_toml(&profile.to_toml()).unwrap(), profile);
        assert_eq!(profile.memory_gb_s(), Some(28.0));
        assert_eq!(profile.peak_gmac_s("int8"), Some(400.0));
        assert_eq!(profile.peak_gmac_s("f32"), None);
        let ceilings = profile.ceilings().unwrap();
        assert_eq!((ceilings.bandwidth, ceilings.peak.round()), (28e9, 133_333_333_333.0));
        assert!(DeviceProfile { peaks: Vec::new(), ..profile }.ceilings().is_none());
    }

    #[test]
    fn bad_profiles_say_what_is_wrong() {
        let good = profile().to_toml();
        let message = |text: &str| DeviceProfile::from_toml(text).unwrap_err().to_string();
        assert_eq!(
            message(&good.replace("version = 1", "version = 9")),
            "a device profile of version 9, this program reads version 1; calibrate again"
        );
        assert!(message("version = ").starts_with("not a device profile: line 1: "));
        assert!(message("version = 1").contains("missing field `host`"));
        assert!(message(&good.replace("host", "hots")).contains("unknown field `hots`"));
        let negative = good.replacen("median = 1.0", "median = -1.0", 1);
        assert!(message(&negative).contains("costs.submission_us is -1"), "{}", message(&negative));
        assert!(message(&good.replacen("max = 2.0", "max = nan", 1)).contains("NaN"));
    }

    #[test]
    fn figures_are_medians() {
        assert_eq!(Figure::of(&[3.0, 1.0, 2.0]).unwrap().median, 2.0);
        let even = Figure::of(&[4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!((even.median, even.min, even.max), (2.5, 1.0, 4.0));
        assert!(Figure::of(&[]).is_none() && Figure::of(&[f64::NAN]).is_none());
    }
}
