//! Models: GGUF files, tokenizers, chat and graph templates, synthetic models.
//!
//! [`Model::open`] is the entry point: it maps a file, checks it, and provides hyper-parameters, tokenizer and the raw
//! bytes of each weight. Nothing here computes: weights keep the file's layout, and [`Model::graph_text`] makes the
//! model's graph as text. The crate reads no environment variables and no clock, and never panics on input. Used by
//! `aio-engine` and the CLI.
//!
//! With the feature `safetensors` it also opens folders in Hugging Face's format.
//!
//! A file is mapped, not read: if another process truncates it while it is open, the system ends this process with
//! `SIGBUS` (see [`aio_mapped`]). [`gguf::Gguf::check_unchanged`] detects milder changes.
//!
//! ```
//! use aio_model::{Model, gguf::Gguf, synth};
//! let preset = synth::Preset::find("smollm2-135m").ok_or("no such preset")?.tiny();
//! let bytes = synth::Synth::new(&preset, aio_ir::DType::Q4_1, 1)?.to_bytes()?;
//! let model = Model::from_gguf(Gguf::from_bytes(bytes)?)?;
//! assert_eq!(model.hyper.context_length, 512);
//! assert_eq!(model.tokenizer.encode("hi", false)?, [104, 105]);
//! assert_eq!(model.need_weight("blk.0.ffn_down.weight")?.shape, [256, 512]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod chat;
pub mod facts;
pub mod gguf;
pub mod hyper;
pub mod keys;
mod model;
mod render;
#[cfg(feature = "safetensors")]
pub mod safetensors;
pub mod synth;
pub mod template;
pub mod tokenizer;
mod unread;
mod warning;

pub use model::{Model, ModelError, Weight};
pub use unread::INERT_TENSORS;
pub use warning::Warning;
