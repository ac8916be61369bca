//! The test driver of aio: file tests, baselines. Not published.
//!
//! Tests that need several crates at once live in this crate's `tests` folder. It is the one place that reads the
//! environment on behalf of tests: `AIO_BLESS=1` rewrites what is
//! checked in, `AIO_REQUIRE` turns skips into failures ([`needs`]), `AIO_GPU=1` runs on a GPU what else runs under emulation
//! ([`cuda`]).
#![forbid(unsafe_code)]

pub mod baseline;
pub mod cuda;
mod delegate;
pub mod drafting;
pub mod edit;
pub mod graph_file;
mod hostile_graphs;
pub mod hostile_plans;
mod hostile_step;
pub mod hugging_face;
pub mod logits;
pub mod modelled;
pub mod needs;
pub mod tiny;

use std::path::PathBuf;

/// Whether expectations are to be rewritten.
pub fn bless() -> bool {
    std::env::var_os("AIO_BLESS").is_some_and(|v| v == "1")
}

/// A file or folder of this crate.
pub fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A file or folder of the workspace, or of the one that `AIO_WORKSPACE` names: for tests that were built elsewhere.
pub fn workspace(path: &str) -> PathBuf {
    std::env::var_os("AIO_WORKSPACE").map_or_else(|| here("../.."), PathBuf::from).join(path)
}
