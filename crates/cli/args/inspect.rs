//! Flags of `aio graph inspect`.

use super::{MAX_ROWS, ModelArgs, TailArg};
use aio::inspect::Pattern;
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// Output forms of `aio graph inspect`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum InspectForm {
    /// Aligned tables, as wide as the terminal.
    Table,
    /// Markdown tables.
    Md,
    /// The whole report as one object on one line, with a schema version.
    Json,
    /// One line per task with a header line.
    Csv,
    /// The plan's tasks in the DOT language.
    Dot,
    /// A picture of the roofline.
    Svg,
    /// A page with roofline, memory, layers and a table of tasks to search; needs no other file.
    Html,
    /// What the device's threads did in the measured steps, for Perfetto and Chrome.
    Trace,
    /// The graph, without weights, for viewers of ONNX.
    Onnx,
}

/// What to sum tasks by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GroupArg {
    /// Kind of task.
    Op,
    /// Layer.
    Layer,
    /// Part of a layer: attention, mlp; embedding, head.
    Block,
    /// Element type of weights, or of keys and values.
    Type,
}

/// The step that is inspected, and the machine that its times are predicted for.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct StepArgs {
    /// Token rows of the step.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub rows: u32,
    /// Sequences of the step, which share its rows evenly.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub seqs: u32,
    /// Output rows of the step [default: one per sequence].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROWS)))]
    pub outs: Option<u32>,
    /// Verify K drafts per sequence: a step has K + 1 rows per sequence.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=4096), conflicts_with_all = ["rows", "outs"])]
    pub drafts: Option<u32>,
    /// What to return for the output rows [default: argmax; logits if the graph has no output `logits`].
    #[arg(long, value_enum, value_name = "TAIL")]
    pub tail: Option<TailArg>,
    /// Positions that each row sees.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1 << 24))]
    pub context: u32,
    /// What to predict times for: cpu and cuda take this machine's profile, a file is another one, 910b1 to 910b4 are modelled
    /// [default: the profile of --device on this machine].
    #[arg(long, value_name = "DEVICE")]
    pub profile: Option<String>,
}

/// Arguments of `aio graph inspect`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Needs no weights, and runs nothing without --measure. Of a compiled model only head and plans are read. Times are predicted\nfrom the profile that `aio device calibrate` wrote, or for the device given with --profile; without one, from assumed rates.\nThe plan is always that of --device. Sums are always of all tasks.\n\n--measure runs on the CPU: the rows, sequences, output rows, drafts and tail given. A step that verifies drafts takes equally\nlong whether they are accepted or not.\n\nExamples:\n  aio graph inspect\n  aio graph inspect model.gguf --context 4096 --by layer\n  aio graph inspect model.aio --rows 8 --filter 'ffn|head' -o json\n  aio graph inspect my.graph --top 5 -o md\n  aio graph inspect --device ascend --profile 910b2\n  aio graph inspect --measure\n  aio graph inspect --measure --drafts 4\n  aio graph inspect --measure --rows 128 --context 1024\n  aio graph inspect --measure -o html > report.html\n  aio graph inspect model.gguf -o onnx > model.onnx"
)]
pub(crate) struct InspectArgs {
    /// Text graph, GGUF or compiled model [default: the default model].
    #[arg(value_name = "FILE", conflicts_with = "model")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub step: StepArgs,
    /// Run the step on the CPU, and show each task's measured times beside the predicted ones.
    #[arg(long)]
    pub measure: bool,
    /// Steps that --measure runs.
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub reps: u32,
    /// Trace of a run (`aio run --trace`): show which plans served its steps, and their padding.
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Show only tasks with a name, kind, block, type or tensor that matches.
    #[arg(long, value_name = "REGEX", allow_hyphen_values = true, value_parser = Pattern::new)]
    pub filter: Option<Pattern>,
    /// Show only the N tasks that take longest [default: 16 in tables, all in json and csv].
    #[arg(long, value_name = "N", value_parser = super::whole::<usize>)]
    pub top: Option<usize>,
    /// Sums to show in tables; repeatable [default: op and block].
    #[arg(long, value_enum, value_name = "KEY")]
    pub by: Vec<GroupArg>,
    /// Output form.
    #[arg(short, long = "output", value_enum, default_value = "table", value_name = "FORM")]
    pub output: InspectForm,
}
