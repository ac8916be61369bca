//! `aio kernels test`: the error of each case against the oracle, with its bound.

use super::select::{Selected, open, selected};
use crate::args::KernelsTestArgs;
use crate::bench::{bar, forms};
use crate::outcome::Outcome;
use crate::output;
use crate::section::cells;
use crate::table::Table;
use aio::conformance::{Outcome as Compared, Purpose, SEED, run_case_once};
use aio::devices::Opened;
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;

/// A row; the field names are an interface.
#[derive(Clone, Serialize)]
pub(super) struct Row {
    pub case: String,
    pub op: &'static str,
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Rows of the model's steps; null for a case of the list, which has several.
    pub rows: Option<u32>,
    pub device: String,
    /// `pass`, `fail` or `unsupported`.
    pub outcome: &'static str,
    /// Normalised mean square error; null unless it was found to be within the bound.
    pub error: Option<f64>,
    pub bound: f64,
    pub seed: u64,
    pub reason: Option<String>,
    pub tensors: String,
}

pub(super) fn main(args: &KernelsTestArgs) -> Result<Outcome> {
    let opened = open(&args.device)?;
    let target = opened.first().context("a device is open")?.device.target();
    let cases = selected(&args.cases, &args.device, &target, Purpose::Compare)?;
    let rows = run(&cases, &opened);
    let markdown = if args.each { each } else { summary };
    output::print_now(&forms::render(&rows, args.output, markdown))?;
    Ok(verdict(&rows))
}

/// Whether all passed, or have no kernel.
fn verdict(rows: &[Row]) -> Outcome {
    let failed = rows.iter().filter(|r| r.outcome == "fail").count();
    if failed == 0 {
        return Outcome::Fine;
    }
    note!("error: {failed} of {} fail", rows.len());
    Outcome::CheckFailed
}

/// Runs every case on every device.
pub(super) fn run(cases: &[Selected], devices: &[Opened]) -> Vec<Row> {
    let bar = bar::bar((cases.len() * devices.len()) as u64);
    let mut rows = Vec::new();
    for selected in cases {
        let mut reference = None;
        for opened in devices {
            let outcome = run_case_once(&selected.case, &*opened.device, &mut reference);
            rows.push(row(selected, opened, &outcome));
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    rows
}

fn row(Selected { case, rows, .. }: &Selected, opened: &Opened, outcome: &Compared) -> Row {
    let (error, reason) = match outcome {
        Compared::Pass { nmse } => (Some(*nmse), None),
        Compared::Fail(fault) => (None, Some(fault.to_string())),
        Compared::Unsupported { kind, reason } => (None, Some(format!("{kind}: {reason}"))),
    };
    Row {
        case: case.name.clone(),
        op: case.kind.name(),
        dtype: case.weights.name(),
        rows: *rows,
        device: opened.device.target().name,
        outcome: outcome.name(),
        error,
        bound: case.max_nmse,
        seed: SEED,
        reason,
        tensors: case.tensors(),
    }
}

fn each(rows: &[Row]) -> String {
    let line = |r: &Row| {
        let number = |n: f64| format!("{n:.1e}");
        let (error, reason) = (r.error.map_or_else(String::new, number), r.reason.clone().unwrap_or_default());
        let steps = r.rows.map_or_else(String::new, |n| n.to_string());
        cells![r.case, steps, r.op, r.device, r.outcome, error, number(r.bound), reason]
    };
    let heads = vec!["case", ">rows", "op", "device", "outcome", ">error", ">bound", "reason"];
    Table { title: "cases", heads, rows: rows.iter().map(line).collect() }.markdown()
}

/// Outcomes by device and op, reasons for what is unsupported, and what failed.
fn summary(rows: &[Row]) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        groups.entry((&row.device, row.op)).or_default().push(row);
    }
    let lines = groups.iter().map(|(&(device, op), rows)| {
        let count = |outcome| rows.iter().filter(|r| r.outcome == outcome).count();
        let worst = rows.iter().filter_map(|r| Some(r.error? / r.bound)).reduce(f64::max);
        let worst = worst.map_or_else(String::new, |w| format!("{:.0} %", 100.0 * w));
        cells![device, op, rows.len(), count("pass"), count("unsupported"), count("fail"), worst]
    });
    let heads = vec!["device", "op", ">cases", ">pass", ">unsupported", ">fail", ">worst error of its bound"];
    let mut out = Table { title: "ops", heads, rows: lines.collect() }.markdown();
    let count = |outcome| rows.iter().filter(|r| r.outcome == outcome).count();
    let counts = [count("pass"), count("unsupported"), count("fail")];
    out += &format!("\n{} pass, {} unsupported, {} fail; seed {SEED:#x}\n", counts[0], counts[1], counts[2]);
    out + &reasons(rows) + &failures(rows)
}

/// How many cases lack a kernel for each reason.
pub(super) fn reasons(rows: &[Row]) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for row in rows.iter().filter(|r| r.outcome == "unsupported") {
        *reasons.entry(row.reason.as_deref().unwrap_or("")).or_default() += 1;
    }
    if reasons.is_empty() {
        return String::new();
    }
    let rows = reasons.iter().map(|(reason, n)| cells![n, reason]).collect();
    format!("\n{}", Table { title: "reasons", heads: vec![">cases", "unsupported"], rows }.markdown())
}

fn failures(rows: &[Row]) -> String {
    let failed: Vec<&Row> = rows.iter().filter(|r| r.outcome == "fail").collect();
    if failed.is_empty() {
        return String::new();
    }
    let line = |r: &&Row| cells![r.case, r.device, r.reason.as_deref().unwrap_or("")];
    let rows = failed.iter().map(line).collect();
    format!("\n{}", Table { title: "failures", heads: vec!["case", "device", "what is wrong"], rows }.markdown())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio::conformance::{Difference, Fault, Place, matching};
    use aio::devices::Registry;

    #[test]
    fn one_failure_fails_the_check_and_is_shown_with_its_reason() {
        let opened =
            Registry::with_defaults().open(aio::devices::ORACLE, &Default::default()).expect("the oracle opens");
        let case = Selected { case: matching("linear-norm-q4_0")[0].clone(), count: None, rows: None, alone: None };
        let made = |outcome: Compared| row(&case, &opened, &outcome);
        let pass = made(Compared::Pass { nmse: 1e-6 });
        let lacking = made(Compared::Unsupported { kind: "linear", reason: "none".to_owned() });
        let difference = Difference::Tokens { got: vec![1], want: vec![2] };
        let fail = made(Compared::Fail(Fault::Differs { place: Place::Step(3), difference }));
        assert_eq!(verdict(&[pass.clone(), lacking.clone()]), Outcome::Fine);
        let rows = [pass, lacking, fail];
        assert_eq!(verdict(&rows), Outcome::CheckFailed);
        let summary = summary(&rows);
        assert!(summary.contains("| interp | linear | 3 | 1 | 1 | 1 | 1 % |"), "{summary}");
        assert!(summary.contains("step 3: tokens \\[1\\], expected \\[2\\]"), "{summary}");
        assert!(each(&rows).contains("| unsupported |  | 1.0e-4 | linear: none |"), "{}", each(&rows));
    }
}
