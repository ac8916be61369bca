//! Models: GGUF files, tokenizers, chat templates, graph templates.
//!
//! [`Model::open`] opens a file and reads all but the weights; [`Model::graph_text`] fills in the graph template of its
//! architecture; the engine hands [`Model::weight`] to the device. Every reader here takes files that may be damaged or
//! hostile: errors are typed, nothing panics, nothing is allocated from an unchecked count.
//!
//! A model file must not be truncated while it is open: reading a page that is gone raises SIGBUS. The library installs
//! no handler for it; the command line does.
#![forbid(unsafe_code)]

pub mod chat;
pub mod gguf;
pub mod hyper;
mod model;
pub mod template;
pub mod tokenizer;

pub use model::{Model, ModelError, Weight};
