//! The tokenizer and the chat template of an engine's model. Both are optional: steps take and give tokens.

use crate::call::call;
use crate::engine;
use crate::raw;
use crate::status::{Error, Failure, Outcome, Status};
use crate::types::{EngineHandle, c_types};
use aio::model::chat::{Clock, Message};
use aio::model::tokenizer::TokenizerError;
use std::ffi::c_char;

/// Flag of `tokenize`: texts of special tokens in the text become these tokens.
pub const TEXT_SPECIAL: u32 = 1;
/// Flag of `tokenize`: the model's first and last tokens are added as for a prompt.
pub const TEXT_FRAME: u32 = 2;

/// A message of a chat; `aio_message` in C.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ChatMessage {
    /// Who speaks, such as `user`.
    pub role: *const c_char,
    /// What is said.
    pub content: *const c_char,
}

c_types! { ChatMessage = "aio_message", }

impl From<TokenizerError> for Failure {
    fn from(error: TokenizerError) -> Failure {
        Failure::argument(error.to_string())
    }
}

fn flags(flags: u32) -> Outcome<(bool, bool)> {
    if flags & !(TEXT_SPECIAL | TEXT_FRAME) != 0 {
        return Err(Failure::argument(format!("text flags are {flags:#x}; 1 and 2 are known")));
    }
    Ok((flags & TEXT_SPECIAL != 0, flags & TEXT_FRAME != 0))
}

/// Turns a text into tokens.
pub(crate) unsafe extern "C" fn tokenize(
    engine: EngineHandle,
    text: *const c_char,
    text_size: u64,
    text_flags: u32,
    tokens: *mut u32,
    capacity: u64,
    count: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (engine, text) = (engine::get(engine)?, raw::text(text, text_size, "text")?);
            let tokenizer = &engine.model().tokenizer;
            let (special, frame) = flags(text_flags)?;
            let ids = if frame { tokenizer.encode_prompt(text, special)? } else { tokenizer.encode(text, special)? };
            raw::fill(tokens, capacity, count, &ids)
        })
    }
}

/// Turns tokens into a text.
pub(crate) unsafe extern "C" fn detokenize(
    engine: EngineHandle,
    tokens: *const u32,
    count: u64,
    text_flags: u32,
    text: *mut c_char,
    capacity: u64,
    text_size: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (engine, tokens) = (engine::get(engine)?, raw::slice(tokens, count, "tokens")?);
            let (special, frame) = flags(text_flags)?;
            if frame {
                return Err(Failure::argument("AIO_TEXT_FRAME is for aio_tokenize"));
            }
            let decoded = engine.model().tokenizer.decode(tokens, special)?;
            raw::fill_text(text, capacity, text_size, &decoded)
        })
    }
}

/// Whether a token ends the model's output.
pub(crate) unsafe extern "C" fn token_is_end(
    engine: EngineHandle,
    token: u32,
    is_end: *mut u32,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let engine = engine::get(engine)?;
            raw::put(is_end, engine.model().tokenizer.vocab().is_end(token).into(), "the answer")
        })
    }
}

/// # Safety
/// As the header says.
unsafe fn messages(given: &[ChatMessage]) -> Outcome<Vec<Message>> {
    let one = |m: &ChatMessage| {
        // SAFETY: the caller's promise.
        let (role, content) = unsafe { (raw::c_text(m.role, "a role")?, raw::c_text(m.content, "a message")?) };
        let null = || Failure::argument("a message's role or content is null");
        Ok(Message::new(role.ok_or_else(null)?, content.ok_or_else(null)?))
    };
    given.iter().map(one).collect()
}

/// Puts a chat into the model's form.
pub(crate) unsafe extern "C" fn chat(
    engine: EngineHandle,
    given: *const ChatMessage,
    count: u64,
    unix_seconds: u64,
    text: *mut c_char,
    capacity: u64,
    text_size: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (engine, messages) = (engine::get(engine)?, messages(raw::slice(given, count, "messages")?)?);
            let model = engine.model();
            let wrong = |e: aio::model::chat::ChatError| Failure::new(Status::Format, e.to_string());
            let template = model.chat_template(Clock { unix_s: unix_seconds }).map_err(wrong)?;
            let none = || Failure::new(Status::Unsupported, "the model has no chat template");
            let vocab = model.tokenizer.vocab();
            let token = |id: Option<u32>| id.and_then(|id| vocab.text(id)).unwrap_or_default();
            let rendered = template.ok_or_else(none)?.render(&messages, true, token(vocab.bos()), token(vocab.eos()));
            raw::fill_text(text, capacity, text_size, &rendered.map_err(wrong)?)
        })
    }
}
