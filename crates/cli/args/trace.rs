//! Flags of `trace` and `simulate`.

use super::{DispatchArg, LoadArgs, ModelArgs, ShowForm};
use aio::orchestrator::routing::SpeculationRule;
use aio::orchestrator::simulate::Busy;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Subcommands of `aio trace`.
#[derive(Debug, Subcommand)]
pub(crate) enum TraceCommand {
    /// Make a trace of requests from a seed.
    Make(TraceMakeArgs),
}

/// Mixes of categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MixArg {
    /// Code, mathematics, knowledge and chat.
    Mixed,
    /// Mostly code.
    Code,
    /// Mostly questions of knowledge.
    Knowledge,
}

/// Arguments of `aio trace make`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "A line of a trace is {\"arrival\": seconds, \"category\": text, \"prompt\": tokens, \"output\": tokens, \"copy\": share}, where copy is\nthe share of the output that repeats earlier text. Shares by category are assumptions.\n\nExamples:\n  aio trace make > mixed.jsonl\n  aio trace make --mix code --context 32768 -n 50 --rate 0.5 --seed 7 > code.jsonl"
)]
pub(crate) struct TraceMakeArgs {
    /// Which requests are frequent.
    #[arg(long, value_enum, default_value = "mixed", value_name = "MIX")]
    pub mix: MixArg,
    /// Most tokens of a prompt and its output.
    #[arg(long, default_value_t = 2048, value_name = "N", value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    pub context: u32,
    /// Number of requests.
    #[arg(short = 'n', long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub requests: u32,
    /// Requests that arrive each second on average; 0 for all at once.
    #[arg(long, default_value_t = 0.0, value_name = "R", value_parser = rate)]
    pub rate: f64,
    /// Seed.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
}

/// A rate of arrivals: one a year at least, so that times stay numbers.
fn rate(text: &str) -> Result<f64, String> {
    let valid = |n: &f64| *n == 0.0 || (3e-8..=1e9).contains(n);
    text.parse().ok().filter(valid).ok_or_else(|| "expected 0, or a number from 3e-8 to 1e9".to_owned())
}

pub(super) fn above_0(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0).ok_or_else(|| "expected a number above 0".to_owned())
}

/// Up to a million times as fast or as slow, so that nobody waits for a lifetime.
fn pace(text: &str) -> Result<f64, String> {
    let valid = |n: &f64| (1e-6..=1e6).contains(n);
    text.parse().ok().filter(valid).ok_or_else(|| "expected a number from 1e-6 to 1e6".to_owned())
}

pub(super) fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|n| (0.0..=1.0).contains(n)).ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn busy(text: &str) -> Result<Busy, String> {
    let read = || {
        let (times, factor) = text.split_once('x')?;
        let (from, to) = times.split_once('-')?;
        let busy = Busy { from: from.parse().ok()?, to: to.parse().ok()?, factor: factor.parse().ok()? };
        let valid = busy.from >= 0.0 && busy.to > busy.from && busy.to <= 1e9 && (1e-3..=1e3).contains(&busy.factor);
        valid.then_some(busy)
    };
    read().ok_or_else(|| {
        "expected FROM-TOxFACTOR, up to 1e9 seconds and a factor of 0.001 to 1000, such as 20-40x2.5".to_owned()
    })
}

fn speculation(text: &str) -> Result<SpeculationRule, String> {
    match text {
        "off" => Ok(SpeculationRule::Off),
        "auto" => Ok(SpeculationRule::Auto),
        _ => match text.parse() {
            Ok(n) if (1..=16).contains(&n) => Ok(SpeculationRule::Fixed(n)),
            _ => Err("expected auto, off, or 1 to 16".to_owned()),
        },
    }
}

/// Arguments of `aio bench trace`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "Prompts are those of the built-in workloads or of --prompts, by category: one, after as many others as its length in the trace has room for.\nEvery answer has the length that the trace says. Policies run in turn, round by round, and begin with another one each time.\nWith --within, a request that will be late where it runs is moved to another variant, if the policy has one that is sooner done.\n\nColumns: over the first, the median ratio of throughput to the first policy, with minimum and maximum; low 95 %, the lower bound of\nthat median; late, requests that took longer than --within; moved, those that went to another variant while they ran; probes, their\nshare of all time; right, probes that named the category of the trace; requests, where they ended.\n\nExamples:\n  aio bench trace --variants small.gguf,large.gguf --policies static-large,adaptive\n  aio bench trace --variants small.gguf,large.gguf --trace trace.jsonl --pace 2 --within 5\n  aio bench trace --variants small.gguf,large.gguf --trace trace.jsonl --prompts own.jsonl --head head.json --quality q.toml"
)]
pub(crate) struct BenchTraceArgs {
    /// Trace to run [default: 24 mixed requests of up to 512 positions, all at once].
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Resident models.
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true, conflicts_with = "model")]
    pub variants: Vec<PathBuf>,
    /// Policies, names or files; ratios are to the first.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "static-large,adaptive")]
    pub policies: Vec<String>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Most sequences at once.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub sequences: u32,
    /// Only the trace's requests of this category.
    #[arg(long, value_name = "CATEGORY")]
    pub only: Option<String>,
    /// Measured quality of the variants: TOML sections [quality.CATEGORY] with a number for each variant, and before them
    /// how far below the best one is good enough, as in `tolerance = 2.0` [default: 0].
    #[arg(long, value_name = "FILE")]
    pub quality: Option<PathBuf>,
    /// Labelled prompts, one JSON object a line as for `aio route` [default: the built-in workloads].
    #[arg(long, value_name = "FILE")]
    pub prompts: Option<PathBuf>,
    /// Head for policies with a probe [default: the trace's categories are taken for its answers].
    #[arg(long, value_name = "FILE")]
    pub head: Option<PathBuf>,
    /// How many times as fast requests arrive.
    #[arg(long, default_value_t = 1.0, value_name = "X", value_parser = pace)]
    pub pace: f64,
    /// Seconds in which a request should be finished.
    #[arg(long, value_name = "SECONDS", value_parser = above_0)]
    pub within: Option<f64>,
    /// Rounds.
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub reps: u32,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}

/// Tables of `aio simulate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SimulateTable {
    /// The paper's figures, under its conditions.
    Paper,
    /// What each mechanism adds, from eager dispatch to batches of sequences.
    Mechanisms,
}

/// Arguments of `aio simulate`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "Every figure is modelled. Requests are routed and speculated on by the code that serves real ones; step times come from the\nsimulated Ascend, whose steps are walked without weights, or from a calibrated profile, and texts are drawn from a seed.\n\nA policy is a name (adaptive, paper, static-large, static-small) or a TOML file. Variants are presets of `aio synth` or model\nfiles; only the shapes of a model are read.\n\nExamples:\n  aio simulate\n  aio simulate --policy paper --dispatch op --host torch-eager --sequences 1\n  aio simulate --trace code.jsonl --policy my.toml --within 10 --busy 20-40x3 --decisions routes.jsonl\n  aio simulate --device cpu --variants small.gguf,large.gguf\n  aio simulate --table mechanisms"
)]
pub(crate) struct SimulateArgs {
    /// Trace to run [default: what `aio trace make` prints].
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Device: 910b1 to 910b4 are modelled, cpu and cuda take this machine's profile, a file is another one.
    #[arg(long, default_value = "910b2", value_name = "DEVICE")]
    pub device: String,
    /// Host of a modelled device.
    #[arg(long, default_value = "native", value_name = "HOST", value_parser = ["native", "torch-eager"])]
    pub host: String,
    /// Resident models.
    #[arg(long, default_value = "pangu-1b,pangu-7b", value_name = "LIST", value_delimiter = ',')]
    pub variants: Vec<String>,
    /// Where requests go.
    #[arg(long, default_value = "adaptive", value_name = "POLICY")]
    pub policy: String,
    /// Measured quality of the variants: TOML sections [quality.CATEGORY] with a number for each variant, and before them
    /// how far below the best one is good enough, as in `tolerance = 2.0` [default: 0].
    #[arg(long, value_name = "FILE")]
    pub quality: Option<PathBuf>,
    /// How steps are submitted: each operator, each token's operators as a graph, or the whole step as a graph.
    #[arg(long, value_enum, default_value = "graph", value_name = "HOW")]
    pub dispatch: DispatchArg,
    /// Speculation of all requests: auto, off, or a number of drafts [default: the policy's].
    #[arg(long, value_name = "SPEC", value_parser = speculation)]
    pub spec: Option<SpeculationRule>,
    /// Most sequences at once.
    #[arg(long, default_value_t = 8, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub sequences: u32,
    /// Memory for weights, keys and values, in GB.
    #[arg(long, value_name = "GB", default_value_t = 64.0, value_parser = above_0)]
    pub memory: f64,
    /// Seconds in which a request should be finished.
    #[arg(long, value_name = "SECONDS", value_parser = above_0)]
    pub within: Option<f64>,
    /// Times in which others use the memory, as FROM-TOxFACTOR: seconds, and how many times as long a step takes.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = busy)]
    pub busy: Vec<Busy>,
    /// How often the probe is right.
    #[arg(long, default_value_t = 0.95, value_name = "SHARE", value_parser = share)]
    pub probe_accuracy: f64,
    /// Seed of texts and of the probe's mistakes.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Print a table of several runs instead.
    #[arg(long, value_enum, value_name = "TABLE", conflicts_with_all = ["trace", "policy", "quality", "dispatch", "spec", "decisions", "within", "busy", "sequences"])]
    pub table: Option<SimulateTable>,
    /// Write each request's route with its alternatives, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub decisions: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}
