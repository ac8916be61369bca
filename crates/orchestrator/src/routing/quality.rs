//! Measured quality of variants by category.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Quality of variants by category: categories, then variants, then a number of which more is better.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Quality(pub BTreeMap<String, BTreeMap<String, f64>>);

impl Quality {
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
        let category = category?;
        let best = variants.filter_map(|v| self.of(category, v)).fold(f64::NEG_INFINITY, f64::max);
        (best > f64::NEG_INFINITY).then(|| self.of(category, variant).is_some_and(|own| own + tolerance >= best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
