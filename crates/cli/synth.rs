//! `aio synth`: writes a model with random weights, so that tests and benchmarks need no download.

use crate::args::SynthArgs;
use crate::outcome::Outcome;
use crate::{output, signals};
use aio::model::synth::Synth;
use anyhow::{Context, Result};
use std::ops::ControlFlow;

pub(crate) fn main(args: SynthArgs) -> Result<Outcome> {
    let mut preset = args.preset;
    preset.block_count = args.layers.unwrap_or(preset.block_count);
    let synth = Synth::new(&preset, args.dtype, args.seed)?;
    report_fallbacks(&synth);
    let bytes = synth.file_bytes()?;
    let bar = output::bar(bytes, "writing");
    let written = synth.write_to(&args.output, &mut |bytes| {
        bar.inc(bytes);
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    bar.finish_and_clear();
    written.with_context(|| format!("cannot make {}", args.output.display()))?;
    output::print_now(&format!("{} {bytes} bytes\n", args.output.display()))?;
    Ok(Outcome::Fine)
}

/// Prints which tensors did not get the requested type.
fn report_fallbacks(synth: &Synth) {
    let Some(first) = synth.fallbacks().first() else { return };
    note!(
        "note: {} tensors are {} instead of {}: rows such as the {} elements of {} are not a whole number of blocks",
        synth.fallbacks().len(),
        first.got,
        first.wanted,
        first.row,
        first.tensor
    );
}
