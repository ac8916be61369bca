//! The engine: a model on a device, sequences with their KV pages and recurrent state, the step loop, streaming
//! generation.
//!
//! [`Engine::load`] compiles the model's step graph for the device, checks that memory suffices, uploads the weights
//! once and loads one plan per bucket. [`Engine::from_artefact`] loads what was compiled and packed earlier; see
//! [`Compiled`]. [`Engine::step`] runs one step for any rows of any sequences. [`Batch`] is the loop around it for many
//! sequences: prefill in chunks, drafts and their verification, stopping, streaming. [`Engine::generate`] is a batch of
//! one.
//!
//! Threads may share an engine. Its steps run one at a time; [`Sequence`]s own their pages and slots and return them
//! when dropped.
//!
//! **Invariant:** a step that fails leaves every sequence unchanged: lengths grow only after the device has finished.
#![forbid(unsafe_code)]

mod advance;
mod artefact;
mod batch;
mod burst;
mod dispatch;
mod engine;
mod error;
mod fit;
mod flow;
mod forms;
mod generate;
mod limits;
mod lock;
mod mask;
mod memory;
mod model_drafter;
mod need;
mod output;
mod outputs;
mod paddings;
mod pool;
mod pools;
mod recurrent;
mod request;
mod run_step;
mod runner;
mod sequence;
mod slots;
mod source;
mod state;
mod step;
mod steps;
mod stop;
mod work;

pub use artefact::{Compiled, compiler_hash};
pub use batch::{Batch, MemberId, SpeculationStats};
pub use dispatch::Dispatch;
pub use engine::{Engine, EngineOptions};
pub use error::EngineError;
pub use fit::Fit;
pub use flow::Flow;
pub use forms::FormSteps;
pub use limits::MAX_DRAFTS;
pub use limits::WIDE_ROWS;
pub use mask::LogitMask;
pub use memory::available_bytes;
pub use model_drafter::ModelDrafter;
pub use need::MemoryNeed;
pub use outputs::{OutputBuffer, Outputs};
pub use request::{Completion, Request, Sampling, Speculation, StopReason, Timing};
pub use runner::RowTally;
pub use sequence::Sequence;
pub use step::{DraftOutcome, DraftSpan, Step, StepRow, StepWants};
pub use work::ModelWork;
