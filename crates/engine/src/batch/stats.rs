//! Statistics of drafts.

/// Speculation statistics of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpeculationStats {
    /// Steps after the first token, with or without drafts.
    pub steps: u64,
    /// Tokens drafted and verified, including those after the end of the output.
    pub drafted: u64,
    /// Drafts accepted.
    pub accepted: u64,
    /// By position in the draft: how many were verified after only accepted ones, and how many of these were accepted.
    pub by_position: Vec<[u64; 2]>,
    /// Number of steps by draft length.
    pub by_length: Vec<u64>,
    /// Why drafting stopped, if the drafter failed.
    pub failure: Option<String>,
}

impl SpeculationStats {
    /// Records a step with `drafted` drafts, the first `accepted` of which were right. `ended`: the last of these ended
    /// the output, so the one after it was never judged.
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

    /// Average tokens per step.
    pub fn tokens_per_step(&self) -> f64 {
        if self.steps == 0 { 0.0 } else { 1.0 + self.accepted as f64 / self.steps as f64 }
    }

    /// The share of drafts that were accepted.
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
