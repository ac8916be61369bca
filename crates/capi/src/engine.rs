//! Engines: a model or an artefact on a device, what they say of themselves, and their tokenizer.

use crate::call::call;
use crate::raw::{self, Sized32};
use crate::status::{Error, Failure, Outcome};
use crate::types::{DeviceHandle, EngineHandle, Handle, c_types};
use aio::backend::ImageAccess;
use aio::devices::Opened;
use aio::engine::{Engine, EngineOptions};
use aio::model::Model;
use aio::model::gguf::Gguf;
use aio::orchestrator::StepSize;
use aio::plan::artefact::{Artefact, is_artefact};
use aio::plan::{Plan, Tail, Traffic};
use bytemuck::Zeroable;
use std::ffi::c_char;
use std::mem::offset_of;
use std::path::Path;
use std::sync::Arc;

/// Flag of [`EngineParams`]: rows may ask for hidden states.
pub const ENGINE_HIDDEN: u32 = 1;
/// Flag of [`EngineParams`]: the weights of an artefact are used where the file is mapped, and not checked.
pub const ENGINE_MAP: u32 = 2;

/// What to load, and for what; `aio_engine_params` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct EngineParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Context length in positions; 0 for the model's own.
    pub context: u32,
    /// Maximum sequences that run at once; 0 for 1.
    pub sequences: u32,
    /// Maximum rows of a prefill step; 0 for 512.
    pub prefill_rows: u32,
    /// [`ENGINE_HIDDEN`], [`ENGINE_MAP`].
    pub flags: u32,
    /// 0.
    pub reserved: u32,
    /// A GGUF file or an artefact; null for a model in memory.
    pub path: *const c_char,
    /// A GGUF file in memory; null for `path`.
    pub data: *const u8,
    /// Its size in bytes.
    pub data_size: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers and pointers.
unsafe impl Sized32 for EngineParams {
    const NAME: &'static str = "aio_engine_params";
    const FIRST_SIZE: usize = offset_of!(EngineParams, data_size) + 8;
}

/// What an engine is; `aio_engine_info` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct EngineInfo {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Context length in positions.
    pub context: u32,
    /// Tokens of the vocabulary.
    pub vocabulary: u32,
    /// Elements of a hidden state, 0 if rows cannot ask for it.
    pub hidden: u32,
    /// Maximum rows of a step.
    pub step_rows: u32,
    /// Maximum rows of a step that verifies drafts.
    pub verify_rows: u32,
    /// Maximum drafts of a sequence in a step.
    pub max_drafts: u32,
    /// Number of plans.
    pub plans: u32,
    /// 1 if the model has recurrent state, so that a sequence can be cut at some lengths only.
    pub recurrent: u32,
    /// 0.
    pub reserved: u32,
    /// Positions that the KV cache holds for all sequences together.
    pub positions: u64,
    /// Bytes of weights that a step of one row reads.
    pub weight_bytes: u64,
    /// Bytes of keys and values of one position.
    pub kv_bytes_per_position: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers.
unsafe impl Sized32 for EngineInfo {
    const NAME: &'static str = "aio_engine_info";
    const FIRST_SIZE: usize = offset_of!(EngineInfo, kv_bytes_per_position) + 8;
}

/// A plan of an engine; `aio_plan_info` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct PlanInfo {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Maximum rows.
    pub rows: u32,
    /// Maximum sequences.
    pub sequences: u32,
    /// Maximum rows with an output.
    pub outputs: u32,
    /// What it returns: an `aio_tail`.
    pub tail: u32,
    /// 1 if it verifies drafts.
    pub verifies: u32,
    /// Number of tasks.
    pub tasks: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes of weights that a step of one row reads.
    pub weight_bytes: u64,
    /// Its name, ended by a zero byte.
    pub name: [c_char; 64],
}

// SAFETY: `repr(C)`, begins with its size, integers.
unsafe impl Sized32 for PlanInfo {
    const NAME: &'static str = "aio_plan_info";
    const FIRST_SIZE: usize = offset_of!(PlanInfo, name) + 64;
}

/// A step whose cost is asked for; `aio_step_size` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct StepSizeParams {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// Sequences.
    pub sequences: u32,
    /// Rows of all sequences.
    pub rows: u32,
    /// 0.
    pub reserved: u32,
    /// Positions of all sequences together, those of the step included.
    pub positions: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers.
unsafe impl Sized32 for StepSizeParams {
    const NAME: &'static str = "aio_step_size";
    const FIRST_SIZE: usize = offset_of!(StepSizeParams, positions) + 8;
}

/// What a step costs; `aio_cost` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct Cost {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Bytes of weights, keys and values that it reads.
    pub bytes: u64,
    /// Floating-point operations, two for a multiply-add.
    pub flops: u64,
    /// Predicted seconds at the device's present speed.
    pub seconds: f64,
}

// SAFETY: `repr(C)`, begins with its size, numbers.
unsafe impl Sized32 for Cost {
    const NAME: &'static str = "aio_cost";
    const FIRST_SIZE: usize = offset_of!(Cost, seconds) + 8;
}

/// Totals of a device since it was opened; `aio_counters` in C.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct CounterValues {
    /// Size of this struct in bytes.
    pub struct_size: u32,
    /// 0.
    pub reserved: u32,
    /// Plans submitted.
    pub submissions: u64,
    /// Kernels launched.
    pub launches: u64,
    /// Times that the host waited.
    pub syncs: u64,
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Nanoseconds of all steps on a device with modelled time; 0 on others.
    pub modelled_ns: u64,
}

// SAFETY: `repr(C)`, begins with its size, integers.
unsafe impl Sized32 for CounterValues {
    const NAME: &'static str = "aio_counters";
    const FIRST_SIZE: usize = offset_of!(CounterValues, modelled_ns) + 8;
}

c_types! {
    EngineParams = "aio_engine_params",
    EngineInfo = "aio_engine_info",
    PlanInfo = "aio_plan_info",
    StepSizeParams = "aio_step_size",
    Cost = "aio_cost",
    CounterValues = "aio_counters",
}

/// The engine of a handle.
pub(crate) fn get(engine: EngineHandle) -> Outcome<Arc<Engine>> {
    engine.get()
}

fn options(params: &EngineParams) -> Outcome<EngineOptions> {
    raw::reserved(params.reserved, EngineParams::NAME)?;
    if params.flags & !(ENGINE_HIDDEN | ENGINE_MAP) != 0 {
        return Err(Failure::argument(format!(
            "flags of aio_engine_params are {:#x}; 1 and 2 are known",
            params.flags
        )));
    }
    let mut options = EngineOptions { hidden: params.flags & ENGINE_HIDDEN != 0, ..EngineOptions::default() };
    options.context = Some(params.context).filter(|&c| c != 0);
    options.sequences = params.sequences.max(1);
    if params.prefill_rows != 0 {
        options.prefill_rows = params.prefill_rows;
    }
    Ok(options)
}

fn from_artefact(path: &Path, params: &EngineParams, device: &Opened, options: &EngineOptions) -> Outcome<Engine> {
    let access = if params.flags & ENGINE_MAP != 0 { ImageAccess::Map } else { ImageAccess::Read };
    Ok(Engine::from_artefact(Artefact::open(path)?, Arc::clone(&device.device), options, access)?)
}

/// # Safety
/// As the header says.
unsafe fn opened(params: &EngineParams, device: &Opened) -> Outcome<Engine> {
    let options = options(params)?;
    let model = match (params.path.is_null(), params.data.is_null()) {
        (true, true) => return Err(Failure::argument("aio_engine_params names neither a path nor a model in memory")),
        (false, false) => return Err(Failure::argument("aio_engine_params names a path and a model in memory")),
        (true, false) => {
            // SAFETY: the caller's promise.
            let bytes = unsafe { raw::slice(params.data, params.data_size, "data")? };
            Model::from_gguf(Gguf::from_bytes(bytes.to_vec())?)?
        }
        (false, true) => {
            // SAFETY: the caller's promise.
            let path = unsafe { raw::path(params.path, "path")? };
            if is_artefact(&path) {
                return from_artefact(&path, params, device, &options);
            }
            Model::open(&path)?
        }
    };
    if params.flags & ENGINE_MAP != 0 {
        return Err(Failure::argument("AIO_ENGINE_MAP is for artefacts, and this is a model"));
    }
    Ok(aio::load(model, Arc::clone(&device.device), &options)?)
}

/// Loads a model or an artefact.
pub(crate) unsafe extern "C" fn open(
    device: DeviceHandle,
    params: *const EngineParams,
    engine: *mut EngineHandle,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (device, params) = (device.get::<Opened>()?, raw::read(params)?);
            EngineHandle::give(engine, || opened(&params, &device))
        })
    }
}

/// Frees an engine. What was made of it keeps it.
pub(crate) unsafe extern "C" fn free(engine: EngineHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || engine.take::<Engine>().map(drop)) }
}

fn info_of(engine: &Engine) -> EngineInfo {
    let work = engine.work();
    EngineInfo {
        context: engine.context() as u32,
        vocabulary: engine.model().hyper.vocab_size,
        hidden: engine.hidden_width().unwrap_or(0),
        step_rows: engine.prefill_rows() as u32,
        verify_rows: engine.verify_rows() as u32,
        max_drafts: engine.most_drafts() as u32,
        plans: engine.family().plans.len() as u32,
        recurrent: engine.is_recurrent().into(),
        positions: engine.positions() as u64,
        weight_bytes: work.weight_bytes,
        kv_bytes_per_position: work.kv_bytes_per_position,
        ..EngineInfo::zeroed()
    }
}

/// Says what an engine is.
pub(crate) unsafe extern "C" fn info(engine: EngineHandle, info: *mut EngineInfo, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || raw::write(info, info_of(&*get(engine)?))) }
}

fn plan_info_of(engine: &Engine, plan: &Plan) -> PlanInfo {
    let bucket = plan.bucket;
    let mut info = PlanInfo {
        rows: bucket.rows,
        sequences: bucket.seqs,
        outputs: bucket.outs,
        tail: tail_id(bucket.tail),
        verifies: bucket.verify.into(),
        tasks: plan.tasks.len() as u32,
        weight_bytes: Traffic::of(engine.family(), plan).weights_of(1),
        ..PlanInfo::zeroed()
    };
    let name = bucket.to_string();
    let cut = name.floor_char_boundary(info.name.len() - 1);
    for (to, from) in info.name.iter_mut().zip(&name.as_bytes()[..cut]) {
        *to = *from as c_char;
    }
    info
}

fn tail_id(tail: Tail) -> u32 {
    match tail {
        Tail::Argmax => 0,
        Tail::Sample => 1,
        Tail::Logits => 2,
        Tail::Hidden => 3,
    }
}

/// Says what a plan of an engine is.
pub(crate) unsafe extern "C" fn plan_info(
    engine: EngineHandle,
    index: u32,
    info: *mut PlanInfo,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let engine = get(engine)?;
            let plans = &engine.family().plans;
            let none = || Failure::argument(format!("there is no plan {index}; the engine has {}", plans.len()));
            let plan = plans.get(index as usize).ok_or_else(none)?;
            raw::write(info, plan_info_of(&engine, plan))
        })
    }
}

fn cost_of(engine: &Engine, size: &StepSizeParams) -> Cost {
    let work = engine.work();
    let step = StepSize { sequences: size.sequences, rows: size.rows, positions: size.positions };
    let rows = u64::from(size.rows);
    let seen = size.positions.saturating_mul(rows) / u64::from(size.sequences.max(1));
    let macs = (work.int8_macs + work.f32_macs).saturating_mul(rows);
    let attention = work.macs_per_position.saturating_mul(seen);
    Cost {
        bytes: work.weight_bytes.saturating_add(work.kv_bytes_per_position.saturating_mul(size.positions)),
        flops: macs.saturating_add(attention).saturating_mul(2),
        seconds: engine.predict(step).0,
        ..Cost::zeroed()
    }
}

/// Predicts what a step costs.
pub(crate) unsafe extern "C" fn cost(
    engine: EngineHandle,
    size: *const StepSizeParams,
    cost: *mut Cost,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (engine, size) = (get(engine)?, raw::read(size)?);
            raw::reserved(size.reserved, StepSizeParams::NAME)?;
            raw::write(cost, cost_of(&engine, &size))
        })
    }
}

/// Reads the counters of an engine's device.
pub(crate) unsafe extern "C" fn counters(engine: EngineHandle, values: *mut CounterValues, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let c = get(engine)?.counters();
            let now = CounterValues {
                submissions: c.submissions,
                launches: c.launches,
                syncs: c.syncs,
                bytes_read: c.bytes_read,
                bytes_written: c.bytes_written,
                modelled_ns: c.modelled_ns,
                ..CounterValues::zeroed()
            };
            raw::write(values, now)
        })
    }
}
