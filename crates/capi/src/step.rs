//! Steps: rows of any sequences in one submission, and the short form that appends tokens to one. `verify.rs` has the other.
//!
//! A step commits the lengths of its sequences. A context keeps what steps need besides, so that one of a size seen before
//! allocates nothing.

use crate::call::call;
use crate::engine;
use crate::raw::{self, Sized32};
use crate::sampling::{self, SamplingParams};
use crate::sequence::{self, SequenceObject};
use crate::status::{Error, Failure, Outcome};
use crate::types::{ContextHandle, EngineHandle, Handle, SequenceHandle, c_types, hold};
use aio::engine::{DraftSpan, Engine, OutputBuffer, Outputs, Sampling, Sequence, Step, StepRow, StepWants};
use bytemuck::Zeroable;
use smallvec::SmallVec;
use std::mem::offset_of;
use std::sync::{Arc, Mutex, MutexGuard};

/// Flag of [`StepParams`]: the rows of each sequence that ask for a token are its last token and the drafts after it.
pub const STEP_VERIFY: u32 = 1;
/// Flag of [`StepParams`]: lengths stay as they are.
pub const STEP_KEEP: u32 = 2;

/// Sequences of a step that take no allocation.
const FEW: usize = 32;

/// One row of a step; `aio_row` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct Row {
    /// Its token.
    pub token: u32,
    /// Its sequence, by index in the step.
    pub sequence: u32,
    /// Its position.
    pub position: u32,
    /// What it asks for: an `aio_want`.
    pub want: u32,
    /// How its token is sampled; null for the most likely one.
    pub sampling: *const SamplingParams,
    /// The row's prefix or the end of it, for penalties; newest last.
    pub recent: *const u32,
    /// Number of recent tokens.
    pub n_recent: u64,
    /// Added to the logits, one value per token of the vocabulary; may be null.
    pub bias: *const f32,
}

/// A step; `aio_step_params` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct StepParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// [`STEP_VERIFY`], [`STEP_KEEP`].
    pub flags: u32,
    /// The sequences.
    pub sequences: *const SequenceHandle,
    /// Number of sequences.
    pub n_sequences: u64,
    /// The rows, those of a sequence in order of position.
    pub rows: *const Row,
    /// Number of rows.
    pub n_rows: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers and pointers.
unsafe impl Sized32 for StepParams {
    const NAME: &'static str = "aio_step_params";
    const FIRST_SIZE: usize = offset_of!(StepParams, n_rows) + 8;
}

/// The outputs of a step, in memory of the context; `aio_outputs` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct StepOutputs {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Tokens of the rows that asked for one, or null.
    pub tokens: *const u32,
    /// Logits or hidden states, a row after the other, or null.
    pub values: *const f32,
    /// Drafts accepted of each sequence, or null.
    pub accepted: *const u32,
    /// The token after the accepted drafts of each sequence, or null.
    pub next: *const u32,
    /// Number of rows with an output, or of sequences if drafts were verified.
    pub count: u64,
    /// Numbers of a row of `values`.
    pub width: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers and pointers.
unsafe impl Sized32 for StepOutputs {
    const NAME: &'static str = "aio_outputs";
    const FIRST_SIZE: usize = offset_of!(StepOutputs, width) + 8;
}

c_types! {
    Row = "aio_row",
    StepParams = "aio_step_params",
    StepOutputs = "aio_outputs",
}

/// What a caller's steps reuse.
#[derive(Default)]
pub(crate) struct Scratch {
    pub outputs: OutputBuffer,
    samplings: Vec<Sampling>,
    /// Empty between steps.
    pub rows: Vec<StepRow<'static>>,
    spans: Vec<DraftSpan>,
    /// Tokens that penalties apply to, of a step that verifies one sequence's drafts.
    pub recent: Vec<u32>,
}

pub(crate) struct Context {
    pub engine: Arc<Engine>,
    scratch: Mutex<Scratch>,
}

impl Context {
    pub fn lock(&self) -> Outcome<MutexGuard<'_, Scratch>> {
        hold(&self.scratch, ContextHandle::KIND)
    }
}

/// The context of a handle.
pub(crate) fn get(context: ContextHandle) -> Outcome<Arc<Context>> {
    context.get()
}

/// Makes a context.
pub(crate) unsafe extern "C" fn create(engine: EngineHandle, context: *mut ContextHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let engine = engine::get(engine)?;
            ContextHandle::give(context, || Ok(Context { engine, scratch: Mutex::default() }))
        })
    }
}

/// Frees a context.
pub(crate) unsafe extern "C" fn free(context: ContextHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let object = get(context)?;
            let held = object.lock()?;
            context.take::<Context>()?;
            drop(held);
            Ok(())
        })
    }
}

/// The same allocation for elements of another lifetime.
pub(crate) fn recycle<'a>(mut rows: Vec<StepRow<'_>>) -> Vec<StepRow<'a>> {
    rows.clear();
    // Collecting in place keeps the allocation, and there is nothing to map.
    rows.into_iter().map(|_| unreachable!("it is empty")).collect()
}

/// Reads how each row is sampled, in order of the rows that ask for a token.
///
/// # Safety
/// As the header says of the rows.
unsafe fn read_samplings(rows: &[Row], samplings: &mut Vec<Sampling>) -> Outcome {
    samplings.clear();
    for row in rows.iter().filter(|r| r.want == WANT_TOKEN) {
        // SAFETY: the caller's promise.
        samplings.push(unsafe { sampling::read(row.sampling)? });
    }
    Ok(())
}

/// Asks for nothing.
pub const WANT_NOTHING: u32 = 0;
/// Asks for the next token.
pub const WANT_TOKEN: u32 = 1;
/// Asks for the logits.
pub const WANT_LOGITS: u32 = 2;
/// Asks for the hidden state.
pub const WANT_HIDDEN: u32 = 3;

/// # Safety
/// As the header says of the row.
unsafe fn wants<'a>(
    row: &Row,
    vocabulary: u64,
    samplings: &mut std::slice::Iter<'a, Sampling>,
) -> Outcome<StepWants<'a>> {
    Ok(match row.want {
        WANT_NOTHING => StepWants::Nothing,
        WANT_LOGITS => StepWants::Logits,
        WANT_HIDDEN => StepWants::Hidden,
        WANT_TOKEN => {
            let sampling = samplings.next().expect("there is one for each such row");
            // SAFETY: the caller's promises.
            unsafe {
                let recent = raw::slice(row.recent, row.n_recent, "recent")?;
                let bias = if row.bias.is_null() { None } else { Some(raw::slice(row.bias, vocabulary, "bias")?) };
                StepWants::Token { sampling, recent, bias }
            }
        }
        other => return Err(Failure::argument(format!("a row's want is {other}; 0 to 3 are known"))),
    })
}

/// The runs of drafts of a step: of each sequence, the rows that ask for a token.
fn spans(rows: &[StepRow<'_>], sequences: usize, spans: &mut Vec<DraftSpan>) -> Outcome {
    spans.clear();
    spans.resize(sequences, DraftSpan { first: 0, drafts: 0, len: 0 });
    let mut seen: SmallVec<[bool; FEW]> = SmallVec::from_elem(false, sequences);
    let outs = rows.iter().filter(|r| !matches!(r.wants, StepWants::Nothing));
    let mut last = usize::MAX;
    for (i, row) in outs.enumerate() {
        let span = spans.get_mut(row.sequence).ok_or_else(|| no_sequence(row.sequence, sequences))?;
        if !seen[row.sequence] {
            seen[row.sequence] = true;
            *span = DraftSpan { first: i, drafts: 0, len: row.position + 1 };
        } else if last == row.sequence {
            span.drafts += 1;
        } else {
            return Err(Failure::argument(
                "rows of a sequence do not follow each other, so its drafts cannot be verified",
            ));
        }
        last = row.sequence;
    }
    match seen.iter().position(|s| !s) {
        Some(missing) => Err(Failure::argument(format!("no row of sequence {missing} asks for a token to verify"))),
        None => Ok(()),
    }
}

fn no_sequence(index: usize, sequences: usize) -> Failure {
    Failure::argument(format!("a row is of sequence {index}, but the step has {sequences}"))
}

/// Runs a step and commits lengths. `out` describes the outputs, which lie in the scratch.
pub(crate) fn run(
    engine: &Engine,
    sequences: &mut [&mut Sequence],
    rows: &[StepRow<'_>],
    drafts: &[DraftSpan],
    (keep, outputs): (bool, &mut OutputBuffer),
) -> Outcome<StepOutputs> {
    let mut ends: SmallVec<[usize; FEW]> = sequences.iter().map(|s| s.len()).collect();
    let count = sequences.len();
    for row in rows {
        let end = ends.get_mut(row.sequence).ok_or_else(|| no_sequence(row.sequence, count))?;
        *end = (*end).max(row.position + 1);
    }
    for (sequence, end) in sequences.iter_mut().zip(&ends) {
        if *end > engine.context() {
            let message = format!("position {} is past the context of {}", end - 1, engine.context());
            return Err(Failure::argument(message));
        }
        engine.reserve(sequence, *end)?;
    }
    let mut described = StepOutputs::zeroed();
    match engine.step(Step { sequences, rows, drafts }, outputs)? {
        Outputs::Tokens(tokens) => {
            described.tokens = tokens.as_ptr();
            described.count = tokens.len() as u64;
        }
        Outputs::Logits(values) => {
            describe_rows(&mut described, values, engine.model().hyper.vocab_size);
        }
        Outputs::Hidden(values) => {
            describe_rows(&mut described, values, engine.hidden_width().unwrap_or(0));
        }
        Outputs::Verified(outcome) => {
            for (end, len) in ends.iter_mut().zip(outcome.lens) {
                *end = *len as usize;
            }
            described.accepted = outcome.accepted.as_ptr();
            described.next = outcome.next.as_ptr();
            described.count = outcome.next.len() as u64;
        }
    }
    if !keep {
        for (sequence, end) in sequences.iter_mut().zip(&ends) {
            sequence.commit(*end)?;
        }
    }
    Ok(described)
}

fn describe_rows(described: &mut StepOutputs, values: &[f32], width: u32) {
    described.values = values.as_ptr();
    described.width = width.into();
    described.count = (values.len() / (width as usize).max(1)) as u64;
}

/// Runs a step of any rows.
pub(crate) unsafe extern "C" fn step(
    context: ContextHandle,
    params: *const StepParams,
    outputs: *mut StepOutputs,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let context = get(context)?;
            let mut scratch = context.lock()?;
            let params = raw::read(params)?;
            raw::check(outputs)?;
            let described = general(&context.engine, &params, &mut scratch)?;
            raw::write(outputs, described)
        })
    }
}

/// # Safety
/// As the header says of the step.
unsafe fn general(engine: &Engine, params: &StepParams, scratch: &mut Scratch) -> Outcome<StepOutputs> {
    if params.flags & !(STEP_VERIFY | STEP_KEEP) != 0 {
        return Err(Failure::argument(format!("flags of aio_step_params are {:#x}; 1 and 2 are known", params.flags)));
    }
    // SAFETY: the caller's promises.
    let (handles, given) = unsafe {
        let handles = raw::slice(params.sequences, params.n_sequences, "sequences")?;
        (handles, raw::slice(params.rows, params.n_rows, "rows")?)
    };
    let objects: SmallVec<[Arc<SequenceObject>; FEW]> =
        handles.iter().map(|&h| sequence::get(h)).collect::<Result<_, _>>()?;
    let mut held: SmallVec<[MutexGuard<'_, Sequence>; FEW]> =
        objects.iter().map(|o| o.lock()).collect::<Result<_, _>>()?;
    let mut sequences: SmallVec<[&mut Sequence; FEW]> = held.iter_mut().map(|s| &mut **s).collect();
    let Scratch { outputs, samplings, rows: kept, spans: drafts, .. } = scratch;
    // SAFETY: the caller's promise.
    unsafe { read_samplings(given, samplings)? };
    let mut rows = recycle(std::mem::take(kept));
    let (mut of_rows, vocabulary) = (samplings.iter(), u64::from(engine.model().hyper.vocab_size));
    for row in given {
        // SAFETY: the caller's promise.
        let wants = unsafe { wants(row, vocabulary, &mut of_rows)? };
        let (sequence, position) = (row.sequence as usize, row.position as usize);
        rows.push(StepRow { token: row.token, sequence, position, wants });
    }
    drafts.clear();
    if params.flags & STEP_VERIFY != 0 {
        spans(&rows, sequences.len(), drafts)?;
    }
    let keep = params.flags & STEP_KEEP != 0;
    let outcome = run(engine, &mut sequences, &rows, drafts, (keep, outputs));
    *kept = recycle(rows);
    outcome
}

/// Appends tokens to a sequence, in as many steps as they need. The last one asks for an output.
pub(crate) unsafe extern "C" fn append(
    context: ContextHandle,
    to: SequenceHandle,
    tokens: *const u32,
    count: u64,
    want: u32,
    params: *const SamplingParams,
    outputs: *mut StepOutputs,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (context, object) = (get(context)?, sequence::get(to)?);
            let (mut scratch, mut sequence) = (context.lock()?, object.lock()?);
            let (tokens, sampling) = (raw::slice(tokens, count, "tokens")?, sampling::read(params)?);
            if !outputs.is_null() {
                raw::check(outputs)?;
            }
            let wanted = match want {
                WANT_NOTHING => StepWants::Nothing,
                WANT_TOKEN => StepWants::Token { sampling: &sampling, recent: tokens, bias: None },
                WANT_LOGITS => StepWants::Logits,
                WANT_HIDDEN => StepWants::Hidden,
                other => return Err(Failure::argument(format!("want is {other}; 0 to 3 are known"))),
            };
            let described = append_all(&context.engine, &mut sequence, tokens, wanted, &mut scratch)?;
            if outputs.is_null() { Ok(()) } else { raw::write(outputs, described) }
        })
    }
}

fn append_all(
    engine: &Engine,
    sequence: &mut Sequence,
    tokens: &[u32],
    wants: StepWants<'_>,
    scratch: &mut Scratch,
) -> Outcome<StepOutputs> {
    if tokens.is_empty() {
        return Err(Failure::argument("there are no tokens to append"));
    }
    if sequence.len().saturating_add(tokens.len()) > engine.context() {
        let message = format!(
            "{} tokens after {} are more than the context of {}",
            tokens.len(),
            sequence.len(),
            engine.context()
        );
        return Err(Failure::argument(message));
    }
    let chunk = engine.prefill_rows().max(1);
    let mut described = StepOutputs::zeroed();
    for (i, part) in tokens.chunks(chunk).enumerate() {
        let last = (i + 1) * chunk >= tokens.len();
        let start = sequence.len();
        let mut rows = recycle(std::mem::take(&mut scratch.rows));
        rows.extend(part.iter().enumerate().map(|(at, &token)| {
            let wants = if last && at + 1 == part.len() { wants } else { StepWants::Nothing };
            StepRow { token, sequence: 0, position: start + at, wants }
        }));
        let outcome = run(engine, &mut [&mut *sequence], &rows, &[], (false, &mut scratch.outputs));
        scratch.rows = recycle(rows);
        described = outcome?;
    }
    Ok(described)
}
