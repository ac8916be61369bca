//! Bursts: many steps of one sequence in one launch, with drafts, acceptance and the end of the output decided on the device.
//!
//! Optional: a device that has none says why ([`Device::load_burst`](crate::Device::load_burst)), and its caller goes step by
//! step. The tokens are those of plain steps, whatever the drafts do; [`Burst`] has the contract. Called by the engine.

use crate::DeviceError;
use aio_ir::sampling::SampleParams;

/// One sequence and how far to go.
#[derive(Clone, Copy, Debug)]
pub struct BurstRequest<'a> {
    /// Tokens of the sequence, at least one. All but the last have run: their keys and values lie in `pages`.
    pub history: &'a [u32],
    /// Pages of the sequence in order of position, enough for `history.len() + budget - 1` positions. Drafts go as far as they
    /// reach.
    pub pages: &'a [u32],
    /// Tokens to generate at most, at least 1.
    pub budget: u32,
    /// Tokens that end the output; the one that does is its last.
    pub stops: &'a [u32],
    /// Drafts of a step at most; 0 is a plain loop. A device may have a lower limit.
    pub drafts: u32,
    /// How tokens are chosen; a plan whose tail is the arg-max ignores it.
    pub sampling: BurstSampling,
}

/// The numbers of sampling that a step of the engine would bind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BurstSampling {
    /// The chain's numbers.
    pub params: SampleParams,
    /// Seed of the noise.
    pub seed: u64,
    /// Which of several choices for the seed.
    pub choice: u32,
    /// Tokens that penalties look back on.
    pub look_back: u32,
}

/// What one step of a burst did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BurstStep {
    /// Drafts that it verified.
    pub drafted: u32,
    /// Those that were right, whether or not the output ended before them.
    pub accepted: u32,
}

/// Why a burst ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BurstEnd {
    /// As many tokens as were asked for, or as the device gives in one burst.
    Budget,
    /// One of the stop tokens.
    Stop,
    /// The caller said so.
    Cancelled,
}

/// A plan that is ready to run bursts.
///
/// The tokens equal those of steps with the same plan's family, sampling and seed, to the last one. The states hold keys and
/// values of all tokens but the last afterwards, and perhaps more behind them, which nothing reads. After an error
/// they hold what they held, up to positions that the burst would have written.
pub trait Burst: Send {
    /// Runs a burst and waits for it. `show` gets the tokens as they come, some at a time; if it says no, the burst ends after
    /// the step under way, and tokens that come later are not shown. `steps` is cleared and gets a record of each step.
    ///
    /// # Errors
    /// [`DeviceError::Binding`] if the request does not fit; nothing has run then. [`DeviceError::Failed`].
    fn run(
        &mut self,
        request: &BurstRequest<'_>,
        show: &mut dyn FnMut(&[u32]) -> bool,
        steps: &mut Vec<BurstStep>,
    ) -> Result<BurstEnd, DeviceError>;
}
