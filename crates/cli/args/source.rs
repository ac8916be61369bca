//! Where a graph comes from, as flags.

use super::ModelArgs;
use clap::Args as ClapArgs;
use std::path::PathBuf;

/// A graph, from a file or from a model.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  aio graph verify my.graph\n  aio graph print model.gguf > model.graph\n  aio graph dot my.graph | dot -Tsvg > my.svg"
)]
pub(crate) struct GraphArgs {
    /// Text graph, or a model for its step graph [default: that of -m].
    #[arg(value_name = "GRAPH", conflicts_with = "model")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
}
