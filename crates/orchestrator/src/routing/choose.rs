//! Chooses the variant of a request.

use super::policy::{DraftRule, Policy, SpeculationRule, VariantRule};
use serde::Serialize;
use smallvec::SmallVec;
use std::fmt;

/// Factor on the expected seconds that must still fit the deadline: steps vary, and others may arrive.
const HEADROOM: f64 = 1.25;

/// What a probe says of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probed<'a> {
    /// The likeliest category.
    pub category: &'a str,
    /// Its probability less that of the next one, 0 to 1.
    pub margin: f64,
}

/// A request that is to be routed.
#[derive(Clone, Copy, Debug)]
pub struct RouteRequest<'a> {
    /// What the probe says, if there is one.
    pub probed: Option<Probed<'a>>,
    /// The variant that it must have, whatever the policy says.
    pub variant: Option<&'a str>,
    /// Positions of the prompt and of the expected output.
    pub context: u32,
    /// Seconds in which it should be finished; infinite if it may take as long as it takes.
    pub within: f64,
}

/// A variant at this moment.
#[derive(Clone, Copy, Debug)]
pub struct VariantNow<'a> {
    /// Its name.
    pub name: &'a str,
    /// Bytes of its weights.
    pub weight_bytes: u64,
    /// Expected seconds until it would have finished the request.
    pub seconds: f64,
    /// Whether it has memory for the request.
    pub room: Room,
}

/// Memory of a variant for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Room {
    /// It is not loaded, or its memory could not hold the request if nothing else ran.
    Never,
    /// Others have to end first.
    Later,
    /// There is room.
    Now,
}

/// The reason for a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteReason {
    /// The request asks for it.
    Asked,
    /// The policy's rule says so.
    Rule,
    /// The probe's answer was ambiguous.
    Ambiguous,
    /// It is the fastest that is good enough.
    Fastest,
    /// No variant that is good enough is sure to finish in time, so the largest that is was taken, or the fastest.
    Late,
    /// The policy's variant has no memory for the request.
    Full,
}

/// A variant that was not taken.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    /// Index of the variant.
    pub variant: usize,
    /// Expected seconds.
    pub seconds: f64,
    /// Why it was not taken.
    pub why: &'static str,
    /// Its quality and the least that is good enough, if it is not and both were measured.
    pub quality: Option<[f64; 2]>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Index of the variant.
    pub variant: usize,
    /// Its expected seconds.
    pub seconds: f64,
    /// Whether the request has to wait for memory.
    pub waits: bool,
    /// How it is speculated on.
    pub speculation: SpeculationRule,
    /// Where its drafts come from.
    pub drafter: DraftRule,
    /// The reason.
    pub reason: RouteReason,
    /// The other variants.
    pub rejected: SmallVec<[Rejected; 4]>,
}

impl fmt::Display for RouteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouteReason::Asked => "asked for",
            RouteReason::Rule => "the policy's rule",
            RouteReason::Ambiguous => "the category is ambiguous",
            RouteReason::Fastest => "the fastest that is good enough",
            RouteReason::Late => "no good enough variant is sure to be in time",
            RouteReason::Full => "the policy's variant has no room",
        })
    }
}

impl Policy {
    /// Chooses a variant. `None` if none has ever room for the request, or the one that it asks for has not. That one and a
    /// rule's are waited for; otherwise one that has room now goes before one that has to be waited for.
    pub fn route(&self, request: &RouteRequest<'_>, variants: &[VariantNow<'_>]) -> Option<Route> {
        let category = request.probed.map(|p| p.category);
        let treatment = self.treatment(category, request.context);
        let unsure = request.probed.filter(|p| p.margin < self.margin).and(self.ambiguous.as_ref());
        let asked = request.variant.map(|name| VariantRule::Named(name.to_owned()));
        let (rule, said) = match unsure {
            _ if asked.is_some() => (asked.as_ref()?, RouteReason::Asked),
            // Only the largest is surely good enough, but a deadline still counts.
            Some(VariantRule::Largest) if treatment.variant == VariantRule::Fastest => {
                (&treatment.variant, RouteReason::Ambiguous)
            }
            Some(rule) => (rule, RouteReason::Ambiguous),
            None => (&treatment.variant, RouteReason::Rule),
        };
        let size = |i: &usize| variants[*i].weight_bytes;
        let (wanted, reason) = match rule {
            VariantRule::Smallest => ((0..variants.len()).min_by_key(size), said),
            VariantRule::Largest => ((0..variants.len()).max_by_key(size), said),
            VariantRule::Named(name) => (variants.iter().position(|v| v.name == name), said),
            VariantRule::Fastest => {
                let known = category.filter(|_| unsure.is_none());
                let (wanted, reason) = self.fastest(known, request.within, variants);
                (wanted, if unsure.is_some() && reason == RouteReason::Fastest { said } else { reason })
            }
        };
        let taken = wanted.filter(|&i| variants[i].room > Room::Never);
        let (variant, reason) = match taken {
            Some(variant) => (variant, reason),
            None if asked.is_some() => return None,
            None => (soonest(with_room(variants), variants)?, RouteReason::Full),
        };
        let rejected = self.rejected(category.filter(|_| unsure.is_none()), variant, reason, variants);
        let (speculation, drafter) = (treatment.speculation, treatment.drafter);
        let VariantNow { seconds, room, .. } = variants[variant];
        Some(Route { variant, seconds, waits: room == Room::Later, speculation, drafter, reason, rejected })
    }

    /// Whether a variant is good enough. Where nothing was measured, only the largest is.
    fn suffices(&self, category: Option<&str>, variant: &VariantNow<'_>, variants: &[VariantNow<'_>]) -> bool {
        let known = self.quality.suffices(category, variant.name, variants.iter().map(|v| v.name), self.tolerance);
        known.unwrap_or_else(|| variants.iter().all(|v| v.weight_bytes <= variant.weight_bytes))
    }

    /// The variant that finishes first among those that are good enough. If it would hardly be in time, the largest that
    /// surely is; if none is, the fastest of all, unless the good one is expected in time after all.
    fn fastest(
        &self,
        category: Option<&str>,
        within: f64,
        variants: &[VariantNow<'_>],
    ) -> (Option<usize>, RouteReason) {
        let good = with_room(variants).filter(|&i| self.suffices(category, &variants[i], variants));
        let Some(good) = soonest(good, variants) else { return (None, RouteReason::Fastest) };
        let surely = |i: usize| variants[i].seconds * HEADROOM <= within && variants[i].room == Room::Now;
        // Without a deadline, it is waited for.
        if surely(good) || within == f64::INFINITY {
            return (Some(good), RouteReason::Fastest);
        }
        let others = with_room(variants).filter(|&i| surely(i)).max_by_key(|&i| variants[i].weight_bytes);
        let in_time = variants[good].seconds <= within && variants[good].room == Room::Now;
        let other = others.or_else(|| soonest(with_room(variants), variants).filter(|_| !in_time));
        match other.filter(|&other| other != good) {
            Some(other) => (Some(other), RouteReason::Late),
            None => (Some(good), RouteReason::Fastest),
        }
    }

    fn rejected(
        &self,
        category: Option<&str>,
        taken: usize,
        reason: RouteReason,
        variants: &[VariantNow<'_>],
    ) -> SmallVec<[Rejected; 4]> {
        let why = |v: &VariantNow<'_>| match reason {
            _ if v.room == Room::Never => "no room",
            RouteReason::Fastest if v.room == Room::Later => "its memory is taken",
            RouteReason::Asked => "another was asked for",
            RouteReason::Rule => "not the policy's",
            RouteReason::Ambiguous => "not for an ambiguous request",
            RouteReason::Full => "not chosen in its place",
            _ if !self.suffices(category, v, variants) => "not good enough",
            RouteReason::Late => "may be late",
            _ => "slower",
        };
        let quality = |v: &VariantNow<'_>| {
            let category = category?;
            let needed = self.quality.needed(category, variants.iter().map(|v| v.name), self.tolerance)?;
            Some([self.quality.of(category, v.name)?, needed]).filter(|[own, needed]| own < needed)
        };
        let others = variants.iter().enumerate().filter(|(i, _)| *i != taken);
        others.map(|(variant, v)| Rejected { variant, seconds: v.seconds, why: why(v), quality: quality(v) }).collect()
    }
}

/// The variant that finishes first; one that has room now goes before one that has to be waited for.
fn soonest(of: impl Iterator<Item = usize>, variants: &[VariantNow<'_>]) -> Option<usize> {
    let later = |i: usize| variants[i].room != Room::Now;
    of.min_by(|&a, &b| later(a).cmp(&later(b)).then(variants[a].seconds.total_cmp(&variants[b].seconds)))
}

/// Variants that have room for the request, now or later.
fn with_room(variants: &[VariantNow<'_>]) -> impl Iterator<Item = usize> {
    (0..variants.len()).filter(|&i| variants[i].room > Room::Never)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variant(name: &'static str, weight_bytes: u64, seconds: f64) -> VariantNow<'static> {
        VariantNow { name, weight_bytes, seconds, room: Room::Now }
    }

    fn request(category: &'static str, margin: f64, within: f64) -> RouteRequest<'static> {
        RouteRequest { probed: Some(Probed { category, margin }), variant: None, context: 1000, within }
    }

    fn policy(default: &str) -> Policy {
        let text = format!(
            "name = \"p\"\nmargin = 0.2\nambiguous = \"largest\"\ntolerance = 1.0\n[default]\nvariant = \"{default}\"\n\
             [quality.code]\nsmall = 60\nlarge = 60.5\n[quality.facts]\nsmall = 40\nlarge = 70\n"
        );
        Policy::from_toml(&text).unwrap()
    }

    #[test]
    fn rules_ambiguity_and_room() {
        let (small, large) = (variant("small", 2, 1.0), variant("large", 14, 3.0));
        let taken = |route: Option<Route>| route.map(|r| (r.variant, r.reason));
        let p = policy("smallest");
        assert_eq!(taken(p.route(&request("code", 0.5, 9.0), &[large, small])), Some((1, RouteReason::Rule)));
        assert_eq!(taken(p.route(&request("code", 0.1, 9.0), &[large, small])), Some((0, RouteReason::Ambiguous)));
        let full = VariantNow { room: Room::Never, ..small };
        let route = p.route(&request("code", 0.5, 9.0), &[large, full]).unwrap();
        assert_eq!((route.variant, route.reason, route.rejected[0].why), (0, RouteReason::Full, "no room"));
        assert_eq!(p.route(&request("code", 0.5, 9.0), &[full]), None);
        let busy = VariantNow { room: Room::Later, ..small };
        let route = p.route(&request("code", 0.5, 9.0), &[large, busy]).unwrap();
        assert_eq!((route.variant, route.waits, route.reason), (1, true, RouteReason::Rule), "a rule waits");
        let route = policy("fastest").route(&request("code", 0.5, 9.0), &[large, busy]).unwrap();
        assert_eq!((route.variant, route.waits), (0, false), "the fastest is one that has room now");
        let asks = |variant| RouteRequest { variant: Some(variant), ..request("code", 0.1, 9.0) };
        assert_eq!(taken(p.route(&asks("large"), &[small, large])), Some((1, RouteReason::Asked)));
        assert_eq!(p.route(&asks("small"), &[full, large]), None, "no other in its place");
        // Without a deadline, the good one is waited for.
        let later = VariantNow { room: Room::Later, ..large };
        let waits = policy("fastest").route(&request("facts", 0.5, f64::INFINITY), &[small, later]).unwrap();
        assert_eq!((waits.variant, waits.waits, waits.reason), (1, true, RouteReason::Fastest));
        let hurries = policy("fastest").route(&request("facts", 0.5, 9.0), &[small, later]).unwrap();
        assert_eq!((hurries.variant, hurries.reason), (0, RouteReason::Late));
        assert_eq!(policy("large").route(&request("x", 0.5, 9.0), &[small, large]).unwrap().variant, 1);
    }

    #[test]
    fn the_fastest_that_is_good_enough_unless_it_is_late() {
        let p = policy("fastest");
        let route = |category, within, small: f64, large: f64| {
            let variants = [variant("small", 2, small), variant("large", 14, large)];
            let route = p.route(&request(category, 0.9, within), &variants).unwrap();
            (route.variant, route.reason, route.rejected[0].why)
        };
        assert_eq!(route("code", 9.0, 1.0, 3.0), (0, RouteReason::Fastest, "slower"));
        assert_eq!(route("code", 9.0, 5.0, 3.0), (1, RouteReason::Fastest, "slower"), "the small one is busy");
        assert_eq!(route("facts", 9.0, 1.0, 3.0), (1, RouteReason::Fastest, "not good enough"));
        assert_eq!(route("facts", 2.0, 1.0, 3.0), (0, RouteReason::Late, "may be late"));
        assert_eq!(route("facts", 2.0, 4.0, 3.0), (1, RouteReason::Fastest, "not good enough"));
        assert_eq!(route("facts", 0.5, 1.0, 3.0), (0, RouteReason::Late, "may be late"), "none is in time");
        let mid = VariantNow { name: "mid", weight_bytes: 7, seconds: 1.5, room: Room::Now };
        let three = [variant("small", 2, 1.0), mid, variant("large", 14, 3.0)];
        let late = p.route(&request("facts", 0.9, 2.0), &three).unwrap();
        assert_eq!((late.variant, late.reason), (1, RouteReason::Late), "the largest that is in time");
        assert_eq!(route("facts", 3.2, 1.0, 3.0), (0, RouteReason::Late, "may be late"), "it would hardly be in time");
        assert_eq!(route("facts", 3.2, 2.8, 3.0), (1, RouteReason::Fastest, "not good enough"), "no other is surer");
        assert_eq!(
            route("code", 1.0, 0.9, 0.95),
            (0, RouteReason::Fastest, "slower"),
            "the good one is as sure as any"
        );
        let unsure = |within| {
            let variants = [variant("small", 2, 1.0), variant("large", 14, 3.0)];
            let route = p.route(&request("code", 0.1, within), &variants).unwrap();
            (route.variant, route.reason, route.rejected[0].why)
        };
        assert_eq!(unsure(9.0), (1, RouteReason::Ambiguous, "not for an ambiguous request"));
        assert_eq!(
            unsure(2.0),
            (0, RouteReason::Late, "may be late"),
            "a deadline counts for an ambiguous request, too"
        );
        assert_eq!(route("poems", 9.0, 1.0, 3.0), (1, RouteReason::Fastest, "not good enough"), "nothing was measured");
    }
}
