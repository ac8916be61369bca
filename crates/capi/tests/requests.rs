//! What requests do: they join when there is room, stream, are cancelled and freed, and give the tokens of plain decoding.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

#[path = "common/host.rs"]
mod host;

use aio_capi::api::API;
use aio_capi::request::{REQUEST_IGNORE_END, RequestParams, Usage};
use aio_capi::status::Status;
use aio_capi::types::{BatchHandle, RequestHandle};
use bytemuck::Zeroable;
use host::*;
use std::ffi::{c_char, c_void};
use std::ptr::{null, null_mut};

const PROMPT: [u32; 5] = [1, 17, 42, 99, 7];

fn sized<T: Zeroable>() -> (u32, T) {
    (size_of::<T>() as u32, T::zeroed())
}

/// A request for eight tokens.
fn request_of(prompt: &[u32]) -> RequestParams {
    let (struct_size, zero) = sized::<RequestParams>();
    RequestParams {
        struct_size,
        flags: REQUEST_IGNORE_END,
        prompt: prompt.as_ptr(),
        n_prompt: prompt.len() as u64,
        max_tokens: 8,
        speculation: 1,
        ..zero
    }
}

fn tokens_of(request: RequestHandle) -> Vec<u32> {
    let (mut tokens, mut count) = (vec![0; 64], 0);
    // SAFETY: all pointers are of live values.
    done(|e| unsafe { (API.request_get_tokens)(request, tokens.as_mut_ptr(), 64, &mut count, e) });
    tokens.truncate(count as usize);
    tokens
}

fn usage_of(request: RequestHandle) -> Usage {
    let (struct_size, zero) = sized::<Usage>();
    let mut usage = Usage { struct_size, ..zero };
    // SAFETY: the place is live.
    done(|e| unsafe { (API.request_get_usage)(request, &mut usage, e) });
    usage
}

#[test]
fn requests_join_when_there_is_room_and_end_with_the_tokens_of_plain_decoding() {
    let (_, engine) = engine(2);
    let mut batch = BatchHandle { id: 0 };
    // SAFETY: the place is live.
    done(|e| unsafe { (API.batch_create)(engine, &mut batch, e) });
    let prompts: Vec<Vec<u32>> = (0..40).map(|i| vec![1 + i, 50, 3 * i % 90, 8]).collect();
    let mut requests = Vec::new();
    for prompt in &prompts {
        let (params, mut request) = (request_of(prompt), RequestHandle { id: 0 });
        // SAFETY: all pointers are of live values.
        done(|e| unsafe { (API.request_submit)(batch, &params, &mut request, e) });
        requests.push(request);
    }
    // SAFETY: live handles.
    done(|e| unsafe { (API.request_cancel)(requests[39], e) });
    let mut unfinished = 1;
    while unfinished > 0 {
        // SAFETY: the place is live.
        done(|e| unsafe { (API.batch_step)(batch, &mut unfinished, e) });
    }
    for (prompt, &request) in prompts.iter().zip(&requests).take(39) {
        let usage = usage_of(request);
        assert_eq!((usage.stop, usage.tokens, usage.prompt_tokens), (3, 8, 4));
        assert_eq!(tokens_of(request), plain(engine, prompt, 8));
    }
    assert_eq!((usage_of(requests[39]).stop, tokens_of(requests[39]).len()), (5, 0));
}

unsafe extern "C" fn stop_at_once(user: *mut c_void, request: RequestHandle, _: *const c_char, _: u64) -> i32 {
    // SAFETY: the test passes a batch, which is live.
    let batch = unsafe { user.cast::<BatchHandle>().read() };
    // SAFETY: null is allowed.
    unsafe {
        assert_eq!((API.batch_step)(batch, null_mut(), null_mut()), Status::Busy as i32);
        assert_eq!((API.batch_free)(batch, null_mut()), Status::Busy as i32);
        assert_eq!((API.request_free)(request, null_mut()), Status::Busy as i32);
        assert_eq!((API.request_cancel)(request, null_mut()), Status::Ok as i32);
    }
    1
}

#[test]
fn a_callback_may_end_its_request_and_not_use_its_batch() {
    let (_, engine) = engine(2);
    let mut batch = BatchHandle { id: 0 };
    // SAFETY: the place is live.
    done(|e| unsafe { (API.batch_create)(engine, &mut batch, e) });
    let mut params = request_of(&PROMPT);
    params.on_text = Some(stop_at_once);
    params.user = (&raw mut batch).cast();
    let (mut request, mut unfinished) = (RequestHandle { id: 0 }, 1);
    // SAFETY: all pointers are of live values.
    unsafe {
        done(|e| (API.request_submit)(batch, &params, &mut request, e));
        while unfinished > 0 {
            done(|e| (API.batch_step)(batch, &mut unfinished, e));
        }
        assert_eq!(usage_of(request).stop, 5);
        // A batch that is freed ends what it still has.
        let mut late = RequestHandle { id: 0 };
        done(|e| (API.request_submit)(batch, &request_of(&PROMPT), &mut late, e));
        done(|e| (API.batch_free)(batch, e));
        assert_eq!(usage_of(late).stop, 5);
        refused(Status::InvalidHandle, "batch was freed", |e| (API.batch_step)(batch, null_mut(), e));
        done(|e| (API.request_free)(late, e));
        refused(Status::InvalidHandle, "request was freed", |e| (API.request_free)(late, e));
    }
}

unsafe extern "C" fn count(user: *mut c_void, _: RequestHandle, _: *const c_char, _: u64) -> i32 {
    // SAFETY: the test passes a number, which is live.
    unsafe { *user.cast::<u32>() += 1 };
    0
}

#[test]
fn a_request_that_was_freed_calls_nobody() {
    let (_, engine) = engine(2);
    let mut batch = BatchHandle { id: 0 };
    let mut calls = 0_u32;
    let mut params = request_of(&PROMPT);
    params.on_text = Some(count);
    params.user = (&raw mut calls).cast();
    let (mut request, mut unfinished) = (RequestHandle { id: 0 }, 1);
    // SAFETY: all pointers are of live values.
    unsafe {
        done(|e| (API.batch_create)(engine, &mut batch, e));
        done(|e| (API.request_submit)(batch, &params, &mut request, e));
        done(|e| (API.batch_step)(batch, null_mut(), e));
        let before = (&raw const calls).read();
        assert!(before > 0);
        done(|e| (API.request_free)(request, e));
        while unfinished > 0 {
            done(|e| (API.batch_step)(batch, &mut unfinished, e));
        }
        assert_eq!((&raw const calls).read(), before);
    }
}

#[test]
fn bad_requests_are_refused_at_once() {
    let (_, engine) = engine(2);
    let mut batch = BatchHandle { id: 0 };
    // SAFETY: the place is live.
    done(|e| unsafe { (API.batch_create)(engine, &mut batch, e) });
    let mut request = RequestHandle { id: 0 };
    let mut submit = |params: &RequestParams, status: Status, words: &str| {
        // SAFETY: all pointers are of live values or null.
        refused(status, words, |e| unsafe { (API.request_submit)(batch, params, &mut request, e) });
    };
    submit(&request_of(&[]), Status::InvalidArgument, "empty");
    submit(&request_of(&[1 << 24]), Status::InvalidArgument, "vocabulary");
    submit(&request_of(&vec![1; CONTEXT as usize]), Status::InvalidArgument, "no room");
    submit(&RequestParams { prompt: null(), ..request_of(&PROMPT) }, Status::InvalidArgument, "prompt is null");
    submit(&RequestParams { speculation: 7, ..request_of(&PROMPT) }, Status::InvalidArgument, "speculation is 7");
    submit(&RequestParams { n_stops: 1, ..request_of(&PROMPT) }, Status::InvalidArgument, "stops is null");
    submit(&RequestParams { flags: 2, ..request_of(&PROMPT) }, Status::InvalidArgument, "0x2");
    assert_eq!(request.id, 0);
    let mut unfinished = 9;
    // SAFETY: the place is live.
    done(|e| unsafe { (API.batch_step)(batch, &mut unfinished, e) });
    assert_eq!(unfinished, 0);
}
