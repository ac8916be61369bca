//! Bursts: many steps of one sequence in one launch. The device itself drafts, accepts and decides where the output
//! ends.
//!
//! Bursts are optional: a device without them says why ([`Device::load_burst`](crate::Device::load_burst)), and the
//! caller runs single steps instead. The tokens are the same as those of plain steps, whatever the drafts are;
//! [`Burst`] has the contract. Called by the engine.

use crate::DeviceError;
use aio_ir::sampling::SampleParams;
use aio_plan::StepTime;

/// The sequence of a burst and the limits of the run.
#[derive(Clone, Copy, Debug)]
pub struct BurstRequest<'a> {
    /// Tokens of the sequence, at least one. All except the last have run: their keys and values are in `pages`.
    pub history: &'a [u32],
    /// Pages of the sequence in order of position, enough for `history.len() + budget - 1` positions. The pages also
    /// limit the drafts.
    pub pages: &'a [u32],
    /// Maximum number of tokens to generate, at least 1.
    pub budget: u32,
    /// Tokens that end the output. The one that does is included as the last token.
    pub stops: &'a [u32],
    /// Maximum drafts per step; 0 runs a plain loop. See [`Burst::most_drafts`]. A step never has more drafts than tokens
    /// are still wanted after its own.
    pub drafts: u32,
    /// Sampling parameters, ignored by a plan whose tail is the arg-max.
    pub sampling: BurstSampling,
}

/// The sampling parameters that the engine would bind for a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstSampling {
    /// Parameters of the sampling chain.
    pub params: SampleParams,
    /// Seed of the noise.
    pub seed: u64,
    /// Which of several choices with the same seed.
    pub choice: u32,
    /// Number of recent tokens that penalties apply to.
    pub look_back: u32,
}

/// Statistics of one step of a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BurstStep {
    /// Number of drafts verified.
    pub drafted: u32,
    /// Number of drafts accepted, counting any past the end of the output.
    pub accepted: u32,
}

/// Why a burst ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurstEnd {
    /// The token budget, or the device's limit for one burst, was used up.
    Budget,
    /// A stop token was generated.
    Stop,
    /// The caller cancelled the burst.
    Cancelled,
}

/// What a burst took, and why it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstReport {
    /// Why it ended.
    pub end: BurstEnd,
    /// From its submission to its end, as the device measured or modelled it.
    pub time: StepTime,
    /// Seconds of this that its steps did not take, if the device can tell.
    pub launch: Option<f64>,
}

impl BurstReport {
    /// The report of a burst that took `seconds`, of which `first` seconds passed before its first `tokens` tokens were
    /// seen. The steps after these tell how long a step takes.
    pub fn measured(end: BurstEnd, seconds: f64, (first, tokens): (f64, usize), steps: &[BurstStep]) -> BurstReport {
        let mut seen = 0;
        let before = steps.iter().take_while(|step| {
            let earlier = seen < tokens;
            seen += step.accepted as usize + 1;
            earlier
        });
        let before = before.count();
        let after = steps.len().checked_sub(before).filter(|after| *after > 0);
        let launch = after.map(|after| (first - before as f64 * (seconds - first) / after as f64).max(0.0));
        BurstReport { end, time: StepTime::Measured(seconds), launch }
    }
}

/// A plan that is ready to run bursts.
///
/// The tokens are exactly those of single steps with the same plan family, sampling and seed. Afterwards the states
/// hold keys and values of all tokens except the last; positions past those may have been written too, but nothing
/// reads them. After an error the states are unchanged up to the first position that the burst would have written.
pub trait Burst: Send {
    /// Maximum drafts per step; requests for more get as many.
    fn most_drafts(&self) -> u32;

    /// Runs a burst and waits for it. `show` receives the tokens as they arrive, several at a time. If it returns
    /// `false`, the burst ends after the current step, and later tokens are not shown. `steps` is cleared and filled
    /// with one record per step.
    ///
    /// # Errors
    /// [`DeviceError::Binding`] if the request does not fit, in which case nothing has run; [`DeviceError::Failed`].
    fn run(
        &mut self,
        request: &BurstRequest<'_>,
        show: &mut dyn FnMut(&[u32]) -> bool,
        steps: &mut Vec<BurstStep>,
    ) -> Result<BurstReport, DeviceError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_launch_is_what_the_later_steps_do_not_explain() {
        let steps = [[3, 3], [3, 1], [0, 0], [0, 0]].map(|[drafted, accepted]| BurstStep { drafted, accepted });
        let launch = |first, tokens| BurstReport::measured(BurstEnd::Budget, 10.0, (first, tokens), &steps).launch;
        // The first four tokens are those of one step, the first six those of two.
        assert_eq!(launch(4.0, 4), Some(2.0));
        assert_eq!(launch(8.0, 6), Some(6.0));
        assert_eq!(launch(2.0, 1), Some(0.0));
        assert_eq!(launch(9.0, 8), None, "all tokens came at once");
    }
}
