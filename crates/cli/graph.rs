//! `aio graph`: checks, shows and compiles step graphs from text files or models; `graph_run` runs them.

use crate::args::{BucketArgs, GraphCommand, PassesArgs, PrintArgs};
use crate::graph_source::{Source, explained};
use crate::outcome::Outcome;
use crate::output::print_now;
use crate::{escape, graph_buckets, graph_diff, graph_ops, graph_run, graph_shrink, inspect, models};
use aio::compiler::{Options, compile, passes};
use aio::ir::text::parse;
use aio::ir::verify;
use aio::plan::{Bucket, Tail};
use anyhow::{Context, Result, bail};

pub(crate) fn main(command: GraphCommand) -> Result<Outcome> {
    match command {
        GraphCommand::Verify(args) => check(&Source::of(&args)?),
        GraphCommand::Print(args) => show(&args),
        GraphCommand::Dot(args) => dot(&Source::of(&args)?),
        GraphCommand::Passes(args) => show_passes(&args),
        GraphCommand::Plan(args) => show_plan(&args),
        GraphCommand::Buckets(args) => graph_buckets::main(&args),
        GraphCommand::Inspect(args) => inspect::main(&args),
        GraphCommand::Diff(args) => graph_diff::main(&args),
        GraphCommand::Shrink(args) => graph_shrink::main(&args),
        GraphCommand::Run(args) => graph_run::main(args),
        GraphCommand::Ops(args) => graph_ops::main(&args),
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
            let dumps = passes(source.verify(&parsed)?, &target, bucket, Some("batch_verify"))?;
            let made = dumps.into_iter().find(|d| d.pass == "batch_verify");
            made.context("verification is a separate pass")?.text
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

fn show_passes(args: &PassesArgs) -> Result<Outcome> {
    let source = Source::of(&args.bucket.graph)?;
    let parsed = source.parse()?;
    let target = models::model_device(&args.bucket.graph.model)?.target();
    let bucket = args.bucket.bucket(&parsed.graph);
    let until = args.until.as_deref();
    if until == Some("batch_verify") && !bucket.verify {
        bail!("without drafts there is no pass batch_verify; add --drafts K");
    }
    let dumps = passes(source.verify(&parsed)?, &target, bucket, until).map_err(explained)?;
    let mut out = format!("{} for {}, bucket {bucket}\n", source.name, target.name);
    for dump in &dumps {
        let unit = if matches!(dump.pass, "fuse" | "plan") { "tasks" } else { "nodes" };
        let ms = dump.time.as_secs_f64() * 1e3;
        out.push_str(&format!("{:<12} {:>6} {unit} {ms:>9.3} ms\n", dump.pass, dump.count));
        if args.full {
            out.push_str(&format!("{}\n", dump.text));
        }
    }
    match (until, dumps.last()) {
        // The text alone goes to stdout, so that it can be used as a graph.
        (Some(_), Some(last)) if !args.full => {
            note!("{}", out.trim_end());
            print_now(&last.text)?;
        }
        _ => print_now(&out)?,
    }
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
