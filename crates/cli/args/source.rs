//! Where a graph comes from, as flags.

use super::ModelArgs;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// A graph, from a file or from a model.
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
