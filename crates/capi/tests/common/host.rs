//! A host in Rust that calls the table as a C program would, with a small synthetic model from memory.
#![allow(dead_code, reason = "each test uses a part")]

use aio::ir::DType;
use aio::model::synth::{Preset, Synth};
use aio_capi::api::API;
use aio_capi::device::DeviceParams;
use aio_capi::engine::EngineParams;
use aio_capi::status::{Error, Status};
use aio_capi::step::{StepOutputs, WANT_TOKEN};
use aio_capi::types::{ContextHandle, DeviceHandle, EngineHandle, SequenceHandle};
use aio_capi::verify::VerifyParams;
use bytemuck::Zeroable;
use std::ffi::CStr;
use std::ptr::null;

/// Context of the engines here, in positions.
pub const CONTEXT: u32 = 256;

/// An empty message.
pub fn error() -> Error {
    Error { struct_size: size_of::<Error>() as u32, ..Error::zeroed() }
}

/// The message of a failed call.
pub fn message(error: &Error) -> String {
    // SAFETY: the library ends it with a zero, and so does `error`.
    unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_str().unwrap().to_owned()
}

/// A call's status and message.
pub type Said = (i32, String);

/// Makes a call.
pub fn said(call: impl FnOnce(*mut Error) -> i32) -> Said {
    let mut error = error();
    let status = call(&mut error);
    (status, message(&error))
}

/// Makes a call that must succeed.
pub fn done(call: impl FnOnce(*mut Error) -> i32) {
    let (status, message) = said(call);
    assert_eq!(status, Status::Ok as i32, "{message}");
}

/// Makes a call that must fail with this status and words of this message.
pub fn refused(status: Status, words: &str, call: impl FnOnce(*mut Error) -> i32) {
    let (got, message) = said(call);
    assert_eq!(got, status as i32, "{message}");
    assert!(message.contains(words), "{message:?} does not say {words:?}");
}

/// The bytes of a small model.
pub fn model() -> Vec<u8> {
    let preset = Preset::find("llama-1b").unwrap().tiny();
    Synth::new(&preset, DType::Q8_0, 7).unwrap().to_bytes().unwrap()
}

/// A device with two threads, and an engine with the model.
pub fn engine(sequences: u32) -> (DeviceHandle, EngineHandle) {
    let (mut device, mut engine) = (DeviceHandle { id: 0 }, EngineHandle { id: 0 });
    let params = DeviceParams { struct_size: size_of::<DeviceParams>() as u32, threads: 2, ..DeviceParams::zeroed() };
    let bytes = model();
    let load = EngineParams {
        struct_size: size_of::<EngineParams>() as u32,
        context: CONTEXT,
        sequences,
        prefill_rows: 16,
        data: bytes.as_ptr(),
        data_size: bytes.len() as u64,
        ..EngineParams::zeroed()
    };
    // SAFETY: all pointers are of live values.
    unsafe {
        done(|e| (API.device_open)(&params, &mut device, e));
        done(|e| (API.engine_open)(device, &load, &mut engine, e));
    }
    (device, engine)
}

pub fn sequence(engine: EngineHandle) -> SequenceHandle {
    let mut sequence = SequenceHandle { id: 0 };
    // SAFETY: the place is live.
    done(|e| unsafe { (API.sequence_create)(engine, &mut sequence, e) });
    sequence
}

pub fn context(engine: EngineHandle) -> ContextHandle {
    let mut context = ContextHandle { id: 0 };
    // SAFETY: the place is live.
    done(|e| unsafe { (API.context_create)(engine, &mut context, e) });
    context
}

pub fn length(sequence: SequenceHandle) -> u64 {
    let mut length = u64::MAX;
    // SAFETY: the place is live.
    done(|e| unsafe { (API.sequence_get_length)(sequence, &mut length, e) });
    length
}

pub fn outputs() -> StepOutputs {
    StepOutputs { struct_size: size_of::<StepOutputs>() as u32, ..StepOutputs::zeroed() }
}

/// Appends tokens and returns the next one.
pub fn append(context: ContextHandle, sequence: SequenceHandle, tokens: &[u32]) -> u32 {
    let mut out = outputs();
    let count = tokens.len() as u64;
    // SAFETY: all pointers are of live values, and the token is read before the next step.
    unsafe {
        done(|e| (API.append)(context, sequence, tokens.as_ptr(), count, WANT_TOKEN, null(), &mut out, e));
        assert_eq!(out.count, 1);
        out.tokens.read()
    }
}

/// Verifies drafts. Returns how many were accepted and the token after them.
pub fn verify(context: ContextHandle, sequence: SequenceHandle, token: u32, drafts: &[u32]) -> (u32, u32) {
    let params = VerifyParams {
        struct_size: size_of::<VerifyParams>() as u32,
        n_drafts: drafts.len() as u32,
        token,
        drafts: drafts.as_ptr(),
        ..VerifyParams::zeroed()
    };
    let (mut accepted, mut next) = (0, 0);
    // SAFETY: all pointers are of live values.
    done(|e| unsafe { (API.verify)(context, sequence, &params, &mut accepted, &mut next, e) });
    (accepted, next)
}

/// The text after a prompt, token by token.
pub fn plain(engine: EngineHandle, prompt: &[u32], count: usize) -> Vec<u32> {
    let (context, sequence) = (context(engine), sequence(engine));
    let mut tokens = vec![append(context, sequence, prompt)];
    while tokens.len() < count {
        tokens.push(append(context, sequence, &tokens[tokens.len() - 1..]));
    }
    // SAFETY: both are live handles.
    unsafe {
        done(|e| (API.context_free)(context, e));
        done(|e| (API.sequence_free)(sequence, e));
    }
    tokens
}
