//! What can go wrong on a device.

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
        /// What exactly is missing.
        reason: String,
    },
    /// The model lacks a weight that the graph names, or has it in another type or shape.
    #[error("weight `{name}` should be {expected}, {found}")]
    Weight {
        /// The weight's name.
        name: String,
        /// What the graph says.
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
    /// A symbol is 0 in a step whose plan needs elements along it.
    #[error("`{symbol}` is 0, but the plan applies {axis}")]
    EmptyAxis {
        /// The symbol.
        symbol: &'static str,
        /// The first op that needs them.
        axis: EmptyAxis,
    },
    /// Memory could not be had.
    #[error("out of memory: {what} needs {bytes} bytes")]
    OutOfMemory {
        /// For what.
        what: String,
        /// How much.
        bytes: u64,
    },
    /// The device keeps weights in no form of its own.
    #[error("{device} has no packed form of weights, so it neither makes nor takes compiled artefacts")]
    NoImage {
        /// The device.
        device: String,
    },
    /// The device cannot run steps without the host in between.
    #[error("{device} runs no bursts: {reason}")]
    NoBurst {
        /// The device.
        device: String,
        /// What stands in the way.
        reason: String,
    },
    /// An image of packed weights that cannot be used.
    #[error("the packed weights cannot be used: {0}")]
    Image(String),
    /// An image of packed weights that cannot be read now; it may be sound.
    #[error("the packed weights cannot be read: {0}")]
    ImageRead(String),
    /// A handle of another device.
    #[error("the handle was made by another device")]
    ForeignHandle,
    /// There is no such device, or it cannot be used.
    #[error("device {device} is not available: {reason}")]
    Unavailable {
        /// The device.
        device: String,
        /// Why.
        reason: String,
    },
    /// The device failed while a step ran.
    #[error("the step failed on the device: {0}")]
    Failed(String),
}
