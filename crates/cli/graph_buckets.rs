//! `aio graph buckets`: the plans that a model compiles to, and the cost of each.

use crate::args::{BucketsArgs, TextOrJson};
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::table::Table;
use crate::{costs, models, profiles, signals, simulate};
use aio::compiler::{Compilation, Options, compile};
use aio::engine::{EngineOptions, ModelWork};
use aio::orchestrator::{BucketUse, SizeCount, best_buckets, bucket_uses};
use aio::plan::{Bucket, artefact};
use anyhow::Result;
use std::path::Path;
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
    if let Some(trace) = &args.plan_for {
        signals::end_at_once();
        plan_for(trace, args)?;
        return Ok(Outcome::Fine);
    }
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

/// Sets of buckets for the steps of a trace: the one in use, and the one with the least padding.
fn plan_for(trace: &Path, args: &BucketsArgs) -> Result<()> {
    let model = models::open(&args.model)?;
    let context = model.hyper.context_length;
    let device = models::model_device(&args.model)?;
    let options = EngineOptions::default();
    let buckets = options.buckets(&*device);
    let graph = models::graph(&model, &args.model)?;
    let family =
        compile(aio::ir::verify(&graph)?, &device.target(), &Options { buckets: buckets.clone(), fuse: true })?.family;
    let target = &device.target().name;
    let ceilings = profiles::ceilings(args.model.device, target, args.model.threads.unwrap_or(0));
    let work = ModelWork::of(&family).on(ceilings.unwrap_or_else(|| options.ceilings_of(&*device)));
    let name = models::name(&model);
    let variant = costs::by_roofline(&name, &family, work)?;
    let steps = simulate::steps(trace, (variant, context), args.sequences)?;
    let sizes: Vec<SizeCount> = steps.iter().map(|(&size, &count)| SizeCount { size, count: count as f64 }).collect();
    let cost = |rows: u32| work.predict(1, rows, 0.0).0;
    let mut now: Vec<u32> = buckets.iter().map(|b| b.rows).collect();
    now.sort_unstable();
    now.dedup();
    let all: f64 = sizes.iter().map(|s| s.count * cost(s.size)).sum();
    let used = bucket_uses(&sizes, &now, cost);
    let best = best_buckets(&sizes, args.most as usize, cost);
    print_now(&match args.output {
        TextOrJson::Text => format!("{}\n{}", uses("in use", &used, all), uses("least padding", &best, all)),
        TextOrJson::Json => {
            json_line(serde_json::json!({"in_use": uses_json(&used, all), "best": uses_json(&best, all)}))
        }
    })?;
    Ok(())
}

fn uses(title: &'static str, uses: &[BucketUse], all: f64) -> String {
    let hits: f64 = uses.iter().map(|u| u.hits).sum();
    let waste: f64 = uses.iter().map(|u| u.waste.max(0.0)).sum();
    let all = all + waste;
    let share =
        |part: f64, whole: f64| if whole > 0.0 { format!("{:.1} %", 100.0 * part / whole) } else { "-".to_owned() };
    let row = |u: &BucketUse| {
        vec![u.size.to_string(), format!("{:.0}", u.hits), share(u.hits, hits), share(u.waste.max(0.0), all)]
    };
    let heads = vec![">rows", ">steps", ">share", ">padding of all time"];
    let table = Table { title, heads, rows: uses.iter().map(row).collect() }.text();
    format!("{table}  padding in all: {}\n", share(waste, all))
}

fn uses_json(uses: &[BucketUse], all: f64) -> serde_json::Value {
    let all = all + uses.iter().map(|u| u.waste.max(0.0)).sum::<f64>();
    let one = |u: &BucketUse| serde_json::json!({"rows": u.size, "steps": u.hits, "padding": u.waste.max(0.0) / all});
    uses.iter().map(one).collect()
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
