//! `aio compile`: writes a model's plans and packed weights to one file.

use crate::args::{CompileArgs, MAX_ROWS};
use crate::content::{FileState, hash_files};
use crate::outcome::Outcome;
use crate::{models, output, signals};
use aio::backend::ImageAccess;
use aio::engine::{Compiled, EngineOptions, Fit};
use aio::plan::artefact::{Artefact, ArtefactError, is_artefact};
use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

pub(crate) fn main(args: CompileArgs) -> Result<Outcome> {
    match (&args.check, &args.output) {
        (Some(file), _) => check(file, &args),
        (None, Some(output)) => compile(output.clone(), args),
        (None, None) => bail!("--output or --check is needed"),
    }
}

/// Says whether a compiled model runs here, without reading its weights, and whether it was made from the model that is
/// named, if one is.
fn check(file: &Path, args: &CompileArgs) -> Result<Outcome> {
    signals::end_at_once();
    let artefact = match Artefact::open(file) {
        Ok(artefact) => artefact,
        // There is no such file, or it is something else.
        Err(e @ (ArtefactError::Read { .. } | ArtefactError::Magic { .. })) => {
            return Err(e).with_context(|| format!("cannot check {}", file.display()));
        }
        Err(_) if !is_artefact(file) => bail!("cannot check {}: it is not a compiled artefact", file.display()),
        Err(e) => return refused(file, &[output::describe(&e.into())]),
    };
    let other = args.model.model.as_deref().map(|model| made_of(&artefact, model)).transpose()?.flatten();
    let device = models::model_device(&args.model)?;
    let options = EngineOptions { context: args.ctx, ..EngineOptions::default() };
    let fit = Fit::of(&artefact, &*device, &options, ImageAccess::Read);
    let header = artefact.header();
    let mut text = format!("{} for {}, weights in the form {}\n", file.display(), header.target, header.form);
    text += &format!("  file       {} bytes\n  device     {}\n", artefact.file_bytes(), device.target().name);
    if let Some(need) = &fit.need {
        text += &format!("  memory     {need} for {} positions\n", fit.context);
    }
    if let Some(available) = fit.available {
        text += &format!("  available  {available} bytes\n");
    }
    if let Some(model) = args.model.model.as_ref().filter(|_| other.is_none()) {
        text += &format!("  model      {}\n", model.display());
    }
    output::print_now(&text)?;
    let faults: Vec<String> = fit.faults.into_iter().map(|fault| output::describe(&fault.into())).collect();
    let Some(other) = other else {
        if faults.is_empty() {
            output::print_now("fits\n")?;
            return Ok(Outcome::Fine);
        }
        return refused(file, &faults);
    };
    output::print_now(&format!("stale: {other}\n"))?;
    if !faults.is_empty() {
        return refused(file, &faults);
    }
    note!("error: {} is stale", file.display());
    Ok(Outcome::CheckFailed)
}

/// What is wrong if the artefact was compiled from other content than this model file's. Reads the whole file.
fn made_of(artefact: &Artefact, model: &Path) -> Result<Option<String>> {
    let opened = models::open_path(model)?;
    let bar = output::bar(opened.gguf.file_bytes(), "hashing the model");
    let content = hash_files(&opened.gguf.paths(), &|n| bar.inc(n))?;
    bar.finish_and_clear();
    let differs = content != artefact.header().model;
    Ok(differs.then(|| format!("it was compiled from another model than {}; compile that again", model.display())))
}

fn refused(file: &Path, faults: &[String]) -> Result<Outcome> {
    for fault in faults {
        output::print_now(&format!("does not fit: {fault}\n"))?;
    }
    note!("error: {} cannot run here", file.display());
    Ok(Outcome::CheckFailed)
}

fn compile(to: PathBuf, args: CompileArgs) -> Result<Outcome> {
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
    if let Ok(output) = FileState::of(&to) {
        let is_output = |path: &&PathBuf| FileState::of(path).is_ok_and(|state| state.is_same_file(&output));
        if paths.iter().any(|path| is_output(&path)) {
            bail!("{} is the model itself; choose another output file", to.display());
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
    let written = compiled.write(&to, content, None, &mut progress);
    bar.finish_and_clear();
    let written = written.with_context(|| format!("cannot compile into {}", to.display()))?;
    let mut text = format!("{} {} bytes for {}\n", to.display(), written.bytes, compiled.family().target);
    for (name, bytes) in written.sections {
        text += &format!("  {name:<8} {bytes:>12} bytes\n");
    }
    let buckets: Vec<_> = compiled.family().plans.iter().map(|p| p.bucket.to_string()).collect();
    text += &format!("  {} plans: {}\n", buckets.len(), buckets.join(" "));
    output::print_now(&text)?;
    Ok(Outcome::Fine)
}
