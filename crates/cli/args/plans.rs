//! Flags of `bench plans`.

use super::numbers::{Numbers, numbers};
use super::{LoadArgs, ModelArgs, ShowForm};
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// Tables of `aio bench plans`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlansTable {
    /// What the chosen number of drafts loses against the best one.
    Regret,
    /// How far predicted step times are off.
    Costs,
}

/// Arguments of `aio bench plans`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "Regret: for each context and batch, steps with every number of drafts are timed in interleaved rounds; the best one has the\nmost expected tokens per median time. The speculator then runs --warm-up real steps, in which drafts agree by a seeded draw,\nand chooses; chosen and best plan are timed again in fresh pairs. Sequences of a batch share no pages.\nCosts: the error of the predicted time of each step, after 50, over steps of mixed sizes in a seeded order, each between two\nreads of a buffer as large as the weights; steps whose reads differ by more than 5 % are left out.\n\nExamples:\n  aio bench plans\n  aio bench plans --only costs --steps 500\n  aio bench plans --context 64,512 --batch 1,4 --record steps.jsonl\n  aio bench plans --replay steps.jsonl -o json"
)]
pub(crate) struct PlansArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Table to print [default: both].
    #[arg(long, value_enum, value_name = "TABLE")]
    pub only: Option<PlansTable>,
    /// Positions of each sequence, at most those of the model.
    #[arg(long, default_value = "64,512,2048,8192", value_name = "LIST", value_parser = numbers)]
    pub context: Numbers,
    /// Sequences of a step.
    #[arg(long, default_value = "1,2,4,8", value_name = "LIST", value_parser = numbers)]
    pub batch: Numbers,
    /// Chances that a draft is accepted after accepted ones.
    #[arg(long, default_value = "0,0.3,0.6,0.8,0.95", value_name = "LIST", value_delimiter = ',', value_parser = super::trace::share)]
    pub acceptance: Vec<f64>,
    /// Most drafts of a sequence.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub drafts: u32,
    /// Rounds in which the best plan is found.
    #[arg(short, long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub reps: u32,
    /// Steps before the choice counts.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub warm_up: u32,
    /// Pairs of the chosen and the best plan.
    #[arg(long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u32).range(6..=1000))]
    pub pairs: u32,
    /// Steps whose times are predicted, after the first 50.
    #[arg(long, default_value_t = 150, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub steps: u32,
    /// Seed of agreements and sizes.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub seed: u64,
    /// Write the measured step times to a file, a JSON object a line.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Take step times from such a file instead of a machine, with its contexts and batches.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["record", "model", "device", "threads", "isa", "context", "batch", "reps", "pairs", "steps"])]
    pub replay: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}
