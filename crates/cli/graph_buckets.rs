//! `aio graph buckets`: the plans that a model compiles to, and the cost of each.

use crate::args::{BucketsArgs, TextOrJson};
use crate::models;
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::table::Table;
use aio::compiler::{Compilation, Options, compile};
use aio::engine::EngineOptions;
use aio::plan::{Bucket, artefact};
use anyhow::Result;
use std::time::Instant;

/// One plan.
struct Row {
    bucket: Bucket,
    tasks: usize,
    arena_bytes: u64,
    /// Size of the plan in an artefact, without weights.
    plan_bytes: usize,
    compile_ms: f64,
}

pub(crate) fn main(args: &BucketsArgs) -> Result<Outcome> {
    let graph = models::graph(&models::open(&args.model)?, &args.model)?;
    let device = models::model_device(&args.model)?;
    let target = device.target();
    let verified = aio::ir::verify(&graph)?;
    let buckets = EngineOptions::default().buckets(&*device);
    let mut rows = Vec::new();
    for &bucket in &buckets {
        let started = Instant::now();
        let Compilation { family, .. } = compile(verified, &target, &Options { buckets: vec![bucket], fuse: true })?;
        let compile_ms = 1e3 * started.elapsed().as_secs_f64();
        let plan = &family.plans[0];
        let plan_bytes = artefact::encode(&family).len();
        rows.push(Row { bucket, tasks: plan.tasks.len(), arena_bytes: plan.arena_bytes, plan_bytes, compile_ms });
    }
    let family = compile(verified, &target, &Options { buckets, fuse: true })?.family;
    let bytes = artefact::encode(&family).len();
    match args.output {
        TextOrJson::Json => print_now(&json_line(json(&rows, family.arena_bytes, bytes)))?,
        TextOrJson::Text => {
            let total: f64 = rows.iter().map(|r| r.compile_ms).sum();
            let arena = family.arena_bytes;
            let all = format!("one arena of {arena} bytes, {bytes} bytes of plans, {total:.1} ms to compile\n");
            print_now(&format!("{}{all}", text(&rows)))?;
        }
    }
    Ok(Outcome::Fine)
}

fn text(rows: &[Row]) -> String {
    let cells = rows.iter().map(|r| {
        vec![
            r.bucket.to_string(),
            r.tasks.to_string(),
            r.arena_bytes.to_string(),
            r.plan_bytes.to_string(),
            format!("{:.1}", r.compile_ms),
        ]
    });
    let heads = vec!["bucket", ">tasks", ">arena bytes", ">plan bytes", ">compile ms"];
    Table { title: "buckets", heads, rows: cells.collect() }.text()
}

fn json(rows: &[Row], arena_bytes: u64, plan_bytes: usize) -> serde_json::Value {
    let buckets: Vec<_> = rows
        .iter()
        .map(|r| {
            serde_json::json!({
                "bucket": r.bucket.to_string(),
                "rows": r.bucket.rows,
                "outs": r.bucket.outs,
                "tail": r.bucket.tail.name(),
                "verify": r.bucket.verify,
                "tasks": r.tasks,
                "arena_bytes": r.arena_bytes,
                "plan_bytes": r.plan_bytes,
                "compile_ms": r.compile_ms,
            })
        })
        .collect();
    serde_json::json!({ "buckets": buckets, "arena_bytes": arena_bytes, "plan_bytes": plan_bytes })
}
