//! Runs the steps of a map.

use super::map::Cell;
use crate::args::RegimeArgs;
use crate::bench::measured_batches;
use anyhow::{Result, bail};
use std::path::Path;

/// Adds what each step takes, if the device has room for it.
pub(super) fn add(args: &RegimeArgs, path: &Path, cells: &mut [Cell]) -> Result<()> {
    if args.device != "cpu" {
        bail!("--measure runs steps on the cpu; {} is none", args.device);
    }
    let steps: Vec<(u32, u32)> = cells.iter().map(|c| (c.batch, c.context)).collect();
    for (cell, seconds) in cells.iter_mut().zip(measured_batches(path, &steps)?) {
        cell.measured = Some(seconds);
    }
    Ok(())
}
