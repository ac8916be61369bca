//! How much of a text repeats itself or its prompt, which is what text-based drafters rely on.

use std::collections::HashSet;

/// Length in tokens of a run that counts as repeated.
const RUN: usize = 8;

/// For each token, whether it is part of a run of 8 that occurred earlier in the text.
pub(super) fn repeated(ids: &[u32]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let mut marks = vec![false; ids.len()];
    for (start, run) in ids.windows(RUN).enumerate() {
        if !seen.insert(run) {
            marks[start..start + RUN].fill(true);
        }
    }
    marks
}

/// Number of runs of 8 tokens that also occur in the prompt, and the total number of runs.
pub(super) fn from_prompt(ids: &[u32], prompt: &[u32]) -> (usize, usize) {
    let known: HashSet<&[u32]> = prompt.windows(RUN).collect();
    let found = ids.windows(RUN).filter(|run| known.contains(run)).count();
    (found, ids.windows(RUN).len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_repeated_from_its_second_run_on() {
        let ids: Vec<u32> = (0..10).chain(0..9).chain([99]).collect();
        let marks = repeated(&ids);
        assert_eq!(marks.iter().filter(|m| **m).count(), 9);
        assert!(marks[10..19].iter().all(|m| *m) && !marks[19]);
        assert_eq!(repeated(&[7; 9]), [false, true, true, true, true, true, true, true, true]);
        assert!(repeated(&[1, 2, 3]).iter().all(|m| !m));
    }

    #[test]
    fn what_stands_in_the_prompt_is_counted() {
        let prompt: Vec<u32> = (0..20).collect();
        let ids: Vec<u32> = (5..15).chain([77]).collect();
        assert_eq!(from_prompt(&ids, &prompt), (3, 4));
        assert_eq!(from_prompt(&[1, 2], &prompt), (0, 0));
    }
}
