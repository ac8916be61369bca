//! What every back end of aio implements, and what callers may rely on.
//!
//! The traits are about plans, not ops: a [`Device`] tells what it can run ([`Device::target`]), takes a model's
//! weights once ([`Device::upload`]) and turns plans into [`Executable`]s that share those weights, the KV pool and
//! one arena. A step is [`Executable::submit`] and [`Pending::wait`]: one submission, one synchronisation, unless
//! [`LoadOptions`] ask for one a task.
//!
//! # Contract
//! - Checks live in the verifiers; a back end repeats one only as a debug assertion. [`DeviceError`] holds what the
//!   caller could not foresee, and [`DeviceError::Binding`] for a step that does not fit its plan.
//! - After an error the KV states hold what they held, up to positions the step would have written; lengths belong
//!   to the caller, who keeps the old ones.
//! - A step allocates nothing.
//! - `Unsupported` is an outcome of its own: a device that lacks a kernel says so when a plan is loaded.
//!
//! **Threads**: devices and executables move between threads (`Send`) and run one step at a time (`&mut self`);
//! executables of the same weight set exclude each other while they run.
#![forbid(unsafe_code)]

pub mod bindings;
pub mod burst;
pub mod counters;
pub mod device;
pub mod error;
pub mod full_axes;
pub mod null;
pub mod threads;
pub mod weights;

pub use bindings::{Bindings, Data};
pub use burst::{Burst, BurstEnd, BurstRequest, BurstSampling, BurstStep};
pub use counters::Counters;
pub use device::{Device, Dispatch, Executable, ImageAccess, ImageForm, LoadOptions, Pending, WeightImage, WeightSet};
pub use error::DeviceError;
pub use full_axes::FullAxes;
pub use weights::{WeightData, WeightSource};
