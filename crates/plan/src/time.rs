//! The time of a step, and whether a clock measured it or a model gave it.

use std::fmt;

/// Seconds of a step. Sums and comparisons of the two kinds mean nothing, so they stay apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepTime {
    /// A clock ran during the step.
    Measured(f64),
    /// A model of the device gave it, as on a simulator.
    Modelled(f64),
}

impl StepTime {
    /// The seconds.
    pub fn seconds(self) -> f64 {
        match self {
            StepTime::Measured(seconds) | StepTime::Modelled(seconds) => seconds,
        }
    }

    /// "measured" or "modelled", as tables say it.
    pub fn source(self) -> &'static str {
        match self {
            StepTime::Measured(_) => "measured",
            StepTime::Modelled(_) => "modelled",
        }
    }

    /// The same kind of time with other seconds.
    pub fn map(self, change: impl FnOnce(f64) -> f64) -> StepTime {
        match self {
            StepTime::Measured(seconds) => StepTime::Measured(change(seconds)),
            StepTime::Modelled(seconds) => StepTime::Modelled(change(seconds)),
        }
    }
}

impl fmt::Display for StepTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms {}", self.seconds() * 1e3, self.source())
    }
}
