//! Flags of `route`, and those of `run` that choose among variants.

use super::{ModelArgs, TextOrJson};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeArg {
    /// No category.
    None,
    /// The label that the smallest variant finds most likely.
    ZeroShot,
    /// A linear head on the smallest variant's last hidden state.
    Head,
}

/// Flags of `aio run` that choose among variants.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct FleetArgs {
    /// Models to choose from for the prompt, in place of --model: files, comma-separated.
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["model", "trace"])]
    pub variants: Vec<PathBuf>,
    /// Which prompts go to which variant: adaptive, paper, static-large, static-small, or a TOML file [default: adaptive].
    #[arg(long, value_name = "POLICY", requires = "variants")]
    pub policy: Option<String>,
    /// The variant that answers, whatever the policy says: the name of its file without folder and .gguf.
    #[arg(long, value_name = "NAME", requires = "variants")]
    pub variant: Option<String>,
    /// Where the prompt's category comes from [default: as the policy says].
    #[arg(long, value_enum, value_name = "PROBE", requires = "variants")]
    pub probe: Option<ProbeArg>,
    /// Head made by `aio route train`.
    #[arg(long, value_name = "FILE", requires = "variants")]
    pub head: Option<PathBuf>,
    /// Measured quality of the variants: TOML sections [quality.CATEGORY] with a number for each variant, and before them
    /// how far below the best one is good enough, as in `tolerance = 2.0` [default: 0].
    #[arg(long, value_name = "FILE", requires = "variants")]
    pub quality: Option<PathBuf>,
    /// Categories of the zero-shot probe [default: code,math,knowledge,chat].
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub categories: Option<Vec<String>>,
    /// Seconds in which the answer should be finished; without -n, 256 tokens are expected.
    #[arg(long, value_name = "SECONDS", requires = "variants", value_parser = super::trace::above_0)]
    pub within: Option<f64>,
    /// Memory for all variants, in GB [default: what is available].
    #[arg(long, value_name = "GB", requires = "variants", value_parser = super::trace::above_0)]
    pub memory: Option<f64>,
}

/// Subcommands of `aio route`.
#[derive(Debug, Subcommand)]
pub(crate) enum RouteCommand {
    /// Train a head on labelled prompts.
    Train(RouteTrainArgs),
    /// Measure how often probes are right.
    Test(RouteTestArgs),
}

/// Arguments of `aio route train`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A line of FILE is {\"text\": prompt, \"category\": name, \"source\": where it is from}. The head works with the model that it was\ntrained on, which should be the smallest variant.\n\nExamples:\n  aio route train prompts.jsonl -m small.gguf --out head.json\n  aio run --variants small.gguf,large.gguf --head head.json --explain -p \"Write a function that sorts a list.\""
)]
pub(crate) struct RouteTrainArgs {
    /// Labelled prompts.
    #[arg(value_name = "FILE")]
    pub samples: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// File to write.
    #[arg(long, default_value = "head.json", value_name = "FILE")]
    pub out: PathBuf,
    /// Weight of the squared weights; larger is more cautious.
    #[arg(long, default_value_t = 0.01, value_name = "P", value_parser = super::trace::above_0)]
    pub penalty: f64,
}

/// Arguments of `aio route test`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Prints balanced accuracy: the mean over categories of the share that is right. Samples of other sources than those of the\ntraining say most.\n\nExamples:\n  aio route test prompts.jsonl --head head.json\n  aio route test prompts.jsonl -o json"
)]
pub(crate) struct RouteTestArgs {
    /// Labelled prompts.
    #[arg(value_name = "FILE")]
    pub samples: PathBuf,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Head to test beside the zero-shot probe.
    #[arg(long, value_name = "FILE")]
    pub head: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: TextOrJson,
}
