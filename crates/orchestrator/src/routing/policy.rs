//! Policies as TOML: which requests go where, and how they are speculated on.

use super::error::PolicyError;
use super::quality::{Quality, QualityTable};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use std::fmt;
use toml::Spanned;

/// A routing policy.
///
/// ```
/// use aio_orchestrator::routing::{Policy, VariantRule};
///
/// let policy = Policy::from_toml(r#"
///     name = "mine"
///     probe = "head"
///     [default]
///     variant = "largest"
///     [[rule]]
///     categories = ["code"]
///     variant = "smallest"
///     speculation = 4
/// "#)?;
/// assert_eq!(policy.rules[0].treatment.variant, VariantRule::Smallest);
/// # Ok::<(), aio_orchestrator::routing::PolicyError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// One line on what it does.
    #[serde(default)]
    pub summary: String,
    /// Where a request's category comes from.
    #[serde(default)]
    pub probe: ProbeKind,
    /// Margin between the best two categories, 0 to 1, below which the probe's answer is ambiguous.
    #[serde(default)]
    pub margin: f64,
    /// The variant of requests with an ambiguous category; by the rules if absent.
    #[serde(default)]
    pub ambiguous: Option<VariantRule>,
    /// Rules, of which the first that matches holds.
    #[serde(default, rename = "rule")]
    pub rules: Vec<Rule>,
    /// What holds where no rule matches.
    pub default: Treatment,
    /// Quality of each variant in each category, for [`VariantRule::Fastest`].
    #[serde(default)]
    pub quality: Quality,
    /// Quality by which a variant may be below the best one and still count as good enough.
    #[serde(default)]
    pub tolerance: f64,
}

/// Where a request's category comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ProbeKind {
    /// Requests have no category.
    #[default]
    None,
    /// The smallest variant's most likely label after the request.
    ZeroShot,
    /// A linear head on the smallest variant's last hidden state.
    Head,
    /// Always the same category.
    Constant(String),
}

/// A rule of a policy.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "WrittenRule")]
pub struct Rule {
    /// The categories that it holds for; all if empty.
    pub categories: Vec<String>,
    /// Minimum positions of prompt and expected output.
    pub min_context: u32,
    /// Maximum positions of prompt and expected output.
    pub max_context: u32,
    /// What is done with these requests.
    pub treatment: Treatment,
}

/// A rule as it is written. `flatten` would lose the place of a wrong value and admit unknown keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    #[serde(default)]
    categories: Vec<String>,
    #[serde(default)]
    min_context: u32,
    #[serde(default = "unbounded")]
    max_context: u32,
    variant: VariantRule,
    #[serde(default)]
    speculation: SpeculationRule,
    #[serde(default)]
    drafter: DraftRule,
}

impl From<WrittenRule> for Rule {
    fn from(rule: WrittenRule) -> Rule {
        let WrittenRule { categories, min_context, max_context, variant, speculation, drafter } = rule;
        Rule { categories, min_context, max_context, treatment: Treatment { variant, speculation, drafter } }
    }
}

fn unbounded() -> u32 {
    u32::MAX
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Treatment {
    /// The variant that it goes to.
    pub variant: VariantRule,
    /// Its speculation.
    #[serde(default)]
    pub speculation: SpeculationRule,
    /// Where its drafts come from.
    #[serde(default)]
    pub drafter: DraftRule,
}

/// A choice among variants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariantRule {
    /// The one with the least weights.
    Smallest,
    /// The one with the most weights.
    Largest,
    /// The one that is expected to finish first, among those that are good enough.
    Fastest,
    /// The one of this name.
    Named(String),
}

/// How a request is speculated on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SpeculationRule {
    /// Not at all.
    Off,
    /// As many drafts as pay.
    #[default]
    Auto,
    /// A fixed number of drafts.
    Fixed(u32),
}

/// Where drafts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DraftRule {
    /// The longest suffix of the text that occurred before.
    #[default]
    Suffix,
    /// The last occurrence of a few tokens.
    Lookup,
}

impl fmt::Display for VariantRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VariantRule::Smallest => "smallest",
            VariantRule::Largest => "largest",
            VariantRule::Fastest => "fastest",
            VariantRule::Named(name) => name,
        })
    }
}

impl fmt::Display for SpeculationRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SpeculationRule::Off => f.write_str("off"),
            SpeculationRule::Auto => f.write_str("auto"),
            SpeculationRule::Fixed(n) => write!(f, "{n}"),
        }
    }
}

impl<'de> Deserialize<'de> for VariantRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<VariantRule, D::Error> {
        let word = String::deserialize(from)?;
        Ok(match word.as_str() {
            "smallest" => VariantRule::Smallest,
            "largest" => VariantRule::Largest,
            "fastest" => VariantRule::Fastest,
            "" => return Err(D::Error::custom("a variant needs a name")),
            _ => VariantRule::Named(word),
        })
    }
}

impl<'de> Deserialize<'de> for ProbeKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ProbeKind, D::Error> {
        let word = String::deserialize(from)?;
        Ok(match (word.as_str(), word.split_once(':')) {
            ("none", _) => ProbeKind::None,
            ("zero-shot", _) => ProbeKind::ZeroShot,
            ("head", _) => ProbeKind::Head,
            (_, Some(("constant", category))) if !category.is_empty() => ProbeKind::Constant(category.to_owned()),
            _ => {
                let message = format!("there is no probe `{word}`; there are none, zero-shot, head, constant:CATEGORY");
                return Err(D::Error::custom(message));
            }
        })
    }
}

/// Most drafts of a fixed number.
const MOST_DRAFTS: u32 = 64;

impl<'de> Deserialize<'de> for SpeculationRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<SpeculationRule, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Value {
            Number(i64),
            Word(String),
        }
        let bad = |value: String| {
            D::Error::custom(format!("speculation cannot be {value}; it is off, auto, or 1 to {MOST_DRAFTS}"))
        };
        match Value::deserialize(from).map_err(|_| bad("of this type".to_owned()))? {
            Value::Word(word) if word == "off" => Ok(SpeculationRule::Off),
            Value::Word(word) if word == "auto" => Ok(SpeculationRule::Auto),
            Value::Word(word) => Err(bad(format!("`{word}`"))),
            Value::Number(n) => match u32::try_from(n) {
                Ok(n) if (1..=MOST_DRAFTS).contains(&n) => Ok(SpeculationRule::Fixed(n)),
                _ => Err(bad(n.to_string())),
            },
        }
    }
}

/// Fields whose values are checked once they have been read, with their places.
#[derive(Deserialize)]
struct Places {
    margin: Option<Spanned<f64>>,
    tolerance: Option<Spanned<f64>>,
    #[serde(default, rename = "rule")]
    rules: Vec<RulePlaces>,
}

#[derive(Deserialize)]
struct RulePlaces {
    max_context: Option<Spanned<u32>>,
}

/// Names and texts of built-in policies.
const BUILT_IN: [(&str, &str); 4] = [
    ("adaptive", include_str!("../../policies/adaptive.toml")),
    ("paper", include_str!("../../policies/paper.toml")),
    ("static-large", include_str!("../../policies/static-large.toml")),
    ("static-small", include_str!("../../policies/static-small.toml")),
];

impl Policy {
    /// Parses TOML text.
    ///
    /// # Errors
    /// [`PolicyError::Form`] with the place.
    pub fn from_toml(text: &str) -> Result<Policy, PolicyError> {
        let at = |offset, message| PolicyError::at(text, offset, message);
        let form = |e| PolicyError::form(text, &e);
        let policy: Policy = toml::from_str(text).map_err(form)?;
        let places: Places = toml::from_str(text).map_err(form)?;
        let between = |value: &Spanned<f64>, most: f64| (0.0..=most).contains(value.get_ref());
        if let Some(margin) = places.margin.filter(|m| !between(m, 1.0)) {
            return Err(at(margin.span().start, format!("margin {} is not between 0 and 1", margin.get_ref())));
        }
        if let Some(tolerance) = places.tolerance.filter(|t| !between(t, f64::MAX)) {
            return Err(at(
                tolerance.span().start,
                format!("tolerance {} is not a number of at least 0", tolerance.get_ref()),
            ));
        }
        for (rule, places) in policy.rules.iter().zip(&places.rules) {
            if let Some(most) = places.max_context.as_ref().filter(|_| rule.max_context < rule.min_context) {
                let message = format!("max_context {} is below min_context {}", rule.max_context, rule.min_context);
                return Err(at(most.span().start, message));
            }
        }
        Ok(policy)
    }

    /// The built-in policy of a name: `adaptive`, `paper`, `static-large` or `static-small`.
    ///
    /// # Errors
    /// [`PolicyError::Unknown`].
    pub fn built_in(name: &str) -> Result<Policy, PolicyError> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Policy::from_toml(text),
            None => {
                let known = Policy::names().collect::<Vec<_>>().join(", ");
                Err(PolicyError::Unknown { name: name.to_owned(), known })
            }
        }
    }

    /// The policy with more measurements. Those of `table` go before its own, and so does its tolerance.
    pub fn with_quality(mut self, table: &QualityTable) -> Policy {
        self.quality.extend(&table.quality);
        self.tolerance = table.tolerance.unwrap_or(self.tolerance);
        self
    }

    /// Names of the built-in policies.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// Checks that each named variant exists.
    ///
    /// # Errors
    /// [`PolicyError::Variant`].
    pub fn check(&self, variants: &[&str]) -> Result<(), PolicyError> {
        let rules = self.rules.iter().map(|rule| &rule.treatment.variant);
        let all = rules.chain([&self.default.variant]).chain(&self.ambiguous);
        for rule in all {
            if let VariantRule::Named(name) = rule
                && !variants.contains(&name.as_str())
            {
                let (policy, variants) = (self.name.clone(), variants.join(", "));
                return Err(PolicyError::Variant { policy, name: name.clone(), variants });
            }
        }
        Ok(())
    }

    /// What the policy does with requests of a category and a number of positions.
    pub fn treatment(&self, category: Option<&str>, context: u32) -> &Treatment {
        let matches = |rule: &&Rule| {
            let known = category.is_some_and(|c| rule.categories.iter().any(|own| own == c));
            (rule.categories.is_empty() || known) && (rule.min_context..=rule.max_context).contains(&context)
        };
        self.rules.iter().find(matches).map_or(&self.default, |rule| &rule.treatment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_policies_parse_and_have_their_names() {
        for name in Policy::names() {
            let policy = Policy::built_in(name).unwrap();
            assert_eq!(policy.name, name);
            assert!(!policy.summary.is_empty());
            policy.check(&[]).unwrap();
        }
        assert_eq!(
            Policy::built_in("fast").unwrap_err().to_string(),
            "there is no policy `fast`; there are adaptive, paper, static-large, static-small"
        );
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let text = r#"
            name = "p"
            [default]
            variant = "largest"
            [[rule]]
            categories = ["code", "math"]
            max_context = 4096
            variant = "smallest"
            speculation = 3
            drafter = "lookup"
            [[rule]]
            min_context = 16384
            variant = "mid"
            speculation = "off"
        "#;
        let policy = Policy::from_toml(text).unwrap();
        let variant = |category, context| policy.treatment(category, context).variant.to_string();
        assert_eq!(variant(Some("code"), 4096), "smallest");
        assert_eq!(variant(Some("code"), 4097), "largest");
        assert_eq!(variant(None, 100), "largest");
        assert_eq!(variant(Some("math"), 20_000), "mid");
        let first = &policy.rules[0].treatment;
        assert_eq!((first.speculation, first.drafter), (SpeculationRule::Fixed(3), DraftRule::Lookup));
        assert_eq!(policy.check(&["small", "mid"]), Ok(()));
        let error = policy.check(&["small", "large"]).unwrap_err();
        assert_eq!(error.to_string(), "policy `p` names variant `mid`; there are small, large");
    }

    #[test]
    fn errors_have_line_and_column() {
        let cases = [
            ("name = 1", "line 1, column 8: invalid type: integer `1`, expected a string"),
            ("name = \"p\"\nnmae = 2\n[default]\nvariant = \"largest\"", "line 2, column 1: unknown field `nmae`"),
            ("name = \"p\"\n[default]\nvariant = \"\"", "line 3, column 11: a variant needs a name"),
            ("name = \"p\"\nmargin = 1.5\n[default]\nvariant = \"largest\"", "line 2, column 10: margin 1.5"),
            ("name = \"p\"\nmargin = nan\n[default]\nvariant = \"largest\"", "line 2, column 10: margin NaN"),
            ("name = \"p\"\ntolerance = -1.0\n[default]\nvariant = \"largest\"", "line 2, column 13: tolerance -1"),
            (
                "name = \"p\"\nprobe = \"guess\"\n[default]\nvariant = \"largest\"",
                "line 2, column 9: there is no probe `guess`; there are",
            ),
            (
                "name = \"p\"\n[default]\nvariant = \"largest\"\nspeculation = 65",
                "line 4, column 15: speculation cannot be 65; it is off",
            ),
            (
                "name = \"p\"\n[default]\nvariant = \"largest\"\n[[rule]]\nvariant = \"smallest\"\nmin_context = 9\nmax_context = 8",
                "line 7, column 15: max_context 8 is below min_context 9",
            ),
            ("name = \"p\"", "line 1, column 1: missing field `default`"),
            (
                "name = \"p\"\n[default]\nvariant = \"largest\"\nspeculaton = \"off\"",
                "line 4, column 1: unknown field `speculaton`",
            ),
            (
                "name = \"p\"\n[default]\nvariant = \"largest\"\n[[rule]]\nvariant = \"smallest\"\nspeculation = 65",
                "line 6, column 15: speculation cannot be 65; it is off",
            ),
            (
                "name = \"p\"\n[default]\nvariant = \"largest\"\n[[rule]]\nvariant = \"smallest\"\ncategory = \"code\"",
                "line 6, column 1: unknown field `category`",
            ),
        ];
        for (text, want) in cases {
            let message = Policy::from_toml(text).unwrap_err().to_string();
            assert!(message.starts_with(want), "{message}\n{want}");
        }
    }
}
