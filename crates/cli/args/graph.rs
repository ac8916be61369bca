//! Flags of `aio graph`.

use super::{
    DeviceArg, DiffArgs, GraphArgs, InspectArgs, IsaArg, MAX_ROWS, ModelArgs, ShrinkArgs, TailArg, TextOrJson,
};
use aio::ir::{Graph, Op, Sym};
use aio::plan::{Bucket, StepOutput, Tail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Subcommands of `aio graph`.
#[derive(Debug, Subcommand)]
pub(crate) enum GraphCommand {
    /// Check every rule; prints `ok`, or every fault with its place and exits with status 1.
    Verify(GraphArgs),
    /// Print the graph in canonical form, or the graph that verifies drafts.
    Print(PrintArgs),
    /// Draw the graph in the DOT language.
    Dot(GraphArgs),
    /// Show the graph after each compiler pass.
    Passes(PassesArgs),
    /// Show the compiled plan: tasks, buffers, arena, fusions.
    Plan(BucketArgs),
    /// List a model's plans: tasks, bytes, time to compile and to load.
    Buckets(BucketsArgs),
    /// Show what each task of a plan reads, computes and should take; with --measure what it takes.
    Inspect(Box<InspectArgs>),
    /// Compare two plans: fusions, bytes, times; with a budget, exits with status 1 if a figure grew too much.
    Diff(Box<DiffArgs>),
    /// Cut a failing graph down to a small one.
    Shrink(ShrinkArgs),
    /// Run a graph on `.npy` tensors.
    Run(GraphRunArgs),
    /// List the ops and their meaning.
    Ops(OpsArgs),
}

/// Arguments of `aio graph print`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio graph print my.graph\n  aio graph print --drafts 4 > verify.graph")]
pub(crate) struct PrintArgs {
    #[command(flatten)]
    pub graph: GraphArgs,
    /// Print the graph after the pass `batch_verify` for K drafts.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub drafts: Option<u32>,
}

/// Arguments of `aio graph buckets`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "With --plan-for, the requests of a trace are simulated, and the set of buckets with the least padding for their steps is set\nbeside the one in use.\n\nExamples:\n  aio graph buckets\n  aio graph buckets -m model.gguf -o json\n  aio graph buckets --plan-for trace.jsonl --most 6"
)]
pub(crate) struct BucketsArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Trace of requests to choose buckets for.
    #[arg(long, value_name = "TRACE")]
    pub plan_for: Option<PathBuf>,
    /// Most buckets of rows.
    #[arg(long, default_value_t = 4, value_name = "N", requires = "plan_for", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub most: u32,
    /// Most sequences at once.
    #[arg(long, default_value_t = 8, value_name = "N", requires = "plan_for", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub sequences: u32,
    /// Output form.
    #[arg(short, long = "output", value_enum, default_value = "text", value_name = "FORM")]
    pub output: TextOrJson,
}

/// Forms of the op reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OpsForm {
    /// Aligned text; for all ops only signature and summary.
    Text,
    /// Markdown, a section per op.
    Md,
    /// One object per op.
    Json,
}

/// Arguments of `aio graph ops`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio graph ops\n  aio graph ops attend\n  aio graph ops -o md > ops.md\n  aio graph ops sample -o json"
)]
pub(crate) struct OpsArgs {
    /// Op to show [default: all].
    #[arg(value_name = "OP", value_parser = super::op::parse)]
    pub op: Option<Op>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: OpsForm,
}

/// A graph and the bucket to compile it for.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio graph plan\n  aio graph plan --drafts 4\n  aio graph plan -m model.gguf --rows 128 --tail logits --isa portable"
)]
pub(crate) struct BucketArgs {
    #[command(flatten)]
    pub graph: GraphArgs,
    /// Maximum token rows of a step.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub rows: u32,
    /// Maximum output rows of a step.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub outs: u32,
    /// Verify K drafts per sequence: a step has K + 1 rows per sequence.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=4096), conflicts_with_all = ["rows", "outs"])]
    pub drafts: Option<u32>,
    /// Number of sequences in a step that verifies drafts.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), requires = "drafts")]
    pub seqs: u32,
    /// What to return for the output rows [default: argmax; logits if the graph has no output `logits`].
    #[arg(long, value_enum, value_name = "TAIL")]
    pub tail: Option<TailArg>,
}

impl BucketArgs {
    /// The bucket for a graph.
    pub(crate) fn bucket(&self, graph: &Graph) -> Bucket {
        let logits = graph.outputs.iter().any(|o| o.name == StepOutput::Logits.name());
        let tail = self.tail.map_or(if logits { Tail::Argmax } else { Tail::Logits }, TailArg::tail);
        match self.drafts {
            None => Bucket::new(self.rows, self.outs, tail),
            Some(k) => {
                let rows = self.seqs * (k + 1);
                Bucket { seqs: self.seqs, ..Bucket::new(rows, rows, tail) }.verifying()
            }
        }
    }
}

/// Arguments of `aio graph passes`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio graph passes\n  aio graph passes my.graph --device interp --tail logits --full\n  aio graph passes --until simplify > simple.graph"
)]
pub(crate) struct PassesArgs {
    #[command(flatten)]
    pub bucket: BucketArgs,
    /// Also print the graph or the tasks after each pass.
    #[arg(long)]
    pub full: bool,
    /// Stop after this pass; its graph is printed.
    #[arg(long, value_name = "PASS", value_parser = aio::compiler::PASSES)]
    pub until: Option<String>,
}

/// A tensor of a graph and its file, as in `x=x.npy`.
#[derive(Clone, Debug)]
pub(crate) struct NamedFile {
    pub name: String,
    pub path: PathBuf,
}

fn named_file(text: &str) -> Result<NamedFile, String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok(NamedFile { name: name.to_owned(), path: path.into() })
        }
        _ => Err("expected NAME=FILE.npy".to_owned()),
    }
}

/// A dimension symbol and its number, as in `rows=4`.
fn dim(text: &str) -> Result<(Sym, u32), String> {
    let (name, number) = text.split_once('=').ok_or("expected SYMBOL=N")?;
    let names = || Sym::ALL.map(Sym::name).join(", ");
    let sym = Sym::from_name(name).ok_or_else(|| format!("unknown symbol `{name}`, expected one of {}", names()))?;
    let number = number.parse().map_err(|_| format!("`{number}` is not a number of 32 bits"))?;
    Ok((sym, number))
}

/// Arguments of `aio graph run`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Inputs, weights and states are given by name. A state that is not given starts as zeros; its final value is written under\nits name. Symbols follow from the shapes of the inputs. Element types are f4 f2 i4 u4 i1 u1 b1, little-endian, C order. A\ntensor of bf16 or a block type (q4_1, ...) is given as u1, in rows of its stored bytes.\n\nExamples:\n  aio graph run my.graph --in x=x.npy --in w=w.npy --out y=y.npy\n  aio graph run step.graph --in tokens=t.npy --dim pages=4 --out logits=l.npy --out kv.0=kv.npy"
)]
pub(crate) struct GraphRunArgs {
    /// Text graph.
    #[arg(value_name = "GRAPH")]
    pub file: PathBuf,
    /// Input, weight or state; repeatable.
    #[arg(long = "in", value_name = "NAME=FILE", value_parser = named_file)]
    pub inputs: Vec<NamedFile>,
    /// Output or final state to write; repeatable [default: print types, write nothing].
    #[arg(long = "out", value_name = "NAME=FILE", value_parser = named_file)]
    pub outputs: Vec<NamedFile>,
    /// Size of a symbol that no input's shape determines; repeatable.
    #[arg(long = "dim", value_name = "SYMBOL=N", value_parser = dim)]
    pub dims: Vec<(Sym, u32)>,
    /// Device to run on.
    #[arg(long, value_parser = super::device::parser(), default_value = "interp", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Number of threads of the CPU back end [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Highest instruction set to use [default: the best available].
    #[arg(long, value_enum, value_name = "ISA")]
    pub isa: Option<IsaArg>,
    #[command(flatten)]
    pub ascend: super::AscendArgs,
}
