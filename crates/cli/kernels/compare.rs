//! `aio kernels compare`: the times of two runs of `perf`, case by case, with their significance.

use super::perf::row::{Row as Timed, VERSION};
use crate::args::{CompareBy, KernelsCompareArgs};
use crate::bench::forms;
use crate::bench::stats::median;
use crate::outcome::Outcome;
use crate::section::cells;
use crate::table::Table;
use crate::{input, output};
use aio::inspect::rank::{self, Ratio};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Largest file that is read, in bytes.
const MOST: u64 = 1 << 28;
/// Ratio of the reads beside a kernel above which the machine has changed.
const CHANGED: f64 = 1.1;
/// Share of the differences reported that may be false, and the probability of any if there are none.
const SIGNIFICANT: f64 = 0.05;

/// The clock of devices whose times have no noise.
const MODELLED: &str = "modelled";
/// The verdict on a case whose passes could not show a difference.
const TOO_FEW: &str = "too few passes";

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
    /// Probability of such a difference by chance, adjusted for as many cases as are compared.
    p: f64,
    /// The same as it would be if no pass of one run overlapped one of the other, and no other case differed.
    p_least: f64,
    /// B's streaming reads by A's, right after the kernel; null if they were not measured.
    reads: Option<f64>,
    /// `slower`, `faster`, `same` (no significant difference), `unclear` (significant, but the machine has changed) or
    /// `too few passes` (not significant, and alone among the cases it could not be).
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
    enough(&pairs, args)?;
    output::print_now(&forms::render(&rows, args.output, |rows| markdown(rows, args)))?;
    // Every row of either file is of at most one pair, since keys differ.
    let [only_a, only_b] = [&a, &b].map(|rows| rows.len() - pairs.len());
    if only_a + only_b > 0 {
        let (a, b) = (args.a.display(), args.b.display());
        note!("not compared: {only_a} of {a} and {only_b} of {b}, which the other file lacks");
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
    let mut seen = BTreeMap::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let place = || format!("{}:{}", path.display(), i + 1);
        let row: Timed = serde_json::from_str(line)
            .with_context(|| format!("{}: not a row of `aio kernels perf -o jsonl`", place()))?;
        ensure!(row.version == VERSION, "{}: version {}, expected {VERSION}", place(), row.version);
        if let Some(first) = seen.insert(key(&row, true), i + 1) {
            let of = [&row.case, &row.cache, &row.device].map(String::as_str).join(", ");
            bail!("{}: the same case as in line {first} ({of}); give each run a file of its own", place());
        }
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "{} has no rows", path.display());
    Ok(rows)
}

/// What makes rows the same case: all but times, and the device if there are several.
type Key = (String, String, String, String, String, u32, u32);

fn key(row: &Timed, by_device: bool) -> Key {
    let device = if by_device { row.device.clone() } else { String::new() };
    let text = String::clone;
    (device, text(&row.case), text(&row.tensors), text(&row.cache), text(&row.clock), row.rows, row.depth)
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
    let of_b: BTreeMap<Key, &Timed> = b.iter().map(|row| (key(row, by_device), row)).collect();
    a.iter().filter_map(|row| Some((row, *of_b.get(&key(row, by_device))?))).collect()
}

/// Refuses `--fail-slower` with passes that could not show a single slower case among so many.
fn enough(pairs: &[(&Timed, &Timed)], args: &KernelsCompareArgs) -> Result<()> {
    let enough = |a: u32, b: u32| shows(least(a as usize, b as usize), pairs.len());
    let measured = pairs.iter().filter(|(a, _)| a.clock != MODELLED);
    let Some((a, b)) = measured.filter(|_| args.fail_slower.is_some()).find(|(a, b)| !enough(a.passes, b.passes))
    else {
        return Ok(());
    };
    let needed = (1..).find(|&n| enough(n, n)).context("more passes show more")?;
    bail!(
        "--fail-slower: with {} and {} passes, one slower case among {} cannot be told from chance; it takes {needed} in \
         each run (`aio kernels perf --passes {needed}`), or fewer cases",
        a.passes,
        b.passes,
        pairs.len()
    )
}

/// The smallest probability that so many passes can have, in either direction.
fn least(a: usize, b: usize) -> f64 {
    (2.0 * rank::p_least(a, b)).min(1.0)
}

/// Whether a case with this probability is significant if it is the only one of so many.
fn shows(p: f64, cases: usize) -> bool {
    p * (cases as f64) < SIGNIFICANT
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
        let (p, p_least) = match a.clock.as_str() {
            MODELLED => (f64::from(u8::from(of_a == of_b)), 0.0),
            _ => (rank::p_differs(&of_a, &of_b), least(of_a.len(), of_b.len())),
        };
        let scaled = |limit: f64| of_a.iter().map(|v| v * limit).collect::<Vec<_>>();
        let p_limit = limit.map(|limit| match a.clock.as_str() {
            MODELLED => f64::from(u8::from(ratio.middle <= limit)),
            _ => rank::p_greater(&scaled(limit), &of_b),
        });
        rows.push(Row { p_least, p_limit, ..row(a, b, ratio, p) });
    }
    judge(&mut rows);
    Ok(rows)
}

fn row(a: &Timed, b: &Timed, ratio: Ratio, p: f64) -> Row {
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
        p_least: 0.0,
        reads: a.read_gb_s.zip(b.read_gb_s).map(|(a, b)| b / a),
        verdict: "same",
        p_limit: None,
        exceeds: false,
    }
}

/// Adjusts the probabilities for the number of rows and draws the conclusions.
fn judge(rows: &mut [Row]) {
    let p = rank::adjusted(&rows.iter().map(|r| r.p).collect::<Vec<_>>());
    let limit = rank::adjusted(&rows.iter().map(|r| r.p_limit.unwrap_or(1.0)).collect::<Vec<_>>());
    let cases = rows.len();
    for ((row, p), limit) in rows.iter_mut().zip(p).zip(limit) {
        row.p = p;
        let could = shows(row.p_least, cases);
        row.p_least = (row.p_least * cases as f64).min(1.0);
        let changed = row.reads.is_some_and(|r| !(1.0 / CHANGED..=CHANGED).contains(&r));
        row.verdict = match p < SIGNIFICANT {
            true if changed => "unclear",
            true if row.ratio > 1.0 => "slower",
            true => "faster",
            false if could => "same",
            false => TOO_FEW,
        };
        row.p_limit = row.p_limit.map(|_| limit);
        row.exceeds = row.p_limit.is_some_and(|p| p < SIGNIFICANT) && !changed;
    }
}

fn markdown(rows: &[Row], args: &KernelsCompareArgs) -> String {
    let line = |r: &Row| {
        let interval = r.low.zip(r.high).map_or_else(String::new, |(l, h)| format!("{l:.3} - {h:.3}"));
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
    let few = count(TOO_FEW);
    if few > 0 {
        shown +=
            &format!(", {few} with too few passes to show a difference on their own (`aio kernels perf --passes N`)");
    }
    format!("{}\n{shown};{by} p by ranks, adjusted for {} cases\n", table.markdown(), rows.len())
}
