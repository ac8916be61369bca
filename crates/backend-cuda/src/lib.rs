//! CUDA back end.

pub mod args;
mod driver;
pub mod error;
mod format;
mod pack;
