//! The runtime of the simulated `libascendcl.so`: devices, memory, streams, events, captured graphs and the clock.
//!
//! `state` holds the data and `run` executes it; the other modules are the exported functions by theme.

pub mod block;
pub mod capture;
pub mod close;
pub mod code;
pub mod control;
pub mod copy;
pub mod device;
pub mod event;
pub mod graph;
pub mod group;
pub mod malloc;
pub mod op;
pub mod profile;
pub mod refused;
pub mod report;
pub mod rule;
pub mod run;
pub mod state;
pub mod stream;
pub mod submit;
pub mod symbols;
pub mod thread;
pub mod vmm;
