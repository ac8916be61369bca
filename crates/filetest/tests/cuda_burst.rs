//! Bursts under emulation: many steps in one launch give the tokens of plain steps, whatever the drafts, the grid, the order of
//! threads and the place where the output ends.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cuda::EmulationOptions;
use aio_engine::{Completion, Engine, EngineOptions, Flow, Request, Sampling, Speculation};
use aio_filetest::{cuda, tiny};
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use std::sync::Arc;

/// Blocks of each order's bursts.
const GRIDS: [u32; 3] = [1, 2, 3];

fn options(burst: usize) -> EngineOptions {
    EngineOptions { context: Some(192), prefill_rows: 40, burst, ..EngineOptions::default() }
}

/// An engine whose bursts have up to so many tokens; `None` after a SKIP.
fn engine(preset: &str, weights: DType, burst: usize, emulation: EmulationOptions) -> Option<Engine> {
    let device = cuda::device("cuda bursts", emulation)?;
    Some(tiny::engine(preset, weights, Arc::new(device), &options(burst)))
}

/// A prompt that repeats itself, so that there are drafts.
fn request(sampling: &Sampling, speculation: Speculation, tokens: usize) -> Request {
    let prompt = (0..40).map(|i| (i % 7 * 31 + 3) as u32).collect();
    Request { max_tokens: Some(tokens), ignore_eog: true, speculation, ..Request::new(prompt, sampling.clone()) }
}

/// Greedy and sampled, the latter with penalties.
fn samplings() -> [Sampling; 2] {
    let params = SampleParams { temperature: 0.8, top_k: 40, top_p: 0.95, repeat_penalty: 1.1, ..SampleParams::GREEDY };
    [Sampling::greedy(), Sampling { params, seed: 11, ..Sampling::greedy() }]
}

fn generate(engine: &mut Engine, request: &Request) -> Completion {
    engine.generate(request, &mut |_| Flow::Continue).unwrap()
}

/// Text and ids of a request; how it was cut into bursts must not matter.
fn assert_same(engine: &mut Engine, request: &Request, want: &Completion, what: &str) -> Completion {
    let got = generate(engine, request);
    assert_eq!(engine.burst_refusal(), None, "{what}");
    assert_eq!(got.ids, want.ids, "{what}");
    assert_eq!((&got.text, got.stop_reason), (&want.text, want.stop_reason), "{what}");
    got
}

#[test]
fn bursts_give_the_tokens_of_steps() {
    for (i, order) in cuda::ORDERS.into_iter().enumerate() {
        let emulation = EmulationOptions { order, multiprocessors: GRIDS[i], host_threads: 2 };
        let Some(mut plain) = engine("llama-1b", DType::Q8_0, 0, emulation) else { return };
        for sampling in samplings() {
            // Over the border of a page, at position 64.
            let want = generate(&mut plain, &request(&sampling, Speculation::Off, 33));
            for (burst, speculation) in [(64, Speculation::Off), (64, Speculation::Auto), (5, Speculation::Fixed(16))] {
                let mut engine = engine("llama-1b", DType::Q8_0, burst, emulation).unwrap();
                let what = format!(
                    "{order:?}, {speculation:?}, bursts of {burst}, temperature {}",
                    sampling.params.temperature
                );
                let before = engine.counters();
                let got = assert_same(&mut engine, &request(&sampling, speculation, 33), &want, &what);
                let spent = engine.counters() - before;
                println!("{what}: {} submissions, {:?}", spent.submissions, got.speculation);
                assert!(
                    spent.submissions <= 2 + 32u64.div_ceil(burst as u64),
                    "{what}: {} submissions",
                    spent.submissions
                );
            }
        }
    }
}
