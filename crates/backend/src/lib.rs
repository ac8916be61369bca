//! The traits that every back end of aio implements, and their guarantees to callers.
//!
//! The traits deal in plans, not ops. A [`Device`] describes what it can run ([`Device::target`]), takes a model's
//! weights once ([`Device::upload`]) and turns plans into [`Executable`]s, which share the weights, the states and one
//! arena. A step is [`Executable::submit`] followed by [`Pending::wait`]: one submission and one synchronisation,
//! unless [`LoadOptions`] asks for one per task.
//!
//! # Contract
//! - Checks belong to the verifiers; a back end repeats one only as a debug assertion. [`DeviceError`] covers what the
//!   caller could not foresee, and [`DeviceError::Binding`] a step that does not fit its plan.
//! - After an error the KV states are unchanged up to the first position the step would have written. Lengths belong to
//!   the caller, who keeps the old ones. Slots that the step would have written are undefined, all others unchanged.
//! - A step allocates no memory, unless a trace is kept.
//! - `Unsupported` is a distinct outcome: a device that lacks a kernel reports it when a plan is loaded.
//!
//! **Threads**: devices and executables move between threads (`Send`) and run one step at a time (`&mut self`).
//! Executables of the same weight set exclude each other while they run.
#![forbid(unsafe_code)]

pub mod bindings;
pub mod burst;
mod checked;
mod choice;
pub mod counters;
pub mod device;
pub mod error;
pub mod null;
mod report;
mod tally;
pub mod threads;
pub mod timeline;
pub mod weights;

pub use bindings::{Bindings, Data};
pub use burst::{Burst, BurstEnd, BurstReport, BurstRequest, BurstSampling, BurstStep};
pub use choice::KernelChoice;
pub use counters::Counters;
pub use device::{
    Device, Executable, ImageAccess, ImageForm, LoadOptions, Pending, Submission, Trace, WeightImage, WeightSet,
};
pub use error::DeviceError;
pub use report::StepReport;
pub use tally::Tally;
pub use timeline::Timeline;
pub use weights::{WeightData, WeightSource};
