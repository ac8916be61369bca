//! Peak rates of a device: what a device may know of itself, and what predictions of step times begin with.

use serde::{Deserialize, Serialize};

/// Peak rates of a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Memory bandwidth in bytes per second.
    pub bandwidth: f64,
    /// Multiply-adds per second that steps of few rows reach: about a third of the register peak.
    pub peak: f64,
}
