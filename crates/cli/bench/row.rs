//! One row of results and the forms it is printed in. The field names are an interface: scripts read them.

use super::forms;
use super::samples::Samples;
use aio::engine::ModelWork;
use aio::orchestrator::Figure;
use serde::Serialize;

/// What was run, and where.
pub(crate) struct Setup {
    pub test: String,
    pub model: String,
    pub model_bytes: u64,
    pub device: String,
    pub chip: String,
    pub threads: u32,
    pub rows: u32,
    pub depth: u32,
    pub reps: u32,
    pub plan: String,
}

/// The machine's limits, measured in the same run.
pub(crate) struct Limits {
    /// Bytes of one streaming read.
    pub buffer_bytes: u64,
    /// 8-bit multiply-adds per second, all threads together.
    pub int8_macs: f64,
    /// f32 multiply-adds per second, all threads together.
    pub f32_macs: f64,
}

/// One row; fields are in the column order of `-o csv`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    test: String,
    model: String,
    model_bytes: u64,
    device: String,
    isa: String,
    threads: u32,
    rows: u32,
    depth: u32,
    reps: u32,
    tok_s_median: f64,
    tok_s_min: f64,
    tok_s_max: f64,
    ms_median: f64,
    samples: Vec<f64>,
    weight_bytes: u64,
    kv_bytes: u64,
    gb_s: f64,
    read_bw_gb_s: f64,
    fraction_of_read_bw: f64,
    plan: String,
    submissions_per_step: f64,
    syncs_per_step: f64,
    barriers_per_step: f64,
    allocations_per_step: f64,
    commit: String,
    cpu: String,
    /// Lower bound in milliseconds for a step of these rows on this machine; shown in Markdown only.
    #[serde(skip)]
    floor_ms: f64,
    /// Bandwidth of copies inside a device with its own memory.
    #[serde(skip)]
    copy_bw_gb_s: Option<f64>,
    /// Share of the plan's rows that are padding.
    #[serde(skip)]
    padding: f64,
}

impl Row {
    /// Computes the row from the measurements.
    pub(crate) fn new(setup: Setup, samples: &Samples, work: &ModelWork, limits: &Limits) -> Row {
        let zero = Figure { median: 0.0, min: 0.0, max: 0.0 };
        let figure = |all: &[f64]| Figure::of(all).unwrap_or(zero);
        let (tok_s, step) = (figure(&samples.tok_s), figure(&samples.step_s).median);
        let steps = samples.step_s.len().max(1) as f64;
        let per_step = |total: u64| total as f64 / steps;
        let kv_bytes = (per_step(samples.positions) * work.kv_bytes_per_position as f64) as u64;
        let read_s = figure(&samples.read_s).median;
        let read_bw = if read_s > 0.0 { limits.buffer_bytes as f64 / read_s / 1e9 } else { 0.0 };
        let bytes = (work.weight_bytes + kv_bytes) as f64;
        let gb_s = if step > 0.0 { bytes / step / 1e9 } else { 0.0 };
        let compute = |macs: u64, peak: f64| if peak > 0.0 { macs as f64 * f64::from(setup.rows) / peak } else { 0.0 };
        let compute = compute(work.int8_macs, limits.int8_macs) + compute(work.f32_macs, limits.f32_macs);
        let floor = compute.max(bytes / (read_bw * 1e9).max(1.0));
        Row {
            test: setup.test,
            model: setup.model,
            model_bytes: setup.model_bytes,
            isa: setup.device.strip_prefix("cpu-").unwrap_or(&setup.device).to_owned(),
            device: setup.device,
            threads: setup.threads,
            rows: setup.rows,
            depth: setup.depth,
            reps: setup.reps,
            tok_s_median: tok_s.median,
            tok_s_min: tok_s.min,
            tok_s_max: tok_s.max,
            ms_median: step * 1e3,
            samples: samples.tok_s.clone(),
            weight_bytes: work.weight_bytes,
            kv_bytes,
            gb_s,
            read_bw_gb_s: read_bw,
            fraction_of_read_bw: if read_bw > 0.0 { gb_s / read_bw } else { 0.0 },
            copy_bw_gb_s: Figure::of(&samples.copy_s).map(|f| limits.buffer_bytes as f64 / f.median / 1e9),
            plan: setup.plan,
            padding: samples.rows.padding(),
            submissions_per_step: per_step(samples.submissions),
            syncs_per_step: per_step(samples.syncs),
            barriers_per_step: per_step(samples.barriers),
            allocations_per_step: per_step(samples.allocations),
            commit: aio::COMMIT.to_owned(),
            cpu: setup.chip,
            floor_ms: floor * 1e3,
        }
    }
}

/// The Markdown table: speed with its spread, share of the bandwidth, and distance from the lower bound.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let heads = [
        "model",
        "device",
        "threads",
        "test",
        "depth",
        "tok/s",
        "min - max",
        "ms/step",
        "GB/s",
        "read GB/s",
        "share",
        "x 1 row",
        "floor x 1 row",
        "floor/time",
        "plan",
        "padding",
        "barriers",
    ];
    let cells = |row: &Row| {
        let same = |r: &&Row| r.model == row.model && r.device == row.device && r.threads == row.threads;
        let many = ["rows", "batch"].into_iter().find(|kind| row.test.starts_with(kind));
        let is_one = |r: &&Row| many.and_then(|kind| r.test.strip_prefix(kind)) == Some("1") && r.depth == row.depth;
        let base = rows.iter().filter(same).find(is_one);
        let ratio = |f: &dyn Fn(&Row) -> f64| base.map_or_else(String::new, |one| format!("{:.2}", f(row) / f(one)));
        vec![
            row.model.clone(),
            row.device.clone(),
            row.threads.to_string(),
            row.test.clone(),
            row.depth.to_string(),
            format!("{:.1}", row.tok_s_median),
            format!("{:.1} - {:.1}", row.tok_s_min, row.tok_s_max),
            format!("{:.3}", row.ms_median),
            format!("{:.1}", row.gb_s),
            format!("{:.1}", row.read_bw_gb_s),
            format!("{:.0} %", 100.0 * row.fraction_of_read_bw),
            ratio(&|r| r.ms_median),
            ratio(&|r| r.floor_ms),
            format!("{:.2}", row.floor_ms / row.ms_median),
            row.plan.clone(),
            format!("{:.0} %", 100.0 * row.padding),
            format!("{:.0}", row.barriers_per_step),
        ]
    };
    let mut out = forms::table(&heads, rows.iter().map(cells));
    let Some(first) = rows.first() else { return out };
    out += &format!("\n{}, {} rounds, commit {}\n", first.cpu, first.reps, first.commit);
    let copies: Vec<f64> = rows.iter().filter_map(|r| r.copy_bw_gb_s).collect();
    if let Some(copy) = Figure::of(&copies) {
        out += &format!("copies inside the device {:.1} GB/s ({:.1} - {:.1})\n", copy.median, copy.min, copy.max);
    }
    out
}
