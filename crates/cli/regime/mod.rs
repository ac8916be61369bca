//! `aio regime`: what bounds a model's decode steps, over context and batch.

mod map;
mod measured;
mod svg;

use crate::args::{MapForm, RegimeArgs};
use crate::costs::On;
use crate::outcome::Outcome;
use crate::section::cells;
use crate::table::Table;
use crate::{output, signals};
use aio::engine::WIDE_ROWS;
use aio::orchestrator::Boundary;
use anyhow::{Context, Result, ensure};
use map::{Cell, Map};
use serde_json::{Value, json};

/// Most drafts of a sequence.
const DRAFTS: u32 = 16;

pub(crate) fn main(args: &RegimeArgs) -> Result<Outcome> {
    signals::end_at_once();
    let some = |list: &[u32]| list.iter().copied().filter(|n| *n > 0).collect::<Vec<_>>();
    let (batches, contexts) = (some(&args.batch.0), some(&args.context.0));
    ensure!(!batches.is_empty() && !contexts.is_empty(), "--batch and --context need a number above 0");
    let path = match &args.model {
        Some(path) => path.clone(),
        None => crate::pull::default_model(false)?,
    };
    let name = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
    let work = On::find(&args.device, &args.host)?.work(name)?;
    let mut cells = Vec::new();
    for &batch in &batches {
        for &context in &contexts {
            let at = f64::from(context);
            cells.push(Cell {
                batch,
                context,
                regime: work.regime(batch, at),
                predicted: work.predict(batch, 1, at),
                measured: None,
                drafts: work.drafts(batch, at, args.acceptance, DRAFTS.min((WIDE_ROWS / batch).saturating_sub(1))),
            });
        }
    }
    if args.measure {
        measured::add(args, &path, &mut cells)?;
    }
    let (model, device) = (crate::costs::short(name), args.device.clone());
    let map = Map { model, device, work, acceptance: args.acceptance, batches, contexts, cells };
    output::print_now(&match args.output {
        MapForm::Md => markdown(&map),
        MapForm::Json => output::json_line(as_json(&map)),
        MapForm::Svg => svg::picture(&map),
        MapForm::Html => svg::page(&map),
    })?;
    Ok(Outcome::Fine)
}

fn markdown(map: &Map) -> String {
    let row = |c: &Cell| {
        let mut row = cells![c.batch, c.context, c.regime, format!("{:.2}", c.predicted.0 * 1e3)];
        row.push(c.measured.map_or("-".to_owned(), |s| format!("{:.2}", s * 1e3)));
        let rows = c.batch * (1 + c.drafts.0);
        row.extend(cells![c.drafts.0, format!("{rows} rows"), format!("{:.0}", c.drafts.1)]);
        row
    };
    let heads = vec![
        ">batch",
        ">context",
        "bound",
        ">predicted ms",
        ">measured ms",
        ">drafts that pay",
        ">chosen step",
        ">tok/s with them",
    ];
    let steps = Table { title: "Decode steps", heads, rows: map.cells.iter().map(row).collect() };
    let line = |(at, b, unit): (String, Boundary, &str)| cells![at, b.from, b.to, format!("{:.0} {unit}", b.at)];
    let heads = vec!["at", "below", "above", ">boundary"];
    let rows = map.boundaries().into_iter().map(line).collect();
    let boundaries = Table { title: "Boundaries", heads, rows };
    let note =
        format!("Drafts pay as shown if each is accepted with a chance of {}, after accepted ones.\n", map.acceptance);
    format!("# {}\n\n{}\n{note}\n{}", map.title(), steps.markdown(), boundaries.markdown())
}

fn as_json(map: &Map) -> Value {
    let cell = |c: &Cell| {
        json!({
            "batch": c.batch, "context": c.context, "regime": c.regime.to_string(), "predicted_seconds": c.predicted.0,
            "measured_seconds": c.measured, "drafts": c.drafts.0, "rows": c.batch * (1 + c.drafts.0), "tok_s": c.drafts.1,
        })
    };
    let boundary = |(at, b, unit): (String, Boundary, &str)| json!({"at": at, "from": b.from.to_string(), "to": b.to.to_string(), "value": b.at, "unit": unit});
    json!({
        "model": map.model,
        "device": map.device,
        "acceptance": map.acceptance,
        "cells": map.cells.iter().map(cell).collect::<Vec<_>>(),
        "boundaries": map.boundaries().into_iter().map(boundary).collect::<Vec<_>>(),
    })
}
