//! Speculation changes the speed, never the text: equality with plain decoding for every drafter, draft length, batch
//! and dispatch mode; counters; masks; the distribution of sampled tokens.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::Device;
use aio_backend_cpu::isa::IsaLevel;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{
    Batch, Dispatch, DraftSpan, Engine, EngineOptions, Flow, LogitMask, ModelDrafter, OutputBuffer, Request, Sampling,
    Sequence, Speculation, Step, StepRow, StepWants, StopReason,
};
use aio_filetest::drafting::Knowing;
use aio_filetest::modelled::{Modelled, twentieth};
use aio_filetest::tiny;
use aio_ir::DType;
use aio_ir::sampling::SampleParams;
use aio_orchestrator::{Clock, Drafter, PromptLookup, SuffixDrafter};
use std::sync::Arc;

fn engine_at(isa: Option<IsaLevel>, dispatch: Dispatch) -> Option<Engine> {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa, pin: false }).ok()?;
    let options =
        EngineOptions { context: Some(192), prefill_rows: 48, sequences: 8, dispatch, ..EngineOptions::default() };
    Some(tiny::engine("llama-1b", DType::Q8_0, Arc::new(Modelled::new(device, twentieth)), &options))
}

fn engine(dispatch: Dispatch) -> Engine {
    engine_at(None, dispatch).unwrap()
}

fn hot(seed: u64) -> Sampling {
    let params = SampleParams { temperature: 0.8, top_k: 40, top_p: 0.95, repeat_penalty: 1.1, ..SampleParams::GREEDY };
    Sampling { params, seed, ..Sampling::greedy() }
}

/// A request with a repetitive prompt, so that text drafters find something.
fn request(index: u64, sampling: Sampling, tokens: usize) -> Request {
    let prompt = (0..30 + 5 * index).map(|i| ((i % 7 * 31 + index * 17 + 3) % 256) as u32).collect();
    Request { max_tokens: Some(tokens), ignore_eog: true, ..Request::new(prompt, sampling) }
}

fn plain(engine: &Engine, request: &Request) -> Vec<u32> {
    let request = Request { speculation: Speculation::Off, ..request.clone() };
    engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
}

/// The outputs of several requests that run together.
fn together(engine: &Engine, members: Vec<(Request, Option<Box<dyn Drafter>>)>) -> Vec<Vec<u32>> {
    let mut batch = Batch::new();
    let ids: Vec<_> = members
        .into_iter()
        .map(|(request, drafter)| batch.join(engine, request, Sequence::new(), drafter).map_err(|(e, _)| e).unwrap())
        .collect();
    while batch.running() > 0 {
        batch.step(engine, &mut |_, _| Flow::Continue).unwrap();
    }
    let leave = |id| {
        let (done, _) = batch.leave(engine, id).unwrap();
        let done = done.unwrap();
        done.ids
    };
    ids.into_iter().map(leave).collect()
}

fn drafters(text: &[u32]) -> Vec<Box<dyn Drafter>> {
    let knowing = |errs| Box::new(Knowing { text: text.to_vec(), at: 0, errs }) as Box<dyn Drafter>;
    vec![knowing(0), knowing(2), knowing(5), Box::new(PromptLookup::default()), Box::new(SuffixDrafter::default())]
}

#[test]
fn speculative_output_is_plain_output() {
    let levels = [Some(IsaLevel::Portable), Some(IsaLevel::Avx2), None];
    for engine in levels.into_iter().filter_map(|isa| engine_at(isa, Dispatch::Graph)) {
        for sampling in [Sampling::greedy(), hot(11)] {
            let request = request(0, sampling, 60);
            let want = plain(&engine, &request);
            let text: Vec<u32> = request.prompt.iter().chain(&want).copied().collect();
            for speculation in [Speculation::Auto].into_iter().chain([1, 2, 4, 16, 40].map(Speculation::Fixed)) {
                for drafter in drafters(&text) {
                    let name = drafter.name();
                    let request = Request { speculation, ..request.clone() };
                    let got = together(&engine, vec![(request, Some(drafter))]);
                    assert_eq!(got, std::slice::from_ref(&want), "{name}, {speculation:?}");
                }
            }
        }
    }
}

/// A copy of the model drafts exactly the drawn tokens at any temperature; a different model is often wrong.
#[test]
fn a_draft_model_draws_with_the_same_noise() {
    let engine = engine(Dispatch::Graph);
    let options = EngineOptions { context: Some(160), prefill_rows: 20, sequences: 4, ..EngineOptions::default() };
    let device = || Arc::new(CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap());
    let twin = Arc::new(tiny::engine("llama-1b", DType::Q8_0, device(), &options));
    let other = Arc::new(tiny::engine("llama-1b", DType::Q4_0, device(), &options));
    for sampling in [Sampling::greedy(), hot(4)] {
        let request = request(1, sampling.clone(), 90);
        let want = plain(&engine, &request);
        for (model, right) in [(&twin, true), (&other, false)] {
            let drafter = ModelDrafter::new(Arc::clone(model), &engine, sampling.clone()).unwrap();
            let request = Request { speculation: Speculation::Fixed(4), ..request.clone() };
            let drafter: Option<Box<dyn Drafter>> = Some(Box::new(drafter));
            let done = engine.generate_in(&mut Sequence::new(), &request, drafter, &mut |_| Flow::Continue).unwrap();
            assert_eq!(done.ids, want);
            let stats = done.speculation;
            assert_eq!(stats.accepted == stats.drafted, right, "{stats:?}");
        }
    }
}

/// With a modelled clock, drafts of a model cost what the model of the device says. Measured drafts cannot be weighed
/// against it, and are given up by name.
#[test]
fn drafts_are_weighed_by_the_clock_of_the_steps() {
    let options = EngineOptions { context: Some(160), prefill_rows: 20, sequences: 4, ..EngineOptions::default() };
    let device = || CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let quick = |rows| 0.05 * twentieth(rows);
    let twins: [Arc<dyn Device>; 2] = [Arc::new(Modelled::new(device(), quick)), Arc::new(device())];
    for (twin, modelled) in twins.into_iter().zip([true, false]) {
        let engine = engine(Dispatch::Graph);
        let request = Request { speculation: Speculation::Auto, ..request(1, Sampling::greedy(), 90) };
        let want = plain(&engine, &request);
        let twin = Arc::new(tiny::engine("llama-1b", DType::Q8_0, twin, &options));
        let drafter = ModelDrafter::new(twin, &engine, Sampling::greedy()).unwrap();
        let drafter: Option<Box<dyn Drafter>> = Some(Box::new(drafter));
        let done = engine.generate_in(&mut Sequence::new(), &request, drafter, &mut |_| Flow::Continue).unwrap();
        assert_eq!(done.ids, want);
        let (stats, clock) = (done.speculation, engine.speculator().clock());
        assert_eq!(clock, Some(Clock::Modelled));
        if modelled {
            assert!(stats.failure.is_none() && stats.accepted > 40, "{stats:?}");
        } else {
            let failure = stats.failure.as_deref().unwrap();
            assert_eq!(failure, "times of its drafts are measured, those of steps modelled");
        }
    }
}

#[test]
fn company_and_dispatch_change_nothing() {
    let mut wants = Vec::new();
    for dispatch in [Dispatch::Graph, Dispatch::Token] {
        let engine = engine(dispatch);
        for size in [1, 2, 4, 8] {
            let sampling = |i| if i % 2 == 0 { Sampling::greedy() } else { hot(i) };
            let requests: Vec<_> = (0..size).map(|i| request(i, sampling(i), 24 + i as usize)).collect();
            let want: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
            let member = |(i, (r, w)): (usize, (&Request, &Vec<u32>))| {
                let text = r.prompt.iter().chain(w).copied().collect();
                let speculation = match i % 4 {
                    2 => Speculation::Off,
                    3 => Speculation::Auto,
                    _ => Speculation::Fixed(1 + i),
                };
                let drafter: Box<dyn Drafter> = Box::new(Knowing { text, at: 0, errs: 3 + i });
                (Request { speculation, ..r.clone() }, Some(drafter))
            };
            let members: Vec<_> = requests.iter().zip(&want).enumerate().map(member).collect();
            assert_eq!(together(&engine, members), want, "{size} sequences, {dispatch:?}");
            let auto = |(r, w): (&Request, &Vec<u32>)| {
                let text = r.prompt.iter().chain(w).copied().collect();
                let drafter: Box<dyn Drafter> = Box::new(Knowing { text, at: 0, errs: 7 });
                (Request { speculation: Speculation::Auto, ..r.clone() }, Some(drafter))
            };
            let members = requests.iter().zip(&want).map(auto).collect();
            assert_eq!(together(&engine, members), want, "{size} sequences, {dispatch:?}, auto");
            wants.push(want);
        }
    }
    let (graph, token) = wants.split_at(4);
    assert_eq!(graph, token);
}

#[test]
fn one_engine_serves_both_ways_to_verify() {
    let mut engine = engine(Dispatch::Graph);
    let request = request(0, hot(9), 24);
    let want = plain(&engine, &request);
    let text: Vec<u32> = request.prompt.iter().chain(&want).copied().collect();
    // 23 tokens after the first: four steps of five rows and one of three, or one step per token.
    for (dispatch, steps) in [(Dispatch::Graph, 1 + 5), (Dispatch::Token, 1 + 23), (Dispatch::Graph, 1 + 5)] {
        engine.set_dispatch(dispatch).unwrap();
        let drafter: Box<dyn Drafter> = Box::new(Knowing { text: text.clone(), at: 0, errs: 0 });
        let request = Request { speculation: Speculation::Fixed(4), ..request.clone() };
        let before = engine.counters();
        assert_eq!(together(&engine, vec![(request, Some(drafter))]), std::slice::from_ref(&want));
        assert_eq!((engine.counters() - before).submissions, steps, "{dispatch:?}");
    }
    assert!(engine.set_dispatch(Dispatch::Op).unwrap_err().to_string().contains("the plans which the engine"));
    assert_eq!(engine.dispatch(), Dispatch::Graph);
}

#[test]
fn what_was_learned_can_be_put_aside() {
    let engine = engine(Dispatch::Graph);
    let mut kept = engine.speculator().clone();
    let request = Request { speculation: Speculation::Auto, ..request(0, Sampling::greedy(), 24) };
    let learned = |engine: &Engine| engine.speculator().balance() != 0.0;
    assert!(!learned(&engine));
    let want = plain(&engine, &request);
    assert!(!learned(&engine), "plain decoding teaches nothing");
    assert_eq!(together(&engine, vec![(request, None)]), [want]);
    assert!(learned(&engine));
    engine.swap_speculator(&mut kept);
    assert!(!learned(&engine) && kept.balance() != 0.0);
}

#[test]
fn an_unfused_plan_verifies_too() {
    let engine = engine(Dispatch::Op);
    let request = request(1, hot(5), 16);
    let want = plain(&engine, &request);
    let text = request.prompt.iter().chain(&want).copied().collect();
    let drafter: Box<dyn Drafter> = Box::new(Knowing { text, at: 0, errs: 4 });
    let speculation = Speculation::Fixed(5);
    assert_eq!(together(&engine, vec![(Request { speculation, ..request }, Some(drafter))]), [want]);
}

#[test]
fn members_join_and_leave_between_steps() {
    let engine = engine(Dispatch::Graph);
    let requests: Vec<_> = (0..6).map(|i| request(i, hot(i), 10 + 7 * i as usize)).collect();
    let want: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
    let (mut batch, mut waiting) = (Batch::new(), requests.iter().enumerate());
    let mut places = Vec::new();
    let mut got = vec![Vec::new(); requests.len()];
    loop {
        // One member joins before each step, while others are in the middle of their prompts or outputs.
        if let Some((place, request)) = waiting.next() {
            let request = Request { speculation: Speculation::Fixed(3), ..request.clone() };
            places.push((batch.join(&engine, request, Sequence::new(), None).map_err(|(e, _)| e).unwrap(), place));
        }
        batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
        while let Some(id) = batch.ended() {
            let place = places.iter().find(|(i, _)| *i == id).unwrap().1;
            let (done, _) = batch.leave(&engine, id).unwrap();
            let done = done.unwrap();
            got[place] = done.ids;
        }
        if batch.is_empty() && waiting.len() == 0 {
            break;
        }
    }
    assert_eq!(got, want);
}

#[test]
fn a_long_prompt_leaves_rows_for_the_others() {
    let device = CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap();
    let options = EngineOptions { context: Some(256), prefill_rows: 90, sequences: 3, ..EngineOptions::default() };
    let engine = tiny::engine("llama-1b", DType::Q8_0, Arc::new(Modelled::new(device, twentieth)), &options);
    // Prompts of 30, 200 and 205 tokens: the second and third are read in chunks while the first decodes with drafts.
    let requests = [0, 34, 35].map(|i| Request { speculation: Speculation::Fixed(4), ..request(i, hot(i), 30) });
    let want: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
    let members = requests.into_iter().map(|r| (r, None)).collect();
    assert_eq!(together(&engine, members), want);
}

#[test]
fn a_verification_step_is_one_submission_and_one_synchronisation() {
    for k in [0, 1, 4, 16, 60] {
        let engine = engine(Dispatch::Graph);
        let request = request(0, Sampling::greedy(), 64);
        let want = plain(&engine, &request);
        let text = request.prompt.iter().chain(&want).copied().collect();
        let drafter: Box<dyn Drafter> = Box::new(Knowing { text, at: 0, errs: 0 });
        let request = Request { speculation: Speculation::Fixed(k), ..request };
        let before = engine.counters();
        let done = engine.generate_in(&mut Sequence::new(), &request, Some(drafter), &mut |_| Flow::Continue).unwrap();
        let spent = engine.counters() - before;
        let (stats, steps) = (&done.speculation, 1 + done.timing.decode_steps as u64);
        assert_eq!((spent.submissions, spent.syncs), (steps, steps), "{k} drafts");
        assert_eq!(stats.accepted, stats.drafted, "the drafts are the text");
        // One token comes from the prompt's step, and k + 1 from each later step.
        assert_eq!(steps - 1, 63u64.div_ceil(k as u64 + 1), "{k} drafts");
        assert_eq!(done.ids, want);
    }
}

/// Drafts that a step contains regardless do not keep another member from weighing its own.
#[test]
fn a_member_weighs_its_drafts_beside_one_with_a_fixed_number() {
    let engine = engine(Dispatch::Graph);
    let requests = [(0, 150, Speculation::Fixed(4)), (1, 60, Speculation::Auto)]
        .map(|(i, tokens, speculation)| Request { speculation, ..request(i, Sampling::greedy(), tokens) });
    let want = requests.clone().map(|r| plain(&engine, &r));
    let (mut batch, mut together) = (Batch::new(), 0);
    let ids = [0, 1].map(|i| {
        let text = requests[i].prompt.iter().chain(&want[i]).copied().collect();
        let drafter: Box<dyn Drafter> = Box::new(Knowing { text, at: 0, errs: 0 });
        batch.join(&engine, requests[i].clone(), Sequence::new(), Some(drafter)).map_err(|(e, _)| e).unwrap()
    });
    while batch.running() > 0 {
        batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
        together += usize::from(batch.choice().is_some_and(|c| matches!(c.drafts[..], [4, n] if n > 0)));
    }
    assert!(together > 0, "no step had drafts of both");
    for (id, want) in ids.into_iter().zip(want) {
        let (done, _) = batch.leave(&engine, id).unwrap();
        let done = done.unwrap();
        assert_eq!(done.ids, want);
        assert!(done.speculation.drafted > 0, "{:?}", done.speculation);
    }
}

/// Rows that members without drafts leave unused are available to the member that wants them.
#[test]
fn a_member_has_the_rows_that_others_leave() {
    let engine = engine(Dispatch::Graph);
    let requests: Vec<_> = (0..8).map(|i| request(i, Sampling::greedy(), 18)).collect();
    let want: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
    let text = requests[0].prompt.iter().chain(&want[0]).copied().collect();
    let mut drafter: Option<Box<dyn Drafter>> = Some(Box::new(Knowing { text, at: 0, errs: 0 }));
    let mut batch = Batch::new();
    for (i, request) in requests.into_iter().enumerate() {
        let speculation = if i == 0 { Speculation::Fixed(16) } else { Speculation::Off };
        let request = Request { speculation, ..request };
        batch.join(&engine, request, Sequence::new(), drafter.take()).map_err(|(e, _)| e).unwrap();
    }
    while batch.running() > 0 {
        batch.step(&engine, &mut |_, _| Flow::Continue).unwrap();
    }
    let mut done = Vec::new();
    while let Some(id) = batch.ended() {
        let (completion, _) = batch.leave(&engine, id).unwrap();
        let completion = completion.unwrap();
        done.push(completion);
    }
    assert_eq!((done[0].timing.decode_steps, done[0].speculation.drafted), (1, 16));
    assert_eq!(done.into_iter().map(|d| d.ids).collect::<Vec<_>>(), want);
}

#[test]
fn an_end_inside_an_accepted_run_ends_the_output_there() {
    let engine = engine(Dispatch::Graph);
    let request = request(2, hot(3), 40);
    let want = plain(&engine, &request);
    let text: Vec<u32> = request.prompt.iter().chain(&want).copied().collect();
    let piece = engine.model().tokenizer.decode(&want[9..11], false).unwrap();
    let stop = vec![piece.trim().to_owned()];
    assert!(!stop[0].is_empty(), "{piece:?}");
    let request = Request { stop, ..request };
    let stopped = engine.generate(&request, &mut |_| Flow::Continue).unwrap();
    assert_eq!(stopped.stop_reason, StopReason::StopString);
    let request = Request { speculation: Speculation::Fixed(16), ..request };
    let drafter: Box<dyn Drafter> = Box::new(Knowing { text, at: 0, errs: 0 });
    let mut sequence = Sequence::new();
    let done = engine.generate_in(&mut sequence, &request, Some(drafter), &mut |_| Flow::Continue).unwrap();
    assert_eq!((&done.ids, &done.text, done.stop_reason), (&stopped.ids, &stopped.text, stopped.stop_reason));
    assert_eq!(sequence.len(), request.prompt.len() + done.ids.len() - 1, "what was dropped is not committed");
}

/// Digits in brackets: `[`, digits separated by commas, `]`; as bytes of the tiny vocabulary.
#[derive(Debug)]
struct Brackets;

impl LogitMask for Brackets {
    fn bias(&self, output: &[u32], bias: &mut [f32]) {
        let allowed: &[u32] = match output.last().map(|t| t % 8) {
            None => &[0],
            Some(0 | 3) => &[1, 2],
            Some(1 | 2) => &[3, 4],
            _ => &[5],
        };
        for (token, bias) in bias.iter_mut().enumerate() {
            *bias = if allowed.contains(&(token as u32 % 8)) { 0.0 } else { f32::NEG_INFINITY };
        }
    }
}

/// The first chunk of a long prompt requests no mask, alone or next to a member with drafts.
#[test]
fn a_mask_waits_for_the_end_of_the_prompt() {
    let engine = engine(Dispatch::Graph);
    let long = Request { mask: Some(Arc::new(Brackets)), ..request(12, hot(2), 12) };
    let short = request(0, Sampling::greedy(), 30);
    let want = [&short, &long].map(|r| plain(&engine, r));
    assert!(long.prompt.len() > engine.prefill_rows());
    let speculation = Speculation::Fixed(3);
    let members = [short, long].map(|r| (Request { speculation, ..r }, None)).into();
    assert_eq!(together(&engine, members), want);
}

#[test]
fn a_mask_composes_with_speculation() {
    for dispatch in [Dispatch::Graph, Dispatch::Token] {
        let engine = engine(dispatch);
        for sampling in [Sampling::greedy(), hot(8)] {
            let request = Request { mask: Some(Arc::new(Brackets)), ..request(3, sampling, 40) };
            let want = plain(&engine, &request);
            assert_eq!(want[0] % 8, 0);
            assert!(want.windows(2).all(|w| w[0] % 8 != 0 || matches!(w[1] % 8, 1 | 2)), "{want:?}");
            let text: Vec<u32> = request.prompt.iter().chain(&want).copied().collect();
            for drafter in drafters(&text) {
                let name = drafter.name();
                let request = Request { speculation: Speculation::Fixed(6), ..request.clone() };
                assert_eq!(together(&engine, vec![(request, Some(drafter))]), std::slice::from_ref(&want), "{name}");
            }
        }
    }
}

/// The chi-square statistic of counts against probabilities.
fn chi_square(counts: &[u64], probabilities: &[f64]) -> f64 {
    let total: u64 = counts.iter().sum();
    let cell = |(&n, &p): (&u64, &f64)| (n as f64 - total as f64 * p).powi(2) / (total as f64 * p);
    counts.iter().zip(probabilities).map(cell).sum()
}

#[test]
fn sampled_tokens_follow_the_models_probabilities() {
    const DRAWS: u64 = 50_000;
    const TOKENS: [u32; 8] = [5, 40, 77, 130, 200, 301, 402, 500];
    // 99.9th percentile of chi-square with 7 degrees of freedom.
    const BOUND: f64 = 24.32;
    let engine = engine(Dispatch::Graph);
    let prompt = request(4, Sampling::greedy(), 1).prompt;
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, prompt.len() + 1).unwrap();
    fn row(token: u32, position: usize, wants: StepWants<'_>) -> StepRow<'_> {
        StepRow { token, sequence: 0, position, wants }
    }
    let (draft, last) = (TOKENS[3], prompt.len() - 1);
    let mut rows: Vec<_> = prompt.iter().enumerate().map(|(p, &t)| row(t, p, StepWants::Nothing)).collect();
    rows[last].wants = StepWants::Logits;
    rows.push(row(draft, last + 1, StepWants::Logits));
    let mut out = OutputBuffer::new();
    let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
    let logits = engine.step(step, &mut out).unwrap().logits().unwrap().to_vec();
    let probabilities = logits.chunks(512).map(|row| {
        let weights = TOKENS.map(|t| f64::from(row[t as usize]).exp());
        weights.map(|w| w / weights.iter().sum::<f64>())
    });
    let probabilities: Vec<[f64; 8]> = probabilities.collect();
    let mut bias = vec![f32::NEG_INFINITY; 512];
    TOKENS.iter().for_each(|&t| bias[t as usize] = 0.0);
    let params = SampleParams { temperature: 1.0, ..SampleParams::GREEDY };
    let mut counts = [[0u64; 8]; 2];
    for seed in 0..DRAWS {
        let sampling = Sampling { params, seed, ..Sampling::greedy() };
        let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: Some(&bias) };
        let rows = [row(prompt[last], last, wants), row(draft, last + 1, wants)];
        let span = DraftSpan { first: 0, drafts: 1, len: prompt.len() };
        let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[span] };
        let verified = engine.step(step, &mut out).unwrap().verified().unwrap();
        let place = |token: u32| TOKENS.iter().position(|&t| t == token).unwrap();
        if verified.accepted == [1] {
            counts[0][place(draft)] += 1;
            counts[1][place(verified.next[0])] += 1;
        } else {
            counts[0][place(verified.next[0])] += 1;
        }
        assert_eq!(verified.lens[0] as usize, prompt.len() + verified.accepted[0] as usize);
    }
    for (counts, probabilities) in counts.iter().zip(&probabilities) {
        let x = chi_square(counts, probabilities);
        println!("chi-square {x:.2} over {} draws: {counts:?}", counts.iter().sum::<u64>());
        assert!(x < BOUND, "{x} {counts:?} {probabilities:?}");
    }
}
