//! Placeholder.
#![forbid(unsafe_code)]
pub mod dtype;
pub mod quant;
pub use dtype::DType;
