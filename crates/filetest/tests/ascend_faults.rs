//! Faults of the simulated Ascend: each is a typed error, the device can be opened again, and nothing leaks.
//!
//! The simulator is one per process, and faults and handles are counted for all of it, so these tests take turns and have
//! a process of their own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::report::{Live, report};
use aio_backend::DeviceError;
use aio_backend_ascend::{AclLibrary, AscendDevice, AscendOptions, Lengths};
use aio_conformance::nmse;
use aio_engine::{Engine, EngineError, EngineOptions, Flow, Request, Sampling};
use aio_filetest::logits::{chunked, token};
use aio_filetest::tiny;
use aio_ir::DType;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(lengths: Lengths) -> Result<AscendDevice, DeviceError> {
    AscendDevice::open(
        AclLibrary::simulated().unwrap(),
        AscendOptions { lengths: Some(lengths), ..AscendOptions::default() },
    )
}

fn engine(lengths: Lengths) -> Result<Engine, EngineError> {
    let (model, _) = tiny::model("llama-1b", DType::F16, 7);
    let graph = model.paged_graph(&tiny::templates(), None, 128).unwrap();
    let options = EngineOptions { context: Some(256), prefill_rows: 32, ..EngineOptions::default() };
    Engine::load(model, &graph, Arc::new(open(lengths)?), &options)
}

fn generate(engine: &Engine) -> Result<Vec<u32>, EngineError> {
    let prompt = (0..20).map(token).collect();
    let request = Request { max_tokens: Some(6), ignore_eog: true, ..Request::new(prompt, Sampling::greedy()) };
    engine.generate(&request, &mut |_| Flow::Continue).map(|done| done.ids)
}

fn assert_nothing_left(what: &str) {
    assert_eq!(report().unwrap().live, Live::default(), "{what}");
}

fn device_error(error: EngineError) -> DeviceError {
    match error {
        EngineError::Device(error) => error,
        other => panic!("{other}"),
    }
}

#[test]
fn nothing_is_left_of_a_device() {
    let _turn = turn();
    for lengths in [Lengths::Bucket, Lengths::Patch] {
        let engine = engine(lengths).unwrap();
        generate(&engine).unwrap();
        assert!(report().unwrap().live.graphs > 0);
        drop(engine);
        assert_nothing_left("a whole run");
    }
}

#[test]
fn every_allocation_may_fail() {
    let _turn = turn();
    let want = generate(&engine(Lengths::Bucket).unwrap()).unwrap();
    let mut failures = 0;
    for n in 1.. {
        control("fail_malloc", &n.to_string()).unwrap();
        let outcome = engine(Lengths::Bucket).and_then(|engine| generate(&engine));
        control("fail_malloc", "0").unwrap();
        assert_nothing_left(&format!("allocation {n} failed"));
        match outcome {
            // Either no allocation was left to fail, or a step made room and tried again.
            Ok(ids) => {
                assert_eq!(ids, want, "allocation {n}");
                if n > 40 {
                    break;
                }
            }
            Err(error) => {
                let error = device_error(error);
                assert!(matches!(error, DeviceError::OutOfMemory { .. }), "allocation {n}: {error}");
                failures += 1;
            }
        }
    }
    assert!(failures > 5, "{failures}");
}

#[test]
fn a_failing_task_is_an_error_of_its_step_alone() {
    let _turn = turn();
    for lengths in [Lengths::Bucket, Lengths::Patch] {
        let engine = engine(lengths).unwrap();
        let want = generate(&engine).unwrap();
        for n in [1, 7, 40, 100] {
            control("fail_replay_task", &n.to_string()).unwrap();
            let error = device_error(generate(&engine).unwrap_err());
            assert!(matches!(&error, DeviceError::Failed(text) if text.contains("50")), "task {n}: {error}");
            assert_eq!(generate(&engine).unwrap(), want, "after task {n}, {lengths:?}");
        }
        drop(engine);
        assert_nothing_left("failed tasks");
    }
}

#[test]
fn a_lost_device_can_be_opened_again() {
    let _turn = turn();
    let engine = engine_and_tokens();
    control("lose_device", "1").unwrap();
    let error = device_error(generate(&engine.0).unwrap_err());
    assert!(matches!(error, DeviceError::Failed(_)), "{error}");
    let refused = open(Lengths::Bucket).unwrap_err();
    assert!(matches!(refused, DeviceError::Unavailable { .. }), "{refused}");
    drop(engine.0);
    control("lose_device", "0").unwrap();
    assert_eq!(generate(&engine_and_tokens().0).unwrap(), engine.1);
    assert_nothing_left("a lost device");
}

/// On hardware, tiling follows the shape, and with it the order of sums. Then bits depend on how a text is divided, and
/// values still agree, as do repetitions of the same step.
#[test]
fn sums_in_an_order_that_follows_the_shape_change_bits_only() {
    let _turn = turn();
    let engine = engine(Lengths::Bucket).unwrap();
    let fixed = chunked(&engine, 60, 20);
    control("vary_sums", "1").unwrap();
    let (one, again, other) = (chunked(&engine, 60, 20), chunked(&engine, 60, 20), chunked(&engine, 60, 7));
    control("vary_sums", "0").unwrap();
    let floats = |bits: &[u32]| bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>();
    assert_eq!(one, again);
    assert!(one != fixed && one != other, "the order does not vary");
    for bits in [&one, &other] {
        let error = nmse(&floats(bits), &floats(&fixed));
        assert!(error < 1e-5, "{error:e}");
    }
    assert_eq!(chunked(&engine, 60, 7), fixed);
}

fn engine_and_tokens() -> (Engine, Vec<u32>) {
    let engine = engine(Lengths::Bucket).unwrap();
    let tokens = generate(&engine).unwrap();
    (engine, tokens)
}
