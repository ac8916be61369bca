//! Threads that share one engine: the types allow it, tokens match those of one thread, and only steps wait for steps.
//!
//! If a test needs a step in progress, the device blocks it until the test releases it, so nothing depends on timing.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::{Bindings, Device, DeviceError, Executable, LoadOptions, Pending, WeightSet};
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{
    Batch, Engine, EngineError, EngineOptions, Flow, ModelDrafter, OutputBuffer, Request, Sampling, Sequence,
    Speculation, Step, StepRow, StepWants,
};
use aio_filetest::modelled::{Modelled, twentieth};
use aio_filetest::tiny;
use aio_ir::sampling::SampleParams;
use aio_ir::{DType, PAGE_POSITIONS};
use aio_plan::{Plan, PlanFamily};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

const PAGE: usize = PAGE_POSITIONS as usize;
const THREADS: u64 = 4;

#[test]
fn an_engine_and_its_sequences_may_go_to_any_thread() {
    fn shared<T: Send + Sync>() {}
    shared::<Engine>();
    shared::<Sequence>();
    shared::<OutputBuffer>();
    fn moved<T: Send>() {}
    moved::<Batch>();
    moved::<ModelDrafter>();
}

fn cpu() -> CpuDevice {
    CpuDevice::new(CpuOptions { threads: 2, isa: None, pin: false }).unwrap()
}

fn engine_on(device: impl Device + 'static, sequences: u32) -> Engine {
    let options = EngineOptions { context: Some(192), prefill_rows: 48, sequences, ..EngineOptions::default() };
    tiny::engine("llama-1b", DType::Q8_0, Arc::new(Modelled::new(device, twentieth)), &options)
}

/// Requests of one thread: greedy and sampled, with and without drafts, crossing a page border.
fn requests(thread: u64) -> Vec<Request> {
    let params = SampleParams { temperature: 0.8, top_k: 40, repeat_penalty: 1.1, ..SampleParams::GREEDY };
    let hot = Sampling { params, seed: 100 + thread, ..Sampling::greedy() };
    let prompt: Vec<u32> = (0..50 + 3 * thread).map(|i| ((i % 7 * 31 + thread * 17 + 3) % 256) as u32).collect();
    [(Sampling::greedy(), Speculation::Fixed(3)), (hot.clone(), Speculation::Auto), (hot, Speculation::Off)]
        .map(|(sampling, speculation)| {
            let request = Request::new(prompt.clone(), sampling);
            Request { max_tokens: Some(30), ignore_eog: true, speculation, ..request }
        })
        .into()
}

fn ids(engine: &Engine, request: &Request) -> Vec<u32> {
    engine.generate(request, &mut |_| Flow::Continue).unwrap().ids
}

/// Generates a continuation of the first request's prompt in a fork of a sequence that holds the prompt.
fn forked(engine: &Engine, request: &Request) -> Vec<u32> {
    let mut prompt = Sequence::new();
    let read = Request { max_tokens: Some(1), ..request.clone() };
    engine.generate_in(&mut prompt, &read, None, &mut |_| Flow::Continue).unwrap();
    let mut fork = engine.fork(&prompt, prompt.len()).unwrap();
    drop(prompt);
    engine.generate_in(&mut fork, request, None, &mut |_| Flow::Continue).unwrap().ids
}

#[test]
fn threads_that_share_an_engine_get_the_tokens_of_one() {
    let alone = engine_on(cpu(), 2);
    let want: Vec<Vec<Vec<u32>>> =
        (0..THREADS).map(|t| requests(t).iter().map(|request| ids(&alone, request)).collect()).collect();
    // A prompt and a fork of it for each thread.
    let shared = Arc::new(engine_on(cpu(), 2 * THREADS as u32));
    let work = |t: u64| {
        let engine = Arc::clone(&shared);
        move || {
            let requests = requests(t);
            let mut got: Vec<Vec<u32>> = requests.iter().map(|request| ids(&engine, request)).collect();
            got.push(forked(&engine, &requests[1]));
            got
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|t| thread::spawn(work(t))).collect();
    for (thread, mut want) in threads.into_iter().zip(want) {
        want.push(want[1].clone());
        assert_eq!(thread.join().unwrap(), want);
    }
    all_pages_are_free(&shared, 2 * THREADS as usize);
}

/// Asserts that the pool's pages, three for each of `sequences`, are all free.
fn all_pages_are_free(engine: &Engine, sequences: usize) {
    let mut whole = Sequence::new();
    engine.reserve(&mut whole, sequences * 3 * PAGE).unwrap();
    let full = engine.reserve(&mut Sequence::new(), 1).unwrap_err();
    assert!(matches!(full, EngineError::PoolFull { .. }), "{full}");
}

#[test]
fn a_draft_model_is_shared_by_drafters_on_several_threads() {
    let (target, twin) = (Arc::new(engine_on(cpu(), 2)), Arc::new(engine_on(cpu(), 2)));
    let request = Request { speculation: Speculation::Fixed(4), ..requests(1).remove(1) };
    let want = ids(&target, &Request { speculation: Speculation::Off, ..request.clone() });
    let generate = || {
        let (target, twin, request) = (Arc::clone(&target), Arc::clone(&twin), request.clone());
        thread::spawn(move || {
            let drafter = ModelDrafter::new(twin, &target, request.sampling.clone()).unwrap();
            let mut sequence = Sequence::new();
            let drafter = Some(Box::new(drafter) as _);
            target.generate_in(&mut sequence, &request, drafter, &mut |_| Flow::Continue).unwrap()
        })
    };
    for thread in [generate(), generate()] {
        let done = thread.join().unwrap();
        assert_eq!(done.ids, want);
        assert!(done.speculation.drafted > 0 && done.speculation.accepted == done.speculation.drafted);
    }
    all_pages_are_free(&twin, 2);
}

/// A CPU that reports the start of each step and blocks it until released.
struct Holding {
    cpu: CpuDevice,
    begun: Sender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

/// The test's end of the channels: receives started steps and releases them.
struct Steps {
    begun: Receiver<()>,
    go: Sender<()>,
}

fn holding() -> (Holding, Steps) {
    let ((begun, heard), (go, held)) = (channel(), channel());
    (Holding { cpu: cpu(), begun, go: Arc::new(Mutex::new(held)) }, Steps { begun: heard, go })
}

impl Device for Holding {
    aio_filetest::delegate!(cpu);

    fn load(
        &self,
        family: &PlanFamily,
        plan: &Plan,
        weights: &WeightSet,
        options: &LoadOptions,
    ) -> Result<Box<dyn Executable>, DeviceError> {
        let plan = self.cpu.load(family, plan, weights, options)?;
        Ok(Box::new(HeldPlan { plan, begun: self.begun.clone(), go: Arc::clone(&self.go) }))
    }
}

struct HeldPlan {
    plan: Box<dyn Executable>,
    begun: Sender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Executable for HeldPlan {
    fn submit<'a>(&'a mut self, bindings: &'a mut Bindings<'_, '_>) -> Result<Pending<'a>, DeviceError> {
        // If the test no longer listens, every step proceeds.
        let _ = self.begun.send(());
        let _ = self.go.lock().unwrap().recv();
        self.plan.submit(bindings)
    }
}

fn decode(engine: &Engine, sequence: &mut Sequence, position: usize) -> u32 {
    let sampling = Sampling::greedy();
    let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: None };
    let rows = [StepRow { token: 7, sequence: 0, position, wants }];
    let step = Step { sequences: &mut [sequence], rows: &rows, drafts: &[] };
    let token = engine.step(step, &mut OutputBuffer::new()).unwrap().tokens().unwrap()[0];
    sequence.commit(position + 1).unwrap();
    token
}

#[test]
fn sequences_are_forked_reserved_and_dropped_while_a_step_runs() {
    let (device, steps) = holding();
    let engine = engine_on(device, 2);
    let (mut running, mut other) = (Sequence::new(), Sequence::new());
    engine.reserve(&mut running, 10).unwrap();
    engine.reserve(&mut other, PAGE).unwrap();
    other.commit(PAGE).unwrap();
    thread::scope(|scope| {
        let step = scope.spawn(|| decode(&engine, &mut running, 0));
        steps.begun.recv().unwrap();
        // The step is in progress and stays blocked.
        let mut fork = engine.fork(&other, PAGE).unwrap();
        engine.reserve(&mut fork, 3 * PAGE).unwrap();
        let shared = fork.pages()[0];
        assert_eq!((fork.pages().len(), shared), (3, other.pages()[0]));
        drop(fork);
        drop(other);
        let mut rest = Sequence::new();
        engine.reserve(&mut rest, 5 * PAGE).unwrap();
        assert!(engine.reserve(&mut rest, 6 * PAGE).is_err(), "the running sequence keeps its page");
        assert_eq!((engine.rows().used, engine.burst_refusal()), (0, None));
        steps.go.send(()).unwrap();
        step.join().unwrap();
    });
    assert_eq!((running.len(), engine.rows().used), (1, 1));
}

/// A second thread's step starts only after the first has ended; two steps never overlap.
#[test]
fn one_step_runs_at_a_time() {
    let (device, steps) = holding();
    let engine = engine_on(device, 2);
    let mut sequences = [Sequence::new(), Sequence::new()];
    for sequence in &mut sequences {
        engine.reserve(sequence, 1).unwrap();
    }
    thread::scope(|scope| {
        let [a, b] = &mut sequences;
        let threads = [a, b].map(|sequence| scope.spawn(|| decode(&engine, sequence, 0)));
        for _ in 0..threads.len() {
            steps.begun.recv().unwrap();
            assert!(steps.begun.try_recv().is_err(), "the other step has not begun");
            steps.go.send(()).unwrap();
        }
        let [a, b] = threads.map(|t| t.join().unwrap());
        assert_eq!(a, b);
    });
}

#[test]
fn a_sequence_may_outlive_its_engine_and_no_other_takes_it() {
    let (first, second) = (engine_on(cpu(), 1), engine_on(cpu(), 1));
    let mut sequence = Sequence::new();
    first.reserve(&mut sequence, 10).unwrap();
    decode(&first, &mut sequence, 0);
    drop(first);
    let refused = second.reserve(&mut sequence, 20).unwrap_err();
    assert!(matches!(refused, EngineError::ForeignSequence { pages: 1 }), "{refused}");
    assert_eq!(sequence.len(), 1);
    sequence.clear();
    second.reserve(&mut sequence, 20).unwrap();
    drop(sequence);
    all_pages_are_free(&second, 1);
}
