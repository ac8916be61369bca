//! Measured quality of variants by category.

use super::error::PolicyError;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::collections::BTreeMap;

/// Quality of variants by category: categories, then variants, then a finite number of which more is better.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quality(pub BTreeMap<String, BTreeMap<String, f64>>);

/// A finite number. It is checked where it stands, so that an error has its place.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Number, D::Error> {
        let number = f64::deserialize(from)?;
        match number.is_finite() {
            true => Ok(Number(number)),
            false => Err(D::Error::custom(format!("a quality of {number}"))),
        }
    }
}

impl<'de> Deserialize<'de> for Quality {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Quality, D::Error> {
        let categories = BTreeMap::<String, BTreeMap<String, Number>>::deserialize(from)?;
        let numbers = |all: BTreeMap<String, Number>| all.into_iter().map(|(variant, n)| (variant, n.0)).collect();
        Ok(Quality(categories.into_iter().map(|(category, all)| (category, numbers(all))).collect()))
    }
}

/// Measurements of one's own variants, for any policy: sections `[quality.CATEGORY]` as in a policy, and optionally the
/// `tolerance` that goes before [`Policy::tolerance`](super::Policy::tolerance).
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityTable {
    /// See above.
    #[serde(default, deserialize_with = "tolerance")]
    pub tolerance: Option<f64>,
    /// The sections.
    #[serde(default)]
    pub quality: Quality,
}

impl QualityTable {
    /// Parses a table.
    ///
    /// # Errors
    /// [`PolicyError::Form`] with line and column.
    pub fn from_toml(text: &str) -> Result<QualityTable, PolicyError> {
        toml::from_str(text).map_err(|e| PolicyError::form(text, &e))
    }
}

fn tolerance<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let tolerance = f64::deserialize(from)?;
    match (0.0..=f64::MAX).contains(&tolerance) {
        true => Ok(Some(tolerance)),
        false => Err(D::Error::custom(format!("tolerance {tolerance} is not a number of at least 0"))),
    }
}

impl Quality {
    /// Takes the numbers of another table over.
    pub(super) fn extend(&mut self, other: &Quality) {
        for (category, variants) in &other.0 {
            self.0.entry(category.clone()).or_default().extend(variants.clone());
        }
    }

    /// Quality of a variant in a category; `None` if it was not measured.
    pub fn of(&self, category: &str, variant: &str) -> Option<f64> {
        self.0.get(category)?.get(variant).copied()
    }

    /// Whether a variant is good enough in a category: at most `tolerance` below the best of `variants`. A variant that
    /// was not measured there is not, if another one was; `None` if none was.
    pub fn suffices<'v>(
        &self,
        category: Option<&str>,
        variant: &str,
        variants: impl Iterator<Item = &'v str>,
        tolerance: f64,
    ) -> Option<bool> {
        let needed = self.needed(category?, variants, tolerance)?;
        Some(self.of(category?, variant).is_some_and(|own| own >= needed))
    }

    /// The least quality that is good enough in a category: `tolerance` below the best of `variants`. `None` if none of them
    /// was measured there.
    pub fn needed<'v>(&self, category: &str, variants: impl Iterator<Item = &'v str>, tolerance: f64) -> Option<f64> {
        let best = variants.filter_map(|v| self.of(category, v)).fold(f64::NEG_INFINITY, f64::max);
        (best > f64::NEG_INFINITY).then_some(best - tolerance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_checked_and_taken_over() {
        let table = QualityTable::from_toml("tolerance = 0.5\n[quality.code]\na = 1\nb = 2.5\n").unwrap();
        assert_eq!((table.tolerance, table.quality.of("code", "b")), (Some(0.5), Some(2.5)));
        let mut own: Quality = toml::from_str("[code]\na = 9\nc = 3\n[facts]\na = 4\n").unwrap();
        own.extend(&table.quality);
        assert_eq!(["a", "b", "c"].map(|v| own.of("code", v)), [Some(1.0), Some(2.5), Some(3.0)]);
        assert_eq!(own.of("facts", "a"), Some(4.0));
        let message = |text| QualityTable::from_toml(text).unwrap_err().to_string();
        for (text, start) in [
            ("tolerance = -1", "line 1, column 13: tolerance -1 is not"),
            ("[quality.code]\na = 1\nb = inf\n", "line 3, column 5: a quality of inf"),
        ] {
            assert!(message(text).starts_with(start), "{}", message(text));
        }
        assert!(
            message("[quality.code]\na = \"x\"").starts_with("line 2, column 5"),
            "{}",
            message("[quality.code]\na = \"x\"")
        );
        assert!(message("[code]\na = 1").contains("unknown field `code`"), "{}", message("[code]\na = 1"));
    }

    #[test]
    fn good_enough_is_near_the_best() {
        let quality: Quality =
            toml::from_str("[code]\nsmall = 62\nlarge = 63.5\n[facts]\nsmall = 40\nlarge = 70\n").unwrap();
        let suffices = |category, variant, tolerance| {
            quality.suffices(category, variant, ["small", "large", "new"].into_iter(), tolerance)
        };
        assert_eq!([2.0, 1.0].map(|t| suffices(Some("code"), "small", t)), [Some(true), Some(false)]);
        assert_eq!(suffices(Some("facts"), "large", 0.0), Some(true));
        assert_eq!(suffices(Some("facts"), "small", 2.0), Some(false));
        assert_eq!(suffices(Some("code"), "new", 2.0), Some(false), "nothing is known of it");
        assert_eq!((suffices(None, "small", 0.0), suffices(Some("poems"), "small", 0.0)), (None, None));
    }
}
