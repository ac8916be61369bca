//! Routes a request to a model variant: by its category, its length and what variants cost now, as a policy says.
//!
//! A *policy* is a TOML file ([`Policy::from_toml`]); four are built in ([`Policy::built_in`]). It maps a request's category
//! and context length to a variant and its speculation. The category comes from a probe, which is not part of this crate:
//! a [`Probed`] result comes in, a [`Route`] with all rejected variants comes out. Used by the simulator of traces, the
//! engine's router and the command line.

mod choose;
mod error;
mod expect;
mod levels;
mod policy;
mod quality;

pub use choose::{Probed, Rejected, Room, Route, RouteReason, RouteRequest, VariantNow};
pub use error::PolicyError;
pub use expect::Expected;
pub use levels::Levels;
pub use policy::{DraftRule, Policy, ProbeKind, Rule, SpeculationRule, Treatment, VariantRule};
pub use quality::{Quality, QualityTable};
