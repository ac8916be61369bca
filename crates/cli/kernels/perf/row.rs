//! One row of results and its Markdown form. The field names are an interface: `aio kernels compare` and scripts read them.

use super::super::select::Selected;
use super::measure::{Measured, Timed};
use crate::bench::stats::median;
use crate::section::cells;
use crate::table::Table;
use aio::ir::Op;
use aio::orchestrator::Figure;
use aio::plan::Clock;
use aio::plan::KindName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The version of rows; it rises when a field changes its meaning or goes.
pub(in crate::kernels) const VERSION: u32 = 1;

/// Where and when kernels ran.
pub(super) struct Host {
    pub device: String,
    pub chip: String,
    pub threads: u32,
    pub host: String,
    pub date: String,
    pub depth: u32,
    pub passes: u32,
    pub model: Option<String>,
}

/// A kernel that could have been chosen, with its times.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::kernels) struct Candidate {
    pub variant: String,
    pub us_median: f64,
    pub samples_us: Vec<f64>,
}

/// A kernel in one state of the caches. Times are of one copy of the task.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::kernels) struct Row {
    pub version: u32,
    pub case: String,
    pub op: String,
    #[serde(rename = "type")]
    pub dtype: String,
    pub rows: u32,
    pub depth: u32,
    /// Tasks of the model's plan; null for a case of the list.
    pub count: Option<usize>,
    pub model: Option<String>,
    pub device: String,
    pub chip: String,
    pub host: String,
    pub threads: u32,
    pub date: String,
    pub commit: String,
    /// `measured` or `modelled`.
    pub clock: String,
    /// `cold`, `warm` or `modelled`.
    pub cache: String,
    pub copies: usize,
    /// Bytes of weights, states and separate inputs of a copy.
    pub copy_bytes: u64,
    /// Whether the copies are at least four times the last-level cache.
    pub rotates: bool,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub flops: u64,
    pub us_median: f64,
    pub us_min: f64,
    pub us_max: f64,
    pub gb_s: f64,
    /// Streaming reads of as many bytes; null if the device does not measure them.
    pub read_gb_s: Option<f64>,
    /// Median over the rounds of the bytes a second, read and written, by those of the streaming reads.
    pub of_read: Option<f64>,
    pub gflop_s: f64,
    /// Which peak: `int8` or `float`.
    pub peak: String,
    pub peak_gflop_s: Option<f64>,
    pub of_peak: Option<f64>,
    /// `memory` or `compute`: the limit that allows less.
    pub bound: Option<String>,
    /// The kernel that was chosen among variants; null where there is one.
    pub variant: Option<String>,
    /// How often the kernel was loaded; each pass has as many of the samples, in order.
    pub passes: u32,
    pub samples_us: Vec<f64>,
    pub read_samples_gb_s: Vec<f64>,
    pub candidates: Vec<Candidate>,
    pub tensors: String,
}

impl Row {
    pub(super) fn new(selected: &Selected, host: &Host, timed: &Timed, measured: &Measured) -> Row {
        let Measured { cost, macs, copy_bytes, .. } = measured;
        let case = &selected.case;
        let us: Vec<f64> = timed.seconds.iter().map(|s| s * 1e6).collect();
        let all = Figure::of(&us).unwrap_or(Figure { median: 0.0, min: 0.0, max: 0.0 });
        let bytes = (cost.bytes_read + cost.bytes_written) as f64;
        let rate = |amount: f64| if all.median > 0.0 { amount / all.median / 1e3 } else { 0.0 };
        let (gb_s, gflop_s) = (rate(bytes), rate(cost.flops as f64));
        let shares: Vec<f64> = timed.seconds.iter().zip(&timed.reads).map(|(s, read)| bytes / s / read).collect();
        let int8 = is_product(case.kind) && case.weights.is_quantized();
        let peaks: Vec<f64> = macs.iter().map(|m| 2e-9 * if int8 { m.int8 } else { m.plain }).collect();
        let some = |all: &[f64]| (!all.is_empty()).then(|| median(all));
        let reads: Vec<f64> = timed.reads.iter().map(|r| r / 1e9).collect();
        let (of_read, peak_gflop_s) = (some(&shares), some(&peaks).filter(|p| *p > 0.0));
        let of_peak = peak_gflop_s.map(|peak| gflop_s / peak);
        let bound = of_read.zip(of_peak).map(|(read, peak)| if read >= peak { "memory" } else { "compute" });
        Row {
            version: VERSION,
            case: case.name.clone(),
            op: case.kind.name().to_owned(),
            dtype: case.weights.name().to_owned(),
            rows: selected.rows.unwrap_or(1),
            depth: host.depth,
            count: selected.count,
            model: host.model.clone(),
            device: host.device.clone(),
            chip: host.chip.clone(),
            host: host.host.clone(),
            threads: host.threads,
            date: host.date.clone(),
            commit: aio::COMMIT.to_owned(),
            clock: timed.clock.to_string(),
            cache: timed.cache.name().to_owned(),
            copies: timed.copies,
            copy_bytes: *copy_bytes,
            rotates: timed.rotates,
            bytes_read: cost.bytes_read,
            bytes_written: cost.bytes_written,
            flops: cost.flops,
            us_median: all.median,
            us_min: all.min,
            us_max: all.max,
            gb_s,
            read_gb_s: some(&reads),
            of_read,
            gflop_s,
            peak: if int8 { "int8" } else { "float" }.to_owned(),
            peak_gflop_s,
            of_peak,
            bound: bound.map(str::to_owned),
            variant: None,
            passes: if timed.clock == Clock::Modelled { 1 } else { host.passes },
            samples_us: us,
            read_samples_gb_s: reads,
            candidates: Vec::new(),
            tensors: case.tensors(),
        }
    }

    /// Bytes read and written.
    fn bytes(&self) -> f64 {
        (self.bytes_read + self.bytes_written) as f64
    }
}

/// Whether a kind's flops are products with weights.
fn is_product(kind: KindName) -> bool {
    use KindName::{Experts, GateUp, Head, Linear, Qkv};
    matches!(kind, Qkv | Linear | GateUp | Experts | Head | KindName::Op(Op::Matmul))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(String::new, |s| format!("{:.0} %", 100.0 * s))
}

pub(super) fn markdown(rows: &[Row]) -> String {
    let planned = rows.iter().any(|r| r.count.is_some());
    let mut heads = vec![
        "case",
        ">rows",
        "cache",
        ">us",
        ">min - max",
        ">kB",
        ">GB/s",
        ">of read",
        ">GFLOP/s",
        ">of peak",
        "bound",
    ];
    let devices: BTreeSet<&str> = rows.iter().map(|r| r.device.as_str()).collect();
    if devices.len() > 1 {
        heads.insert(0, "device");
    }
    if planned {
        heads.insert(0, ">tasks");
    }
    let line = |r: &Row| {
        // What is not in memory because of its number is evicted by the reads between the rounds.
        let cache = if r.cache == "cold" && !r.rotates { "evicted" } else { &r.cache };
        let mut line = cells![
            r.case,
            r.rows,
            cache,
            format!("{:.2}", r.us_median),
            format!("{:.2} - {:.2}", r.us_min, r.us_max),
            format!("{:.1}", r.bytes() / 1e3),
            format!("{:.1}", r.gb_s),
            percent(r.of_read),
            format!("{:.1}", r.gflop_s),
            percent(r.of_peak),
            r.bound.clone().unwrap_or_default(),
        ];
        if devices.len() > 1 {
            line.insert(0, r.device.clone());
        }
        if planned {
            line.insert(0, r.count.map_or_else(String::new, |n| n.to_string()));
        }
        line
    };
    let table = Table { title: "kernels", heads, rows: rows.iter().map(line).collect() };
    table.markdown() + &sums(rows) + &machine(rows)
}

/// What all tasks of a step take together.
fn sums(rows: &[Row]) -> String {
    let key = |r: &Row| (r.device.clone(), r.rows, r.cache.clone());
    let keys: BTreeSet<_> = rows.iter().filter(|r| r.count.is_some()).map(key).collect();
    let line = |wanted: (String, u32, String)| {
        let same: Vec<&Row> = rows.iter().filter(|r| key(r) == wanted).collect();
        let sum = |of: &dyn Fn(&Row) -> f64| same.iter().map(|r| of(r) * r.count.unwrap_or(1) as f64).sum::<f64>();
        let (us, bytes) = (sum(&|r| r.us_median), sum(&Row::bytes));
        let (device, rows, cache) = wanted;
        let (ms, mb, gb_s) = (us / 1e3, bytes / 1e6, bytes / us.max(1e-9) / 1e3);
        format!("\nall tasks, {rows} rows, {cache}, {device}: {ms:.3} ms, {mb:.1} MB, {gb_s:.1} GB/s\n")
    };
    keys.into_iter().map(line).collect()
}

/// A line for each device: its limits as measured, and the processor.
fn machine(rows: &[Row]) -> String {
    let devices: BTreeSet<&str> = rows.iter().map(|r| r.device.as_str()).collect();
    let line = |device: &str| {
        let own: Vec<&Row> = rows.iter().filter(|r| r.device == device).collect();
        let figure = |values: Vec<f64>| match Figure::of(&values) {
            Some(f) => format!("{:.1} ({:.1} - {:.1})", f.median, f.min, f.max),
            None => "not measured".to_owned(),
        };
        let reads = own.iter().filter(|r| r.cache != "warm").flat_map(|r| r.read_samples_gb_s.iter().copied());
        let peak = |kind: &str| own.iter().filter(|r| r.peak == kind).filter_map(|r| r.peak_gflop_s).collect();
        let first = own[0];
        format!(
            "\n{device}: {}, {} threads, {} passes of {} rounds, {}; reads {} GB/s, peaks int8 {} and float {} GFLOP/s; commit {}\n",
            first.chip,
            first.threads,
            first.passes,
            first.samples_us.len() / first.passes.max(1) as usize,
            first.clock,
            figure(reads.collect()),
            figure(peak("int8")),
            figure(peak("float")),
            first.commit
        )
    };
    devices.into_iter().map(line).collect()
}
