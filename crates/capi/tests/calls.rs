//! What calls do: steps and drafts give the tokens of plain decoding, and every kind of bad input is a status that changes
//! nothing.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

#[path = "common/host.rs"]
mod host;

use aio_capi::api::API;
use aio_capi::device::{DeviceOption, DeviceParams};
use aio_capi::engine::{Cost, ENGINE_MAP, EngineInfo, EngineParams, PlanInfo, StepSizeParams};
use aio_capi::sampling::SamplingParams;
use aio_capi::status::Status;
use aio_capi::step::{Row, STEP_KEEP, STEP_VERIFY, StepParams, WANT_LOGITS, WANT_NOTHING, WANT_TOKEN};
use aio_capi::types::{ContextHandle, DeviceHandle, EngineHandle, SequenceHandle};
use bytemuck::Zeroable;
use host::*;
use std::ptr::{null, null_mut};

const PROMPT: [u32; 5] = [1, 17, 42, 99, 7];

fn sized<T: Zeroable>() -> (u32, T) {
    (size_of::<T>() as u32, T::zeroed())
}

fn row(token: u32, sequence: u32, position: u32, want: u32) -> Row {
    Row { token, sequence, position, want, ..Row::zeroed() }
}

fn step_of(sequences: &[SequenceHandle], rows: &[Row], flags: u32) -> StepParams {
    StepParams {
        struct_size: size_of::<StepParams>() as u32,
        flags,
        sequences: sequences.as_ptr(),
        n_sequences: sequences.len() as u64,
        rows: rows.as_ptr(),
        n_rows: rows.len() as u64,
    }
}

#[test]
fn drafts_give_the_tokens_of_plain_decoding() {
    let (_, engine) = engine(2);
    let expected = plain(engine, &PROMPT, 24);
    let (context, sequence) = (context(engine), sequence(engine));
    let mut tokens = vec![append(context, sequence, &PROMPT)];
    let mut hits = 0;
    while tokens.len() < expected.len() {
        let at = tokens.len();
        // Two right drafts and a wrong one, as far as there are any.
        let mut drafts: Vec<u32> = expected[at..].iter().copied().take(2).collect();
        drafts.push((expected[expected.len() - 1] + 1) % 100);
        let (accepted, next) = verify(context, sequence, tokens[at - 1], &drafts);
        hits += accepted;
        tokens.extend(&drafts[..accepted as usize]);
        tokens.push(next);
        assert_eq!(length(sequence) as usize, PROMPT.len() + tokens.len() - 1);
    }
    assert_eq!(tokens[..expected.len()], expected);
    assert!(hits >= 14, "{hits}");
}

#[test]
fn a_step_runs_rows_of_several_sequences() {
    let (_, engine) = engine(3);
    let prompts: [&[u32]; 3] = [&PROMPT, &[3, 5], &[100, 101, 102]];
    let expected = prompts.map(|p| plain(engine, p, 3));
    let (context, sequences) = (context(engine), prompts.map(|_| sequence(engine)));
    let mut rows = Vec::new();
    for (s, prompt) in prompts.iter().enumerate() {
        for (i, &token) in prompt.iter().enumerate() {
            let want = if i + 1 == prompt.len() { WANT_TOKEN } else { WANT_NOTHING };
            rows.push(row(token, s as u32, i as u32, want));
        }
    }
    let mut out = outputs();
    let params = step_of(&sequences, &rows, 0);
    // SAFETY: all pointers are of live values.
    done(|e| unsafe { (API.step)(context, &params, &mut out, e) });
    // SAFETY: the outputs stay until the next step.
    let tokens = unsafe { std::slice::from_raw_parts(out.tokens, out.count as usize) }.to_vec();
    assert_eq!(tokens, expected.each_ref().map(|e| e[0]));
    assert_eq!(sequences.map(length), [5, 2, 3]);

    // The second sequence has a right draft, the others none and a wrong one.
    let mut rows = Vec::new();
    for (s, expected) in expected.iter().enumerate() {
        let at = prompts[s].len() as u32;
        rows.push(row(expected[0], s as u32, at, WANT_TOKEN));
        if s > 0 {
            let draft = if s == 1 { expected[1] } else { (expected[1] + 1) % 100 };
            rows.push(row(draft, s as u32, at + 1, WANT_TOKEN));
        }
    }
    let params = step_of(&sequences, &rows, STEP_VERIFY);
    // SAFETY: as above.
    done(|e| unsafe { (API.step)(context, &params, &mut out, e) });
    // SAFETY: as above.
    let (accepted, next) = unsafe {
        let of = |at: *const u32| std::slice::from_raw_parts(at, out.count as usize).to_vec();
        (of(out.accepted), of(out.next))
    };
    assert_eq!(accepted, [0, 1, 0]);
    assert_eq!(next, [expected[0][1], expected[1][2], expected[2][1]]);
    assert_eq!(sequences.map(length), [6, 4, 4]);
}

#[test]
fn logits_are_those_of_the_token_and_a_kept_length_lets_the_row_run_again() {
    let (_, engine) = engine(1);
    let (context, sequence) = (context(engine), sequence(engine));
    let first = append(context, sequence, &PROMPT);
    let (sequences, rows) = ([sequence], [row(first, 0, 5, WANT_LOGITS)]);
    let params = step_of(&sequences, &rows, STEP_KEEP);
    let mut out = outputs();
    // SAFETY: all pointers are of live values.
    done(|e| unsafe { (API.step)(context, &params, &mut out, e) });
    // SAFETY: the outputs stay until the next step.
    let logits = unsafe { std::slice::from_raw_parts(out.values, (out.count * out.width) as usize) };
    let best = logits.iter().enumerate().fold((0, f32::MIN), |b, (i, &v)| if v > b.1 { (i, v) } else { b }).0;
    assert_eq!((out.count, length(sequence)), (1, 5));
    assert_eq!(append(context, sequence, &[first]), best as u32);
}

#[test]
fn forks_and_cuts_share_what_was_read() {
    let (_, engine) = engine(3);
    let expected = plain(engine, &PROMPT, 4);
    let (context, first) = (context(engine), sequence(engine));
    append(context, first, &PROMPT);
    let mut fork = SequenceHandle { id: 0 };
    // SAFETY: the places are live.
    unsafe {
        done(|e| (API.sequence_fork)(first, 3, &mut fork, e));
        assert_eq!(length(fork), 3);
        assert_eq!(append(context, fork, &PROMPT[3..]), expected[0]);
        append(context, first, &[9, 9, 9]);
        let mut nearest = 0;
        done(|e| (API.sequence_truncate)(first, 4, &mut nearest, e));
        assert_eq!((nearest, length(first)), (4, 4));
        assert_eq!(append(context, first, &PROMPT[4..]), expected[0]);
        let odd = (&raw mut nearest).cast::<u8>().wrapping_add(1).cast();
        refused(Status::InvalidArgument, "nearest length", |e| (API.sequence_truncate)(first, 2, odd, e));
        refused(Status::InvalidArgument, "cannot be cut at 50", |e| (API.sequence_truncate)(first, 50, null_mut(), e));
    }
    assert_eq!(length(first), 5);
}

#[test]
fn objects_keep_what_they_were_made_of() {
    let (device, engine) = engine(1);
    let (context, sequence) = (context(engine), sequence(engine));
    // SAFETY: live handles.
    unsafe {
        done(|e| (API.device_free)(device, e));
        done(|e| (API.engine_free)(engine, e));
        append(context, sequence, &PROMPT);
        refused(Status::InvalidHandle, "engine was freed", |e| (API.engine_free)(engine, e));
        let other = EngineHandle { id: sequence.id };
        refused(Status::InvalidHandle, "another kind", |e| (API.engine_free)(other, e));
        refused(Status::InvalidHandle, "null", |e| (API.engine_free)(EngineHandle { id: 0 }, e));
    }
    assert_eq!(length(sequence), 5);
}

#[test]
fn structs_of_other_versions_are_read_as_far_as_both_know_them() {
    let mut device = DeviceHandle { id: 0 };
    /// What a later header might have.
    #[repr(C)]
    struct Later(DeviceParams, u64);
    let (struct_size, zero) = sized::<DeviceParams>();
    let mut later = Later(DeviceParams { struct_size: struct_size + 8, threads: 1, ..zero }, 0);
    // SAFETY: the struct has as many bytes as it says.
    unsafe {
        let at = (&raw const later).cast::<DeviceParams>();
        done(|e| (API.device_open)(at, &mut device, e));
        later.1 = 1;
        let at = (&raw const later).cast::<DeviceParams>();
        refused(Status::Unsupported, "does not know", |e| (API.device_open)(at, &mut device, e));
    }
    for size in [0, 3, 4, struct_size - 1, 1 << 20, u32::MAX] {
        let params = DeviceParams { struct_size: size, ..zero };
        // SAFETY: sizes that are too large are refused before anything is read.
        refused(Status::InvalidArgument, "struct_size of aio_device_params", |e| unsafe {
            (API.device_open)(&params, &mut device, e)
        });
    }
    // What is written to a longer struct ends with zeros, to a shorter one ends early.
    let (_, engine) = engine(1);
    #[repr(C)]
    struct LaterInfo(EngineInfo, u64);
    let (size, info) = sized::<EngineInfo>();
    let mut later = LaterInfo(EngineInfo { struct_size: size + 8, ..info }, 77);
    // SAFETY: as above.
    done(|e| unsafe { (API.engine_get_info)(engine, (&raw mut later).cast(), e) });
    assert_eq!((later.0.struct_size, later.0.context, later.1), (size + 8, CONTEXT, 0));
}

#[test]
fn bad_devices_and_models_are_named() {
    let mut device = DeviceHandle { id: 0 };
    let (struct_size, zero) = sized::<DeviceParams>();
    let mut open = |name: &std::ffi::CStr, options: &[(&std::ffi::CStr, &std::ffi::CStr)]| {
        let options: Vec<_> =
            options.iter().map(|(n, v)| DeviceOption { name: n.as_ptr(), value: v.as_ptr() }).collect();
        let (at, n_options) = (options.as_ptr(), options.len() as u64);
        let params = DeviceParams { struct_size, name: name.as_ptr(), options: at, n_options, ..zero };
        // SAFETY: all pointers are of live values.
        said(|e| unsafe { (API.device_open)(&params, &mut device, e) })
    };
    let says = |said: Said, status: Status, words: &str| {
        assert_eq!(said.0, status as i32, "{}", said.1);
        assert!(said.1.contains(words), "{}", said.1);
    };
    says(open(c"tpu", &[]), Status::InvalidArgument, "unknown device `tpu`");
    says(open(c"cpu", &[(c"speed", c"11")]), Status::InvalidArgument, "has no option `speed`");
    says(open(c"cpu", &[(c"threads", c"many")]), Status::InvalidArgument, "option `threads`");
    says(open(c"cpu", &[(c"isa", c"z80")]), Status::InvalidArgument, "isa");
    says(open(c"cpu", &[(c"isa", c"portable"), (c"threads", c"1")]), Status::Ok, "");
    let (struct_size, zero) = sized::<EngineParams>();
    let load = |params: EngineParams| {
        let mut engine = EngineHandle { id: 0 };
        // SAFETY: all pointers are of live values.
        let said =
            said(|e| unsafe { (API.engine_open)(device, &EngineParams { struct_size, ..params }, &mut engine, e) });
        assert_eq!(said.0 == 0, engine.id != 0, "a handle comes with success alone");
        said
    };
    says(load(zero), Status::InvalidArgument, "neither a path nor a model");
    let (path, data) = (c"/nowhere.gguf".as_ptr(), b"GGUF\x03".as_ptr());
    says(load(EngineParams { path, ..zero }), Status::Io, "/nowhere.gguf");
    says(load(EngineParams { path, data, ..zero }), Status::InvalidArgument, "a path and a model");
    says(load(EngineParams { data, data_size: 5, ..zero }), Status::Format, "");
    says(load(EngineParams { data, data_size: u64::MAX, ..zero }), Status::InvalidArgument, "do not fit in memory");
    says(load(EngineParams { path, flags: 8, ..zero }), Status::InvalidArgument, "0x8");
    says(load(EngineParams { path, reserved: 8, ..zero }), Status::Unsupported, "reserved of aio_engine_params is 8");
    assert_ne!(load(EngineParams { path: c"/".as_ptr(), ..zero }).0, Status::Ok as i32);
    let bytes = model();
    let whole = EngineParams { data: bytes.as_ptr(), data_size: bytes.len() as u64, ..zero };
    says(load(EngineParams { sequences: u32::MAX, context: u32::MAX, ..whole }), Status::OutOfMemory, "memory");
    says(load(EngineParams { flags: ENGINE_MAP, ..whole }), Status::InvalidArgument, "for artefacts");
    says(load(whole), Status::Ok, "");
}

#[test]
fn bad_steps_change_nothing() {
    let (_, engine) = engine(2);
    let (context, one, two) = (context(engine), sequence(engine), sequence(engine));
    append(context, one, &PROMPT);
    let mut out = outputs();
    let mut step = |sequences: &[SequenceHandle], rows: &[Row], flags: u32, status: Status, words: &str| {
        let params = step_of(sequences, rows, flags);
        // SAFETY: all pointers are of live values.
        refused(status, words, |e| unsafe { (API.step)(context, &params, &mut out, e) });
    };
    let good = row(3, 0, 5, WANT_TOKEN);
    step(&[one], &[row(1 << 20, 0, 5, WANT_TOKEN)], 0, Status::InvalidArgument, "vocabulary");
    step(&[one], &[row(3, 1, 5, WANT_TOKEN)], 0, Status::InvalidArgument, "sequence 1");
    step(&[one], &[row(3, 0, CONTEXT, WANT_TOKEN)], 0, Status::InvalidArgument, "past the context");
    step(&[one], &[row(3, 0, u32::MAX, WANT_TOKEN)], 0, Status::InvalidArgument, "past the context");
    step(&[one], &[row(3, 0, 5, 9)], 0, Status::InvalidArgument, "want is 9");
    step(&[one], &[row(3, 0, 5, 3)], 0, Status::Unsupported, "hidden");
    step(&[one], &[good], 64, Status::InvalidArgument, "0x40");
    step(&[one, two], &[good], STEP_VERIFY, Status::InvalidArgument, "no row of sequence 1");
    step(&[one, one], &[good], 0, Status::Busy, "sequence is in use");
    step(&[SequenceHandle { id: context.id }], &[good], 0, Status::InvalidHandle, "another kind");
    let sampling = SamplingParams {
        struct_size: size_of::<SamplingParams>() as u32,
        temperature: -1.0,
        ..SamplingParams::zeroed()
    };
    step(&[one], &[Row { sampling: &sampling, ..good }], 0, Status::InvalidArgument, "temperature");
    step(&[one], &[Row { n_recent: 4, ..good }], 0, Status::InvalidArgument, "recent is null");
    assert_eq!((length(one), length(two)), (5, 0));
    // SAFETY: all pointers are of live values or null.
    unsafe {
        refused(Status::InvalidArgument, "aio_step_params is null", |e| (API.step)(context, null(), &mut out, e));
        let (sequences, rows) = ([one], [good]);
        let params = step_of(&sequences, &rows, 0);
        refused(Status::InvalidArgument, "aio_outputs is null", |e| (API.step)(context, &params, null_mut(), e));
        assert_eq!((API.step)(ContextHandle { id: 0 }, &params, &mut out, null_mut()), Status::InvalidHandle as i32);
        refused(Status::InvalidArgument, "no tokens", |e| {
            (API.append)(context, one, PROMPT.as_ptr(), 0, WANT_TOKEN, null(), &mut out, e)
        });
        let long = vec![1; CONTEXT as usize];
        refused(Status::InvalidArgument, "more than the context", |e| {
            (API.append)(context, one, long.as_ptr(), long.len() as u64, WANT_TOKEN, null(), &mut out, e)
        });
    }
    assert_eq!(length(one), 5);
    assert_eq!(append(context, one, &[3]), {
        let mut prompt = PROMPT.to_vec();
        prompt.push(3);
        plain(engine, &prompt, 1)[0]
    });
}

#[test]
fn a_message_is_cut_to_the_callers_room() {
    let mut error = error();
    error.struct_size = 16;
    error.message[8] = 55;
    // SAFETY: the struct has at least as many bytes as it says.
    let status = unsafe { (API.engine_free)(EngineHandle { id: 0 }, &mut error) };
    assert_eq!((status, error.status), (Status::InvalidHandle as i32, Status::InvalidHandle as i32));
    assert_eq!(message(&error), "the eng");
    assert_eq!(error.message[8], 55, "nothing past the caller's struct");
}

#[test]
fn engines_and_plans_describe_themselves() {
    let (_, engine) = engine(2);
    let (struct_size, zero) = sized::<EngineInfo>();
    let mut info = EngineInfo { struct_size, ..zero };
    // SAFETY: all pointers are of live values.
    done(|e| unsafe { (API.engine_get_info)(engine, &mut info, e) });
    assert_eq!((info.context, info.step_rows, info.recurrent), (CONTEXT, 16, 0));
    assert!(info.weight_bytes > 0 && info.kv_bytes_per_position > 0 && info.positions >= 2 * u64::from(CONTEXT));
    let mut verifying = 0;
    let (struct_size, zero) = sized::<PlanInfo>();
    for index in 0..info.plans {
        let mut plan = PlanInfo { struct_size, ..zero };
        // SAFETY: as above.
        done(|e| unsafe { (API.engine_get_plan)(engine, index, &mut plan, e) });
        // SAFETY: the library ends the name with a zero.
        let name = unsafe { std::ffi::CStr::from_ptr(plan.name.as_ptr()) }.to_str().unwrap();
        assert!(name.starts_with(&format!("r{}s{}o{}-", plan.rows, plan.sequences, plan.outputs)), "{name}");
        verifying += plan.verifies;
    }
    assert!(verifying > 0);
    let mut plan = PlanInfo { struct_size, ..zero };
    // SAFETY: as above.
    refused(Status::InvalidArgument, "there is no plan", |e| unsafe {
        (API.engine_get_plan)(engine, info.plans, &mut plan, e)
    });
    let cost = |rows: u32, positions: u64| {
        let (struct_size, zero) = sized::<StepSizeParams>();
        let size = StepSizeParams { struct_size, sequences: 1, rows, positions, ..zero };
        let (struct_size, zero) = sized::<Cost>();
        let mut cost = Cost { struct_size, ..zero };
        // SAFETY: as above.
        done(|e| unsafe { (API.engine_get_cost)(engine, &size, &mut cost, e) });
        cost
    };
    let (short, long) = (cost(1, 10), cost(1, 110));
    assert_eq!(long.bytes - short.bytes, 100 * info.kv_bytes_per_position);
    assert!(cost(8, 10).flops > 7 * short.flops && long.seconds >= short.seconds && short.seconds > 0.0);
}
