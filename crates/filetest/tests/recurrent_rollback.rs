//! Undoing changes to recurrent state, on the oracle: forks, failed steps, stop strings, snapshots; every slot is
//! freed.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_engine::{
    Batch, Dispatch, DraftSpan, Engine, EngineError, EngineOptions, Flow, MemberId, OutputBuffer, Request, Sampling,
    Sequence, Speculation, Step, StepRow, StepWants, StopReason,
};
use aio_filetest::drafting::{Cycling, Knowing, Losing};
use aio_filetest::tiny;
use aio_interp::InterpDevice;
use aio_ir::sampling::SampleParams;

const TEMPLATES: [&str; 2] = ["recurrent", "hybrid"];

fn options(context: u32) -> EngineOptions {
    EngineOptions { context: Some(context), prefill_rows: 24, sequences: 2, ..EngineOptions::default() }
}

fn engine(template: &str, options: &EngineOptions) -> Engine {
    tiny::recurrent_engine(template, InterpDevice::default(), options)
}

fn greedy(prompt: Vec<u32>, tokens: usize) -> Request {
    Request { max_tokens: Some(tokens), ignore_eog: true, ..Request::new(prompt, Sampling::greedy()) }
}

fn prompt(tokens: u32) -> Vec<u32> {
    (0..tokens).map(|i| (i * 31 + i / 7 + 3) % 256).collect()
}

fn plain(engine: &Engine, request: &Request) -> Vec<u32> {
    let request = Request { speculation: Speculation::Off, ..request.clone() };
    engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids
}

/// Continues a prompt in a sequence that already holds part of it.
fn continued(engine: &Engine, sequence: &mut Sequence, prompt: &[u32]) -> Vec<u32> {
    engine.generate_in(sequence, &greedy(prompt.to_vec(), 6), None, &mut |_| Flow::Continue).unwrap().ids
}

/// Verifies drafts after the sequence's text and one more token. Returns the number accepted.
fn verify(engine: &Engine, sequence: &mut Sequence, text: &[u32], drafts: usize) -> Result<usize, EngineError> {
    let sampling = Sampling::greedy();
    let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: None };
    let from = sequence.len();
    engine.reserve(sequence, from + 1 + drafts)?;
    let row = |position| StepRow { token: text[position], sequence: 0, position, wants };
    let rows: Vec<_> = (from..from + 1 + drafts).map(row).collect();
    let spans = [DraftSpan { first: 0, drafts, len: from + 1 }];
    let mut out = OutputBuffer::new();
    let outputs = engine.step(Step { sequences: &mut [sequence], rows: &rows, drafts: &spans }, &mut out)?;
    Ok(outputs.verified().unwrap().accepted[0] as usize)
}

#[test]
fn forks_continue_like_a_sequence_that_ran_alone() {
    for template in TEMPLATES {
        let engine = engine(template, &EngineOptions { sequences: 4, ..options(160) });
        let request = greedy(prompt(40), 20);
        let text = [&request.prompt[..], &plain(&engine, &request)].concat();
        let mut base = Sequence::new();
        continued(&engine, &mut base, &text[..40]);
        assert_eq!(base.len(), 45);
        assert_eq!(verify(&engine, &mut base, &text, 5).unwrap(), 5, "{template}");
        base.commit(51).unwrap();
        // At the end, and between accepted drafts.
        for len in [51, 49, 46] {
            let mut forks = [7, 8].map(|next| (engine.fork(&base, len).unwrap(), [&text[..len], &[next]].concat()));
            for (fork, prompt) in &mut forks {
                let alone = plain(&engine, &greedy(prompt.clone(), 6));
                assert_eq!(continued(&engine, fork, prompt), alone, "{template}: {len}");
            }
        }
        let refused = engine.fork(&base, 45).unwrap_err();
        assert!(matches!(refused, EngineError::NoState { len: 45, nearest: 0 }), "{refused}");
        assert_eq!(continued(&engine, &mut base, &text[..52]), text[52..58], "{template}: the base");
        drop(base);
        assert_eq!(engine.free_slots(), 4 * 2 + 4 * 2, "{template}");
    }
}

fn member(batch: &mut Batch, engine: &Engine, request: &Request, plain: &[u32]) -> MemberId {
    let drafter = Box::new(Cycling::new(&request.prompt, plain, 4));
    batch.join(engine, request.clone(), Sequence::new(), Some(drafter)).map_err(|(e, _)| e).unwrap()
}

fn two_requests() -> [Request; 2] {
    let params = SampleParams { temperature: 0.8, ..SampleParams::GREEDY };
    let hot = Sampling { params, seed: 5, ..Sampling::greedy() };
    let first = Request { speculation: Speculation::Fixed(4), ..greedy(prompt(30), 11) };
    [first.clone(), Request { prompt: prompt(9), sampling: hot, ..first }]
}

/// Decodes two requests on a device that loses one step. Returns the number of lost steps, at most 1.
fn run_with_loss(device: Losing<InterpDevice>, template: &str, dispatch: Dispatch, want: &[Vec<u32>; 2]) -> usize {
    let mut engine = tiny::recurrent_engine(template, device, &options(96));
    engine.set_dispatch(dispatch).unwrap();
    let all = engine.free_slots();
    let (requests, mut batch, mut losses) = (two_requests(), Batch::new(), 0);
    let ids = [0, 1].map(|i| member(&mut batch, &engine, &requests[i], &want[i]));
    while batch.running() > 0 {
        let state = |batch: &Batch| (ids.map(|id| batch.generated(id).unwrap().to_vec()), engine.free_slots());
        let before = state(&batch);
        if let Err(error) = batch.step(&engine, &mut |_, _| Flow::Continue) {
            assert!(error.to_string().contains("the step was lost"), "{error}");
            assert_eq!(state(&batch), before, "{template}");
            losses += 1;
        }
    }
    for (id, want) in ids.into_iter().zip(want) {
        let (done, sequence) = batch.leave(&engine, id).unwrap();
        assert_eq!(done.unwrap().ids, *want, "{template}: {dispatch:?}");
        assert!(sequence.len() > want.len());
    }
    assert_eq!(engine.free_slots(), all, "{template}");
    losses
}

#[test]
fn a_lost_step_changes_no_sequence_whichever_it_is() {
    let [recurrent, hybrid] = TEMPLATES;
    for (template, dispatch) in [(recurrent, Dispatch::Graph), (hybrid, Dispatch::Graph), (hybrid, Dispatch::Token)] {
        let engine = engine(template, &options(96));
        let want = two_requests().map(|r| plain(&engine, &r));
        let run = |lost| run_with_loss(Losing::new(InterpDevice::default(), lost), template, dispatch, &want);
        let steps = (0..200).find(|&lost| run(lost) == 0).unwrap();
        assert!(steps > 5, "{template}: {steps} steps");
    }
}

#[test]
fn a_step_that_stops_after_any_task_changes_no_sequence() {
    let engine = engine("hybrid", &options(96));
    let want = two_requests().map(|r| plain(&engine, &r));
    let tasks = engine.family().plans.iter().map(|p| p.tasks.len()).max().unwrap();
    // The lost step has drafts, and follows one whose drafts were partly accepted.
    for done in 0..tasks {
        let device = Losing::torn(InterpDevice::default(), 4, done);
        assert_eq!(run_with_loss(device, "hybrid", Dispatch::Graph, &want), 1, "{done} of {tasks} tasks");
    }
}

#[test]
fn a_stop_string_inside_accepted_drafts_ends_the_text_there() {
    for template in TEMPLATES {
        let mut engine = engine(template, &options(160));
        let whole = greedy(prompt(30), 24);
        let ids = plain(&engine, &whole);
        // The first token, then runs of eight drafts and a token.
        for (dispatch, tokens) in [(Dispatch::Graph, 5), (Dispatch::Graph, 13), (Dispatch::Token, 5)] {
            engine.set_dispatch(dispatch).unwrap();
            let start = Request { max_tokens: Some(tokens), ..whole.clone() };
            let text = engine.generate(&start, &mut |_| Flow::Continue).unwrap().text;
            let stop = text.chars().skip(text.chars().count() - 4).collect();
            let request = Request { stop: vec![stop], ..whole.clone() };
            let want = engine.generate(&request, &mut |_| Flow::Continue).unwrap();
            let request = Request { speculation: Speculation::Fixed(8), ..request };
            let drafter = Box::new(Knowing::new(&request.prompt, &ids, 0));
            let mut sequence = Sequence::new();
            let got = engine.generate_in(&mut sequence, &request, Some(drafter), &mut |_| Flow::Continue).unwrap();
            assert_eq!((&got.ids, &got.text, got.stop_reason), (&want.ids, &want.text, StopReason::StopString));
            let counts = (got.speculation.drafted, got.speculation.accepted);
            assert!(counts.0 > counts.1, "{template}: {dispatch:?}: right drafts come after the end: {counts:?}");
            let held = [&request.prompt[..], &got.ids].concat();
            assert!(dispatch == Dispatch::Token || sequence.len() == held.len() - 1, "{template}");
            let next = [&held[..], &[4, 5]].concat();
            let alone = plain(&engine, &greedy(next.clone(), 6));
            assert_eq!(continued(&engine, &mut sequence, &next), alone, "{template}: {dispatch:?}");
        }
    }
}

#[test]
fn a_sequence_is_cut_where_a_snapshot_was_kept() {
    for template in TEMPLATES {
        let engine = engine(template, &EngineOptions { prefill_rows: 300, sequences: 3, ..options(640) });
        let (text, mut sequence) = (prompt(620), Sequence::new());
        // Prompt chunks end where snapshots are kept: 256, 512.
        engine.generate_in(&mut sequence, &greedy(text[..600].to_vec(), 3), None, &mut |_| Flow::Continue).unwrap();
        assert_eq!((sequence.len(), engine.free_slots()), (602, 9), "{template}: two snapshots and the state");
        for (len, nearest) in [(601, 512), (511, 256), (255, 0)] {
            let errors = [sequence.commit(len).unwrap_err(), engine.fork(&sequence, len).unwrap_err()];
            for error in errors {
                let EngineError::NoState { len: named, nearest: found } = error else { panic!("{error}") };
                assert_eq!((named, found, sequence.len()), (len, nearest, 602), "{template}");
            }
        }
        let mut fork = engine.fork(&sequence, 512).unwrap();
        assert_eq!(fork.len(), 512);
        let prompt = [&text[..512], &[1, 2]].concat();
        assert_eq!(continued(&engine, &mut fork, &prompt), plain(&engine, &greedy(prompt, 6)), "{template}");
        drop(fork);
        let (prompt, before) = ([&text[..300], &[1, 2]].concat(), engine.rows().used);
        let got = continued(&engine, &mut sequence, &prompt);
        assert_eq!(engine.rows().used - before, 302 - 256 + 5, "{template}: runs from the nearest length");
        assert_eq!(got, plain(&engine, &greedy(prompt, 6)), "{template}");
        assert!(sequence.commit(512).is_err(), "{template}: that was of the text before");
        assert_eq!(sequence.rewind(280), 256, "{template}");
        assert_eq!(sequence.rewind(255), 0, "{template}");
        assert_eq!(engine.free_slots(), 12, "{template}");
    }
}

#[test]
fn slots_come_back_and_snapshots_give_way_to_steps() {
    let engine = engine("recurrent", &EngineOptions { prefill_rows: 300, sequences: 1, ..options(640) });
    let mut long = Sequence::new();
    continued(&engine, &mut long, &prompt(600));
    // The state and two snapshots use three of four slots.
    let mut other = Sequence::new();
    assert_eq!(verify(&engine, &mut other, &[1], 0).unwrap(), 0);
    other.commit(1).unwrap();
    assert_eq!(engine.free_slots(), 0);
    let refused = verify(&engine, &mut Sequence::new(), &[1], 0).unwrap_err();
    assert!(matches!(refused, EngineError::SlotsFull { slots: 4 }), "{refused}");
    let text = prompt(700);
    assert_eq!(verify(&engine, &mut long, &text, 0).unwrap(), 0);
    assert_eq!(engine.free_slots(), 0);
    drop(long);
    assert_eq!(engine.free_slots(), 3);
    drop(other);
    assert_eq!(engine.free_slots(), 4);
}

#[test]
fn a_sequence_without_pages_needs_no_reservation() {
    let engine = engine("recurrent", &options(96));
    let (mut sequence, mut out) = (Sequence::new(), OutputBuffer::new());
    let row = |position| StepRow { token: 5, sequence: 0, position, wants: StepWants::Logits };
    for position in 0..3 {
        let step = Step { sequences: &mut [&mut sequence], rows: &[row(position)], drafts: &[] };
        engine.step(step, &mut out).unwrap();
        sequence.commit(position + 1).unwrap();
    }
    assert_eq!((sequence.len(), sequence.pages().len(), sequence.reserved()), (3, 0, 96));
    let past = |error| matches!(error, EngineError::NotReserved { position: 96, reserved: 96 });
    let step = Step { sequences: &mut [&mut sequence], rows: &[row(96)], drafts: &[] };
    assert!(past(engine.step(step, &mut out).unwrap_err()));
    assert!(past(engine.reserve(&mut sequence, 97).unwrap_err()));
    let step = Step { sequences: &mut [&mut sequence], rows: &[row(5)], drafts: &[] };
    let apart = engine.step(step, &mut out).unwrap_err();
    assert!(matches!(apart, EngineError::NotNext { position: 5, expected: 3 }), "{apart}");
    let other = tiny::recurrent_engine("recurrent", InterpDevice::default(), &options(96));
    assert!(matches!(other.fork(&sequence, 3), Err(EngineError::ForeignSequence { pages: 0 })));
}
