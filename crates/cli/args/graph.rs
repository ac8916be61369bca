//! Flags of `aio graph`.

use super::{DeviceArg, IsaArg, MAX_ROWS, ModelArgs, TextOrJson};
use aio::ir::{Graph, Op, Sym};
use aio::plan::{Bucket, StepOutput, Tail};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// What to do with a graph.
#[derive(Debug, Subcommand)]
pub(crate) enum GraphCommand {
    /// Check every rule; prints `ok`, or all faults with their places and status 1.
    Verify(GraphArgs),
    /// Print the graph in its normal form, or the one that verifies drafts.
    Print(PrintArgs),
    /// Draw the graph in the DOT language.
    Dot(GraphArgs),
    /// Show what each compiler pass makes of the graph.
    Passes(PassesArgs),
    /// Show the compiled plan: tasks, buffers, arena, what fused.
    Plan(BucketArgs),
    /// List the plans that a model is compiled to: tasks, bytes, time to compile and to load.
    Buckets(BucketsArgs),
    /// Run a graph on .npy tensors.
    Run(GraphRunArgs),
    /// Show what ops there are and what they mean.
    Ops(OpsArgs),
}

/// A graph: a file's, or a model's.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio graph verify my.graph\n  aio graph print -m model.gguf > model.graph\n  aio graph dot my.graph | dot -Tsvg > my.svg"
)]
pub(crate) struct GraphArgs {
    /// Text graph [default: the model's step graph].
    #[arg(value_name = "GRAPH", conflicts_with_all = ["model", "template"])]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// What becomes of the logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TailArg {
    /// The most likely token.
    Argmax,
    /// A sampled token.
    Sample,
    /// The logits themselves.
    Logits,
}

impl TailArg {
    /// As the compiler names it.
    pub(crate) fn tail(self) -> Tail {
        match self {
            TailArg::Argmax => Tail::Argmax,
            TailArg::Sample => Tail::Sample,
            TailArg::Logits => Tail::Logits,
        }
    }
}

/// Arguments of `aio graph print`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio graph print my.graph\n  aio graph print --drafts 4 > verify.graph")]
pub(crate) struct PrintArgs {
    #[command(flatten)]
    pub graph: GraphArgs,
    /// Print what the pass `batch_verify` makes of it for this many drafts.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub drafts: Option<u32>,
}

/// Arguments of `aio graph buckets`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio graph buckets\n  aio graph buckets -m model.gguf -o json")]
pub(crate) struct BucketsArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Form of the list.
    #[arg(short, long = "output", value_enum, default_value = "text", value_name = "FORM")]
    pub output: TextOrJson,
}

/// Forms of the op reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OpsForm {
    /// Aligned text; of all ops the signature and the summary.
    Text,
    /// A section an op in Markdown.
    Md,
    /// An object an op.
    Json,
}

/// Arguments of `aio graph ops`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio graph ops\n  aio graph ops attend\n  aio graph ops -o md > ops.md\n  aio graph ops sample -o json"
)]
pub(crate) struct OpsArgs {
    /// The op [default: all].
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
    /// Token rows of a step at most.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub rows: u32,
    /// Output rows of a step at most.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub outs: u32,
    /// Verify this many drafts of each sequence: a step of K + 1 rows a sequence.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=4096), conflicts_with_all = ["rows", "outs"])]
    pub drafts: Option<u32>,
    /// Sequences of a step that verifies drafts.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256), requires = "drafts")]
    pub seqs: u32,
    /// What becomes of the logits [default: argmax; logits where the graph has no output `logits`].
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
    after_help = "Examples:\n  aio graph passes\n  aio graph passes my.graph --device interp --tail logits --full"
)]
pub(crate) struct PassesArgs {
    #[command(flatten)]
    pub bucket: BucketArgs,
    /// Print the graph or the tasks after each pass too.
    #[arg(long)]
    pub full: bool,
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
    let sym = Sym::from_name(name).ok_or_else(|| format!("there is no symbol `{name}`, only {}", names()))?;
    let number = number.parse().map_err(|_| format!("`{number}` is no number of 32 bits"))?;
    Ok((sym, number))
}

/// Arguments of `aio graph run`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Inputs, weights and states are given by name; a state that is not given starts as zeros, and its final value is\nwritten by its name. Symbols follow from the shapes of the inputs. Element types are f4 f2 i4 u4 i1 u1 b1,\nlittle-endian, C order; a tensor of a block type (q4_1, ...) or bf16 is given as u1 with rows of its stored bytes.\n\nExamples:\n  aio graph run my.graph --in x=x.npy --in w=w.npy --out y=y.npy\n  aio graph run step.graph --in tokens=t.npy --dim pages=4 --out logits=l.npy --out kv.0=kv.npy"
)]
pub(crate) struct GraphRunArgs {
    /// Text graph.
    #[arg(value_name = "GRAPH")]
    pub file: PathBuf,
    /// An input, weight or state; may be given several times.
    #[arg(long = "in", value_name = "NAME=FILE", value_parser = named_file)]
    pub inputs: Vec<NamedFile>,
    /// An output or final state to write; may be given several times [default: types are printed, nothing is written].
    #[arg(long = "out", value_name = "NAME=FILE", value_parser = named_file)]
    pub outputs: Vec<NamedFile>,
    /// A symbol that no input's shape tells; may be given several times.
    #[arg(long = "dim", value_name = "SYMBOL=N", value_parser = dim)]
    pub dims: Vec<(Sym, u32)>,
    /// Where the graph runs.
    #[arg(long, value_parser = super::device::parser(), default_value = "interp", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Threads of the CPU back end [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Highest instruction set to use [default: the best there is].
    #[arg(long, value_enum, value_name = "ISA")]
    pub isa: Option<IsaArg>,
}
