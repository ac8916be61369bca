//! The compiler's plans for each architecture: baselines of its decisions, and a check that it is deterministic.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::null::permissive_target;
use aio_compiler::{Compilation, Options, compile};
use aio_filetest::{baseline, tiny, workspace};
use aio_ir::DType;
use aio_plan::{Bucket, Tail};
use std::collections::BTreeMap;

fn buckets() -> Vec<Bucket> {
    let sizes = [(1, 1), (17, 17), (128, 17)];
    let bucket = |(rows, outs)| Tail::ALL.map(|tail| Bucket { rows, seqs: rows, outs, tail, verify: false });
    sizes.into_iter().flat_map(bucket).collect()
}

fn compiled(preset: &str) -> Compilation {
    let (_, graph) = tiny::model(preset, DType::Q8_0, 7);
    let options = Options { buckets: buckets(), fuse: true };
    compile(aio_ir::verify(&graph).unwrap(), &permissive_target("any"), &options).unwrap()
}

#[test]
fn every_architecture_compiles_to_its_baseline() {
    for (architecture, preset) in tiny::architectures() {
        let Compilation { family, reports } = compiled(&preset);
        let mut rows = BTreeMap::new();
        for (plan, report) in family.plans.iter().zip(&reports) {
            let mut put = |what: &str, value: u64| rows.insert(format!("{}:{what}", plan.bucket), value.to_string());
            put("tasks", plan.tasks.len() as u64);
            put("arena_bytes", plan.arena_bytes);
            put("arena_lower_bound", plan.arena_lower_bound);
            put("not_fused", report.alone.len() as u64);
            put("could_have", report.missed.len() as u64);
            for (kind, count) in &report.tasks {
                put(&format!("tasks.{kind}"), *count as u64);
            }
        }
        let path = workspace(&format!("tests/baselines/{architecture}.csv"));
        baseline::compare(&path, "bucket:what,value", &rows);
    }
}

#[test]
fn compiling_twice_gives_equal_plans() {
    for (_, preset) in tiny::architectures() {
        let (a, b) = (compiled(&preset), compiled(&preset));
        assert_eq!(a.reports, b.reports);
        for (x, y) in a.family.plans.iter().zip(&b.family.plans) {
            assert_eq!(aio_plan::text::print(&a.family, x), aio_plan::text::print(&b.family, y));
        }
        assert_eq!(a.family, b.family);
    }
}

#[test]
fn arenas_are_at_most_a_quarter_over_their_lower_bound() {
    for (architecture, preset) in tiny::architectures() {
        for plan in compiled(&preset).family.plans {
            let (bytes, bound) = (plan.arena_bytes, plan.arena_lower_bound);
            assert!(
                bound <= bytes && bytes * 4 <= bound * 5 + 4 * 64 * 16,
                "{architecture} {}: {bytes}, {bound}",
                plan.bucket
            );
        }
    }
}
