//! Placeholder.
#![forbid(unsafe_code)]
pub mod dtype;
pub use dtype::DType;
