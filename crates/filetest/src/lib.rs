//! The test driver of aio: file tests, baselines. Not published.
//!
//! Tests that need several crates at once are in this crate's `tests` folder. Only this crate reads the environment on
//! behalf of tests: `AIO_BLESS=1` rewrites checked-in expectations, `AIO_REQUIRE` turns skips into failures
//! ([`needs`]), and `AIO_GPU=1` uses a GPU instead of the emulation ([`cuda`]).
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

/// Whether to rewrite expectations.
pub fn bless() -> bool {
    std::env::var_os("AIO_BLESS").is_some_and(|v| v == "1")
}

/// Path of a file or folder in this crate.
pub fn here(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Path of a file or folder in the workspace, which `AIO_WORKSPACE` overrides for tests that were built elsewhere.
pub fn workspace(path: &str) -> PathBuf {
    std::env::var_os("AIO_WORKSPACE").map_or_else(|| here("../.."), PathBuf::from).join(path)
}
