//! Size and fields of each struct of the ABI, for the test that holds the header to them.

use crate::api::Api;
use crate::device::{DeviceOption, DeviceParams};
use crate::engine::{Cost, CounterValues, EngineInfo, EngineParams, PlanInfo, StepSizeParams};
use crate::request::{RequestParams, Usage};
use crate::sampling::SamplingParams;
use crate::status::Error;
use crate::step::{Row, StepOutputs, StepParams};
use crate::text::ChatMessage;
use crate::types::{BatchHandle, CType, ContextHandle, DeviceHandle, EngineHandle, RequestHandle, SequenceHandle};
use crate::verify::VerifyParams;
use std::mem::offset_of;

/// A struct as Rust lays it out.
#[derive(Debug)]
pub struct Layout {
    /// Its name in C.
    pub name: String,
    /// Its size in bytes.
    pub size: usize,
    /// Name and place in bytes of each field, in order.
    pub fields: Vec<(&'static str, usize)>,
}

macro_rules! layouts {
    ($($ty:ident { $($field:ident),* $(,)? })*) => {
        vec![$(Layout {
            name: <$ty>::c_name(),
            size: size_of::<$ty>(),
            fields: {
                // Names every field, so that a new one does not compile until it is listed.
                let _: fn(&$ty) = |$ty { $($field: _),* }| ();
                vec![$((stringify!($field), offset_of!($ty, $field))),*]
            },
        }),*]
    };
}

/// All structs besides the table of functions.
pub fn layouts() -> Vec<Layout> {
    layouts! {
        DeviceHandle { id }
        EngineHandle { id }
        SequenceHandle { id }
        ContextHandle { id }
        BatchHandle { id }
        RequestHandle { id }
        Error { struct_size, status, message }
        DeviceOption { name, value }
        DeviceParams { struct_size, threads, name, options, n_options }
        EngineParams { struct_size, context, sequences, prefill_rows, flags, reserved, path, data, data_size }
        EngineInfo {
            struct_size, context, vocabulary, hidden, step_rows, verify_rows, max_drafts, plans, recurrent, reserved,
            positions, weight_bytes, kv_bytes_per_position,
        }
        PlanInfo { struct_size, rows, sequences, outputs, tail, verifies, tasks, reserved, weight_bytes, name }
        StepSizeParams { struct_size, sequences, rows, reserved, positions }
        Cost { struct_size, reserved, bytes, flops, seconds }
        CounterValues { struct_size, reserved, submissions, launches, syncs, bytes_read, bytes_written, modelled_ns }
        SamplingParams {
            struct_size, temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty,
            repeat_last_n, choice, seed,
        }
        ChatMessage { role, content }
        Row { token, sequence, position, want, sampling, recent, n_recent, bias }
        StepParams { struct_size, flags, sequences, n_sequences, rows, n_rows }
        StepOutputs { struct_size, reserved, tokens, values, accepted, next, count, width }
        VerifyParams { struct_size, n_drafts, token, reserved, drafts, sampling, recent, n_recent }
        RequestParams {
            struct_size, flags, prompt, n_prompt, max_tokens, speculation, drafts, n_stops, sampling, stops, stop_tokens,
            n_stop_tokens, bias, on_text, user,
        }
        Usage {
            struct_size, stop, prompt_tokens, tokens, steps, drafted, accepted, prefill_seconds, decode_seconds,
        }
    }
}

/// Size of the table of functions.
pub const TABLE_SIZE: usize = size_of::<Api>();
