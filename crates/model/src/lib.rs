//! Placeholder.
#![forbid(unsafe_code)]

pub mod chat;
pub mod gguf;
pub mod hyper;
pub mod template;
pub mod tokenizer;
