//! `aio graph diff`: what differs between two plans, and whether it stays within a budget.

use crate::args::{DiffArgs, DiffForm};
use crate::inspect::{Ask, predicted};
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::section::cells;
use crate::table::Table;
use crate::{input, signals};
use aio::inspect::{Change, ChangeKind, Diff, Report, diff, parse};
use anyhow::{Context, Result, anyhow, bail};
use std::path::Path;

/// Layers that are listed by number.
const LAYERS: usize = 8;

pub(crate) fn main(args: &DiffArgs) -> Result<Outcome> {
    signals::end_at_once();
    if args.model.model.is_some() {
        bail!("aio graph diff takes its two sides without -m");
    }
    let [before, after] = [side(args, &args.before)?, side(args, &args.after)?];
    let found = diff(&before, &after);
    let over = args.budget.as_ref().map_or_else(Vec::new, |budget| budget.exceeded(&found));
    print_now(&match args.output {
        DiffForm::Table => text(&found),
        DiffForm::Md => markdown(&found),
        DiffForm::Json => json_line(serde_json::json!({
            "schema": found.schema, "diff": found, "exceeded": over,
        })),
    })?;
    if over.is_empty() {
        return Ok(Outcome::Fine);
    }
    note!("error: over the budget: {}", over.join("; "));
    Ok(Outcome::CheckFailed)
}

/// The report of a side: one that was written before, or one on what the file holds.
fn side(args: &DiffArgs, path: &Path) -> Result<Report> {
    if path.extension().is_some_and(|e| e == "json") {
        let report = parse(&input::text(path, input::TEXT)?).map_err(|e| anyhow!("{}: {e}", path.display()))?;
        if report.omitted > 0 {
            bail!("{} leaves out {} tasks; write it without --filter and --top", path.display(), report.omitted);
        }
        return Ok(report);
    }
    predicted(Ask { file: Some(path), model: &args.model, step: &args.step })
        .with_context(|| format!("cannot compare {}", path.display()))
}

fn head(found: &Diff) -> String {
    let side = |i: usize| format!("{} ({})", found.sources[i], found.plans[i]);
    format!("{} -> {}", side(0), side(1))
}

fn text(found: &Diff) -> String {
    let mut out = head(found) + "\n\n" + &totals(found).text();
    out += &format!("\nchanges ({})\n", found.changes.len());
    out += &found.changes.iter().map(|c| format!("  {}\n", sentence(c))).collect::<String>();
    out + &measured(found).map_or_else(String::new, |line| format!("\n{line}\n"))
}

fn markdown(found: &Diff) -> String {
    let mut out = format!("# {}\n\n{}", head(found), totals(found).markdown());
    out += &format!("\n## changes ({})\n\n", found.changes.len());
    out += &found.changes.iter().map(|c| format!("- {}\n", sentence(c))).collect::<String>();
    out + &measured(found).map_or_else(String::new, |line| format!("\n{line}\n"))
}

fn totals(found: &Diff) -> Table {
    let row = |t: &aio::inspect::Total| {
        let shown = |v: f64| if t.name == "time" { format!("{:.3} ms", v * 1e3) } else { format!("{v:.0}") };
        let growth = t.growth.map_or("new".to_owned(), |g| format!("{:+.2} %", g * 100.0));
        cells![t.name, shown(t.values[0]), shown(t.values[1]), growth]
    };
    let heads = vec!["figure", ">before", ">after", ">growth"];
    Table { title: "a step", heads, rows: found.totals.iter().map(row).collect() }
}

/// A change in words, such as `fused in layer 3: rms_norm, linear blk.3.ffn_gate -> gate_up ...`.
fn sentence(c: &Change) -> String {
    let what = match c.kind {
        ChangeKind::Fused => "fused",
        ChangeKind::TakenApart => "taken apart",
        ChangeKind::Replaced => "replaced",
        ChangeKind::Added => "added",
        ChangeKind::Removed => "removed",
    };
    let numbers: Vec<String> = c.layers.iter().take(LAYERS).map(ToString::to_string).collect();
    let more = if c.layers.len() > LAYERS { ", ..." } else { "" };
    let place = match c.layers.len() {
        0 => String::new(),
        1 => format!(" in layer {}", numbers[0]),
        n => format!(" in {n} layers ({}{more})", numbers.join(", ")),
    };
    let tasks = match (c.before.is_empty(), c.after.is_empty()) {
        (true, _) => c.after.join(", "),
        (_, true) => c.before.join(", "),
        _ => format!("{} -> {}", c.before.join(", "), c.after.join(", ")),
    };
    let times = if c.count > c.layers.len().max(1) { format!(", {} times", c.count) } else { String::new() };
    format!("{what}{place}{times}: {tasks} ({:+.0} bytes, {:+.1} us)", c.bytes, c.predicted_seconds * 1e6)
}

fn measured(found: &Diff) -> Option<String> {
    let m = found.measured.as_ref()?;
    let [before, after] = m.p50_seconds.map(|s| s * 1e3);
    let verdict = if m.significant { "significant" } else { "not significant" };
    Some(format!(
        "measured: {before:.3} ms -> {after:.3} ms, {:+.2} %, {verdict} (p = {:.2e})",
        m.growth * 100.0,
        m.p_value
    ))
}
