//! Flags of the subcommands that measure: `bench` and `device`.

use super::numbers::{Numbers, numbers};
use super::{BenchTraceArgs, DeviceArg, IsaArg, LoadArgs, PlansArgs, ShowForm, SpecArgs, TableForm, TextOrJson};
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Arguments of `aio bench`.
#[derive(Debug, ClapArgs)]
#[command(
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "LIST is 1,2,8 or a range such as 1-17, 0-4096+1024, 32-512*2; 0 skips a test. Tests: ppN processes a prompt of N tokens,\ntgN generates N tokens, rowsN runs steps of N token rows (the cost of checking N - 1 drafts), batchN decodes N sequences\ntogether, each with its own context. All tests of a model are interleaved round by round, with a streaming read of a\nbuffer of the weights' size after each step; the median read bandwidth is the denominator of fraction_of_read_bw.\n\nFields of a row: tok_s_* over repetitions, all rows or sequences together; ms_median of a step; weight_bytes and kv_bytes\nread per step; *_per_step counted by the device; allocations_per_step counted in the whole program; padding, the share of\nthe plan's rows without a token; copy_bw_gb_s of copies inside a GPU, whose threads are its multiprocessors.\n\nExamples:\n  aio bench\n  aio bench -p 0 -n 64 -d 0-4096+2048 -o json\n  aio bench -p 0 -n 0 --rows 1-6,8,9,12,16,17 -o md\n  aio bench -p 0 -n 0 --rows 1,9 --temp 0.8 --top-k 40 --top-p 0.95\n  aio bench -p 0 -n 0 --batch 1,2,4,8 -d 0,1024\n  aio bench -m a.gguf -m b.gguf --threads 1,2 -o csv --output-err md"
)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// Model file; repeatable [default: SmolLM2-135M-Instruct, fetched if missing].
    #[arg(short, long = "model", value_name = "FILE")]
    pub models: Vec<PathBuf>,
    #[command(flatten)]
    pub load: LoadArgs,
    /// Device to measure.
    #[arg(long, value_parser = super::device::parser(), default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Prompt lengths.
    #[arg(short, long, default_value = "512", value_name = "LIST", value_parser = numbers)]
    pub prefill: Numbers,
    /// Numbers of tokens to generate.
    #[arg(short = 'n', long, default_value = "128", value_name = "LIST", value_parser = numbers)]
    pub decode: Numbers,
    /// Tokens in the context before each test.
    #[arg(short, long, default_value = "0", value_name = "LIST", value_parser = numbers)]
    pub depth: Numbers,
    /// Token rows per step, each with an output; at most 72.
    #[arg(long, default_value = "0", value_name = "LIST", value_parser = numbers)]
    pub rows: Numbers,
    /// Sequences decoded together, one token each per step; at most 72.
    #[arg(long, default_value = "0", value_name = "LIST", value_parser = numbers)]
    pub batch: Numbers,
    /// Sampling temperature; 0 takes the most likely token.
    #[arg(long, default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    pub temp: f32,
    /// Keep the K most likely tokens; 0 keeps all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub top_k: u32,
    /// Keep the smallest set of most likely tokens whose probability reaches P.
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true)]
    pub top_p: f32,
    /// Drop tokens less likely than P times the most likely one.
    #[arg(long, default_value_t = 0.0, value_name = "P", allow_negative_numbers = true)]
    pub min_p: f32,
    /// Number of threads; 0 means one per core.
    #[arg(short, long, default_value = "0", value_name = "LIST", value_parser = numbers)]
    pub threads: Numbers,
    /// Highest instruction sets to use, comma-separated [default: the best available].
    #[arg(long, value_enum, value_name = "ISA", value_delimiter = ',')]
    pub isa: Vec<IsaArg>,
    /// Measured rounds.
    #[arg(short, long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub reps: u32,
    /// Warm-up rounds, not measured.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub warmup: u32,
    /// Output form on stdout.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
    /// Also print the results to stderr in this form.
    #[arg(long, value_enum, value_name = "FORM")]
    pub output_err: Option<TableForm>,
}

/// Subcommands of `aio bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure what speculation gains and costs on workloads of prompts, and check that it changes no text.
    Spec(Box<SpecArgs>),
    /// Run a trace of requests on variants of a model, by several policies in turn.
    Trace(Box<BenchTraceArgs>),
    /// Measure what chosen plans lose against the best ones, and how far predicted step times are off.
    Plans(Box<PlansArgs>),
}

/// Subcommands of `aio device`.
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices of this machine and their profiles.
    List(DeviceListArgs),
    /// Show a device profile.
    Show(DeviceShowArgs),
    /// Measure this machine and write its device profile.
    Calibrate(CalibrateArgs),
    /// Print what the simulated Ascend models, against published figures.
    Model(ModelTablesArgs),
    /// Compile the CUDA kernels, for this machine or another.
    Kernels(DeviceKernelsArgs),
}

/// Arguments of `aio doctor`.
#[derive(Clone, Debug, ClapArgs)]
#[command(
    after_help = "The last table says what keeps the machine from running models well, and what to do. Bandwidth is what `aio device calibrate`\nmeasured before. The JSON object has the same facts and a version, which rises when a field changes its meaning or goes.\n\nExamples:\n  aio doctor\n  aio doctor -o json"
)]
pub(crate) struct DoctorArgs {
    /// Output form.
    #[arg(short, long, value_enum, default_value = "text", value_name = "FORM")]
    pub output: TextOrJson,
}

/// Arguments of `aio device list`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "With --device, lists only that device, or exits with status 2 and the reason if it cannot be used.\n\nExamples:\n  aio device list\n  aio device list -o json\n  aio device list --device cuda\n  aio device list --acl-lib /usr/local/Ascend/ascend-toolkit/latest/lib64"
)]
pub(crate) struct DeviceListArgs {
    /// List only this device, which must be usable.
    #[arg(long, value_parser = super::device::parser(), value_name = "DEVICE")]
    pub device: Option<DeviceArg>,
    /// Where to look for CANN's libraries: one of them, or their folder [default: where the system finds them].
    #[arg(long, value_name = "PATH")]
    pub acl_lib: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}

/// Arguments of `aio device show`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:\n  aio device show\n  aio device show other-machine.toml -o json")]
pub(crate) struct DeviceShowArgs {
    /// Profile to show [default: this machine's, from the cache folder].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}

/// Arguments of `aio device calibrate`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Measures read bandwidth by working set (L1, L2, L3, memory) and threads; multiply-adds per second from registers, 8-bit\nand f32; the cost of a submission, of a barrier, of waking the threads. On a GPU: reads of its memory and copies inside\nit; bf16 instead of f32; a submission is a launch and a wait, a barrier the edge between two kernels of a graph, a wake-up\na launch alone. Nothing else should run meanwhile.\n\nExamples:\n  aio device calibrate\n  aio device calibrate --threads 4 --file profile.toml\n  aio device calibrate --device cuda"
)]
pub(crate) struct CalibrateArgs {
    /// Device to measure.
    #[arg(long, value_parser = super::device::parser(), default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Number of threads [default: one per core].
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Highest instruction set to use [default: the best available].
    #[arg(long, value_enum, value_name = "ISA")]
    pub isa: Option<IsaArg>,
    /// Samples per figure.
    #[arg(short, long, default_value_t = 9, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub reps: u32,
    /// File to write [default: this machine's profile, in the cache folder].
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Tables of `aio device model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelTable {
    /// Constants of the modelled clock.
    Inputs,
    /// Operators of an eager step of openPangu and of llama.cpp.
    Operators,
    /// Predictions against published figures.
    Predictions,
    /// The small model against the large one, by dispatch.
    Paradox,
    /// Buckets of lengths against patched lengths.
    Lengths,
    /// Batched verification against one row at a time.
    Verification,
    /// Where the sign of a gain changes.
    Sweeps,
}

/// Arguments of `aio device model`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Every figure is modelled, none is measured. No weights are needed: the steps of synthetic models are walked for their\nmodelled time. A prediction has the interval that the ranges of the constants give, its miss, and the constant that would\nclose the miss, which is not applied.\n\nExamples:\n  aio device model\n  aio device model --only paradox,lengths --chip 910B3\n  aio device model --only predictions -o json"
)]
pub(crate) struct ModelTablesArgs {
    /// Tables to print, comma-separated [default: all].
    #[arg(long, value_enum, value_name = "TABLE", value_delimiter = ',')]
    pub only: Vec<ModelTable>,
    /// Chip to model.
    #[arg(long, value_name = "CHIP", default_value = "910B2", value_parser = ["910B1", "910B2", "910B3", "910B4"])]
    pub chip: String,
    /// Rows of this host only, where hosts are compared [default: both].
    #[arg(long, value_name = "HOST", value_parser = ["native", "torch-eager"])]
    pub host: Option<String>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: ShowForm,
}

/// Arguments of `aio device kernels`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Kernels are compiled when a GPU is first used, which needs NVRTC and takes some seconds. This compiles them ahead of time.\nFor a machine without NVRTC, copy the folder into its cache as `aio/cuda`.\n\nExamples:\n  aio device kernels --arch 90\n  aio device kernels --arch 80,90 --out kernels"
)]
pub(crate) struct DeviceKernelsArgs {
    /// Compute capabilities without the point, comma-separated.
    #[arg(long, value_name = "LIST", default_value = "90", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(80..))]
    pub arch: Vec<u32>,
    /// Folder for the machine code [default: this machine's cache folder].
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Bursts to compile as well: a file whose lines each name the kernels of a model.
    #[arg(long, value_name = "FILE")]
    pub bursts: Option<PathBuf>,
}
