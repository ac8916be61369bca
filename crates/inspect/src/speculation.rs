//! What drafts cost: predicted times of steps that verify them, and the acceptance from which they pay.

use crate::report::DraftRow;
use crate::subject::{Machine, StepSize, Subject};
use crate::task::step_seconds;

/// Most drafts of a step in the table.
const MOST: u32 = 16;

/// The table for one sequence at the subject's context. Drafts are predicted from the tasks of the subject's plan.
pub(crate) fn table(subject: &Subject<'_>, machine: &Machine) -> Vec<DraftRow> {
    let at = |drafts: u32| {
        let step = StepSize { rows: drafts + 1, seqs: 1, outs: drafts + 1, context: subject.step.context };
        step_seconds(subject, step, machine)
    };
    let plain = at(0);
    let row = |drafts: u32| {
        let predicted_seconds = at(drafts);
        let cost = predicted_seconds / plain;
        DraftRow { drafts, predicted_seconds, cost, break_even: break_even(drafts, cost) }
    };
    (1..=MOST).map(row).collect()
}

/// The chance of acceptance at which `drafts` drafts make as many tokens of a second as none, if each has this chance
/// after accepted ones. `None` if even certain drafts lose.
fn break_even(drafts: u32, cost: f64) -> Option<f64> {
    let tokens = |chance: f64| (0..=drafts).map(|i| chance.powi(i as i32)).sum::<f64>();
    if !cost.is_finite() || tokens(1.0) < cost {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if tokens(middle) < cost { low = middle } else { high = middle }
    }
    Some(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drafts_break_even_where_their_tokens_pay_for_the_step() {
        assert_eq!(break_even(1, 1.0).map(|p| p < 1e-9), Some(true), "what costs nothing always pays");
        let one = break_even(1, 1.25).expect("a draft may pay");
        assert!((one - 0.25).abs() < 1e-9, "{one}");
        let two = break_even(2, 1.75).expect("two may pay");
        assert!((1.0 + two + two * two - 1.75).abs() < 1e-9, "{two}");
        assert_eq!(break_even(1, 2.5), None, "one draft never makes two and a half tokens");
        assert_eq!(break_even(1, f64::NAN), None);
    }
}
