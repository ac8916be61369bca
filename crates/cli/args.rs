//! All flags of all subcommands, as data.

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Version, commit and target.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("AIO_COMMIT"), ")");

/// Run, inspect and measure language models as precompiled compute graphs.
#[derive(Debug, Parser)]
#[command(name = "aio", version = VERSION, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch the default model, or any file by URL.
    Pull(PullArgs),
    /// Generate text.
    Run(Box<RunArgs>),
}

/// Arguments of `aio pull`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio pull\n  aio pull --force")]
pub(crate) struct PullArgs {
    /// Fetch again even if the file is there and whole.
    #[arg(long)]
    pub force: bool,
}

/// Which instruction sets the CPU back end may use.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IsaArg {
    /// Plain Rust.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 with VNNI.
    Avx512,
}

/// Where plans run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceArg {
    /// The CPU back end.
    Cpu,
    /// The scalar oracle: slow, exact, for comparison.
    Interp,
}

/// Text for people or JSON for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunOutput {
    /// Text as it is generated.
    Text,
    /// One object on one line at the end.
    Json,
}

/// Which model and where it runs; shared by subcommands that load one.
#[derive(Debug, ClapArgs)]
pub(crate) struct ModelArgs {
    /// Model file (GGUF) [default: SmolLM2-135M-Instruct, fetched if need be].
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Positions of the context [default: the model's].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// Threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Highest instruction set to use [default: the best there is].
    #[arg(long, value_enum, value_name = "ISA")]
    pub isa: Option<IsaArg>,
    /// Where plans run.
    #[arg(long, value_enum, default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Graph template to use instead of the built-in one of the model's architecture.
    #[arg(long, value_name = "FILE")]
    pub template: Option<PathBuf>,
}

/// How tokens are chosen.
#[derive(Debug, ClapArgs)]
pub(crate) struct SamplingArgs {
    /// Temperature; 0 takes the most likely token.
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    pub temp: f32,
    /// Keep the K most likely tokens; 0 keeps all.
    #[arg(long, default_value_t = 40, value_name = "K")]
    pub top_k: u32,
    /// Keep the fewest most likely tokens whose probability reaches P.
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    pub top_p: f32,
    /// Drop tokens less likely than P times the most likely.
    #[arg(long, default_value_t = 0.05, value_name = "P")]
    pub min_p: f32,
    /// Divide the logits of recent tokens by this; 1 for no penalty.
    #[arg(long, default_value_t = 1.0, value_name = "X")]
    pub repeat_penalty: f32,
    /// Tokens that count as recent.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub repeat_last_n: usize,
    /// Subtracted from the logits of recent tokens.
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    pub presence_penalty: f32,
    /// Subtracted from the logits of recent tokens, times their count.
    #[arg(long, default_value_t = 0.0, value_name = "X")]
    pub frequency_penalty: f32,
    /// Seed of the sampling noise; the same seed gives the same text [default: random, printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// Arguments of `aio run`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio run -p \"The capital of France is\" -n 32 --temp 0\n  aio run --chat -p \"Write a haiku about the sea.\"\n  aio run -m model.gguf -f prompt.txt -o json\n  aio run                 (a chat, on a terminal)\n\nSampling order: bias, penalties, top-k, top-p, min-p, temperature."
)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Prompt; raw text in which special tokens are recognised.
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file")]
    pub prompt: Option<String>,
    /// Read the prompt from a file; `-` is standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Put the prompt into the model's chat template.
    #[arg(long)]
    pub chat: bool,
    /// System message; implies --chat.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Tokens to generate at most [default: until the model ends or the context is full].
    #[arg(short = 'n', long = "max-tokens", value_name = "N")]
    pub max_tokens: Option<usize>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Text that ends the output; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Go on after an end-of-generation token.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Print the generated ids alone, comma-separated, on the last line of stdout.
    #[arg(long)]
    pub ids: bool,
    /// Print the prompt's tokens to stderr.
    #[arg(long)]
    pub verbose_prompt: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: RunOutput,
}
