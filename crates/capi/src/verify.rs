//! Verification of one sequence's drafts in one call, the short form of a step that verifies.

use crate::call::call;
use crate::raw::{self, Sized32};
use crate::sampling::{self, SamplingParams};
use crate::sequence;
use crate::status::{Error, Failure, Outcome, Status};
use crate::step::{Scratch, get, recycle, run};
use crate::types::{ContextHandle, SequenceHandle, c_types};
use aio::engine::{DraftSpan, Engine, Sampling, Sequence, StepRow, StepWants};
use aio::ir::sampling::NO_TOKEN;
use bytemuck::Zeroable;
use std::mem::offset_of;

/// A sequence's drafts; `aio_verify_params` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct VerifyParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Number of drafts.
    pub n_drafts: u32,
    /// The sequence's last token, which is not in it yet.
    pub token: u32,
    /// 0.
    pub reserved: u32,
    /// The drafts after it.
    pub drafts: *const u32,
    /// How tokens are sampled; null for the most likely ones.
    pub sampling: *const SamplingParams,
    /// The tokens before `token` or the last of them, for penalties; newest last.
    pub recent: *const u32,
    /// Number of recent tokens.
    pub n_recent: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers and pointers.
unsafe impl Sized32 for VerifyParams {
    const NAME: &'static str = "aio_verify_params";
    const FIRST_SIZE: usize = offset_of!(VerifyParams, n_recent) + 8;
}

c_types! { VerifyParams = "aio_verify_params", }

/// Runs a sequence's last token and drafts after it. The sequence then has the token and the accepted drafts.
pub(crate) unsafe extern "C" fn verify(
    context: ContextHandle,
    of: SequenceHandle,
    params: *const VerifyParams,
    accepted: *mut u32,
    next: *mut u32,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (context, object) = (get(context)?, sequence::get(of)?);
            let (mut scratch, mut sequence) = (context.lock()?, object.lock()?);
            let params = raw::read(params)?;
            raw::reserved(params.reserved, VerifyParams::NAME)?;
            raw::place(accepted, "the accepted drafts")?;
            raw::place(next, "the next token")?;
            let drafts = raw::slice(params.drafts, params.n_drafts.into(), "drafts")?;
            let recent = raw::slice(params.recent, params.n_recent, "recent")?;
            let sampling = sampling::read(params.sampling)?;
            let all = (params.token, drafts, recent);
            let (hits, token) = verify_drafts(&context.engine, &mut sequence, all, &sampling, &mut scratch)?;
            raw::put(accepted, hits, "the accepted drafts")?;
            raw::put(next, token, "the next token")?;
            if token == NO_TOKEN {
                return Err(Failure::new(Status::NoToken, "a row gave no token: a logit is NaN or infinite"));
            }
            Ok(())
        })
    }
}

fn verify_drafts(
    engine: &Engine,
    sequence: &mut Sequence,
    (token, drafts, recent): (u32, &[u32], &[u32]),
    sampling: &Sampling,
    scratch: &mut Scratch,
) -> Outcome<(u32, u32)> {
    let most = engine.most_drafts().min(engine.verify_rows().saturating_sub(1));
    if drafts.len() > most {
        return Err(Failure::argument(format!("there are {} drafts; a step verifies at most {most}", drafts.len())));
    }
    let Scratch { outputs, rows: kept, recent: text, .. } = scratch;
    text.clear();
    text.extend_from_slice(&recent[recent.len().saturating_sub(sampling.repeat_last_n)..]);
    let before = text.len();
    text.push(token);
    text.extend_from_slice(drafts);
    let (text, start) = (&text[..], sequence.len());
    let mut rows = recycle(std::mem::take(kept));
    rows.extend(text[before..].iter().enumerate().map(|(i, &token)| {
        let wants = StepWants::Token { sampling, recent: &text[..=before + i], bias: None };
        StepRow { token, sequence: 0, position: start + i, wants }
    }));
    // Without drafts a plain step does, which every engine has.
    let span = [DraftSpan { first: 0, drafts: drafts.len(), len: start + 1 }];
    let spans = if drafts.is_empty() { &[][..] } else { &span[..] };
    let outcome = run(engine, &mut [sequence], &rows, spans, (false, outputs));
    *kept = recycle(rows);
    let described = outcome?;
    let first = |at: *const u32| {
        if at.is_null() {
            None
        } else {
            // SAFETY: it points into the outputs of the step, which have one sequence or row, and nothing has changed them.
            Some(unsafe { at.read() })
        }
    };
    let next = first(described.next).or(first(described.tokens)).unwrap_or(NO_TOKEN);
    Ok((first(described.accepted).unwrap_or(0), next))
}
