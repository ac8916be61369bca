//! Decisions over numbers: what a device can do, and what to run on it.
//!
//! Everything here is pure: no device, no clock, no environment. Measurements come in as data, decisions go out as data
//! with the reasons beside them, so that each can be tested and explained. Used by the engine and the command line.
#![forbid(unsafe_code)]

mod acceptance;
mod drafter;
mod ledger;
mod lookup;
mod profile;
mod roofline;
mod select;
mod shape;
mod speculator;
mod step_time;
mod suffix;

pub use acceptance::{Acceptance, DrafterKind};
pub use drafter::{DraftError, Drafter, Match};
pub use lookup::{LookupOptions, PromptLookup};
pub use profile::{Costs, DeviceProfile, Figure, Peak, ProfileError, ReadLevel};
pub use roofline::{Ceilings, Regime, StepCost, StepModel};
pub use select::{Alternative, Buckets, Candidate, Choice, Reason};
pub use speculator::{Observed, Outcome, SpeculationOptions, Speculator};
pub use step_time::{Curve, StepTimes};
pub use suffix::{SuffixDrafter, SuffixOptions};
