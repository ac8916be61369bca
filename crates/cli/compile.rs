//! `aio compile`: writes a model's plans and packed weights to one file.

use crate::args::{CompileArgs, MAX_ROWS};
use crate::content::{FileState, hash_files};
use crate::outcome::Outcome;
use crate::{models, output, signals};
use aio::engine::{Compiled, EngineOptions};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::PathBuf;

pub(crate) fn main(args: CompileArgs) -> Result<Outcome> {
    let device = models::model_device(&args.model)?;
    let model = models::open(&args.model)?;
    models::warn(&model);
    // Nothing is written until later, so there is nothing to clean up yet.
    signals::end_at_once();
    let graph = models::graph(&model, &args.model)?;
    let options = EngineOptions { context: args.ctx, ..EngineOptions::default() };
    let mut rows = args.rows.map(|r| r.0).unwrap_or_default();
    rows.sort_unstable();
    rows.dedup();
    if rows.first() == Some(&0) || rows.last().is_some_and(|&r| r > MAX_ROWS) {
        bail!("--rows takes numbers from 1 to {MAX_ROWS}");
    }
    let paths = model.gguf.paths();
    if let Ok(output) = FileState::of(&args.output) {
        let is_output = |path: &&PathBuf| FileState::of(path).is_ok_and(|state| state.is_same_file(&output));
        if paths.iter().any(|path| is_output(&path)) {
            bail!("{} is the model itself; choose another output file", args.output.display());
        }
    }
    let bar = output::bar(model.gguf.file_bytes(), "hashing the model");
    let content = hash_files(&paths, &|n| bar.inc(n))?;
    bar.finish_and_clear();
    let spinner = ProgressBar::new_spinner().with_message("packing the weights");
    // Not a steady tick: that starts a thread and panics if it cannot.
    spinner.tick();
    let compiled = Compiled::new(&model, &graph, &*device, &options, &rows);
    spinner.finish_and_clear();
    let compiled = compiled?;
    signals::install();
    let bar = output::bar(compiled.weight_bytes(), "writing");
    let mut progress = |n| {
        bar.inc(n);
        if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let written = compiled.write(&args.output, content, None, &mut progress);
    bar.finish_and_clear();
    let written = written.with_context(|| format!("cannot compile into {}", args.output.display()))?;
    let mut text = format!("{} {} bytes for {}\n", args.output.display(), written.bytes, compiled.family().target);
    for (name, bytes) in written.sections {
        text += &format!("  {name:<8} {bytes:>12} bytes\n");
    }
    let buckets: Vec<_> = compiled.family().plans.iter().map(|p| p.bucket.to_string()).collect();
    text += &format!("  {} plans: {}\n", buckets.len(), buckets.join(" "));
    output::print_now(&text)?;
    Ok(Outcome::Fine)
}
