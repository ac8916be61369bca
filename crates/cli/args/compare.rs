//! Flags of `aio graph diff` and `aio graph shrink`.

use super::{GraphArgs, ModelArgs, StepArgs};
use aio::inspect::Budget;
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// Output forms of `aio graph diff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiffForm {
    /// Text for people.
    Table,
    /// Markdown.
    Md,
    /// One object on one line, with a schema version.
    Json,
}

/// Arguments of `aio graph diff`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each side is a text graph, a GGUF, a compiled model, or a report that `aio graph inspect -o json` wrote. Step and machine are\nthose of the flags; reports keep their own. Exits with status 1 if a figure grew more than the budget allows: tasks, weights,\nkv, bytes, flops, arena, time (predicted), measured (only if the growth is significant).\n\nExamples:\n  aio graph diff old.aio new.aio\n  aio graph diff q8_0.gguf q4_0.gguf --context 4096\n  aio graph diff base.json model.gguf --budget bytes=1%,time=2%\n  aio graph inspect --measure -o json > before.json   (and after.json)\n  aio graph diff before.json after.json --budget measured=3%"
)]
pub(crate) struct DiffArgs {
    /// The first side.
    #[arg(value_name = "A")]
    pub before: PathBuf,
    /// The second side.
    #[arg(value_name = "B")]
    pub after: PathBuf,
    /// Most that figures may grow, such as bytes=1%,time=2%.
    #[arg(long, value_name = "LIST", value_parser = Budget::parse)]
    pub budget: Option<Budget>,
    #[command(flatten)]
    pub step: StepArgs,
    #[command(flatten)]
    pub model: ModelArgs,
    /// Output form.
    #[arg(short, long = "output", value_enum, default_value = "table", value_name = "FORM")]
    pub output: DiffForm,
}

/// What must stay wrong while a graph shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShrinkCheck {
    /// The device computes something else than the oracle, or fails.
    Run,
    /// The graph does not compile for the device.
    Compile,
}

/// Arguments of `aio graph shrink`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Prints the smallest graph found that still fails; after Ctrl-C, the smallest so far. A program of your own decides with --test:\nit is run with the path of a graph, and a graph fails if the program's exit status is not 0. One that is killed by a signal has\nnot answered, which ends the search. With --timeout, a graph on which the program hangs counts as failing if the whole graph\nmade it hang, too.\n\nExamples:\n  aio graph shrink bad.graph > small.graph\n  aio graph shrink bad.graph --check compile --device cuda\n  aio graph shrink model.gguf --test ./fails.sh --timeout 10"
)]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    pub graph: GraphArgs,
    /// What is wrong with the graph.
    #[arg(long, value_enum, default_value = "run", value_name = "WHAT", conflicts_with = "test")]
    pub check: ShrinkCheck,
    /// Path of a program that fails on the graph; it is not looked up in PATH.
    #[arg(long, value_name = "PROGRAM")]
    pub test: Option<PathBuf>,
    /// Seconds after which --test's program hangs and is killed, with what it started [default: it may take forever].
    #[arg(long, value_name = "N", requires = "test", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// Rows of the steps that --check run compares.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=33))]
    pub rows: u32,
    /// Most graphs to try.
    #[arg(long, default_value_t = 2000, value_name = "N", value_parser = super::whole::<usize>)]
    pub most: usize,
}
