//! Errors of devices.

use aio_ir::TensorType;
use aio_ir::infer::EmptyAxis;

/// An error of a device.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeviceError {
    /// The device has no kernel for a task.
    #[error("{device} has no kernel for `{kind}`: {reason}")]
    Unsupported {
        /// The device.
        device: String,
        /// The task's kind.
        kind: &'static str,
        /// What is missing.
        reason: String,
    },
    /// The model lacks a weight that the graph names, or has it with another type or shape.
    #[error("weight `{name}` should be {expected}, {found}")]
    Weight {
        /// The weight's name.
        name: String,
        /// The type that the graph declares.
        expected: TensorType,
        /// What the model has.
        found: String,
    },
    /// A step does not fit its plan.
    #[error("binding `{name}`: {message}")]
    Binding {
        /// The input, output or dimension.
        name: String,
        /// What does not fit.
        message: String,
    },
    /// A symbol is 0 in a step, but the plan needs elements along it.
    #[error("`{symbol}` is 0, but the plan applies {axis}")]
    EmptyAxis {
        /// The symbol.
        symbol: &'static str,
        /// The first op that needs elements.
        axis: EmptyAxis,
    },
    /// An allocation failed.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// The purpose of the memory.
        what: String,
        /// The size in bytes.
        bytes: u64,
    },
    /// The device has no image form for weights.
    #[error("{device} has no packed form of weights, so it neither makes nor takes compiled artefacts")]
    NoImage {
        /// The device.
        device: String,
    },
    /// The device cannot run steps without the host.
    #[error("{device} runs no bursts: {reason}")]
    NoBurst {
        /// The device.
        device: String,
        /// Why not.
        reason: String,
    },
    /// The device keeps no trace.
    #[error("{device} keeps no trace of its steps")]
    NoTrace {
        /// The device.
        device: String,
    },
    /// The packed weights are invalid.
    #[error("the packed weights cannot be used: {0}")]
    Image(String),
    /// The packed weights could not be read. They may be valid.
    #[error("the packed weights cannot be read: {0}")]
    ImageRead(String),
    /// The handle belongs to another device.
    #[error("the handle was made by another device")]
    ForeignHandle,
    /// The device does not exist or cannot be used.
    #[error("device {device} is not available: {reason}")]
    Unavailable {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// The device failed during a step.
    #[error("the step failed on the device: {0}")]
    Failed(String),
}
