//! Recurrent state on the oracle: drafts, batches, prompt chunks, dispatch modes and page sizes change no token.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_engine::{
    Batch, Completion, Dispatch, Engine, EngineOptions, Flow, ModelDrafter, Request, Sampling, Sequence, Speculation,
};
use aio_filetest::drafting::Cycling;
use aio_filetest::tiny;
use aio_interp::InterpDevice;
use aio_ir::sampling::SampleParams;
use aio_ir::text;
use aio_model::template::Templates;
use std::sync::Arc;

const TEMPLATES: [&str; 2] = ["recurrent", "hybrid"];
const DRAFTS: usize = 5;

fn options() -> EngineOptions {
    EngineOptions { context: Some(160), prefill_rows: 24, sequences: 3, ..EngineOptions::default() }
}

fn engine(template: &str, options: &EngineOptions) -> Engine {
    tiny::recurrent_engine(template, InterpDevice::default(), options)
}

fn hot() -> Sampling {
    let params = SampleParams { temperature: 0.8, top_k: 40, ..SampleParams::GREEDY };
    Sampling { params, seed: 3, ..Sampling::greedy() }
}

fn request(index: u32, sampling: &Sampling, tokens: usize) -> Request {
    let prompt = (0..30 + 11 * index).map(|i| (i * 31 + index * 17 + 3) % 256).collect();
    Request { max_tokens: Some(tokens), ignore_eog: true, ..Request::new(prompt, sampling.clone()) }
}

fn requests(sampling: &Sampling, tokens: usize) -> Vec<Request> {
    (0..3).map(|i| request(i, sampling, tokens)).collect()
}

fn plain(engine: &Engine, request: &Request) -> Vec<u32> {
    engine.generate(request, &mut |_| Flow::Continue).unwrap().ids
}

/// Decodes requests together, each with drafts from its plain text. Later requests join one step after another.
fn drafted(engine: &Engine, requests: &[Request], plain: &[Vec<u32>], drafts: usize) -> Vec<Completion> {
    let (mut batch, mut ids) = (Batch::new(), Vec::new());
    let mut joining = requests.iter().zip(plain);
    loop {
        if let Some((request, plain)) = joining.next() {
            let drafter = Box::new(Cycling::new(&request.prompt, plain, drafts.min(engine.most_drafts())));
            let request = Request { speculation: Speculation::Fixed(drafts), ..request.clone() };
            ids.push(batch.join(engine, request, Sequence::new(), Some(drafter)).map_err(|(e, _)| e).unwrap());
        } else if batch.running() == 0 {
            return ids.into_iter().map(|id| batch.leave(engine, id).unwrap().0.unwrap()).collect();
        }
        batch.step(engine, &mut |_, _| Flow::Continue).unwrap();
    }
}

/// For each accepted count up to `drafts`, the number of steps with at most `drafts` drafts that had it.
fn accepted_counts(done: &[Completion], drafts: usize) -> Vec<u64> {
    let at = |i: usize| {
        let each = done.iter().filter_map(|d| d.speculation.by_position.get(i));
        each.fold([0; 2], |[tried, right], [t, r]| [tried + t, right + r])
    };
    let wrong = (0..drafts).map(|i| at(i)[0] - at(i)[1]);
    wrong.chain([at(drafts - 1)[1]]).collect()
}

#[test]
fn drafts_change_no_token_whatever_the_number_accepted() {
    for template in TEMPLATES {
        let mut engine = engine(template, &options());
        for sampling in [Sampling::greedy(), hot()] {
            let requests = requests(&sampling, 50);
            let want: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
            assert!(want[0] != want[1] && want[1] != want[2], "{template}");
            for (dispatch, members) in [(Dispatch::Graph, 1), (Dispatch::Graph, 3), (Dispatch::Token, 3)] {
                engine.set_dispatch(dispatch).unwrap();
                let done = drafted(&engine, &requests[..members], &want, DRAFTS);
                let ids: Vec<_> = done.iter().map(|d| d.ids.clone()).collect();
                assert_eq!(ids, want[..members], "{template}: {dispatch:?}, {members} members");
                let counts = accepted_counts(&done, DRAFTS);
                assert!(counts.iter().all(|&n| n > 0), "{template}: {dispatch:?}: {counts:?}");
            }
            engine.set_dispatch(Dispatch::Graph).unwrap();
        }
    }
}

#[test]
fn a_step_has_no_more_drafts_than_slots_have_room_for() {
    // The minimum number of slots: one for the state, one that a step writes, one for a draft that runs alone.
    let mut engine = engine("recurrent", &EngineOptions { sequences: 1, snapshots: 0, ..options() });
    assert_eq!((engine.most_drafts(), engine.free_slots()), (16, 3));
    let requests = [request(0, &Sampling::greedy(), 100)];
    let want = [plain(&engine, &requests[0])];
    for dispatch in [Dispatch::Graph, Dispatch::Token] {
        engine.set_dispatch(dispatch).unwrap();
        let done = drafted(&engine, &requests, &want, 64).remove(0);
        assert_eq!(done.ids, want[0], "{dispatch:?}");
        assert_eq!(done.speculation.by_length.len(), 17, "{dispatch:?}");
        assert!(done.speculation.by_length[16] > 0, "{dispatch:?}");
        assert_eq!(engine.free_slots(), 3, "{dispatch:?}");
    }
}

#[test]
fn chunks_of_a_prompt_change_no_token() {
    for template in TEMPLATES {
        let request = request(2, &hot(), 8);
        let mut texts = [1, 7, 24, 52, 100].map(|rows| {
            let engine = engine(template, &EngineOptions { prefill_rows: rows, ..options() });
            let steps = engine.counters().submissions;
            let ids = plain(&engine, &request);
            let chunks = request.prompt.len().div_ceil(rows as usize) as u64;
            assert_eq!(engine.counters().submissions - steps, chunks + 7, "{template}: chunks of {rows}");
            ids
        });
        texts.sort();
        assert_eq!(texts[0], texts[4], "{template}");
    }
}

#[test]
fn a_sequence_runs_again_what_another_prompt_does_not_share() {
    for template in TEMPLATES {
        let engine = engine(template, &options());
        let first = request(1, &Sampling::greedy(), 10);
        let mut sequence = Sequence::new();
        let done = engine.generate_in(&mut sequence, &first, None, &mut |_| Flow::Continue).unwrap();
        let text = [&first.prompt[..], &done.ids].concat();
        assert_eq!(sequence.len(), text.len() - 1, "{template}");
        // A chat turn that continues the text runs only the new part; one that truncates it runs from the start.
        for (prompt, rows) in [([&text[..], &[9, 8, 7]].concat(), 4), (text[..40].to_vec(), 40)] {
            let next = Request { prompt, ..first.clone() };
            let before = engine.rows().used;
            let done = engine.generate_in(&mut sequence, &next, None, &mut |_| Flow::Continue).unwrap();
            assert_eq!(engine.rows().used - before, rows + 9, "{template}");
            assert_eq!(done.ids, plain(&engine, &next), "{template}");
        }
    }
}

#[test]
fn a_draft_model_with_recurrent_state_never_reads_a_text_twice() {
    let target = engine("hybrid", &options());
    for (seed, sampling) in [(7, Sampling::greedy()), (8, hot())] {
        let (model, graph) = tiny::recurrent("recurrent", seed);
        let draft = Engine::load(model, &graph, Arc::new(InterpDevice::default()), &options()).unwrap();
        let draft = Arc::new(draft);
        let request = Request { speculation: Speculation::Fixed(4), ..request(2, &sampling, 40) };
        let want = plain(&target, &Request { speculation: Speculation::Off, ..request.clone() });
        let drafter = ModelDrafter::new(Arc::clone(&draft), &target, sampling).unwrap();
        let mut sequence = Sequence::new();
        let done = target.generate_in(&mut sequence, &request, Some(Box::new(drafter)), &mut |_| Flow::Continue);
        let done = done.unwrap();
        assert!(done.speculation.failure.is_none(), "{:?}", done.speculation.failure);
        assert_eq!(done.ids, want);
        // The text once, and in each step the drafts, the last token, and the tokens accepted in the previous step.
        let most = request.prompt.len() as u64 + 2 * (done.speculation.drafted + done.speculation.steps) + 2;
        assert!(draft.rows().used <= most, "{} rows, at most {most}", draft.rows().used);
        assert_eq!(draft.free_slots(), 3 * 2 + 3 * 2, "the drafter was dropped");
    }
}

/// The toy model with another page size; its template is written for 64 positions.
fn hybrid_with_pages(positions: u32) -> Engine {
    let (model, _) = tiny::recurrent("hybrid", 7);
    let mut templates = Templates::default();
    for name in ["recurrent.jinja", "hybrid.graph.jinja"] {
        let path = aio_filetest::workspace("tests/data/recurrent").join(name);
        let template = std::fs::read_to_string(path).unwrap();
        templates.set(name, &template.replace("{{ page_positions }}", &positions.to_string()));
    }
    let graph = text::parse(&model.graph_text(&templates, Some("hybrid.graph.jinja")).unwrap()).unwrap().graph;
    Engine::load(model, &graph, Arc::new(InterpDevice::default()), &options()).unwrap()
}

#[test]
fn the_size_of_pages_changes_no_token() {
    let first = request(0, &hot(), 40);
    let want = plain(&engine("hybrid", &options()), &first);
    for positions in [16, 128] {
        let engine = hybrid_with_pages(positions);
        let mut sequence = Sequence::new();
        let done = engine.generate_in(&mut sequence, &first, None, &mut |_| Flow::Continue).unwrap();
        assert_eq!(done.ids, want, "pages of {positions}");
        let pages = sequence.len().div_ceil(positions as usize);
        assert_eq!((sequence.pages().len(), sequence.reserved()), (pages, pages * positions as usize));
        // The last page is shared, so it is copied before it is written.
        let mut fork = engine.fork(&sequence, usize::MAX).unwrap();
        let second = Request { prompt: [&first.prompt[..], &done.ids, &[5]].concat(), ..first.clone() };
        let forked = engine.generate_in(&mut fork, &second, None, &mut |_| Flow::Continue).unwrap();
        assert_ne!(fork.pages().last(), sequence.pages().last());
        assert_eq!(forked.ids, plain(&engine, &second), "pages of {positions}");
        let requests = requests(&hot(), 20);
        let plain: Vec<_> = requests.iter().map(|r| plain(&engine, r)).collect();
        let ids: Vec<_> = drafted(&engine, &requests, &plain, DRAFTS).into_iter().map(|done| done.ids).collect();
        assert_eq!((&ids[0][..], &ids), (&want[..20], &plain), "pages of {positions}");
    }
}
