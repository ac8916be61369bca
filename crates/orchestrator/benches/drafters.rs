//! What a step costs in the text drafters: one committed token taken, up to eight drafted.
//!
//! Run with `cargo bench -p aio-orchestrator`. The target is below 20 us a step at 32k tokens, whatever the text, and about
//! the same at 1k.

#[path = "../tests/noise/mod.rs"]
mod noise;

use aio_orchestrator::{Drafter, PromptLookup, SuffixDrafter};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use noise::Noise;
use std::hint::black_box;

/// Tokens taken in one measured round; the history grows by as many.
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

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    bench::<PromptLookup>(&mut criterion);
    bench::<SuffixDrafter>(&mut criterion);
    criterion.final_summary();
}
