//! Flags of the subcommands about compiled models: `compile` and `cache`.

use super::numbers::{Numbers, numbers};
use super::{ModelArgs, ShowForm};
use clap::{Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// Arguments of `aio compile`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The file holds the plans, packed weights, tokenizer and chat template: use it wherever a model is run. It works with every\ninstruction set of the CPU back end, but only with the version of aio that made it; other versions refuse it. The same\nmodel and flags give the same bytes.\n\nExamples:\n  aio compile -o smollm2.aio\n  aio compile -m model.gguf -o model.aio --rows 1,17,128\n  aio run -m model.aio -p \"Hello\"\n  aio compile --check model.aio --ctx 4096\n  aio compile --check model.aio -m model.gguf"
)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// File to write.
    #[arg(short, long = "output", value_name = "FILE", required_unless_present = "check")]
    pub output: Option<PathBuf>,
    /// Check a compiled model instead: whether it fits this machine, was made by this version of aio, and has memory for
    /// --ctx positions. Reads no weights. With -m, also whether it was compiled from that model file, which is read
    /// whole; a template is not compared. Exits with status 1 if it cannot run or is stale.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "rows", "template"])]
    pub check: Option<PathBuf>,
    /// Longest context to support, which bounds the rows of a step [default: any].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub ctx: Option<u32>,
    /// Step sizes to make plans for, in token rows [default: 1, 17, 72 and a prefill chunk of 512].
    #[arg(long, value_name = "LIST", value_parser = numbers)]
    pub rows: Option<Numbers>,
}

/// Subcommands of `aio cache`.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List cached models, least recently used first.
    List(CacheListArgs),
    /// Read every byte and compare checksums; exits with status 1 and names damaged files.
    Verify(CacheVerifyArgs),
    /// Remove cached models; they are made again when needed.
    Clear(CacheClearArgs),
}

/// Arguments of `aio cache list`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Every model that is run is kept in packed form, up to AIO_CACHE_LIMIT in total (such as 500M; 0 keeps none; default 20G).\nThe least recently used are removed first. A stale model was made by another version of aio.\n\nExamples:\n  aio cache list\n  aio cache list -o json"
)]
pub(crate) struct CacheListArgs {
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}

/// Arguments of `aio cache verify`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio cache verify\n  aio cache verify model.aio")]
pub(crate) struct CacheVerifyArgs {
    /// Compiled models to check [default: all in the cache].
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Arguments of `aio cache clear`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio cache clear\n  aio cache clear --older-than 30")]
pub(crate) struct CacheClearArgs {
    /// Only models that were not used for DAYS days.
    #[arg(long, value_name = "DAYS")]
    pub older_than: Option<u32>,
}
