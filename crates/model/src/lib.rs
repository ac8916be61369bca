//! Models as aio reads them: GGUF files, tokenizers, chat and graph templates, synthetic models.
//!
//! [`Model::open`] is the way in: it maps a file, checks it, and gives hyper-parameters,
//! tokenizer and the raw bytes of each weight. Nothing here computes: weights keep the file's
//! layout, and the graph of the model is text made by [`Model::graph_text`]. The crate reads no
//! environment and no clock, and panics on no input. Used by `aio-engine` and the CLI.
//!
//! With the feature `safetensors` it opens folders of Hugging Face's form too.
//!
//! A file is mapped, not read: if another process truncates it while it is open, the system ends
//! this process by `SIGBUS` (see [`aio_mapped`]). [`gguf::Gguf::check_unchanged`] finds milder changes.
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
