//! Row independence: a row's logits do not depend, to the last bit, on the other rows in its step.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cpu::isa::IsaLevel;
use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{Engine, EngineError, EngineOptions, OutputBuffer, Sequence, Step, StepRow, StepWants};
use aio_filetest::logits::{assert_same_bits, bits_of, chunked, step, token};
use aio_filetest::tiny::VOCABULARY;
use aio_filetest::{needs, tiny};
use aio_ir::DType;
use std::sync::Arc;

/// Tokens of the text whose rows are computed; the last page border they cross is at 64.
const TOKENS: usize = 100;

fn engine(level: IsaLevel, threads: usize, weights: DType) -> Option<Engine> {
    let device = match CpuDevice::new(CpuOptions { threads, isa: Some(level), pin: false }) {
        Ok(device) => device,
        Err(e) => {
            needs::skip("rows", "isa", &format!("{level}: {e}"));
            return None;
        }
    };
    let options = EngineOptions { context: Some(192), prefill_rows: 128, sequences: 4, ..EngineOptions::default() };
    Some(tiny::engine("llama-1b", weights, Arc::new(device), &options))
}

#[test]
fn every_chunking_and_thread_count_gives_the_same_bits() {
    for weights in [DType::Q4_0, DType::Q6K, DType::F16] {
        for level in IsaLevel::ALL {
            let mut want: Option<Vec<u32>> = None;
            for threads in 1..=4 {
                let Some(engine) = engine(level, threads, weights) else { break };
                let chunks: &[usize] =
                    if threads == 2 { &[1, 2, 5, 7, 16, 17, 33, 64, TOKENS] } else { &[1, 17, TOKENS] };
                for &chunk in chunks {
                    let got = chunked(&engine, TOKENS, chunk);
                    let what = format!("{weights} at {level}, {threads} threads, chunks of {chunk}");
                    assert_same_bits(&got, want.get_or_insert_with(|| got.clone()), &what);
                }
            }
        }
    }
}

/// Rows of three sequences in one step: each row's bits equal those of its sequence alone.
#[test]
fn other_sequences_in_the_step_change_nothing() {
    for level in IsaLevel::ALL {
        let Some(engine) = engine(level, 3, DType::Q8_0) else { continue };
        let want = chunked(&engine, TOKENS, TOKENS);
        let mut sequences = [Sequence::new(), Sequence::new(), Sequence::new()];
        for (i, s) in sequences.iter_mut().enumerate() {
            step(&engine, s, 0, 20 * (i + 1));
            engine.reserve(s, 70).unwrap();
        }
        let rows: Vec<_> = (0..3)
            .flat_map(|s| (20 * (s + 1)..20 * (s + 1) + 4 + s).map(move |position| (s, position)))
            .map(|(sequence, position)| StepRow {
                token: token(position),
                sequence,
                position,
                wants: StepWants::Logits,
            })
            .collect();
        let mut borrowed: Vec<&mut Sequence> = sequences.iter_mut().collect();
        let step = Step { sequences: &mut borrowed, rows: &rows, drafts: &[] };
        let got = bits_of(engine.step(step, &mut OutputBuffer::new()).unwrap());
        for (row, bits) in rows.iter().zip(got.chunks(VOCABULARY)) {
            let alone = &want[row.position * VOCABULARY..][..VOCABULARY];
            assert_same_bits(bits, alone, &format!("{level}, sequence {} position {}", row.sequence, row.position));
        }
    }
}

/// A step that no plan can hold, or whose positions have no page, is an error and changes nothing.
#[test]
fn steps_that_do_not_fit_are_errors() {
    let engine = engine(IsaLevel::Portable, 1, DType::F16).unwrap();
    let mut sequence = Sequence::new();
    engine.reserve(&mut sequence, 128).unwrap();
    let sampling = aio_engine::Sampling::greedy();
    let row = |position: usize| {
        let wants = StepWants::Token { sampling: &sampling, recent: &[], bias: None };
        StepRow { token: 1, sequence: 0, position, wants }
    };
    let mut run = |positions: std::ops::Range<usize>| {
        let rows: Vec<_> = positions.map(row).collect();
        let step = Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] };
        engine.step(step, &mut OutputBuffer::new()).map(|out| out.tokens().map_or(0, <[u32]>::len))
    };
    assert!(matches!(run(0..73), Err(EngineError::StepSize { rows: 73, outs: 73 })));
    assert!(matches!(run(128..129), Err(EngineError::NotReserved { position: 128, reserved: 128 })));
    assert_eq!(run(0..72).unwrap(), 72);
}

/// A step writes no page of another sequence, even if its caller forgot to reserve.
#[test]
fn a_shared_page_is_not_written() {
    let engine = engine(IsaLevel::Portable, 1, DType::F16).unwrap();
    let mut sequence = Sequence::new();
    let want = chunked(&engine, TOKENS, TOKENS);
    step(&engine, &mut sequence, 0, 70);
    let mut fork = engine.fork(&sequence, 70).unwrap();
    let write = |sequence: &mut Sequence, position| {
        let row = StepRow { token: token(position), sequence: 0, position, wants: StepWants::Logits };
        let step = Step { sequences: &mut [sequence], rows: &[row], drafts: &[] };
        engine.step(step, &mut OutputBuffer::new()).map(bits_of)
    };
    for position in [3, 64, 70] {
        for own in [&mut sequence, &mut fork] {
            let refused = write(own, position).unwrap_err();
            assert!(matches!(refused, EngineError::SharedPage { position: at } if at == position), "{refused}");
        }
    }
    engine.reserve(&mut fork, 71).unwrap();
    let logits = write(&mut fork, 70).unwrap();
    assert_same_bits(&logits, &want[70 * VOCABULARY..][..VOCABULARY], "after the page was copied");
    // The old page has one owner again.
    assert_same_bits(&write(&mut sequence, 70).unwrap(), &logits, "the other sequence");
}
