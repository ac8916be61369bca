//! Flags of `aio bench spec`.

use super::speculate::speculation;
use super::{DispatchArg, DrafterArg, LoadArgs, ModelArgs, TableForm};
use aio::engine::Speculation;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// Arguments of `aio bench spec`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each prompt is generated with each of --spec in turn, in an order that moves on by one from prompt to prompt and round\nto round, and compared with the same prompt generated without drafts. A text that differs is a message and exit\nstatus 1. With --dispatch token each draft is verified in a step of its own, with op each op is submitted on its own;\nof --spec these take the number of drafts that was best with graph (4 without it), and op one prompt and 32 tokens.\n\nA workload is a file of lines {\"workload\", \"id\", \"prompt\", \"max_tokens\", \"temperature\", \"stop\"}; the prompt is raw text in\nwhich special tokens are recognised; a temperature above 0 comes with the other sampling numbers that `aio run` has by\ndefault. What `auto` learns it keeps from prompt to prompt of a workload, as a server does.\n\nFields of a row: tok_s_* over rounds, tokens of all prompts after each one's first by the seconds of the steps that\ngave them; ratio_median, the median over all pairs (prompt, round) of seconds without drafts by seconds with them, and\nratio_low95, its one-sided lower 95 % bound by order statistics (none of fewer than 5 pairs); both to `off` of the same\ndispatch; acceptance, the share of drafts that were right; ms_median of a step, drafting included; *_per_token with\nthose of a draft model; prefill_ratio_median, time to the first token by that of `off`; repeated_share, the share of output\ntokens in 8 tokens that the output had before; ratio_without_repeats, ratio_median without those tokens, a step's time\ndivided evenly among its tokens; prompt_overlap, the share of the output's runs of 8 tokens that occur in the prompt;\nmismatches, texts that differ; samples, tok_s of each round; ratios of each pair; runs, what each generation took (not\nin csv).\n\nExamples:\n  aio bench spec\n  aio bench spec --workload copy --workload my.jsonl --limit 2 -r 5 -o json\n  aio bench spec --spec 1,2,3,auto --drafter lookup,suffix\n  aio bench spec --workload code --draft-model smaller.gguf\n  aio bench spec --dispatch graph,token,op"
)]
pub(crate) struct SpecArgs {
    /// Prompts: a built-in workload (copy, grounded, code, prose, prose-hot, chat, chat-hot, lists) or a file FILE.jsonl;
    /// may be given several times [default: all built-in ones].
    #[arg(long = "workload", value_name = "NAME|FILE.jsonl")]
    pub workloads: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Drafts of a step: off, auto, numbers, comma-separated. `off` is measured in any case.
    #[arg(long, default_value = "2,4,8,16,auto", value_name = "LIST", value_delimiter = ',', value_parser = speculation)]
    pub spec: Vec<Speculation>,
    /// How the work of a step is submitted, comma-separated.
    #[arg(long, value_enum, default_value = "graph", value_name = "LIST", value_delimiter = ',')]
    pub dispatch: Vec<DispatchArg>,
    /// Where drafts come from, comma-separated [default: suffix, or model with --draft-model].
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    pub drafter: Vec<DrafterArg>,
    /// A smaller model with the same tokens, for --drafter model.
    #[arg(long, value_name = "FILE")]
    pub draft_model: Option<PathBuf>,
    /// Rounds: each generates every prompt with everything.
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub rounds: u32,
    /// Prompts of a workload at most [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Tokens of a text at most, where its prompt does not say fewer [default: as the prompt says].
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1048576))]
    pub max_tokens: Option<u32>,
    /// Seed of the sampling noise, the same for all prompts.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = super::whole::<u64>)]
    pub seed: u64,
    /// Form of the results on stdout.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
}
