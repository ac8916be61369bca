//! What became of drafts, counted.

/// Counts of one request's speculation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpeculationStats {
    /// Steps after the first token, with drafts or without.
    pub steps: u64,
    /// Tokens that were drafted and verified, those after the end of the output included.
    pub drafted: u64,
    /// Those that were right.
    pub accepted: u64,
    /// By position in the draft: how often one was verified there whose forerunners were right, and how often it was right.
    pub by_position: Vec<[u64; 2]>,
    /// By length of the draft: how many steps had it.
    pub by_length: Vec<u64>,
    /// Why there were no drafts any more: the drafter failed.
    pub failure: Option<String>,
}

impl SpeculationStats {
    /// Counts a step with `drafted` drafts, the first `accepted` of which were right; `ended`: the last of these ended the
    /// output, so that of the one after it nobody knows.
    pub(super) fn add(&mut self, drafted: usize, accepted: usize, ended: bool) {
        self.steps += 1;
        self.drafted += drafted as u64;
        self.accepted += accepted as u64;
        if self.by_length.len() <= drafted {
            self.by_length.resize(drafted + 1, 0);
        }
        self.by_length[drafted] += 1;
        if self.by_position.len() < drafted {
            self.by_position.resize(drafted, [0; 2]);
        }
        let known = accepted + usize::from(!ended);
        for (i, [tried, right]) in self.by_position[..drafted].iter_mut().enumerate().take(known) {
            *tried += 1;
            *right += u64::from(i < accepted);
        }
    }

    /// Tokens a step gave, on average.
    pub fn tokens_per_step(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { 1.0 + self.accepted as f64 / self.steps as f64 }
    }

    /// The share of drafts that were right.
    pub fn acceptance(&self) -> f64 {
        if self.drafted == 0 { 0.0 } else { self.accepted as f64 / self.drafted as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_after_a_wrong_draft_are_not_counted() {
        let mut stats = SpeculationStats::default();
        stats.add(3, 1, false);
        stats.add(0, 0, false);
        stats.add(2, 2, false);
        assert_eq!(stats.by_position, [[2, 2], [2, 1], [0, 0]]);
        assert_eq!(stats.by_length, [1, 0, 1, 1]);
        assert_eq!((stats.steps, stats.drafted, stats.accepted), (3, 5, 3));
        assert_eq!(stats.tokens_per_step(), 2.0);
    }

    #[test]
    fn drafts_after_the_end_of_the_output_are_not_wrong() {
        let mut stats = SpeculationStats::default();
        stats.add(16, 3, true);
        assert_eq!(stats.by_position[..4], [[1, 1], [1, 1], [1, 1], [0, 0]]);
        assert_eq!((stats.drafted, stats.accepted), (16, 3));
    }
}
