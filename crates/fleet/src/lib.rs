//! Several variants of a model resident together, and the variant of each request.
//!
//! A [`Fleet`] loads its variants within one memory budget, the smallest first and the others in the background. A
//! [`Probe`] gives a request's category from one short step of the smallest variant: [`ZeroShot`] asks for a label,
//! [`LinearHead`] looks at the last hidden state, [`Constant`] always says the same. A policy
//! ([`Policy`](aio_orchestrator::routing::Policy)) maps category and length to a variant; the times that it weighs are
//! those that each engine predicts for the machine's present speed. A request may bring a policy or a category of its own
//! ([`Ask`]), and may move to another variant later ([`Fleet::move_request`]). Used by `aio run --variants` and `aio route`.
#![forbid(unsafe_code)]

mod error;
mod fleet;
mod head;
mod logistic;
mod probe;
mod question;
mod resident;
mod routed;
mod sample;
mod zero_shot;

pub use error::FleetError;
pub use fleet::{Fleet, FleetOptions};
pub use head::LinearHead;
pub use logistic::{Confusion, Example};
pub use probe::{Answer, Constant, Probe};
pub use resident::{LoadError, Loader, VariantSpec, VariantState};
pub use routed::{Ask, Routed};
pub use sample::{Sample, parse_samples};
pub use zero_shot::ZeroShot;
