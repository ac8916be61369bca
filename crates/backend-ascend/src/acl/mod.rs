//! AscendCL: the library, the device's runtime, its memory, operator calls and captured graphs.
//!
//! All `unsafe` code of the crate is in here. [`queue`] has the safe interface; the rest of the crate deals in plain
//! descriptions of tensors and operators.

mod api;
mod call;
mod graph;
mod library;
mod memory;
mod objects;
mod queue;
mod runtime;

pub(crate) use call::{Attention, Binary, Call, Rotary, Unary};
pub(crate) use graph::{Graph, Recorded};
pub use library::AclLibrary;
pub(crate) use memory::{DeviceMemory, Pinned};
pub(crate) use queue::Queue;
pub(crate) use runtime::{Runtime, devices};
