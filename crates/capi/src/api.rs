//! The table of functions. It grows at its end alone, so that a program that knows its beginning runs with every later library of
//! the same major version.

use crate::device::DeviceParams;
use crate::engine::{Cost, CounterValues, EngineInfo, EngineParams, PlanInfo, StepSizeParams};
use crate::request::{RequestParams, Usage};
use crate::sampling::SamplingParams;
use crate::status::Error;
use crate::step::{StepOutputs, StepParams};
use crate::text::ChatMessage;
use crate::types::{BatchHandle, CType, ContextHandle, DeviceHandle, EngineHandle, RequestHandle, SequenceHandle};
use crate::verify::VerifyParams;
use crate::{batch, device, engine, sequence, step, text, verify};
use std::ffi::c_char;

/// Major version of the ABI: programs and libraries of different ones do not fit.
pub const MAJOR: u32 = include!("major.in");
/// Minor version of the ABI: grows with the table.
pub const MINOR: u32 = 1;

macro_rules! api {
    ($($name:ident = $module:ident::$function:ident($($arg:ident: $ty:ty),*);)*) => {
        /// The functions, each described in the header; `aio_api` in C.
        #[repr(C)]
        #[allow(missing_docs, reason = "the header describes each function")]
        pub struct Api {
            /// Size of this struct in bytes.
            pub struct_size: u32,
            /// Major and minor version, in the upper and the lower half.
            pub version: u32,
            $(pub $name: unsafe extern "C" fn($($ty),*) -> i32,)*
        }

        /// The functions of this library.
        pub static API: Api = Api {
            struct_size: size_of::<Api>() as u32,
            version: MAJOR << 16 | MINOR,
            $($name: $module::$function,)*
        };

        /// Name, place in bytes, and type in C of each function, for the test that holds the header to the table.
        pub fn signatures() -> Vec<(&'static str, usize, String)> {
            vec![$((
                stringify!($name),
                std::mem::offset_of!(Api, $name),
                format!("aio_status (*)({})", [$(<$ty>::c_name()),*].join(", ")),
            ),)*]
        }
    };
}

api! {
    device_open = device::open(params: *const DeviceParams, device: *mut DeviceHandle, error: *mut Error);
    device_free = device::free(device: DeviceHandle, error: *mut Error);
    engine_open = engine::open(device: DeviceHandle, params: *const EngineParams, engine: *mut EngineHandle, error: *mut Error);
    engine_free = engine::free(engine: EngineHandle, error: *mut Error);
    engine_get_info = engine::info(engine: EngineHandle, info: *mut EngineInfo, error: *mut Error);
    engine_get_plan = engine::plan_info(engine: EngineHandle, index: u32, info: *mut PlanInfo, error: *mut Error);
    engine_get_cost = engine::cost(engine: EngineHandle, size: *const StepSizeParams, cost: *mut Cost, error: *mut Error);
    engine_get_counters = engine::counters(engine: EngineHandle, values: *mut CounterValues, error: *mut Error);
    tokenize = text::tokenize(engine: EngineHandle, text: *const c_char, size: u64, flags: u32, tokens: *mut u32, capacity: u64, count: *mut u64, error: *mut Error);
    detokenize = text::detokenize(engine: EngineHandle, tokens: *const u32, count: u64, flags: u32, text: *mut c_char, capacity: u64, size: *mut u64, error: *mut Error);
    token_is_end = text::token_is_end(engine: EngineHandle, token: u32, is_end: *mut u32, error: *mut Error);
    apply_chat_template = text::chat(engine: EngineHandle, messages: *const ChatMessage, count: u64, unix_seconds: u64, text: *mut c_char, capacity: u64, size: *mut u64, error: *mut Error);
    sequence_create = sequence::create(engine: EngineHandle, sequence: *mut SequenceHandle, error: *mut Error);
    sequence_free = sequence::free(sequence: SequenceHandle, error: *mut Error);
    sequence_get_length = sequence::length(sequence: SequenceHandle, length: *mut u64, error: *mut Error);
    sequence_truncate = sequence::truncate(sequence: SequenceHandle, length: u64, nearest: *mut u64, error: *mut Error);
    sequence_fork = sequence::fork(sequence: SequenceHandle, length: u64, fork: *mut SequenceHandle, error: *mut Error);
    context_create = step::create(engine: EngineHandle, context: *mut ContextHandle, error: *mut Error);
    context_free = step::free(context: ContextHandle, error: *mut Error);
    append = step::append(context: ContextHandle, sequence: SequenceHandle, tokens: *const u32, count: u64, want: u32, sampling: *const SamplingParams, outputs: *mut StepOutputs, error: *mut Error);
    verify = verify::verify(context: ContextHandle, sequence: SequenceHandle, params: *const VerifyParams, accepted: *mut u32, next: *mut u32, error: *mut Error);
    step = step::step(context: ContextHandle, params: *const StepParams, outputs: *mut StepOutputs, error: *mut Error);
    batch_create = batch::create(engine: EngineHandle, batch: *mut BatchHandle, error: *mut Error);
    batch_free = batch::free(batch: BatchHandle, error: *mut Error);
    batch_step = batch::step(batch: BatchHandle, unfinished: *mut u64, error: *mut Error);
    request_submit = batch::submit(batch: BatchHandle, params: *const RequestParams, request: *mut RequestHandle, error: *mut Error);
    request_cancel = batch::cancel(request: RequestHandle, error: *mut Error);
    request_get_text = batch::text(request: RequestHandle, text: *mut c_char, capacity: u64, size: *mut u64, error: *mut Error);
    request_get_tokens = batch::tokens(request: RequestHandle, tokens: *mut u32, capacity: u64, count: *mut u64, error: *mut Error);
    request_get_usage = batch::usage(request: RequestHandle, usage: *mut Usage, error: *mut Error);
    request_free = batch::free_request(request: RequestHandle, error: *mut Error);
}

/// The table for a program that was built for this version; null if this library does not have all of it.
// SAFETY: the name is exported by this library alone.
#[unsafe(no_mangle)]
pub extern "C" fn aio_get_api(version: u32) -> *const Api {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major == MAJOR && minor <= MINOR { &raw const API } else { std::ptr::null() }
}
