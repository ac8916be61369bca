//! Ensures that no key of an architecture is ignored.
//!
//! A key is honoured if the graph template asked for it or [`READ`] names it, and allowed if [`TABLE`] says why it
//! changes nothing. Every other key is an error that names it, because the model would compute something other than the
//! file says. `tests/baselines/keys.csv` lists all keys with the architectures that read them. Called by
//! [`crate::Model::graph_text`] after each rendering.

use std::collections::BTreeSet;

use crate::facts::shown;
use crate::gguf::{Gguf, MetaValue};
use crate::hyper::HyperError;

/// Keys that aio's own code reads, regardless of the template.
pub const READ: &[&str] = &["context_length"];

/// A key that templates need not ask for.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The key, without the architecture's name.
    pub name: &'static str,
    /// Architectures to which this applies; all if empty.
    pub architectures: &'static [&'static str],
    /// The values that change nothing.
    pub inert: Inert,
    /// Why they change nothing, or the feature that another value requests.
    pub why: &'static str,
}

/// Values of a key that change nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Inert {
    /// All values.
    Any,
    /// Numbers equal to this one; for 0 and 1 also false and true.
    Only(i64),
}

const OURS: &[&str] = &["llama", "qwen2", "qwen3", "pangu-embedded"];
const EXPERTS: &str = "a mixture of experts";

const fn any(name: &'static str, architectures: &'static [&'static str], why: &'static str) -> Key {
    Key { name, architectures, inert: Inert::Any, why }
}

/// A feature that the file turns off with `value`.
const fn off(name: &'static str, value: i64, feature: &'static str) -> Key {
    Key { name, architectures: &[], inert: Inert::Only(value), why: feature }
}

/// The keys. Statements about llama.cpp refer to b11434.
pub const TABLE: &[Key] = &[
    any("vocab_size", &[], "the token list says it, or the embedding"),
    any("tensor_data_layout", &[], "names the converter's source; llama.cpp reads it nowhere"),
    any("pooling_type", OURS, "how embeddings of a text are pooled, which has no bearing on the next token"),
    any("rope.scaling.finetuned", OURS, "llama.cpp prints it for these architectures and computes nothing with it"),
    any("use_parallel_residual", &["qwen2"], "early converters wrote it everywhere; llama.cpp reads it for others"),
    off("attention.causal", 1, "attention to later positions"),
    off("attention.clamp_kqv", 0, "clamped queries, keys and values"),
    off("attention.max_alibi_bias", 0, "ALiBi"),
    off("attention.sliding_window", 0, "a sliding window"),
    off("attn_logit_softcapping", 0, "a soft cap on attention"),
    off("final_logit_softcapping", 0, "a soft cap on logits"),
    off("embedding_scale", 1, "scaled embeddings"),
    off("residual_scale", 1, "scaled residuals"),
    off("logit_scale", 1, "scaled logits"),
    off("expert_count", 0, EXPERTS),
    off("expert_used_count", 0, EXPERTS),
    off("expert_shared_count", 0, EXPERTS),
    off("expert_group_count", 0, EXPERTS),
    off("expert_group_used_count", 0, EXPERTS),
    off("expert_feed_forward_length", 0, EXPERTS),
    off("expert_shared_feed_forward_length", 0, EXPERTS),
    off("expert_weights_scale", 0, EXPERTS),
    off("expert_weights_norm", 0, EXPERTS),
    off("leading_dense_block_count", 0, EXPERTS),
    off("nextn_predict_layers", 0, "layers that predict further tokens"),
    off("rope.scaling.yarn_attn_factor", 1, "another magnitude of YaRN"),
    off("rope.scaling.yarn_log_multiplier", 0, "another magnitude of YaRN"),
];

/// Checks that every key below the architecture's name was asked for or is inert.
///
/// # Errors
/// [`HyperError::Unsupported`] for a feature of [`TABLE`], [`HyperError::Unread`] for any other key.
pub(crate) fn check(gguf: &Gguf, architecture: &str, asked: &BTreeSet<String>) -> Result<(), HyperError> {
    let prefix = format!("{architecture}.");
    for (key, value) in gguf.metadata().filter(|(key, _)| !asked.contains(*key)) {
        let Some(name) = key.strip_prefix(&prefix).filter(|name| !READ.contains(name)) else { continue };
        refuse(key, name, architecture, &value.to_meta())?;
    }
    Ok(())
}

fn refuse(key: &str, name: &str, architecture: &str, value: &MetaValue) -> Result<(), HyperError> {
    let holds = |k: &&Key| k.architectures.is_empty() || k.architectures.contains(&architecture);
    let (key, got) = (key.to_owned(), shown(value));
    match TABLE.iter().filter(holds).find(|k| k.name == name) {
        Some(known) if known.inert.admits(value) => Ok(()),
        Some(known) => Err(HyperError::Unsupported { what: known.why, key, got }),
        None => Err(HyperError::Unread { key, got }),
    }
}

impl Inert {
    fn admits(self, value: &MetaValue) -> bool {
        let Inert::Only(neutral) = self else { return true };
        match value {
            MetaValue::Bool(b) => i64::from(*b) == neutral,
            MetaValue::F32(v) => *v == neutral as f32,
            MetaValue::F64(v) => *v == neutral as f64,
            MetaValue::Array(_, items) => items.iter().all(|item| self.admits(item)),
            int => int.as_int() == Some(i128::from(neutral)),
        }
    }
}
