//! The scalar oracle: the meaning of graphs and plans, written for reading, not for speed.
//!
//! [`evaluate`] runs a verified graph on [`Tensor`]s. [`InterpDevice`] runs plans task by task through the same
//! evaluator, with the interface of any other back end. Every op, fused task and back end is tested against it.
//! Products accumulate in f64 and weights are decoded exactly, so its error is far below any kernel's.
#![forbid(unsafe_code)]

mod device;
mod error;
mod eval;
mod ops;
mod tensor;

pub use device::InterpDevice;
pub use error::{At, EvalError};
pub use eval::evaluate;
pub use tensor::{Data, Tensor};
