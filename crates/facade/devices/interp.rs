//! The registry entry for the oracle.

use super::entry::SimpleEntry;
use aio_interp::InterpDevice;
use std::sync::Arc;

/// The oracle's name in the registry.
pub const ORACLE: &str = "interp";

pub(super) const ENTRY: SimpleEntry = SimpleEntry {
    name: ORACLE,
    summary: "The scalar oracle: slow and exact, for comparison",
    chip: "the scalar oracle",
    make: || Ok(Arc::new(InterpDevice::default())),
};
