//! `aio graph shrink`: cuts a failing graph down to a small one.

use crate::args::{ShrinkArgs, ShrinkCheck};
use crate::graph_source::Source;
use crate::outcome::Outcome;
use crate::output::{describe, print_now};
use crate::program::{self, Ended};
use crate::{models, signals};
use aio::backend::Device;
use aio::compiler::{Options, compile};
use aio::conformance::{Case, CaseStep, Compare, Fault, Outcome as Ran, reference, run_case};
use aio::inspect::shrink;
use aio::ir::text::print;
use aio::ir::{DType, Def, Graph, Op, verify};
use aio::plan::{Bucket, KindName, Tail};
use anyhow::{Context, Result, anyhow, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Largest normalised mean square error of a graph that is right, with weights in block formats and without: a graph has
/// many products, each with its own rounding.
const MAX_NMSE: (f64, f64) = (1e-3, 1e-8);

pub(crate) fn main(args: &ShrinkArgs) -> Result<Outcome> {
    let source = Source::of(&args.graph)?;
    let parsed = source.parse()?;
    let graph = source.verify(&parsed)?.graph();
    let question = Question::of(args)?;
    let Some(reason) = question.fault(graph)? else {
        bail!("{} does not fail, so there is nothing to keep", source.name)
    };
    note!("{}: {}", source.name, reason.text);
    let mut smallest = None;
    let kept = shrink(graph, args.most, |smaller| -> Result<bool> {
        if signals::interrupted() {
            bail!("interrupted");
        }
        let keeps = question.fault(smaller)?.is_some_and(|found| found.class == reason.class);
        if keeps {
            smallest = Some(smaller.clone());
        }
        Ok(keeps)
    });
    let kept = match kept {
        Ok(kept) => kept,
        Err(e) => return Err(ended_early(e, smallest.as_ref())?),
    };
    let (before, after) = (graph.nodes().len(), kept.graph.nodes().len());
    note!("{before} nodes -> {after}, {} graphs tried", kept.tried);
    print_now(&print(&kept.graph))?;
    Ok(Outcome::Fine)
}

/// Prints what a search found before its error, and returns that.
fn ended_early(error: anyhow::Error, smallest: Option<&Graph>) -> Result<anyhow::Error> {
    let Some(graph) = smallest else {
        return Ok(anyhow!("{}; no smaller graph that fails was found yet", describe(&error)));
    };
    print_now(&print(graph))?;
    Ok(anyhow!("{}; the graph printed is the smallest so far, of {} nodes", describe(&error), graph.nodes().len()))
}

/// What is wrong with a graph.
struct Wrong {
    /// Faults of one class are the same to the search.
    class: &'static str,
    text: String,
}

/// What a graph is asked.
enum Question {
    Run { device: Arc<dyn Device>, rows: u32 },
    Compile { device: Arc<dyn Device>, rows: u32 },
    Program { path: PathBuf, timeout: Option<Duration> },
}

impl Question {
    fn of(args: &ShrinkArgs) -> Result<Question> {
        let rows = args.rows;
        if let Some(program) = &args.test {
            // Relative names mean files here, not programs of the search path.
            let found = program.canonicalize().with_context(|| format!("cannot run {}", program.display()))?;
            return Ok(Question::Program { path: found, timeout: args.timeout.map(|n| Duration::from_secs(n.into())) });
        }
        let device = models::model_device(&args.graph.model)?;
        Ok(match args.check {
            ShrinkCheck::Run => Question::Run { device, rows },
            ShrinkCheck::Compile => Question::Compile { device, rows },
        })
    }

    /// What is wrong with a graph; `None` if nothing is.
    fn fault(&self, graph: &Graph) -> Result<Option<Wrong>> {
        match self {
            Question::Run { device, rows } => Ok(ran(graph, &**device, *rows)),
            Question::Compile { device, rows } => {
                let options = Options { buckets: vec![Bucket::new(*rows, *rows, Tail::Logits)], fuse: true };
                let made = compile(verify(graph)?, &device.target(), &options);
                Ok(made.err().map(|e| Wrong { class: "compile", text: e.to_string() }))
            }
            Question::Program { path, timeout } => asked(path, *timeout, graph),
        }
    }
}

/// Runs the graph on the device and on the oracle.
fn ran(graph: &Graph, device: &dyn Device, rows: u32) -> Option<Wrong> {
    let blocks = graph.values().any(|(_, v)| v.def == Def::Weight && v.ty.dtype.is_quantized());
    let case = Case {
        name: "shrink".to_owned(),
        kind: KindName::Op(Op::Reshape),
        weights: if blocks { DType::Q8_0 } else { DType::F32 },
        text: print(graph),
        fuse: true,
        tail: Tail::Logits,
        compare: Compare::Numbers,
        max_nmse: if blocks { MAX_NMSE.0 } else { MAX_NMSE.1 },
        sampling: [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        steps: vec![CaseStep {
            positions: (0..rows).collect(),
            row_seq: vec![0; rows as usize],
            out_rows: (0..rows).collect(),
        }],
    };
    let case = case.on(&device.target());
    // A graph that the oracle does not run shows nothing.
    let expected = reference(&case).ok()?;
    let class = match run_case(&case, device, &expected) {
        Ran::Fail(fault @ (Fault::Error { .. } | Fault::Differs { .. })) => ("numbers", fault),
        Ran::Fail(fault @ Fault::Device(_)) => ("device", fault),
        Ran::Pass { .. } | Ran::Unsupported { .. } | Ran::Fail(_) => return None,
    };
    Some(Wrong { class: class.0, text: class.1.to_string() })
}

/// A graph in a file that is removed on drop.
struct GraphFile(PathBuf);

impl Drop for GraphFile {
    fn drop(&mut self) {
        // Failure is harmless: the file is in the folder of temporary files.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Runs a program on the graph.
fn asked(program: &Path, timeout: Option<Duration>, graph: &Graph) -> Result<Option<Wrong>> {
    let file = GraphFile(std::env::temp_dir().join(format!("aio-{:016x}.graph", aio::mapped::unique())));
    std::fs::write(&file.0, print(graph)).with_context(|| format!("cannot write {}", file.0.display()))?;
    let shown = program.display();
    let status = match program::run(program, &file.0, timeout).with_context(|| format!("cannot run {shown}"))? {
        Ended::By(status) => status,
        Ended::Interrupted => bail!("interrupted"),
        Ended::TimedOut => return Ok(Some(Wrong { class: "hang", text: format!("{shown} hangs") })),
    };
    if let Some(signal) = program::signal(status) {
        bail!("{shown} was killed by signal {signal}");
    }
    let text = format!("{shown} ended with {status}");
    Ok((!status.success()).then_some(Wrong { class: "program", text }))
}
