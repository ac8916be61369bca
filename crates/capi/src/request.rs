//! A request of a batch: what C asks for, and what it has got so far.

use crate::raw::{self, Sized32};
use crate::sampling::{self, SamplingParams};
use crate::status::{Failure, Outcome};
use crate::types::{CType, Handle, RequestHandle, c_types, hold};
use aio::engine::{Completion, Engine, EngineError, Flow, Request, Speculation, StopReason};
use bytemuck::Zeroable;
use std::ffi::{c_char, c_void};
use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Flag of [`RequestParams`]: goes on after a token that ends the model's output.
pub const REQUEST_IGNORE_END: u32 = 1;

/// Receives text; `aio_text_fn` in C.
pub type TextFn =
    Option<unsafe extern "C" fn(user: *mut c_void, request: RequestHandle, text: *const c_char, size: u64) -> i32>;

impl CType for TextFn {
    fn c_name() -> String {
        "aio_text_fn".to_owned()
    }
}

/// A prompt and what to do with it; `aio_request_params` in C.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RequestParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// [`REQUEST_IGNORE_END`].
    pub flags: u32,
    /// The prompt's tokens.
    pub prompt: *const u32,
    /// Number of them.
    pub n_prompt: u64,
    /// Maximum tokens to generate; 0 for no limit besides the context.
    pub max_tokens: u32,
    /// An `aio_speculation`.
    pub speculation: u32,
    /// Drafts of each step with `AIO_SPECULATION_FIXED`.
    pub drafts: u32,
    /// Number of texts that end the output.
    pub n_stops: u32,
    /// How tokens are sampled; null for the most likely ones.
    pub sampling: *const SamplingParams,
    /// Texts that end the output, each ended by a zero byte.
    pub stops: *const *const c_char,
    /// Tokens that end the output.
    pub stop_tokens: *const u32,
    /// Number of them.
    pub n_stop_tokens: u64,
    /// Added to the logits, one value per token of the vocabulary; may be null.
    pub bias: *const f32,
    /// Receives the text; may be null.
    pub on_text: TextFn,
    /// Passed to it.
    pub user: *mut c_void,
}

// SAFETY: integers, pointers and an optional function, for all of which zero is valid.
unsafe impl Zeroable for RequestParams {}
// SAFETY: `repr(C)`, begins with its size, integers and pointers; the header asks for a function or null.
unsafe impl Sized32 for RequestParams {
    const NAME: &'static str = "aio_request_params";
    const FIRST_SIZE: usize = offset_of!(RequestParams, user) + size_of::<*mut c_void>();
}

/// How far a request is; `aio_usage` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct Usage {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Why it ended: an `aio_stop`.
    pub stop: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub tokens: u64,
    /// Steps after the first token.
    pub steps: u64,
    /// Drafts verified.
    pub drafted: u64,
    /// Drafts accepted.
    pub accepted: u64,
    /// Seconds to the first token.
    pub prefill_seconds: f64,
    /// Seconds from the first token to the last.
    pub decode_seconds: f64,
}

// SAFETY: `repr(C)`, begins with its size, numbers.
unsafe impl Sized32 for Usage {
    const NAME: &'static str = "aio_usage";
    const FIRST_SIZE: usize = offset_of!(Usage, decode_seconds) + 8;
}

c_types! {
    RequestParams = "aio_request_params",
    Usage = "aio_usage",
}

impl RequestParams {
    /// The request in the engine's form.
    ///
    /// # Safety
    /// As the header says.
    pub(crate) unsafe fn request(&self, engine: &Engine) -> Outcome<Request> {
        if self.flags & !REQUEST_IGNORE_END != 0 {
            return Err(Failure::argument(format!("flags of aio_request_params are {:#x}; 1 is known", self.flags)));
        }
        // SAFETY: the caller's promises.
        unsafe {
            let sampling = sampling::read(self.sampling)?;
            let mut request = Request::new(raw::slice(self.prompt, self.n_prompt, "prompt")?.to_vec(), sampling);
            for &stop in raw::slice(self.stops, self.n_stops.into(), "stops")? {
                let text = raw::c_text(stop, "a stop")?.ok_or_else(|| Failure::argument("a stop is null"))?;
                request.stop.push(text.to_owned());
            }
            request.stop_tokens = raw::slice(self.stop_tokens, self.n_stop_tokens, "stop tokens")?.to_vec();
            if !self.bias.is_null() {
                let vocabulary = engine.model().hyper.vocab_size.into();
                request.logit_bias = Some(raw::slice(self.bias, vocabulary, "bias")?.to_vec());
            }
            request.max_tokens = Some(self.max_tokens as usize).filter(|&n| n != 0);
            request.ignore_eog = self.flags & REQUEST_IGNORE_END != 0;
            request.speculation = self.speculation()?;
            Ok(request)
        }
    }

    fn speculation(&self) -> Outcome<Speculation> {
        match self.speculation {
            0 => Ok(Speculation::Off),
            1 => Ok(Speculation::Auto),
            2 => Ok(Speculation::Fixed(self.drafts as usize)),
            other => Err(Failure::argument(format!("speculation is {other}; 0 to 2 are known"))),
        }
    }
}

/// The caller's function and what it is called with.
struct Receiver {
    call: TextFn,
    user: *mut c_void,
}

// SAFETY: the header says that the function is called on the thread that runs steps, whichever that is.
unsafe impl Send for Receiver {}
// SAFETY: the same; one thread at a time runs steps.
unsafe impl Sync for Receiver {}

/// What a request has got so far.
#[derive(Default)]
struct Got {
    text: String,
    tokens: Vec<u32>,
    end: Option<Result<Option<Completion>, Failure>>,
}

/// A request that was submitted.
pub(crate) struct Job {
    handle: OnceLock<RequestHandle>,
    prompt: usize,
    /// Locked while it is called; `None` once the request's handle was freed.
    receiver: Mutex<Option<Receiver>>,
    cancelled: AtomicBool,
    got: Mutex<Got>,
}

impl Job {
    pub(crate) fn new(params: &RequestParams, prompt: usize) -> Job {
        let receiver = Mutex::new(Some(Receiver { call: params.on_text, user: params.user }));
        Job { handle: OnceLock::new(), prompt, receiver, cancelled: AtomicBool::new(false), got: Mutex::default() }
    }

    /// Notes its handle, for the caller's function.
    pub(crate) fn named(&self, handle: RequestHandle) {
        let _ = self.handle.set(handle);
    }

    fn got(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Ends it without another call of its function, whose data the caller may free then.
    ///
    /// # Errors
    /// Busy while the function runs.
    pub(crate) fn abandon(&self) -> Outcome {
        *hold(&self.receiver, RequestHandle::KIND)? = None;
        self.cancel();
        Ok(())
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Adds the tokens that are new.
    pub(crate) fn note_tokens(&self, generated: &[u32]) {
        let mut got = self.got();
        let known = got.tokens.len();
        got.tokens.extend_from_slice(generated.get(known..).unwrap_or_default());
    }

    /// Notes how it ended; `None` if it was cancelled before it ran, or its batch was freed.
    pub(crate) fn end(&self, outcome: Option<Result<Completion, EngineError>>) {
        let end = match outcome {
            None => Ok(None),
            Some(Ok(done)) => Ok(Some(done)),
            Some(Err(error)) => Err(Failure::from(error)),
        };
        self.got().end.get_or_insert(end);
    }

    pub(crate) fn with_text<T>(&self, read: impl FnOnce(&str) -> T) -> T {
        read(&self.got().text)
    }

    pub(crate) fn with_tokens<T>(&self, read: impl FnOnce(&[u32]) -> T) -> T {
        read(&self.got().tokens)
    }

    /// How far it is.
    ///
    /// # Errors
    /// What ended it, if that was an error.
    pub(crate) fn usage(&self) -> Outcome<Usage> {
        let got = self.got();
        let mut usage = Usage { prompt_tokens: self.prompt as u64, tokens: got.tokens.len() as u64, ..Usage::zeroed() };
        match &got.end {
            None => {}
            Some(Ok(None)) => usage.stop = 5,
            Some(Ok(Some(done))) => {
                usage.stop = stop_id(done.stop_reason);
                usage.steps = done.timing.decode_steps as u64;
                usage.drafted = done.speculation.drafted;
                usage.accepted = done.speculation.accepted;
                usage.prefill_seconds = done.timing.prefill.as_secs_f64();
                usage.decode_seconds = done.timing.decode.as_secs_f64();
            }
            Some(Err(failure)) => return Err(failure.clone()),
        }
        Ok(usage)
    }
}

fn stop_id(reason: StopReason) -> u32 {
    match reason {
        StopReason::EndOfGeneration => 1,
        StopReason::StopString => 2,
        StopReason::MaxTokens => 3,
        StopReason::ContextFull => 4,
        StopReason::Cancelled => 5,
    }
}

/// Passes new text to a request, and says whether it goes on.
pub(crate) fn receive(job: Option<&Arc<Job>>, text: &str) -> Flow {
    let Some(job) = job else { return Flow::Stop };
    job.got().text.push_str(text);
    let receiver = job.receiver.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stop = job.is_cancelled() || receiver.is_none();
    if let (false, Some(Receiver { call: Some(call), user }), Some(&handle)) = (stop, &*receiver, job.handle.get()) {
        // SAFETY: the header's promise of the function; its request is not freed while it runs.
        stop = unsafe { call(*user, handle, text.as_ptr().cast(), text.len() as u64) } != 0;
    }
    if stop { Flow::Stop } else { Flow::Continue }
}
