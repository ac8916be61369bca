//! The configurations that take turns on one workload, and how their times compare.

use super::repeats::{from_prompt, repeated};
use super::run::TextRun;
use crate::args::{DispatchArg, DrafterArg};
use crate::bench::stats::median;
use aio::engine::Speculation;
use aio::orchestrator::Speculator;

/// A way to generate: dispatch, drafts, drafter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    pub spec: Speculation,
    /// Source of drafts; `None` without drafts.
    pub drafter: Option<DrafterArg>,
}

/// A configuration and its measurements.
pub(super) struct Entry {
    pub config: Config,
    /// Its speculation state. Not shared, so its figures do not depend on what else is measured.
    pub learned: Speculator,
    /// Runs of all prompts, round by round.
    pub runs: Vec<TextRun>,
    /// Number of texts that differ from plain decoding.
    pub mismatches: u32,
}

/// Configurations that take turns; the first generates without drafts.
pub(super) struct Group {
    /// Index in the list of workloads.
    pub workload: usize,
    pub dispatch: DispatchArg,
    pub prompts: usize,
    pub rounds: u32,
    pub temperature: f32,
    /// Tokens of each prompt.
    pub prompt_ids: Vec<Vec<u32>>,
    pub entries: Vec<Entry>,
}

/// An entry's times relative to those without drafts.
pub(super) struct Ratios {
    /// Seconds without drafts divided by seconds with them, for each prompt and round.
    pub pairs: Vec<f64>,
    /// The same, excluding tokens that repeat the text.
    pub without_repeats: Vec<f64>,
    /// Seconds to the first token, divided by those without drafts.
    pub prefill: Vec<f64>,
}

impl Group {
    /// Compares an entry's runs with those of plain decoding in the same round.
    pub(super) fn ratios(&self, entry: &Entry) -> Ratios {
        let mut ratios = Ratios { pairs: Vec::new(), without_repeats: Vec::new(), prefill: Vec::new() };
        for run in &entry.runs {
            let same = |r: &&TextRun| (r.prompt, r.round) == (run.prompt, run.round);
            let Some(plain) = self.entries[0].runs.iter().find(same) else { continue };
            let by = |a: f64, b: f64| if a > 0.0 && b > 0.0 { Some(a / b) } else { None };
            ratios.pairs.extend(by(plain.seconds(), run.seconds()));
            ratios.prefill.extend(by(run.prefill_s, plain.prefill_s));
            if plain.ids == run.ids {
                let marks = repeated(&plain.ids);
                ratios.without_repeats.extend(by(plain.unmarked_seconds(&marks), run.unmarked_seconds(&marks)));
            }
        }
        ratios
    }

    /// The share of the output's tokens that repeat the output, and the share of its runs that occur in the prompt.
    pub(super) fn shares(&self) -> (f64, f64) {
        let mut sums = [0; 4];
        for run in self.entries[0].runs.iter().filter(|r| r.round == 0) {
            let (found, runs) = from_prompt(&run.ids, &self.prompt_ids[run.prompt]);
            let marks = repeated(&run.ids).iter().filter(|m| **m).count();
            for (sum, n) in sums.iter_mut().zip([marks, run.ids.len(), found, runs]) {
                *sum += n;
            }
        }
        let share = |part: usize, all: usize| if all == 0 { 0.0 } else { part as f64 / all as f64 };
        (share(sums[0], sums[1]), share(sums[2], sums[3]))
    }

    /// The fixed number of drafts with the highest median ratio.
    pub(super) fn best_fixed(&self, drafter: DrafterArg) -> Option<usize> {
        let fixed = self.entries.iter().filter(|e| e.config.drafter == Some(drafter)).filter_map(|e| {
            let Speculation::Fixed(k) = e.config.spec else { return None };
            Some((median(&self.ratios(e).pairs), k))
        });
        fixed.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, k)| k)
    }
}
