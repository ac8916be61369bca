//! Estimates how likely drafts are to be accepted, from counts by length of the drafter's match and position of the
//! draft.
//!
//! A run of drafts ends at the first rejection. The estimate is therefore the chance that draft `j` is accepted given
//! that those before it were. The chance that the first `j` drafts are all accepted is the product, which never rises
//! with `j`. An accepted draft extends the match by one, so draft `j` of a match of `n` tokens belongs to the class of
//! matches of `n + j - 1`. Cells with few trials lean on that class as a whole, and the class on the prior. Old trials
//! decay, so that the estimate follows a changing text.

use crate::drafter::{DrafterKind, Match};

/// Match lengths 0, 1, 2, 3-4, 5-8, 9-16, 17-32, and 33 or more.
const CLASSES: usize = 8;
/// Positions 1, 2, 3-4, 5-8, and 9 or more.
const POSITIONS: usize = 5;
/// Decay constants of a class and a cell, in trials: older trials are weighted down by a factor of e.
const CLASS_MEMORY: f64 = 48.0;
const CELL_MEMORY: f64 = 32.0;
/// Weight of the prior, in trials.
const PRIOR_WEIGHT: f64 = 4.0;
/// Weight of a class in its cells, in trials.
const CLASS_WEIGHT: f64 = 8.0;
/// Decay constant, in steps: without new trials, accumulated counts shrink by a factor of e.
const IDLE_MEMORY: f64 = 256.0;
/// Factor by which the counts of the shared estimate decay more slowly.
const SHARED_FACTOR: f64 = 8.0;

impl DrafterKind {
    /// Prior chance that a draft is accepted after accepted predecessors, by match class.
    fn prior(self) -> [f64; CLASSES] {
        match self {
            DrafterKind::Text => [0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.88, 0.92],
            DrafterKind::Model => [0.6; CLASSES],
        }
    }
}

/// Decayed counts of trials and successes.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    accepted: f64,
    seen: f64,
}

impl Tally {
    fn add(&mut self, accepted: bool, memory: f64) {
        self.fade(1.0 - 1.0 / memory);
        self.accepted += f64::from(u8::from(accepted));
        self.seen += 1.0;
    }

    fn fade(&mut self, keep: f64) {
        self.accepted *= keep;
        self.seen *= keep;
    }

    /// The success rate after adding `weight` trials that succeeded at rate `prior`.
    fn rate(self, prior: f64, weight: f64) -> f64 {
        ((self.accepted + weight * prior) / (self.seen + weight)).clamp(0.0, 1.0)
    }
}

/// The acceptance estimate for one sequence, or shared by all of an engine.
#[derive(Clone, Debug)]
pub struct Acceptance {
    kind: DrafterKind,
    prior: [f64; CLASSES],
    classes: [Tally; CLASSES],
    cells: [[Tally; POSITIONS]; CLASSES],
    /// Factor on the decay constants.
    slowness: f64,
}

/// 0 for 0, 1 for 1, 2 for 2, 3 for 3 and 4, then one more for each doubling.
fn octave(n: u32) -> usize {
    if n == 0 { 0 } else { (33 - (n - 1).leading_zeros()) as usize }
}

fn class_of(matched: Match) -> usize {
    octave(matched.len).min(CLASSES - 1)
}

/// Class of the match at a position (from 1), if the drafts before it are accepted.
fn class_at(matched: Match, position: u32) -> usize {
    class_of(Match { len: matched.len.saturating_add(position.max(1) - 1) })
}

/// Cell of a position, from 1.
fn cell_of(position: u32) -> usize {
    (octave(position.max(1)) - 1).min(POSITIONS - 1)
}

impl Acceptance {
    /// An estimate without any trials.
    pub fn new(kind: DrafterKind) -> Acceptance {
        Acceptance {
            kind,
            prior: kind.prior(),
            classes: [Tally::default(); CLASSES],
            cells: [[Tally::default(); POSITIONS]; CLASSES],
            slowness: 1.0,
        }
    }

    /// The kind of drafter it is for.
    pub fn kind(&self) -> DrafterKind {
        self.kind
    }

    /// An estimate that collects the trials of many sequences, for [`Acceptance::child`].
    pub fn shared(kind: DrafterKind) -> Acceptance {
        Acceptance { slowness: SHARED_FACTOR, ..Acceptance::new(kind) }
    }

    /// An estimate for a new sequence, whose prior is the current state of this one.
    pub fn child(&self) -> Acceptance {
        let mut child = Acceptance::new(self.kind);
        child.prior = std::array::from_fn(|class| self.class_rate(class));
        child
    }

    /// Records that the first `accepted` of `drafted` drafts of a match were right. Drafts that were available but not
    /// part of the step count too, if the step's tokens show whether they would have been accepted.
    pub fn observe(&mut self, matched: Match, drafted: u32, accepted: u32) {
        let class = class_of(matched);
        for position in 1..=drafted.min(accepted.saturating_add(1)) {
            let right = position <= accepted;
            self.classes[class_at(matched, position)].add(right, self.slowness * CLASS_MEMORY);
            self.cells[class][cell_of(position)].add(right, self.slowness * CELL_MEMORY);
        }
    }

    /// Records a step that gave no trial. Counts decay, so that an abandoned drafter eventually gets another chance.
    pub fn idle(&mut self) {
        let keep = 1.0 - 1.0 / (self.slowness * IDLE_MEMORY);
        let cells = self.cells.iter_mut().flatten();
        for tally in self.classes.iter_mut().chain(cells) {
            tally.fade(keep);
        }
    }

    /// Chance in [0, 1] that the draft at `position` (from 1) is accepted, given that those before it are.
    pub fn chance(&self, matched: Match, position: u32) -> f64 {
        let class = self.class_rate(class_at(matched, position));
        self.cells[class_of(matched)][cell_of(position)].rate(class, CLASS_WEIGHT)
    }

    /// Chance in [0, 1] that the first `j` drafts of a match are all accepted. Never rises with `j`; 1 for `j` = 0.
    pub fn survival(&self, matched: Match, j: u32) -> f64 {
        (1..=j).map(|position| self.chance(matched, position)).product()
    }

    fn class_rate(&self, class: usize) -> f64 {
        self.classes[class].rate(self.prior[class], PRIOR_WEIGHT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(len: u32) -> Match {
        Match { len }
    }

    #[test]
    fn classes_and_positions_are_octaves() {
        let classes: Vec<usize> = [0, 1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, u32::MAX].map(|n| class_of(of(n))).to_vec();
        assert_eq!(classes, [0, 1, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]);
        let cells: Vec<usize> = [1, 2, 3, 4, 5, 8, 9, 99].map(cell_of).to_vec();
        assert_eq!(cells, [0, 1, 2, 2, 3, 3, 4, 4]);
    }

    #[test]
    fn rates_are_learnt_for_each_class() {
        let mut acceptance = Acceptance::new(DrafterKind::Text);
        for i in 0..400 {
            acceptance.observe(of(2), 4, if i % 2 == 0 { 0 } else { 4 });
            acceptance.observe(of(12), 4, 4);
        }
        assert!((acceptance.survival(of(2), 1) - 0.5).abs() < 0.1, "{}", acceptance.survival(of(2), 1));
        // Runs that get past the first draft always get through.
        assert!(acceptance.survival(of(2), 4) > 0.3, "{}", acceptance.survival(of(2), 4));
        assert!(acceptance.survival(of(12), 4) > 0.9);
        let unseen = Acceptance::new(DrafterKind::Text);
        assert_eq!(acceptance.survival(of(40), 2), unseen.survival(of(40), 2));
        // Accepted drafts extend matches, so drafts of 4 ended with matches of 5.
        assert!(acceptance.survival(of(5), 1) > unseen.survival(of(5), 1));
    }

    #[test]
    fn old_trials_fade() {
        let mut acceptance = Acceptance::new(DrafterKind::Model);
        for _ in 0..1000 {
            acceptance.observe(of(1), 8, 8);
        }
        assert!(acceptance.survival(of(1), 8) > 0.8);
        for _ in 0..60 {
            acceptance.observe(of(1), 1, 0);
        }
        assert!(acceptance.survival(of(1), 1) < 0.2, "{}", acceptance.survival(of(1), 1));
        for _ in 0..2000 {
            acceptance.idle();
        }
        assert!((acceptance.survival(of(1), 1) - 0.6).abs() < 0.05, "what is old gives way to the prior");
    }

    #[test]
    fn survival_is_a_chance_that_never_rises() {
        let mut bits = 1u64;
        let mut below = |n: u64| {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (bits >> 33) % n
        };
        for kind in [DrafterKind::Text, DrafterKind::Model] {
            let mut acceptance = Acceptance::new(kind);
            for _ in 0..3000 {
                let drafted = below(20) as u32;
                acceptance.observe(of(below(50) as u32), drafted, below(u64::from(drafted) + 3) as u32);
                let matched = of(below(50) as u32);
                let curve: Vec<f64> = (0..24).map(|j| acceptance.survival(matched, j)).collect();
                assert!(curve[0] == 1.0 && curve.iter().all(|p| (0.0..=1.0).contains(p)), "{curve:?}");
                assert!(curve.windows(2).all(|w| w[1] <= w[0]), "{curve:?}");
            }
        }
    }

    #[test]
    fn children_believe_what_others_saw() {
        for kind in [DrafterKind::Text, DrafterKind::Model] {
            let mut shared = Acceptance::shared(kind);
            for _ in 0..500 {
                shared.observe(of(2), 3, 0);
            }
            let mut child = shared.child();
            assert!(child.kind() == kind && child.survival(of(2), 1) < 0.05);
            for _ in 0..30 {
                child.observe(of(2), 3, 3);
            }
            assert!(child.survival(of(2), 1) > 0.7, "but learn for themselves");
        }
    }
}
