//! Sequences: what a text holds of the KV cache.

use crate::call::call;
use crate::engine;
use crate::raw;
use crate::status::{Error, Failure, Outcome};
use crate::types::{EngineHandle, Handle, SequenceHandle, hold};
use aio::engine::{Engine, EngineError, Sequence};
use std::sync::{Arc, Mutex, MutexGuard};

/// A sequence and its engine.
pub(crate) struct SequenceObject {
    pub engine: Arc<Engine>,
    sequence: Mutex<Sequence>,
}

impl SequenceObject {
    /// The sequence, for as long as the caller keeps it.
    ///
    /// # Errors
    /// Busy if another call has it.
    pub fn lock(&self) -> Outcome<MutexGuard<'_, Sequence>> {
        hold(&self.sequence, SequenceHandle::KIND)
    }
}

/// The sequence of a handle.
pub(crate) fn get(sequence: SequenceHandle) -> Outcome<Arc<SequenceObject>> {
    sequence.get()
}

/// Makes an empty sequence.
pub(crate) unsafe extern "C" fn create(engine: EngineHandle, sequence: *mut SequenceHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let engine = engine::get(engine)?;
            SequenceHandle::give(sequence, || Ok(SequenceObject { engine, sequence: Mutex::default() }))
        })
    }
}

/// Frees a sequence.
pub(crate) unsafe extern "C" fn free(sequence: SequenceHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            // Nobody may be in a step with it.
            let object = get(sequence)?;
            let held = object.lock()?;
            sequence.take::<SequenceObject>()?;
            drop(held);
            Ok(())
        })
    }
}

/// Says how many positions are committed.
pub(crate) unsafe extern "C" fn length(sequence: SequenceHandle, length: *mut u64, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let object = get(sequence)?;
            let len = object.lock()?.len();
            raw::put(length, len as u64, "the length")
        })
    }
}

/// Cuts a sequence.
pub(crate) unsafe extern "C" fn truncate(
    sequence: SequenceHandle,
    length: u64,
    nearest: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let object = get(sequence)?;
            let mut held = object.lock()?;
            if !nearest.is_null() {
                raw::place(nearest, "the nearest length")?;
            }
            if length > held.len() as u64 {
                let message = format!("the sequence has {} positions, so it cannot be cut at {length}", held.len());
                return Err(Failure::argument(message));
            }
            let outcome = held.commit(length as usize);
            let kept = if let Err(EngineError::NoState { nearest, .. }) = outcome { nearest } else { held.len() };
            if outcome.is_ok() {
                held.trim(0);
            }
            if !nearest.is_null() {
                raw::put(nearest, kept as u64, "the nearest length")?;
            }
            Ok(outcome?)
        })
    }
}

/// Makes a second sequence with the same first positions.
pub(crate) unsafe extern "C" fn fork(
    sequence: SequenceHandle,
    length: u64,
    copy: *mut SequenceHandle,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let object = get(sequence)?;
            let len = usize::try_from(length).unwrap_or(usize::MAX);
            SequenceHandle::give(copy, || {
                let forked = object.engine.fork(&*object.lock()?, len)?;
                Ok(SequenceObject { engine: Arc::clone(&object.engine), sequence: Mutex::new(forked) })
            })
        })
    }
}
