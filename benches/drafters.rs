//! Host cost of a step besides its device work: taking one committed token, drafting up to eight, choosing drafts.
//!
//! Run with `cargo bench --bench drafters`. The target is below 20 us per step at 32k tokens for any text, and about
//! the same at 1k; and below 2 us per decision for 64 sequences with 16 drafts each, in the 72 rows of the widest step.

#[path = "../crates/orchestrator/tests/noise/mod.rs"]
mod noise;

use aio::orchestrator::{
    Acceptance, Candidate, Drafter, DrafterKind, Match, Observed, Outcome, PromptLookup, SpeculationOptions,
    Speculator, StepModel, StepTime, SuffixDrafter,
};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use noise::Noise;
use std::hint::black_box;

/// Tokens taken per measured round, by which the history grows.
const STEPS: usize = 256;
const DRAFTS: usize = 8;

fn text(kind: &str, len: usize) -> Vec<u32> {
    let mut noise = Noise::new(1);
    match kind {
        "copying" => noise.copying(len, 32_000),
        "prose" => noise.zipf(len, 32_000),
        _ => vec![5; len],
    }
}

fn steps(drafter: &mut dyn Drafter, tokens: &[u32], out: &mut Vec<u32>) {
    for token in tokens {
        drafter.extend(std::slice::from_ref(token));
        out.clear();
        black_box(drafter.draft(DRAFTS, out).expect("text drafters do not fail"));
    }
}

fn bench<D: Drafter + Clone + Default>(c: &mut Criterion) {
    let mut group = c.benchmark_group(D::default().name());
    group.throughput(Throughput::Elements(STEPS as u64)).sample_size(20);
    for kind in ["copying", "prose", "constant"] {
        for history in [1024, 8192, 32_768] {
            let text = text(kind, history + STEPS);
            let mut start = D::default();
            start.extend(&text[..history]);
            let mut out = Vec::with_capacity(DRAFTS);
            group.bench_function(BenchmarkId::new(kind, history), |b| {
                let run = |drafter: &mut D| steps(drafter, &text[history..], &mut out);
                b.iter_batched_ref(|| start.clone(), run, BatchSize::LargeInput);
            });
        }
    }
    group.finish();
}

/// A choice and its observed step, for several sequence and row counts.
fn choose(c: &mut Criterion, sequences: usize, rows: u32) {
    let mut speculator = Speculator::new(SpeculationOptions {
        max_drafts: 16,
        max_rows: rows,
        model: StepModel::Table { seconds: vec![(1, 1e-3), (rows, 2e-3)], seconds_per_kv_byte: 0.0 },
    });
    let mut estimates = vec![speculator.sequence(DrafterKind::Text); sequences];
    let (matched, mut noise) = (Match { len: 6 }, Noise::new(2));
    c.bench_function(&format!("choose and observe/{sequences} sequences, {rows} rows"), |b| {
        b.iter(|| {
            let candidate = |acceptance| Candidate { acceptance, matched, drafts: 8, fixed: 0, seconds_per_draft: 0.0 };
            let candidates: Vec<_> = estimates.iter().map(candidate).collect();
            let choice = black_box(speculator.choose(&candidates, 0.0));
            let seconds = 1e-3 * (1.0 + f64::from(choice.rows) / f64::from(rows) + 0.1 * noise.unit());
            let time = StepTime::Modelled(seconds);
            let outcome = |(acceptance, &drafted): (_, &u32)| {
                let produced = 1 + drafted.min(noise.below(9) as u32);
                Outcome { acceptance, matched, offered: 8, drafted, fixed: 0, produced, agreed: produced - 1 }
            };
            let mut outcomes: Vec<_> = estimates.iter_mut().zip(&choice.drafts).map(outcome).collect();
            let outcomes = &mut outcomes;
            let (choice, kv_bytes) = (&choice, 0.0);
            speculator.observe(Observed { choice, kv_bytes, time, draft_seconds: 0.0, fixed_seconds: 0.0, outcomes });
        });
    });
}

const MATCHED: Match = Match { len: 6 };

fn candidate(acceptance: &Acceptance) -> Candidate<'_> {
    Candidate { acceptance, matched: MATCHED, drafts: 16, fixed: 0, seconds_per_draft: 0.0 }
}

/// A decision alone, after some steps in which about two of three drafts were right.
fn decide(c: &mut Criterion, sequences: usize, rows: u32) {
    let model = StepModel::Table { seconds: vec![(1, 1e-3), (rows, 2e-3)], seconds_per_kv_byte: 0.0 };
    let mut speculator = Speculator::new(SpeculationOptions { max_drafts: 16, max_rows: rows, model });
    let mut estimates = vec![speculator.sequence(DrafterKind::Text); sequences];
    let (matched, mut noise) = (MATCHED, Noise::new(3));
    for _ in 0..100 {
        let choice = speculator.choose(&estimates.iter().map(candidate).collect::<Vec<_>>(), 0.0);
        let time = StepTime::Modelled(1e-3 * (1.0 + f64::from(choice.rows) / f64::from(rows) + 0.1 * noise.unit()));
        let outcome = |(acceptance, &drafted): (_, &u32)| {
            let right = (0..16).take_while(|_| noise.happens(0.66)).count() as u32;
            let produced = 1 + drafted.min(right);
            Outcome { acceptance, matched, offered: 16, drafted, fixed: 0, produced, agreed: right.min(produced) }
        };
        let mut outcomes: Vec<_> = estimates.iter_mut().zip(&choice.drafts).map(outcome).collect();
        let (outcomes, choice, kv_bytes) = (&mut outcomes[..], &choice, 0.0);
        speculator.observe(Observed { choice, kv_bytes, time, draft_seconds: 0.0, fixed_seconds: 0.0, outcomes });
    }
    let candidates: Vec<_> = estimates.iter().map(candidate).collect();
    c.bench_function(&format!("choose/{sequences} sequences, 16 drafts, {rows} rows"), |b| {
        b.iter(|| {
            let choice = black_box(speculator.choose(&candidates, 0.0));
            speculator.abandon(&choice);
        });
    });
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench::<PromptLookup>(&mut criterion);
    bench::<SuffixDrafter>(&mut criterion);
    choose(&mut criterion, 1, 17);
    choose(&mut criterion, 8, 64);
    choose(&mut criterion, 1, 512);
    decide(&mut criterion, 64, 72);
    decide(&mut criterion, 4, 72);
    decide(&mut criterion, 1, 72);
    criterion.final_summary();
}
