//! Batches with drafts where something fails, is scarce or is shared: drafters, steps, pages, callers. Texts still
//! match plain decoding.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{
    Batch, Completion, Engine, EngineError, EngineOptions, Flow, MemberId, Request, Sampling, Sequence, Speculation,
};
use aio_filetest::drafting::{Broken, Knowing, Losing};
use aio_filetest::modelled::{Modelled, twentieth};
use aio_filetest::tiny;
use aio_ir::sampling::SampleParams;
use aio_ir::{DType, PAGE_POSITIONS};
use aio_orchestrator::Drafter;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const PAGE: usize = PAGE_POSITIONS as usize;

fn cpu() -> CpuDevice {
    CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap()
}

fn engine_on(device: impl Device + 'static, context: u32, sequences: u32) -> Engine {
    let options = EngineOptions { context: Some(context), prefill_rows: 48, sequences, ..EngineOptions::default() };
    tiny::engine("llama-1b", DType::Q8_0, Arc::new(Modelled::new(device, twentieth)), &options)
}

fn hot(seed: u64) -> Sampling {
    let params = SampleParams { temperature: 0.8, top_k: 40, top_p: 0.95, ..SampleParams::GREEDY };
    Sampling { params, seed, ..Sampling::greedy() }
}

fn request(prompt: usize, tokens: usize, sampling: Sampling, speculation: Speculation) -> Request {
    let prompt = (0..prompt).map(|i| (i % 7 * 31 + prompt + 3) as u32 % 256).collect();
    Request { max_tokens: Some(tokens), ignore_eog: true, speculation, ..Request::new(prompt, sampling) }
}

fn plain(engine: &Engine, request: &Request) -> Vec<u32> {
    let request = Request { speculation: Speculation::Off, ..request.clone() };
    engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
}

fn knowing(request: &Request, want: &[u32], errs: usize) -> Option<Box<dyn Drafter>> {
    Some(Box::new(Knowing::new(&request.prompt, want, errs)))
}

fn join(batch: &mut Batch, engine: &Engine, request: &Request, drafter: Option<Box<dyn Drafter>>) -> MemberId {
    batch.join(engine, request.clone(), Sequence::new(), drafter).map_err(|(e, _)| e).unwrap()
}

fn step(batch: &mut Batch, engine: &Engine) {
    batch.step(engine, &mut |_, _| Flow::Continue).unwrap();
}

fn leave(batch: &mut Batch, engine: &Engine, id: MemberId) -> Completion {
    let (done, _) = batch.leave(engine, id).unwrap();
    done.unwrap()
}

#[test]
fn auto_takes_drafts_that_are_always_right() {
    let engine = engine_on(cpu(), 192, 1);
    let request = request(30, 150, Sampling::greedy(), Speculation::Auto);
    let want = plain(&engine, &request);
    let mut batch = Batch::new();
    let id = join(&mut batch, &engine, &request, knowing(&request, &want, 0));
    let mut weighed = 0;
    while batch.running() > 0 {
        step(&mut batch, &engine);
        weighed += usize::from(batch.choice().is_some());
    }
    let done = leave(&mut batch, &engine, id);
    assert_eq!(done.ids, want);
    assert!(done.speculation.drafted > 0 && weighed > 0, "{:?}, {weighed} weighed", done.speculation);
}

#[test]
fn eight_sequences_with_eight_drafts_are_one_step() {
    let engine = engine_on(cpu(), 192, 8);
    let requests: Vec<_> = (0..8).map(|i| request(30 + 5 * i, 19, Sampling::greedy(), Speculation::Fixed(8))).collect();
    let want: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
    let (mut batch, mut ids) = (Batch::new(), Vec::new());
    for (request, want) in requests.iter().zip(&want) {
        // Reads the prompt except its last token, so that every member decodes from the first step on.
        let mut sequence = Sequence::new();
        let read = Request { max_tokens: Some(1), ..request.clone() };
        engine.generate_in(&mut sequence, &read, None, &mut |_| Flow::Continue).unwrap();
        let joined = batch.join(&engine, request.clone(), sequence, knowing(request, want, 0));
        ids.push(joined.map_err(|(e, _)| e).unwrap());
    }
    let mut rows = Vec::new();
    while batch.running() > 0 {
        let (used, submissions) = (engine.rows().used, engine.counters().submissions);
        step(&mut batch, &engine);
        assert_eq!(engine.counters().submissions - submissions, 1);
        rows.push(engine.rows().used - used);
    }
    assert_eq!(rows, [8, 72, 72], "a first token each, then nine and nine");
    for (id, want) in ids.into_iter().zip(want) {
        assert_eq!(leave(&mut batch, &engine, id).ids, want);
    }
}

#[test]
fn a_drafter_that_fails_is_given_up() {
    let engine = engine_on(cpu(), 192, 2);
    for broken in [Broken::Draft, Broken::Prepare, Broken::Endless] {
        for speculation in [Speculation::Fixed(4), Speculation::Auto] {
            let [bad, good] = [hot(1), hot(2)].map(|s| request(30, 40, s, speculation));
            let want = [&bad, &good].map(|r| plain(&engine, r));
            let mut batch = Batch::new();
            let drafter: Option<Box<dyn Drafter>> = Some(Box::new(broken));
            let ids = [
                join(&mut batch, &engine, &bad, drafter),
                join(&mut batch, &engine, &good, knowing(&good, &want[1], 3)),
            ];
            while batch.running() > 0 {
                step(&mut batch, &engine);
            }
            let done = ids.map(|id| leave(&mut batch, &engine, id));
            assert_eq!([&done[0].ids, &done[1].ids], [&want[0], &want[1]], "{broken:?}, {speculation:?}");
            let failure = done[0].speculation.failure.as_deref();
            // A drafter that was never asked cannot have failed.
            let asked = speculation != Speculation::Auto || broken == Broken::Prepare;
            if broken == Broken::Endless {
                assert_eq!(failure, None);
            } else if asked {
                assert_eq!(failure, Some("the drafter broken failed: no power"));
            }
            assert_eq!(done[1].speculation.failure, None);
        }
    }
}

#[test]
fn a_token_that_there_is_not_joins_no_batch() {
    let engine = engine_on(cpu(), 192, 1);
    let mut bad = request(30, 4, Sampling::greedy(), Speculation::Off);
    bad.prompt[7] = 100_000;
    let (error, _) = Batch::new().join(&engine, bad.clone(), Sequence::new(), None).unwrap_err();
    assert!(matches!(error, EngineError::Token { token: 100_000, .. }), "{error}");
    assert!(engine.generate(&bad, &mut |_| Flow::Continue).is_err());
}

/// A step is lost after the drafts' keys and values were written: none of it counts, and the batch continues.
#[test]
fn a_batch_goes_on_after_a_lost_step() {
    let requests = [Speculation::Fixed(6), Speculation::Auto].map(|s| request(30, 40, hot(5), s));
    let want = requests.each_ref().map(|r| plain(&engine_on(cpu(), 192, 2), r));
    for lost in 0..12 {
        let engine = engine_on(Losing::new(cpu(), lost), 192, 2);
        let mut batch = Batch::new();
        let ids = [0, 1].map(|i| join(&mut batch, &engine, &requests[i], knowing(&requests[i], &want[i], 4)));
        let (mut failures, mut drafted) = (0, false);
        while batch.running() > 0 {
            let had = ids.map(|id| batch.generated(id).unwrap().len());
            match batch.step(&engine, &mut |_, _| Flow::Continue) {
                Ok(()) => drafted |= batch.generated(ids[0]).unwrap().len() > had[0] + 1,
                Err(error) => {
                    assert!(error.to_string().contains("the step was lost"), "{error}");
                    assert_eq!(ids.map(|id| batch.generated(id).unwrap().len()), had);
                    failures += 1;
                }
            }
        }
        assert!(failures == 1 && drafted, "{failures} failures with {lost} steps before");
        for (id, want) in ids.into_iter().zip(&want) {
            assert_eq!(leave(&mut batch, &engine, id).ids, *want, "after {lost} steps");
        }
    }
}

/// Drafts need a page that the pool does not have; plain decoding does not need it.
#[test]
fn a_full_pool_costs_drafts_and_no_step() {
    let engine = engine_on(cpu(), 3 * PAGE as u32, 1);
    let request = request(60, 100, Sampling::greedy(), Speculation::Fixed(16));
    let want = plain(&engine, &request);
    let mut other = Sequence::new();
    engine.reserve(&mut other, PAGE).unwrap();
    let mut batch = Batch::new();
    let id = join(&mut batch, &engine, &request, knowing(&request, &want, 0));
    // Up to the end of the second page; the last drafts before it would have needed the third.
    while request.prompt.len() + batch.generated(id).unwrap().len() < 2 * PAGE {
        step(&mut batch, &engine);
    }
    let error = batch.step(&engine, &mut |_, _| Flow::Continue).unwrap_err();
    assert!(matches!(error, EngineError::PoolFull { .. }), "{error}");
    drop(other);
    while batch.running() > 0 {
        step(&mut batch, &engine);
    }
    let done = leave(&mut batch, &engine, id);
    assert_eq!(done.ids, want);
    assert!(done.speculation.accepted > 0);
}

/// Pages needed only by wrong drafts are free again after the step.
#[test]
fn wrong_drafts_keep_no_pages() {
    let engine = engine_on(cpu(), 3 * PAGE as u32, 1);
    let request = request(PAGE - 6, 4, Sampling::greedy(), Speculation::Fixed(20));
    let request = Request { max_tokens: Some(30), ..request };
    let want = plain(&engine, &request);
    let mut batch = Batch::new();
    // Every draft is wrong, and the last ones of each step are in the second page.
    let id = join(&mut batch, &engine, &request, knowing(&request, &want, 1));
    for _ in 0..4 {
        step(&mut batch, &engine);
    }
    let (done, sequence) = batch.leave(&engine, id).unwrap();
    let done = done.unwrap();
    assert!(done.speculation.drafted > 20 && done.speculation.accepted == 0, "{:?}", done.speculation);
    assert_eq!((sequence.len().div_ceil(PAGE), sequence.pages().len()), (1, 1));
}

/// A receiver that panics holds nothing back: what its step might have lost is there for the next one.
#[test]
fn a_panic_of_the_receiver_gives_the_stake_back() {
    let engine = engine_on(cpu(), 192, 1);
    let request = request(30, 150, Sampling::greedy(), Speculation::Auto);
    let want = plain(&engine, &request);
    let mut batch = Batch::new();
    join(&mut batch, &engine, &request, knowing(&request, &want, 0));
    let mut panicked = false;
    while batch.running() > 0 && !panicked {
        let (before, mut shown) = (engine.speculator().balance(), 0);
        // The third token of a step is an accepted draft.
        let mut sink = |_, _: &str| {
            shown += 1;
            assert!(shown < 3, "as asked for");
            Flow::Continue
        };
        let step = || batch.step(&engine, &mut sink);
        panicked = catch_unwind(AssertUnwindSafe(step)).is_err();
        assert!(!panicked || engine.speculator().balance() == before, "{before}");
    }
    assert!(panicked, "drafts were accepted");
    drop(batch);
    assert_eq!(plain(&engine, &request), want, "the engine goes on");
}

/// Two continuations of one prompt: each drafts into the shared page and copies it first.
#[test]
fn forks_draft_into_a_shared_page() {
    let engine = engine_on(cpu(), 192, 3);
    let requests = [3, 4].map(|seed| request(PAGE + 20, 30, hot(seed), Speculation::Fixed(8)));
    let want = requests.each_ref().map(|r| plain(&engine, r));
    assert_ne!(want[0], want[1]);
    let mut prompt = Sequence::new();
    let read = Request { max_tokens: Some(1), ..requests[0].clone() };
    engine.generate_in(&mut prompt, &read, None, &mut |_| Flow::Continue).unwrap();
    let mut batch = Batch::new();
    let ids = [0, 1].map(|i| {
        let fork = engine.fork(&prompt, prompt.len()).unwrap();
        let drafter = knowing(&requests[i], &want[i], 5);
        batch.join(&engine, requests[i].clone(), fork, drafter).map_err(|(e, _)| e).unwrap()
    });
    while batch.running() > 0 {
        step(&mut batch, &engine);
    }
    for (id, want) in ids.into_iter().zip(&want) {
        assert_eq!(leave(&mut batch, &engine, id).ids, *want);
    }
    // Their writes did not change the prompt.
    let again = Request { speculation: Speculation::Off, ..requests[0].clone() };
    let done = engine.generate_in(&mut prompt, &again, None, &mut |_| Flow::Continue).unwrap();
    assert_eq!(done.ids, want[0]);
}

/// A caller that stops within a run of accepted drafts gets the tokens seen so far and can continue from there.
#[test]
fn a_caller_stops_inside_an_accepted_run() {
    let engine = engine_on(cpu(), 192, 1);
    let request = request(30, 40, hot(6), Speculation::Fixed(16));
    let want = plain(&engine, &request);
    let mut sequence = Sequence::new();
    let mut calls = 0;
    let mut sink = |_: &str| {
        calls += 1;
        if calls == 8 { Flow::Stop } else { Flow::Continue }
    };
    let drafter = knowing(&request, &want, 0);
    let done = engine.generate_in(&mut sequence, &request, drafter, &mut sink).unwrap();
    assert_eq!((done.stop_reason.name(), &done.ids[..]), ("cancelled", &want[..8]));
    assert_eq!(sequence.len(), request.prompt.len() + 7);
    // The first token comes from the prompt; the outcome of the draft after the last token is unknown.
    let mut known = [[1, 1]; 8];
    known[7] = [0, 0];
    assert_eq!(done.speculation.by_position[..8], known, "{:?}", done.speculation);
    let prompt = [&request.prompt[..], &want[..8]].concat();
    let rest = Request { prompt, max_tokens: Some(32), ..request };
    let rest_done = engine.generate_in(&mut sequence, &rest, None, &mut |_| Flow::Continue).unwrap();
    assert_eq!(rest_done.ids, want[8..]);
}

#[test]
fn dropping_a_batch_gives_all_pages_back() {
    let engine = engine_on(cpu(), 2 * PAGE as u32, 2);
    for _ in 0..3 {
        let mut batch = Batch::new();
        for seed in 0..2 {
            join(&mut batch, &engine, &request(PAGE, 20, hot(seed), Speculation::Fixed(2)), None);
        }
        for _ in 0..4 {
            step(&mut batch, &engine);
        }
    }
    let mut whole = Sequence::new();
    engine.reserve(&mut whole, 4 * PAGE).unwrap();
}
