//! Bit-exact logits of a text whose tokens depend only on their positions, for tests of row independence on every
//! device.

use crate::tiny::VOCABULARY;
use aio_engine::{Engine, OutputBuffer, Outputs, Sequence, Step, StepRow, StepWants};

/// The token at a position of the text; less than 251.
pub fn token(position: usize) -> u32 {
    ((position * 37 + 11) % 251) as u32
}

/// Runs rows `from..to` of a sequence, all asking for logits, and returns their bits row by row.
///
/// # Panics
/// If the engine rejects the step.
pub fn step(engine: &Engine, sequence: &mut Sequence, from: usize, to: usize) -> Vec<u32> {
    engine.reserve(sequence, to).unwrap_or_else(|e| panic!("{e}"));
    let row = |position| StepRow { token: token(position), sequence: 0, position, wants: StepWants::Logits };
    let rows: Vec<_> = (from..to).map(row).collect();
    let mut out = OutputBuffer::new();
    let step = Step { sequences: &mut [&mut *sequence], rows: &rows, drafts: &[] };
    let bits = bits_of(engine.step(step, &mut out).unwrap_or_else(|e| panic!("{e}")));
    sequence.commit(to).unwrap_or_else(|e| panic!("{e}"));
    bits
}

/// Logits of the first `tokens` rows, computed in chunks of `chunk` rows.
///
/// # Panics
/// As [`step`].
pub fn chunked(engine: &Engine, tokens: usize, chunk: usize) -> Vec<u32> {
    let mut sequence = Sequence::new();
    let mut bits = Vec::new();
    for from in (0..tokens).step_by(chunk) {
        bits.extend(step(engine, &mut sequence, from, (from + chunk).min(tokens)));
    }
    bits
}

/// The bits of a step's logits.
///
/// # Panics
/// If no row asked for logits.
pub fn bits_of(outputs: Outputs<'_>) -> Vec<u32> {
    let logits = outputs.logits().unwrap_or_else(|| panic!("the step has logits"));
    logits.iter().map(|x| x.to_bits()).collect()
}

/// Compares logits of rows, for the vocabulary of a tiny model.
///
/// # Panics
/// If a bit differs. The message has the position and both values.
pub fn assert_same_bits(got: &[u32], want: &[u32], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let differ = got.iter().zip(want).position(|(g, w)| g != w);
    if let Some(at) = differ {
        let (row, column) = (at / VOCABULARY, at % VOCABULARY);
        let (g, w) = (f32::from_bits(got[at]), f32::from_bits(want[at]));
        panic!("{what}: row {row}, logit {column} is {g:e}, not {w:e}");
    }
}
