//! The results of a list of cases, in figures. Made of the driver's reports, for whoever shows them.

use crate::driver::Report;
use crate::outcome::Outcome;
use std::collections::BTreeMap;
use std::fmt;

/// Counts of outcomes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Cases that passed.
    pub passed: usize,
    /// How many cases the device does not support, by kind and reason.
    pub unsupported: BTreeMap<String, usize>,
    /// Cases that failed.
    pub failed: Vec<Report>,
}

impl FromIterator<Report> for Summary {
    fn from_iter<I: IntoIterator<Item = Report>>(reports: I) -> Summary {
        let mut summary = Summary::default();
        for report in reports {
            match &report.outcome {
                Outcome::Pass { .. } => summary.passed += 1,
                Outcome::Unsupported { kind, reason } => {
                    *summary.unsupported.entry(format!("{kind}: {reason}")).or_default() += 1;
                }
                Outcome::Fail(_) => summary.failed.push(report),
            }
        }
        summary
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unsupported: usize = self.unsupported.values().sum();
        writeln!(f, "{} passed, {unsupported} unsupported, {} failed", self.passed, self.failed.len())?;
        for (reason, count) in &self.unsupported {
            writeln!(f, "  {count} unsupported, {reason}")?;
        }
        for report in &self.failed {
            writeln!(f, "  {}: {}", report.case, report.outcome)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_plan::KindName;

    #[test]
    fn reports_are_counted_by_outcome_and_reason() {
        let lacking = || Outcome::Unsupported { kind: "op", reason: "none".to_owned() };
        let outcomes = [Outcome::Pass { nmse: 0.0 }, lacking(), lacking()];
        let report = |outcome| Report { case: "c".to_owned(), kind: KindName::Linear, outcome };
        let summary: Summary = outcomes.into_iter().map(report).collect();
        let shown = summary.to_string();
        assert_eq!(shown, "1 passed, 2 unsupported, 0 failed\n  2 unsupported, op: none\n");
    }
}
