//! One row of results: a configuration on a workload. The field names are an interface: scripts read them.

use super::group::{Entry, Group};
use super::run::TextRun;
use crate::args::speculation_name;
use crate::bench::forms;
use crate::bench::stats::{low95, median};
use aio::orchestrator::Figure;
use serde::Serialize;

/// Fields that all rows of an invocation share.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub model: String,
    pub draft_model: Option<String>,
    pub device: String,
    pub threads: usize,
    pub seed: u64,
}

/// The times of one generation.
#[derive(Clone, Debug, Serialize)]
struct RunRow {
    prompt: String,
    round: u32,
    tokens: usize,
    steps: usize,
    seconds: f64,
    prefill_s: f64,
    drafted: u64,
    accepted: u64,
}

/// One row; fields are in the column order of `-o csv`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    workload: String,
    prompts: usize,
    tokens: usize,
    temperature: f32,
    spec: String,
    dispatch: &'static str,
    drafter: Option<&'static str>,
    model: String,
    draft_model: Option<String>,
    device: String,
    isa: String,
    threads: usize,
    rounds: u32,
    seed: u64,
    tok_s_median: f64,
    tok_s_min: f64,
    tok_s_max: f64,
    ratio_median: f64,
    ratio_low95: Option<f64>,
    acceptance: f64,
    tokens_per_step: f64,
    ms_median: f64,
    submissions_per_token: f64,
    syncs_per_token: f64,
    weight_bytes_per_token: f64,
    prefill_ratio_median: f64,
    repeated_share: f64,
    ratio_without_repeats: f64,
    prompt_overlap: f64,
    mismatches: u32,
    samples: Vec<f64>,
    ratios: Vec<f64>,
    runs: Vec<RunRow>,
    commit: String,
    cpu: String,
}

/// One row per entry of a group; `ids` names its prompts.
pub(super) fn rows(group: &Group, workload: &str, ids: &[&str], machine: &Machine) -> Vec<Row> {
    let shares = group.shares();
    group.entries.iter().map(|entry| row(group, entry, (workload, ids), machine, shares)).collect()
}

fn row(
    group: &Group,
    entry: &Entry,
    (workload, ids): (&str, &[&str]),
    machine: &Machine,
    (repeated_share, prompt_overlap): (f64, f64),
) -> Row {
    let runs = &entry.runs;
    let samples = tok_s(group, runs);
    let tok_s = Figure::of(&samples).unwrap_or(Figure { median: 0.0, min: 0.0, max: 0.0 });
    let ratios = group.ratios(entry);
    let sum = |f: &dyn Fn(&TextRun) -> u64| runs.iter().map(f).sum::<u64>() as f64;
    let (tokens, steps) = (sum(&|r| r.tokens() as u64), sum(&|r| r.steps.len() as u64));
    let by = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let step_s: Vec<f64> = runs.iter().flat_map(|r| &r.steps).map(|s| s.seconds).collect();
    Row {
        workload: workload.to_owned(),
        prompts: group.prompts,
        tokens: runs.iter().filter(|r| r.round == 0).map(|r| r.ids.len()).sum(),
        temperature: group.temperature,
        spec: speculation_name(entry.config.spec),
        dispatch: group.dispatch.name(),
        drafter: entry.config.drafter.map(|d| d.name()),
        model: machine.model.clone(),
        draft_model: machine.draft_model.clone(),
        isa: machine.device.strip_prefix("cpu-").unwrap_or(&machine.device).to_owned(),
        device: machine.device.clone(),
        threads: machine.threads,
        rounds: group.rounds,
        seed: machine.seed,
        tok_s_median: tok_s.median,
        tok_s_min: tok_s.min,
        tok_s_max: tok_s.max,
        ratio_median: median(&ratios.pairs),
        ratio_low95: low95(&ratios.pairs),
        acceptance: by(sum(&|r| r.accepted), sum(&|r| r.drafted)),
        tokens_per_step: by(tokens, steps),
        ms_median: median(&step_s) * 1e3,
        submissions_per_token: by(sum(&|r| r.submissions), tokens),
        syncs_per_token: by(sum(&|r| r.syncs), tokens),
        weight_bytes_per_token: by(sum(&|r| r.weight_bytes), tokens),
        prefill_ratio_median: median(&ratios.prefill),
        repeated_share,
        ratio_without_repeats: median(&ratios.without_repeats),
        prompt_overlap,
        mismatches: entry.mismatches,
        samples,
        ratios: ratios.pairs,
        runs: runs.iter().map(|r| run_row(r, ids)).collect(),
        commit: aio::COMMIT.to_owned(),
        cpu: aio::devices::processor(),
    }
}

/// Tokens per second of each round.
fn tok_s(group: &Group, runs: &[TextRun]) -> Vec<f64> {
    let round = |n: u32| {
        let of: Vec<&TextRun> = runs.iter().filter(|r| r.round == n).collect();
        let (tokens, seconds) =
            (of.iter().map(|r| r.tokens()).sum::<usize>(), of.iter().map(|r| r.seconds()).sum::<f64>());
        (tokens > 0).then(|| tokens as f64 / seconds)
    };
    (0..group.rounds).filter_map(round).collect()
}

fn run_row(run: &TextRun, ids: &[&str]) -> RunRow {
    RunRow {
        prompt: ids[run.prompt].to_owned(),
        round: run.round,
        tokens: run.ids.len(),
        steps: run.steps.len(),
        seconds: run.seconds(),
        prefill_s: run.prefill_s,
        drafted: run.drafted,
        accepted: run.accepted,
    }
}

/// Two Markdown tables, results and step statistics, and a line about the machine.
pub(super) fn markdown(rows: &[Row]) -> String {
    let name = |r: &Row| {
        let drafter = r.drafter.unwrap_or("").to_owned();
        vec![r.workload.clone(), r.dispatch.to_owned(), drafter, r.spec.clone()]
    };
    let percent = |x: f64| format!("{:.0} %", 100.0 * x);
    let speed = rows.iter().map(|r| {
        let low = r.ratio_low95.map_or_else(String::new, |low| format!("{low:.2}"));
        let cells = [
            r.prompts.to_string(),
            r.tokens.to_string(),
            format!("{:.1}", r.tok_s_median),
            format!("{:.1} - {:.1}", r.tok_s_min, r.tok_s_max),
            format!("{:.2}", r.ratio_median),
            low,
            percent(r.repeated_share),
            format!("{:.2}", r.ratio_without_repeats),
            format!("{:.2}", r.prefill_ratio_median),
        ];
        [name(r), cells.into()].concat()
    });
    let steps = rows.iter().map(|r| {
        let cells = [
            percent(r.acceptance),
            format!("{:.2}", r.tokens_per_step),
            format!("{:.3}", r.ms_median),
            format!("{:.2}", r.submissions_per_token),
            format!("{:.2}", r.syncs_per_token),
            format!("{:.1}", r.weight_bytes_per_token / 1e6),
            percent(r.prompt_overlap),
        ];
        [name(r), cells.into()].concat()
    });
    let (mut heads, mut more) = (NAME.to_vec(), NAME.to_vec());
    heads.extend(SPEED);
    more.extend(STEPS);
    let mut out = format!("{}\n{}", forms::table(&heads, speed), forms::table(&more, steps));
    if let Some(r) = rows.first() {
        let draft = r.draft_model.as_ref().map_or_else(String::new, |d| format!(", drafts of {d}"));
        let (model, device, threads) = (&r.model, &r.device, r.threads);
        out += &format!("\n{}, {device}, {threads} threads; {model}{draft}; ", r.cpu);
        out += &format!("{} rounds, seed {}, commit {}\n", r.rounds, r.seed, r.commit);
    }
    out
}

const NAME: [&str; 4] = ["workload", "dispatch", "drafter", "spec"];
const SPEED: [&str; 9] =
    ["prompts", "tokens", "tok/s", "min - max", "x off", "low 95 %", "repeats", "x off without", "prefill x off"];
const STEPS: [&str; 7] =
    ["accepted", "tokens/step", "ms/step", "submissions/token", "syncs/token", "weights MB/token", "in prompt"];
