//! Flags of `regime`.

use super::numbers::{Numbers, numbers};
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// Forms of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MapForm {
    /// Markdown.
    Md,
    /// One picture.
    Svg,
    /// A page with the picture and the numbers.
    Html,
    /// One JSON object.
    Json,
}

/// Arguments of `aio regime`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "A decode step is bound by launching, by reading weights, by reading keys and values, or by arithmetic. The map shows which,\nwith the time predicted by the roofline and the number of drafts that makes the most tokens a second if each is accepted with\nthe chance given. --measure runs the steps as well and sets what they took beside. The CPU's\nrates are those that `aio device calibrate` has measured; 910b1 to 910b4 are modelled.\n\nExamples:\n  aio regime\n  aio regime pangu-7b --device 910b2 --batch 1-64*2 --context 512-32768*2\n  aio regime model.gguf --measure --context 256,2048 --batch 1,4\n  aio regime -o svg > map.svg"
)]
pub(crate) struct RegimeArgs {
    /// Model file, or a preset of `aio synth` [default: SmolLM2-135M-Instruct, fetched if missing].
    #[arg(value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Device: cpu and cuda take this machine's profile, a file is another one, 910b1 to 910b4 are modelled.
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// Host of a modelled device.
    #[arg(long, default_value = "native", value_name = "HOST", value_parser = ["native", "torch-eager"])]
    pub host: String,
    /// Positions of each sequence.
    #[arg(long, default_value = "256-16384*2", value_name = "LIST", value_parser = numbers)]
    pub context: Numbers,
    /// Sequences of a step.
    #[arg(long, default_value = "1-32*2", value_name = "LIST", value_parser = numbers)]
    pub batch: Numbers,
    /// Chance that a draft is accepted after accepted ones.
    #[arg(long, default_value_t = 0.7, value_name = "P", value_parser = super::trace::share)]
    pub acceptance: f64,
    /// Run each step and show what it took.
    #[arg(long)]
    pub measure: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: MapForm,
}
