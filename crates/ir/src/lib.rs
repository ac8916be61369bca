//! The graph IR of aio: typed SSA values, one op table, a text form, a verifier.
//!
//! # What a graph is
//! A [`Graph`] is a list of values and nodes. Inputs are bound for each step, weights are constant, states (the KV
//! cache) live on the device between steps. A node applies an [`Op`] to older values. A dimension is a number or a
//! symbol ([`Sym`]) bound by each step, so that one graph serves prefill, decode and verification.
//!
//! # Evaluation
//! Nodes are pure, so any order that respects the edges is valid. State is a value too: an op that changes a state
//! takes it and returns the new one. The old value must not be used afterwards, so that a back end may update it in
//! place. Outputs and final states must be computed; anything else may be dropped.
//!
//! # Where to start
//! [`op`] lists the ops, [`text`] describes the text form, [`mod@verify`] lists the rules. [`Builder`] has an example.
//!
//! This crate does no I/O, depends on no device and never panics on input. Code that receives a graph accepted by
//! [`verify()`] may index without further checks.
#![forbid(unsafe_code)]

pub mod attr;
pub mod cost;
pub mod dot;
pub mod dtype;
pub mod float;
pub mod graph;
pub mod ids;
pub mod infer;
mod infer_error;
mod infer_state;
pub mod kv;
pub mod op;
pub mod quant;
pub mod sampling;
pub mod shape;
pub mod slots;
pub mod text;
pub mod verify;

pub use attr::Attr;
pub use cost::{Cost, Load};
pub use dtype::DType;
pub use graph::{Builder, Def, Final, Graph, Node, Output, Value};
pub use ids::{NodeId, ValueId};
pub use kv::KvShape;
pub use op::{Group, Op};
pub use shape::{Dim, Dims, Shape, Sym, TensorType};
pub use verify::{Verified, VerifyErrors, verify};

/// Positions in a KV page, unless a state's type has another number ([`KvShape::positions`]).
pub const PAGE_POSITIONS: u64 = 64;

/// Sampling parameters per row of the `sample` op: temperature, top-k, top-p, min-p, repetition penalty, presence
/// penalty, frequency penalty. See [`Op::Sample`].
pub const SAMPLE_PARAMS: u64 = 7;

/// Hash, in hexadecimal, of the sources of this crate that affect the contents of an artefact.
pub const SOURCE_HASH: &str = env!("AIO_SOURCE_HASH");
