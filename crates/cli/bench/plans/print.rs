//! The report of `aio bench plans`, as Markdown and as JSON.

use super::costs::Errors;
use super::regret::Cell;
use crate::args::{PlansArgs, ShowForm};
use crate::output::json_line;
use crate::section::cells;
use crate::table::Table;
use aio::orchestrator::simulate::percentile;
use aio::orchestrator::{Figure, RecordHead};
use serde_json::{Value, json};

/// Targets: median regret; median error of predictions, and that of 95 of 100.
const REGRET: f64 = 0.03;
const ERROR: f64 = 0.05;
const ERROR_P95: f64 = 0.15;

/// What was found.
pub(super) struct Report<'a> {
    pub args: &'a PlansArgs,
    /// What was measured, and where.
    pub head: RecordHead,
    pub cells: Option<Vec<Cell>>,
    pub errors: Option<Errors>,
}

/// The regret over all cells.
struct Summary {
    median: f64,
    p95: f64,
    /// Half the interval of the median cell.
    half: f64,
}

impl Summary {
    fn of(cells: &[Cell]) -> Summary {
        let all = |of: fn(&Cell) -> f64| cells.iter().map(of).collect::<Vec<_>>();
        let regrets = all(|c| c.regret.median);
        let median = |values: &[f64]| Figure::of(values).map_or(0.0, |f| f.median);
        Summary { median: median(&regrets), p95: percentile(&regrets, 0.95), half: median(&all(|c| c.regret.half)) }
    }

    fn met(&self) -> bool {
        self.median <= REGRET + self.half
    }
}

fn errors_met(errors: &Errors) -> bool {
    errors.count() > 0 && errors.at(0.5) <= ERROR && errors.at(0.95) <= ERROR_P95
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// The report in the form asked for.
pub(super) fn report(report: &Report<'_>) -> String {
    match report.args.output {
        ShowForm::Md => markdown(report),
        ShowForm::Json => json_line(as_json(report)),
    }
}

fn kind(report: &Report<'_>) -> &'static str {
    if report.args.replay.is_some() { "recorded" } else { "measured" }
}

fn markdown(report: &Report<'_>) -> String {
    let kind = kind(report);
    let (head, args) = (&report.head, report.args);
    // A recording's names may be anything.
    let [model, chip] = [&head.model, &head.chip].map(|name| name.replace(char::is_control, " "));
    let mut out = format!("# Plans, {kind}\n\n{model}, {chip}, seed {}\n", args.seed);
    if let Some(cells) = &report.cells {
        out += &format!("\n{}\n{}", table(cells).markdown(), regret_note(report, &Summary::of(cells)));
    }
    if let Some(errors) = &report.errors {
        let (median, p95) = (percent(errors.at(0.5)), percent(errors.at(0.95)));
        let heads = vec![">steps", ">left out", ">median error", ">95 of 100", "target"];
        let rows = vec![cells![errors.count(), errors.skipped, median, p95, verdict(errors_met(errors))]];
        let title = "Predicted step times after 50 steps";
        out += &format!(
            "\n{}\nSteps of mixed sizes in a seeded order; left out are those whose neighbouring reads differ by more than 5 %. \
             The target is a median of at most {} and {} for 95 of 100.\n",
            Table { title, heads, rows }.markdown(),
            percent(ERROR),
            percent(ERROR_P95),
        );
    }
    out
}

fn table(cells: &[Cell]) -> Table {
    let each = |drafts: u32, batch: u32| {
        let each = f64::from(drafts) / f64::from(batch);
        if drafts.is_multiple_of(batch) { format!("{each:.0}") } else { format!("{each:.2}") }
    };
    let row = |c: &Cell| {
        let (chosen, best) = (each(c.chosen, c.batch), each(c.best, c.batch));
        let half = format!("{:.1}", 100.0 * c.regret.half);
        cells![c.context, c.batch, c.chance, chosen, best, percent(c.regret.median), half, c.reason]
    };
    let heads = vec![
        ">context",
        ">batch",
        ">acceptance",
        ">chosen drafts",
        ">best drafts",
        ">regret",
        ">half interval",
        "reason",
    ];
    Table { title: "Chosen plans against the best", heads, rows: cells.iter().map(row).collect() }
}

fn regret_note(report: &Report<'_>, summary: &Summary) -> String {
    let Summary { median, p95, half } = *summary;
    let args = report.args;
    let how = if args.replay.is_some() {
        "Drafts are of each sequence. Steps take their recorded median, so there is no interval.".to_owned()
    } else {
        format!(
            "Drafts are of each sequence. The best plan has the most expected tokens per median time of {} rounds; regret is \
             the median of {} fresh pairs with half its 95 % interval, and 0 where both plans are the same.",
            args.reps, args.pairs
        )
    };
    let (target, verdict) = (percent(REGRET + half), verdict(summary.met()));
    format!(
        "{how} The choice follows {} steps.\n\nRegret: median {}, 95 of 100 at most {}. The target is a median of at most {} \
         plus half the interval, {target}: {verdict}.\n",
        args.warm_up,
        percent(median),
        percent(p95),
        percent(REGRET)
    )
}

fn as_json(report: &Report<'_>) -> Value {
    let cell = |c: &Cell| {
        json!({
            "context": c.context, "batch": c.batch, "acceptance": c.chance, "chosen_drafts": c.chosen,
            "best_drafts": c.best, "regret": c.regret.median, "half_interval": c.regret.half, "reason": c.reason,
        })
    };
    let regret = |cells: &Vec<Cell>| {
        let summary = Summary::of(cells);
        json!({
            "cells": cells.iter().map(cell).collect::<Vec<_>>(), "median": summary.median, "p95": summary.p95,
            "half_interval": summary.half, "target": verdict(summary.met()),
        })
    };
    let errors = |errors: &Errors| {
        json!({
            "steps": errors.count(), "left_out": errors.skipped, "median": errors.at(0.5), "p95": errors.at(0.95),
            "target": verdict(errors_met(errors)),
        })
    };
    json!({
        "kind": kind(report), "model": report.head.model, "chip": report.head.chip, "seed": report.args.seed,
        "regret": report.cells.as_ref().map(regret), "costs": report.errors.as_ref().map(errors),
    })
}
