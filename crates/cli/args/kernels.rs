//! Flags of `aio kernels`.

use super::numbers::{Numbers, numbers};
use super::{AscendArgs, DeviceArg, IsaArg, TableForm};
use aio::ir::{DType, Op};
use aio::plan::KindName;
use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use regex_automata::meta::Regex;
use std::path::PathBuf;

/// Subcommands of `aio kernels`.
#[derive(Debug, Subcommand)]
pub(crate) enum KernelsCommand {
    /// List the cases that kernels are tested and timed on.
    List(KernelsListArgs),
    /// Compare kernels with the oracle; exits with status 1 if one fails.
    Test(KernelsTestArgs),
    /// Take the time of kernels, beside the machine's limits in the same run.
    Perf(KernelsPerfArgs),
    /// Show what a device supports, or compare it with a table.
    Support(KernelsSupportArgs),
    /// Compare the times of two runs of `perf`, with significance.
    Compare(KernelsCompareArgs),
}

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    /// Whether it matches somewhere in a text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn pattern(text: &str) -> Result<Pattern, String> {
    // The syntax error shows the pattern again; its last line says what is wrong.
    let wrong = |e: regex_automata::meta::BuildError| {
        let shown = e.syntax_error().map_or_else(|| e.to_string(), ToString::to_string);
        let last = shown.lines().last().unwrap_or_default();
        last.trim_start_matches("error: ").to_owned()
    };
    Regex::new(text).map(Pattern).map_err(wrong)
}

/// An op or a fused kind by its name.
fn kind(name: &str) -> Result<KindName, String> {
    let fused = KindName::FUSED.iter().copied().find(|kind| kind.name() == name);
    if let Some(kind) = fused.or_else(|| Op::from_mnemonic(name).map(KindName::Op)) {
        return Ok(kind);
    }
    let fused: Vec<&str> = KindName::FUSED.iter().map(|kind| kind.name()).collect();
    Err(format!("expected a fused kind ({}) or an op (`aio graph ops` lists them)", fused.join(", ")))
}

fn element_type(name: &str) -> Result<DType, String> {
    let names = || DType::ALL.iter().map(|t| t.name()).collect::<Vec<_>>().join(", ");
    DType::from_name(name).ok_or_else(|| format!("expected one of {}", names()))
}

/// Which cases; shared by the subcommands.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct CaseArgs {
    /// Only cases of these ops or fused kinds, comma-separated.
    #[arg(long, value_name = "OPS", value_delimiter = ',', value_parser = kind)]
    pub op: Vec<KindName>,
    /// Only cases of these element types of the weights, or of the operands without weights; comma-separated.
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',', value_parser = element_type)]
    pub types: Vec<DType>,
    /// Only cases whose full string matches this regular expression: name, op, tensors with their shapes, rows.
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    pub case: Option<Pattern>,
    /// Instead of the list, the tasks of a model's plans for the device, each once with their number [without a file: the
    /// default model].
    #[arg(long, value_name = "MODEL", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the flag may be given without a file")]
    pub from: Option<Option<PathBuf>>,
    /// Rows of the steps of --from's model, and of steps that `perf` times; 1 is decoding [default: 1].
    #[arg(long, value_name = "LIST", value_parser = numbers)]
    pub rows: Option<Numbers>,
}

/// Where kernels run; shared by the subcommands.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct KernelDeviceArgs {
    /// Device.
    #[arg(long, value_parser = super::device::parser(), default_value = "cpu", value_name = "DEVICE")]
    pub device: DeviceArg,
    /// Number of threads [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,
    /// Instruction sets, comma-separated [default: the best available].
    #[arg(long, value_enum, value_name = "ISA", value_delimiter = ',')]
    pub isa: Vec<IsaArg>,
    #[command(flatten)]
    pub ascend: AscendArgs,
}

/// Arguments of `aio kernels list`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A case is a small graph around one kind of task, with steps of several numbers of rows. Its full string is its name, kind,\ntensors and rows.\n\nExamples:\n  aio kernels list --op linear --type q4_0,q8_0\n  aio kernels list --case 'w=q4_k\\[264,256\\]'\n  aio kernels list --from model.gguf --rows 1,5,512"
)]
pub(crate) struct KernelsListArgs {
    #[command(flatten)]
    pub cases: CaseArgs,
    #[command(flatten)]
    pub device: KernelDeviceArgs,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
}

/// Arguments of `aio kernels test`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Each case runs on the device and on the scalar oracle. The error is the normalised mean square error of all outputs and\nstates, the bound what rounding admits. A case without a kernel is unsupported, which is no failure.\n\nExamples:\n  aio kernels test\n  aio kernels test --isa portable,avx2,avx512 --op linear,head\n  aio kernels test --device ascend --each\n  aio kernels test --from model.gguf --rows 1,5 -o jsonl"
)]
pub(crate) struct KernelsTestArgs {
    #[command(flatten)]
    pub cases: CaseArgs,
    #[command(flatten)]
    pub device: KernelDeviceArgs,
    /// Print a line for each case instead of a summary; other forms than md always have a row for each.
    #[arg(long)]
    pub each: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
}

/// Whether caches hold what a kernel reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheArg {
    /// They do not: copies of the weights take turns that together have four times the bytes of the last-level cache.
    Cold,
    /// They do, as far as they can: the same few copies run again and again.
    Warm,
}

/// Arguments of `aio kernels perf`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A plan runs copies of the kernel's task one after the other in one submission, as a model runs its layers; times are of one\ncopy. Cold copies have weights of their own, as many as it takes for four times the last-level cache (at most 2048 or 1.5 GB;\nwhere that is too few, the reads evict them: `evicted`). Warm copies together fit half of the second-level caches, at least one. After\neach run comes a streaming read of as many bytes; `of read` is the median of the rounds' ratios. Peaks are multiply-adds from\nregisters in the same run. `bound` is the limit that allows less. On a modelled clock, the time is what one more copy adds.\n\nFields of -o jsonl: times per copy in microseconds, samples by round; clock says whether they are measured or modelled; copies\nand whether they `rotate` through enough memory; variant and candidates are of the choice among kernels, if there is one.\n\nExamples:\n  aio kernels perf --from\n  aio kernels perf --from model.gguf --rows 1,5,17 -o jsonl > before.jsonl\n  aio kernels perf --op linear --type q4_k,q8_0 --cache cold"
)]
pub(crate) struct KernelsPerfArgs {
    #[command(flatten)]
    pub cases: CaseArgs,
    #[command(flatten)]
    pub device: KernelDeviceArgs,
    /// Positions in the context before the step.
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1024))]
    pub depth: u32,
    /// States of the caches, comma-separated.
    #[arg(long, value_enum, default_value = "cold,warm", value_name = "CACHE", value_delimiter = ',')]
    pub cache: Vec<CacheArg>,
    /// Passes over all cases, each of which loads the kernels anew.
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub passes: u32,
    /// Measured rounds of each pass.
    #[arg(short, long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10000))]
    pub reps: u32,
    /// Warm-up rounds of each pass, not measured.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(..=1000))]
    pub warmup: u32,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
}

/// What is compared of two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompareBy {
    /// Times.
    Time,
    /// Times multiplied by the read bandwidth of the same round, so that the machine's drift between the runs cancels out.
    Share,
}

/// A percentage above 0.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').trim().parse::<f64>() {
        Ok(n) if n.is_finite() && n >= 0.0 => Ok(n),
        _ => Err("expected a percentage, 0 or more".to_owned()),
    }
}

/// Arguments of `aio kernels compare`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A case of both files is compared by the medians of its passes: the median ratio of all pairs with its 95 % interval (Hodges\nand Lehmann), and the rank test of Mann and Whitney, adjusted for the number of cases (Benjamini and Hochberg): below 5 %, a difference\nis significant, and of all such differences at most 5 % are expected to be chance. The more cases, the more passes it takes to\nshow that a single one differs: 7 in each run for up to 85 cases, 10 for up to 4618; below that, the verdict is `too few passes`,\nand --fail-slower is refused. Where the streaming reads beside the kernel differ by more than 10 %, the machine has changed between the runs, and\nthe verdict is `unclear`. Files of one device each may be of different ones, such as two instruction sets.\n\nExamples:\n  aio kernels compare before.jsonl after.jsonl\n  aio kernels compare before.jsonl after.jsonl --by share --fail-slower 3"
)]
pub(crate) struct KernelsCompareArgs {
    /// Results of `aio kernels perf -o jsonl` to compare with.
    #[arg(value_name = "A")]
    pub a: PathBuf,
    /// Results to compare.
    #[arg(value_name = "B")]
    pub b: PathBuf,
    /// What to compare.
    #[arg(long, value_enum, default_value = "time", value_name = "WHAT")]
    pub by: CompareBy,
    /// Exit with status 1 if a case of B is significantly slower than PCT percent above A.
    #[arg(long, value_name = "PCT", value_parser = percent)]
    pub fail_slower: Option<f64>,
    /// Compare even if host, processor or number of threads differ.
    #[arg(long)]
    pub any_host: bool,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM")]
    pub output: TableForm,
}

/// Arguments of `aio kernels support`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Runs the cases as `test` does. With -o csv the table is in the form of the checked-in ones, which --check reads.\n\nExamples:\n  aio kernels support\n  aio kernels support --device ascend -o csv > support.csv\n  aio kernels support --device ascend --check support.csv"
)]
pub(crate) struct KernelsSupportArgs {
    #[command(flatten)]
    pub cases: CaseArgs,
    #[command(flatten)]
    pub device: KernelDeviceArgs,
    /// Compare with a table, print the rows that differ, and exit with status 1 if there are any.
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// Output form.
    #[arg(short, long, value_enum, default_value = "md", value_name = "FORM", conflicts_with = "check")]
    pub output: TableForm,
}
