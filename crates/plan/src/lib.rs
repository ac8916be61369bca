//! Precompiled plans: the narrow waist between the compiler and the back ends.
//!
//! A [`PlanFamily`] is what the compiler makes of a model for one [`Target`]: the weights with their layout, the
//! states, and one [`Plan`] per [`Bucket`], all sharing one arena. A plan is a flat list of [`Task`]s in order. A task
//! has a [`TaskKind`], which a back end maps to a kernel, and a body, the IR sub-graph that defines its meaning and
//! that `aio-interp` runs. Back ends do not see the compiler and the compiler sees no device; both depend on this
//! crate.
//!
//! **Invariant:** a plan that [`verify`] accepts can be executed without further checks: buffers that are live at the
//! same time share no bytes, every read follows the write, every id is in range.
#![forbid(unsafe_code)]

pub mod artefact;
pub mod body;
pub mod bucket;
mod ceilings;
mod check;
mod checks;
pub mod cost;
pub mod family;
mod form;
pub mod kinds;
mod limits;
mod loc;
mod numbers;
pub mod rope;
mod step;
pub mod target;
pub mod task;
pub mod text;
mod time;
mod traffic;
mod verify;
mod wire;

pub use aio_ir::KvShape;
pub use bucket::{Bucket, Tail};
pub use ceilings::Ceilings;
pub use check::Check;
pub use family::{Binding, Buffer, Plan, PlanFamily, PoolSizes, Role, StateDesc, WeightDesc};
pub use form::{StepForm, StepForms};
pub use kinds::{KindName, TaskKind};
pub use loc::{BufferId, InputId, Loc, OutputId, StateId, WeightId};
pub use numbers::{Activation, AttendSpec, ExpertsSpec, GateUpSpec, HeadSpec, LinearSpec, QkvSpec, Routing};
pub use rope::{RopePairs, RopeScaling, RopeSpec};
pub use step::{StepInput, StepOutput};
pub use target::{HeadSizes, KindSupport, Layout, Limits, Target};
pub use task::{Task, TaskId};
pub use time::{Clock, StepTime};
pub use traffic::{StepLoad, Traffic};
pub use verify::{MAX_BUCKET, PlanError, verify};

/// Hash, in hexadecimal, of the sources of this crate that affect the contents of an artefact.
pub const SOURCE_HASH: &str = env!("AIO_SOURCE_HASH");
