//! The time of a step, and whether a clock measured it or a model gave it.

use std::fmt;

/// Where a time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// A clock ran during the step.
    Measured,
    /// A model of the device gave it, as on a simulator.
    Modelled,
}

impl fmt::Display for Clock {
    /// "measured" or "modelled", as tables say it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Clock::Measured => "measured",
            Clock::Modelled => "modelled",
        })
    }
}

/// Seconds of a step. Sums and comparisons of the two kinds mean nothing, so they stay apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepTime {
    /// See [`Clock::Measured`].
    Measured(f64),
    /// See [`Clock::Modelled`].
    Modelled(f64),
}

impl StepTime {
    /// The seconds.
    pub fn seconds(self) -> f64 {
        match self {
            StepTime::Measured(seconds) | StepTime::Modelled(seconds) => seconds,
        }
    }

    /// Where it comes from.
    pub fn clock(self) -> Clock {
        match self {
            StepTime::Measured(_) => Clock::Measured,
            StepTime::Modelled(_) => Clock::Modelled,
        }
    }

    /// The same kind of time with other seconds.
    pub fn map(self, change: impl FnOnce(f64) -> f64) -> StepTime {
        match self {
            StepTime::Measured(seconds) => StepTime::Measured(change(seconds)),
            StepTime::Modelled(seconds) => StepTime::Modelled(change(seconds)),
        }
    }

    /// The sum; `None` if one is measured and the other modelled.
    pub fn checked_add(self, other: StepTime) -> Option<StepTime> {
        (self.clock() == other.clock()).then(|| self.map(|seconds| seconds + other.seconds()))
    }
}

impl fmt::Display for StepTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms {}", self.seconds() * 1e3, self.clock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_and_modelled_times_do_not_add_up() {
        let [measured, modelled] = [StepTime::Measured(1.0), StepTime::Modelled(2.0)];
        assert_eq!(measured.checked_add(measured), Some(StepTime::Measured(2.0)));
        assert_eq!(modelled.checked_add(measured), None);
        assert_eq!(modelled.to_string(), "2000.000 ms modelled");
    }
}
