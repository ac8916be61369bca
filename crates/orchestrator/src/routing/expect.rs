//! What a request is expected to take on a variant. Used wherever requests are routed: by the fleet, by benchmarks, by the
//! simulator of traces.

/// A request on a variant, and what it shares it with.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Tokens of the prompt that are not computed yet, and of those that are.
    pub prompt: u32,
    /// Positions that are computed already.
    pub done: u32,
    /// Tokens that are still expected.
    pub output: u32,
    /// Most rows of a step.
    pub rows: u32,
    /// How many times as fast as in plain steps tokens come, with drafts.
    pub gain: f64,
    /// Variants with requests, this one included: each has an equal share of the device.
    pub shares: u32,
}

impl Expected {
    /// Seconds until the last token, if what runs now goes on. `step(rows, positions)` gives the seconds of a step with
    /// these rows of the request at these positions, beside what runs.
    pub fn seconds(&self, mut step: impl FnMut(u32, u32) -> f64) -> f64 {
        let Expected { prompt, done, output, rows, gain, shares } = *self;
        let chunk = rows.min(prompt).max(1);
        // Steps are about linear in their positions, so the mean position stands for all.
        let middle = done.saturating_add(prompt / 2).max(chunk);
        let prefill = if prompt == 0 { 0.0 } else { f64::from(prompt) / f64::from(chunk) * step(chunk, middle) };
        let token = step(1, done.saturating_add(prompt).saturating_add(output / 2).max(1));
        f64::from(shares.max(1)) * (prefill + f64::from(output) / gain.max(1.0) * token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_come_in_chunks_and_tokens_one_by_one() {
        let all = Expected { prompt: 1000, done: 0, output: 100, rows: 500, gain: 1.0, shares: 1 };
        // A row takes 1, a position 0.001.
        let step = |rows: u32, positions: u32| f64::from(rows) + 0.001 * f64::from(positions);
        assert_eq!(all.seconds(step), 2.0 * 500.5 + 100.0 * 2.05);
        assert_eq!(Expected { shares: 2, ..all }.seconds(step), 2.0 * all.seconds(step));
        let drafts = Expected { gain: 2.0, prompt: 0, ..all };
        assert_eq!(drafts.seconds(step), 50.0 * 1.05);
        let moved = Expected { done: 1000, prompt: 0, ..all };
        assert_eq!(moved.seconds(step), 100.0 * 2.05, "what is computed costs nothing again");
    }
}
