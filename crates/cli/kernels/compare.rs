//! `aio kernels compare`: the times of two runs of `perf`, case by case, with their significance.

use super::perf::row::{Row as Timed, VERSION};
use super::rank::{self, Ratio};
use crate::args::{CompareBy, KernelsCompareArgs};
use crate::bench::forms;
use crate::bench::stats::median;
use crate::outcome::Outcome;
use crate::section::cells;
use crate::table::Table;
use crate::{input, output};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Largest file that is read, in bytes.
const MOST: u64 = 1 << 28;
/// Ratio of the reads beside a kernel above which the machine has changed.
const CHANGED: f64 = 1.1;
/// Probability below which a difference is significant, over all cases together.
const SIGNIFICANT: f64 = 0.05;

/// A case of both runs; the field names are an interface.
#[derive(Serialize)]
struct Row {
    case: String,
    rows: u32,
    depth: u32,
    cache: String,
    device: String,
    us_a: f64,
    us_b: f64,
    /// Median of the ratios of all pairs of passes, B by A.
    ratio: f64,
    /// Its 95 % interval; null if there are too few passes.
    low: Option<f64>,
    high: Option<f64>,
    /// Probability of such a difference by chance, for as many cases as are compared.
    p: f64,
    /// B's streaming reads by A's, right after the kernel; null if they were not measured.
    reads: Option<f64>,
    /// `slower`, `faster`, `same` (no significant difference) or `unclear` (significant, but the machine has changed).
    verdict: &'static str,
    /// Probability by chance that B exceeds A by the limit of --fail-slower; null without.
    p_limit: Option<f64>,
    exceeds: bool,
}

pub(super) fn main(args: &KernelsCompareArgs) -> Result<Outcome> {
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    if !args.any_host {
        same_host((&args.a, &a), (&args.b, &b))?;
    }
    let pairs = pairs(&a, &b);
    ensure!(!pairs.is_empty(), "{} and {} have no case in common", args.a.display(), args.b.display());
    let rows = compared(&pairs, args)?;
    output::print_now(&forms::render(&rows, args.output, |rows| markdown(rows, args)))?;
    let only = a.len().max(b.len()) - pairs.len();
    if only > 0 {
        note!(
            "not compared: {} of {} and {} of {}, which the other file lacks",
            a.len() - pairs.len(),
            args.a.display(),
            b.len() - pairs.len(),
            args.b.display()
        );
    }
    let over = rows.iter().filter(|r| r.exceeds).count();
    if over > 0 {
        note!("error: {over} of {} are slower by more than {} %", rows.len(), args.fail_slower.unwrap_or(0.0));
        return Ok(Outcome::CheckFailed);
    }
    Ok(Outcome::Fine)
}

fn read(path: &Path) -> Result<Vec<Timed>> {
    let text = input::text(path, MOST)?;
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}:{}", path.display(), i + 1);
        let row: Timed = serde_json::from_str(line)
            .with_context(|| format!("{}: not a row of `aio kernels perf -o jsonl`", place()))?;
        ensure!(row.version == VERSION, "{}: version {}, expected {VERSION}", place(), row.version);
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "{} has no rows", path.display());
    Ok(rows)
}

/// Refuses runs on different machines, whose times say nothing about the kernels.
fn same_host((a_path, a): (&Path, &[Timed]), (b_path, b): (&Path, &[Timed])) -> Result<()> {
    let hosts = |rows: &[Timed]| -> BTreeSet<String> {
        rows.iter().map(|r| format!("{} ({}, {} threads)", r.host, r.chip, r.threads)).collect()
    };
    let (of_a, of_b) = (hosts(a), hosts(b));
    if of_a == of_b {
        return Ok(());
    }
    let list = |hosts: BTreeSet<String>| hosts.into_iter().collect::<Vec<_>>().join(", ");
    let (a_path, b_path) = (a_path.display(), b_path.display());
    bail!("{a_path} is of {}, {b_path} of {}; --any-host compares them all the same", list(of_a), list(of_b))
}

/// The rows of both runs that are of the same case. Where each run is of one device, these may differ.
fn pairs<'a>(a: &'a [Timed], b: &'a [Timed]) -> Vec<(&'a Timed, &'a Timed)> {
    let devices = |rows: &'a [Timed]| rows.iter().map(|r| r.device.as_str()).collect::<BTreeSet<_>>();
    let by_device = devices(a).len() > 1 || devices(b).len() > 1;
    let key = |r: &'a Timed| {
        let device = if by_device { r.device.as_str() } else { "" };
        (device, &r.case, &r.tensors, r.rows, r.depth, &r.cache, &r.clock)
    };
    let of = |row: &'a Timed| Some((row, b.iter().find(|other| key(other) == key(row))?));
    a.iter().filter_map(of).collect()
}

/// What is compared of a row, by pass: times, or the bytes that streaming reads would have read meanwhile.
fn samples(row: &Timed, by: CompareBy) -> Result<Vec<f64>> {
    let (rounds, passes) = (row.samples_us.len(), row.passes as usize);
    ensure!(passes > 0 && rounds >= passes, "{}: {passes} passes have {rounds} samples", row.case);
    let of_passes = |all: &[f64]| all.chunks(rounds / passes).take(passes).map(median).collect();
    if by == CompareBy::Time {
        return Ok(of_passes(&row.samples_us));
    }
    let both = rounds == row.read_samples_gb_s.len();
    ensure!(both, "{}: no streaming reads were measured, so --by share does not apply", row.case);
    let products: Vec<f64> = row.samples_us.iter().zip(&row.read_samples_gb_s).map(|(us, gb_s)| us * gb_s).collect();
    Ok(of_passes(&products))
}

fn compared(pairs: &[(&Timed, &Timed)], args: &KernelsCompareArgs) -> Result<Vec<Row>> {
    let limit = args.fail_slower.map(|percent| 1.0 + percent / 100.0);
    let mut rows = Vec::new();
    for &(a, b) in pairs {
        let (of_a, of_b) = (samples(a, args.by)?, samples(b, args.by)?);
        let ratio = rank::ratio(&of_a, &of_b).with_context(|| format!("{}: a time is not above 0", a.case))?;
        let p = if a.clock == "modelled" { f64::from(u8::from(of_a == of_b)) } else { rank::p_differs(&of_a, &of_b) };
        let scaled = |limit: f64| of_a.iter().map(|v| v * limit).collect::<Vec<_>>();
        let p_limit = limit.map(|limit| match a.clock.as_str() {
            "modelled" => f64::from(u8::from(ratio.middle <= limit)),
            _ => rank::p_greater(&scaled(limit), &of_b),
        });
        rows.push(row(a, b, ratio, p, p_limit));
    }
    judge(&mut rows);
    Ok(rows)
}

fn row(a: &Timed, b: &Timed, ratio: Ratio, p: f64, p_limit: Option<f64>) -> Row {
    let device = if a.device == b.device { a.device.clone() } else { format!("{}, {}", a.device, b.device) };
    Row {
        case: a.case.clone(),
        rows: a.rows,
        depth: a.depth,
        cache: a.cache.clone(),
        device,
        us_a: a.us_median,
        us_b: b.us_median,
        ratio: ratio.middle,
        low: ratio.interval.map(|i| i.0),
        high: ratio.interval.map(|i| i.1),
        p,
        reads: a.read_gb_s.zip(b.read_gb_s).map(|(a, b)| b / a),
        verdict: "same",
        p_limit,
        exceeds: false,
    }
}

/// Adjusts the probabilities for the number of rows and draws the conclusions.
fn judge(rows: &mut [Row]) {
    let p = rank::adjusted(&rows.iter().map(|r| r.p).collect::<Vec<_>>());
    let limit = rank::adjusted(&rows.iter().map(|r| r.p_limit.unwrap_or(1.0)).collect::<Vec<_>>());
    for ((row, p), limit) in rows.iter_mut().zip(p).zip(limit) {
        row.p = p;
        let changed = row.reads.is_some_and(|r| !(1.0 / CHANGED..=CHANGED).contains(&r));
        row.verdict = match p < SIGNIFICANT {
            true if changed => "unclear",
            true if row.ratio > 1.0 => "slower",
            true => "faster",
            false => "same",
        };
        row.p_limit = row.p_limit.map(|_| limit);
        row.exceeds = row.p_limit.is_some_and(|p| p < SIGNIFICANT) && !changed;
    }
}

fn markdown(rows: &[Row], args: &KernelsCompareArgs) -> String {
    let line = |r: &Row| {
        let interval =
            r.low.zip(r.high).map_or_else(|| "too few passes".to_owned(), |(l, h)| format!("{l:.3} - {h:.3}"));
        let verdict = if r.exceeds { format!("{}, over the limit", r.verdict) } else { r.verdict.to_owned() };
        let (a, b, ratio) = (format!("{:.2}", r.us_a), format!("{:.2}", r.us_b), format!("{:.3}", r.ratio));
        let reads = r.reads.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        cells![r.case, r.rows, r.cache, r.device, a, b, ratio, interval, format!("{:.1e}", r.p), reads, verdict]
    };
    let heads = vec![
        "case",
        ">rows",
        "cache",
        "device",
        ">us, A",
        ">us, B",
        ">B / A",
        ">95 %",
        ">p",
        ">reads, B / A",
        "verdict",
    ];
    let table = Table { title: "kernels", heads, rows: rows.iter().map(line).collect() };
    let count = |verdict| rows.iter().filter(|r| r.verdict == verdict).count();
    let counts = [count("slower"), count("faster"), count("same"), count("unclear")];
    let by =
        if args.by == CompareBy::Share { " by the bytes that streaming reads would have read meanwhile;" } else { "" };
    let [slower, faster, same, unclear] = counts;
    let mut shown = format!("{slower} slower, {faster} faster, {same} the same");
    if unclear > 0 {
        shown += &format!(", {unclear} unclear (the machine's reads changed by more than 10 %; measure again)");
    }
    format!("{}\n{shown};{by} p by ranks, for {} cases together\n", table.markdown(), rows.len())
}
