//! Flags of `aio bench spec`.

use super::speculate::speculation;
use super::{DispatchArg, DrafterArg, LoadArgs, ModelArgs, TableForm};
use aio::engine::Speculation;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// Arguments of `aio bench spec`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Generates each prompt with each value of --spec in turn, in an order that rotates by one from prompt to prompt and round\nto round, and compares it with the same prompt generated without drafts. A text that differs is reported, and the exit\nstatus is 1. With --dispatch token each draft is verified in a separate step; with op each op is submitted separately.\nThese two use the number of drafts that was best with graph (4 without graph); op uses one prompt and 32 tokens.\n\nA workload is a file of lines {\"workload\", \"id\", \"prompt\", \"max_tokens\", \"temperature\", \"stop\"}. The prompt is raw text;\nspecial tokens in it are recognised. With a temperature above 0, the other sampling numbers are the defaults of `aio run`.\n`auto` keeps what it learns from prompt to prompt of a workload, as a server would.\n\nFields of a row: tok_s_* over rounds, tokens of all prompts after each one's first, divided by the seconds of the steps\nthat gave them; ratio_median, the median over all pairs (prompt, round) of seconds without drafts divided by seconds with\nthem, and ratio_low95, its one-sided lower 95 % bound by order statistics (none for fewer than 5 pairs), both relative to\n`off` with the same dispatch; acceptance, the share of accepted drafts; ms_median of a step, including drafting;\n*_per_token, including a draft model's; prefill_ratio_median, time to the first token divided by that of `off`;\nrepeated_share, the share of output tokens in runs of 8 tokens that occurred in the output before; ratio_without_repeats,\nratio_median without those tokens, a step's time divided evenly among its tokens; prompt_overlap, the share of the output's\nruns of 8 tokens that occur in the prompt; mismatches, texts that differ; samples, tok_s of each round; ratios of each\npair; runs, the time of each generation (not in csv).\n\nExamples:\n  aio bench spec\n  aio bench spec --workload copy --workload my.jsonl --limit 2 -r 5 -o json\n  aio bench spec --spec 1,2,3,auto --drafter lookup,suffix\n  aio bench spec --workload code --draft-model smaller.gguf\n  aio bench spec --dispatch graph,token,op"
)]
pub(crate) struct SpecArgs {
    /// Prompts: a built-in workload (copy, grounded, code, prose, prose-hot, chat, chat-hot, lists) or a file
    /// FILE.jsonl; repeatable [default: all built-in workloads].
    #[arg(long = "workload", value_name = "NAME|FILE.jsonl")]
    pub workloads: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Drafts per step: off, auto or numbers, comma-separated. `off` is always measured.
    #[arg(long, default_value = "2,4,8,16,auto", value_name = "LIST", value_delimiter = ',', value_parser = speculation)]
    pub spec: Vec<Speculation>,
    /// How to submit the work of a step, comma-separated.
    #[arg(long, value_enum, default_value = "graph", value_name = "LIST", value_delimiter = ',')]
    pub dispatch: Vec<DispatchArg>,
    /// Sources of drafts, comma-separated [default: suffix, or model with --draft-model].
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub drafter: Vec<DrafterArg>,
    /// Smaller model with the same tokens, for --drafter model.
    #[arg(long, value_name = "FILE")]
    pub draft_model: Option<PathBuf>,
    /// Rounds; each generates every prompt with every setting.
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub rounds: u32,
    /// Maximum number of prompts per workload [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Maximum tokens per text, unless its prompt sets fewer [default: the prompt's].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1048576))]
    pub max_tokens: Option<u32>,
    /// Seed of the sampling noise, the same for all prompts.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = super::whole::<u64>)]
    pub seed: u64,
    /// Output form on stdout.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
}
