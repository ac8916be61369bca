//! The C ABI of aio: one symbol that gives a table of functions, opaque handles, statuses with messages.
//!
//! `include/aio.h` describes every function for callers, with who owns what, which threads may call, and which statuses
//! come; STABILITY.md says what may change. What is here checks what C passes and calls the facade. `api.rs` is the table, `handles.rs` the
//! objects behind it, `call.rs` the frame of each function, `raw.rs` what crosses the border. Each other file has one kind of object.
//!
//! **Invariant:** no panic crosses the border, and no function trusts a handle, a size or an enum.
#![allow(clippy::too_many_arguments, reason = "the functions of a C interface")]

pub mod api;
mod batch;
mod call;
pub mod device;
pub mod engine;
mod handles;
pub mod layout;
mod raw;
pub mod request;
pub mod sampling;
mod sequence;
pub mod status;
pub mod step;
pub mod text;
pub mod types;
pub mod verify;
