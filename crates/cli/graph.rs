//! `aio graph`: step graphs checked, shown and compiled; `graph_run` runs them. The graph is a text file's or a model's.

use crate::args::{BucketArgs, GraphArgs, GraphCommand, PassesArgs, PrintArgs};
use crate::output::print_now;
use crate::{Outcome, escape, graph_buckets, graph_ops, graph_run, input, models};
use aio::compiler::{CompileError, Options, compile, passes};
use aio::interp::EvalError;
use aio::ir::text::{Parsed, parse};
use aio::ir::verify::{Entity, VerifyError};
use aio::ir::{Verified, verify};
use aio::plan::{Bucket, Tail};
use anyhow::{Context, Result, anyhow};
use std::path::Path;

/// Faults of a graph that are shown.
const MAX_FAULTS: usize = 20;

pub(crate) fn main(command: GraphCommand) -> Result<Outcome> {
    match command {
        GraphCommand::Verify(args) => check(&Source::of(&args)?),
        GraphCommand::Print(args) => show(&args),
        GraphCommand::Dot(args) => dot(&Source::of(&args)?),
        GraphCommand::Passes(args) => show_passes(&args),
        GraphCommand::Plan(args) => show_plan(&args),
        GraphCommand::Buckets(args) => graph_buckets::main(&args),
        GraphCommand::Run(args) => graph_run::main(args),
        GraphCommand::Ops(args) => graph_ops::main(&args),
    }
}

/// A graph's text and what to call it in messages.
pub(crate) struct Source {
    name: String,
    text: String,
}

impl Source {
    fn of(args: &GraphArgs) -> Result<Source> {
        if let Some(path) = &args.file {
            return Source::file(path);
        }
        let model = models::open(&args.model)?;
        let text = models::graph_text(&model, &args.model)?;
        // A text that does not parse is shown with its fault; of one that does, the model must have no more tensors.
        if let Ok(parsed) = parse(&text) {
            model.check_tensors(&parsed.graph).with_context(|| models::name(&model))?;
        }
        Ok(Source { name: format!("{} (rendered)", model.hyper.architecture), text })
    }

    /// A text file.
    pub(crate) fn file(path: &Path) -> Result<Source> {
        let name = path.display().to_string();
        let text = input::text(path, input::TEXT)?;
        Ok(Source { name, text })
    }

    /// The graph; the error is the first fault, with its place.
    pub(crate) fn parse(&self) -> Result<Parsed> {
        parse(&self.text).map_err(|e| anyhow!("{}:{e}", self.name))
    }

    /// Proof that the graph is valid; the error shows all faults with their places.
    pub(crate) fn verify<'g>(&self, parsed: &'g Parsed) -> Result<Verified<'g>> {
        verify(&parsed.graph).map_err(|e| anyhow!("{}", self.places(parsed, &e.0)))
    }

    /// Why the graph could not be run: with the line of the node, if one is at fault, and the value's name in the text.
    pub(crate) fn placed(&self, parsed: &Parsed, mut error: EvalError) -> anyhow::Error {
        let Some(at) = error.at() else { return error.into() };
        at.name = format!("%{}", parsed.value_names[at.value.index()]);
        let line = parsed.line_of(Entity::Value(at.value));
        anyhow!("{}:{line}: {error}", self.name)
    }

    /// Faults found by the verifier, as the parser shows its own: place, code, message, line, caret.
    fn places(&self, parsed: &Parsed, errors: &[VerifyError]) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let shown = errors.iter().take(MAX_FAULTS).map(|e| {
            let line = parsed.line_of(e.entity);
            let text = lines.get(line - 1).copied().unwrap_or("");
            let indent: String = text.chars().take_while(|c| c.is_whitespace()).collect();
            let column = indent.chars().count() + 1;
            format!("{}:{line}:{column}: {}: {}\n  {text}\n  {indent}^", self.name, e.code, e.message)
        });
        let more = errors.len().saturating_sub(MAX_FAULTS);
        let more = (more > 0).then(|| format!("and {more} more"));
        shown.chain(more).collect::<Vec<_>>().join("\n")
    }
}

fn check(source: &Source) -> Result<Outcome> {
    let faults = match parse(&source.text) {
        Err(e) => Some((1, format!("{}:{e}", source.name))),
        Ok(parsed) => verify(&parsed.graph).err().map(|e| (e.0.len(), source.places(&parsed, &e.0))),
    };
    let Some((count, text)) = faults else {
        print_now("ok\n")?;
        return Ok(Outcome::Fine);
    };
    print_now(&escape::message(&format!("{text}\n")))?;
    note!("error: {} is not valid: {count} {}", source.name, if count == 1 { "fault" } else { "faults" });
    Ok(Outcome::CheckFailed)
}

fn show(args: &PrintArgs) -> Result<Outcome> {
    let source = Source::of(&args.graph)?;
    let parsed = source.parse()?;
    let text = match args.drafts {
        None => parsed.print(),
        Some(k) => {
            let target = models::model_device(&args.graph.model)?.target();
            let bucket = Bucket::new(k + 1, k + 1, Tail::Argmax).verifying();
            let dumps = passes(source.verify(&parsed)?, &target, bucket)?;
            let made = dumps.into_iter().find(|d| d.pass == "batch_verify");
            made.context("verification is a pass of its own")?.text
        }
    };
    print_now(&text)?;
    Ok(Outcome::Fine)
}

fn dot(source: &Source) -> Result<Outcome> {
    let parsed = source.parse()?;
    print_now(&aio::ir::dot::dot(source.verify(&parsed)?.graph()))?;
    Ok(Outcome::Fine)
}

/// A refusal, with the flag that would do.
fn explained(error: CompileError) -> anyhow::Error {
    match error {
        CompileError::NoOutput(_) => anyhow!("{error}; --tail logits compiles the graph as it is"),
        other => other.into(),
    }
}

fn show_passes(args: &PassesArgs) -> Result<Outcome> {
    let source = Source::of(&args.bucket.graph)?;
    let parsed = source.parse()?;
    let target = models::model_device(&args.bucket.graph.model)?.target();
    let bucket = args.bucket.bucket(&parsed.graph);
    let dumps = passes(source.verify(&parsed)?, &target, bucket).map_err(explained)?;
    let mut out = format!("{} for {}, bucket {bucket}\n", source.name, target.name);
    for dump in dumps {
        let unit = if matches!(dump.pass, "fuse" | "plan") { "tasks" } else { "nodes" };
        out.push_str(&format!("{:<10} {:>6} {unit}\n", dump.pass, dump.count));
        if args.full {
            out.push_str(&format!("{}\n", dump.text));
        }
    }
    print_now(&out)?;
    Ok(Outcome::Fine)
}

fn show_plan(args: &BucketArgs) -> Result<Outcome> {
    let source = Source::of(&args.graph)?;
    let parsed = source.parse()?;
    let target = models::model_device(&args.graph.model)?.target();
    let options = Options { buckets: vec![args.bucket(&parsed.graph)], fuse: true };
    let compiled = compile(source.verify(&parsed)?, &target, &options).map_err(explained)?;
    let mut out = String::new();
    for (plan, report) in compiled.family.plans.iter().zip(&compiled.reports) {
        let (bytes, least) = (plan.arena_bytes, plan.arena_lower_bound);
        out.push_str(&aio::plan::text::print(&compiled.family, plan));
        out.push_str(&format!("\narena: {bytes} bytes, lower bound {least} bytes\nfusion: {report}"));
    }
    print_now(&out)?;
    Ok(Outcome::Fine)
}
