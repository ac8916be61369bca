//! `tokenizer.json` and `tokenizer_config.json`: the tokenizer and the chat template, as GGUF metadata.
//!
//! Only byte-level BPE, with a pre-tokenizer that aio knows by name. Unicode normalisation (NFC), which some of these
//! files ask for, is not applied; llama.cpp does not apply it either.

use super::config::{Config, Ids};
use super::error::SafetensorsError;
use super::files::{read_json, read_text};
use crate::gguf::write::GgufWriter;
use crate::tokenizer::pre;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// GGUF's token kinds.
const NORMAL: i32 = 1;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    model: Value,
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Bpe {
    /// Sorted by text, so that the same file always gives the same tokens.
    vocab: BTreeMap<String, u32>,
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Text(String),
    Pair(String, String),
}

/// The first and last tokens of a text, from `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct Ends {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    chat_template: Option<Chat>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Described { content: String },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Chat {
    One(String),
    Named(Vec<NamedChat>),
}

#[derive(Deserialize)]
struct NamedChat {
    name: String,
    template: String,
}

/// Writes tokens, merges, first and last tokens, and chat template.
pub(super) fn describe(folder: &Path, config: &Config, w: &mut GgufWriter) -> Result<(), SafetensorsError> {
    let path = folder.join("tokenizer.json");
    let file: TokenizerFile = read_json(&path)?;
    let unsupported = |what: String| SafetensorsError::Unsupported { path: path.clone(), what };
    let kind = file.model.get("type").and_then(Value::as_str).unwrap_or("BPE");
    if kind != "BPE" || file.model.get("byte_fallback") == Some(&Value::Bool(true)) {
        return Err(unsupported(format!("a tokenizer of type {kind} that is not byte-level")));
    }
    let normalizer = file.normalizer.as_ref().and_then(|n| n.get("type")).and_then(Value::as_str);
    if let Some(other) = normalizer.filter(|n| *n != "NFC") {
        return Err(unsupported(format!("the normalizer {other:?}")));
    }
    let bpe: Bpe = serde_json::from_value(file.model)
        .map_err(|e| SafetensorsError::Json { path: path.clone(), message: format!("model: {e}") })?;
    let name = pre_tokenizer(file.pre_tokenizer.as_ref(), bpe.ignore_merges);
    let name = name.ok_or_else(|| unsupported("its pre_tokenizer".to_owned()))?;
    w.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", name);
    let vocabulary = Vocabulary::new(&bpe.vocab, &file.added_tokens, config.vocab_size);
    let vocabulary = vocabulary.map_err(|id| SafetensorsError::Value {
        path: path.clone(),
        key: "a token's id",
        got: id.to_string(),
        expected: format!("below vocab_size {}", config.vocab_size),
    })?;
    let merges = bpe.merges.into_iter().map(|m| match m {
        Merge::Text(text) => text,
        Merge::Pair(first, second) => format!("{first} {second}"),
    });
    w.set("tokenizer.ggml.merges", merges.collect::<Vec<String>>());
    describe_ends(folder, config, &vocabulary, file.post_processor.as_ref(), w)?;
    w.set("tokenizer.ggml.tokens", vocabulary.texts).set("tokenizer.ggml.token_type", vocabulary.kinds);
    Ok(())
}

/// Texts and kinds by id, and ids by text.
struct Vocabulary {
    texts: Vec<String>,
    kinds: Vec<i32>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// Gives every id below `count` a text. The error is an id that is not below it.
    fn new(vocab: &BTreeMap<String, u32>, added: &[Added], count: u32) -> Result<Vocabulary, u32> {
        let mut texts: Vec<String> = (0..count).map(|i| format!("[PAD{i}]")).collect();
        let mut kinds = vec![UNUSED; count as usize];
        let normal = vocab.iter().map(|(text, &id)| (id, text, NORMAL));
        let added = added.iter().map(|a| (a.id, &a.content, if a.special { CONTROL } else { USER_DEFINED }));
        let mut ids = HashMap::new();
        for (id, text, kind) in normal.chain(added) {
            let place = texts.get_mut(id as usize).ok_or(id)?;
            place.clone_from(text);
            kinds[id as usize] = kind;
            ids.insert(text.clone(), id);
        }
        Ok(Vocabulary { texts, kinds, ids })
    }
}

fn describe_ends(
    folder: &Path,
    config: &Config,
    vocabulary: &Vocabulary,
    post_processor: Option<&Value>,
    w: &mut GgufWriter,
) -> Result<(), SafetensorsError> {
    let path = folder.join("tokenizer_config.json");
    let ends: Ends = if path.is_file() { read_json(&path)? } else { Ends::default() };
    let id = |token: &Option<Token>| match token.as_ref()? {
        Token::Text(text) | Token::Described { content: text } => vocabulary.ids.get(text).copied(),
    };
    let listed = |ids: &Option<Ids>| ids.as_ref().map_or(Vec::new(), |i| i.list().to_vec());
    let added = added_tokens(post_processor);
    let first = added.as_ref().and_then(|a| vocabulary.ids.get(a.0.as_deref()?).copied());
    let (bos_ids, eos_ids) = (listed(&config.bos_token_id), listed(&config.eos_token_id));
    let bos = first.or_else(|| id(&ends.bos_token)).or(bos_ids.first().copied());
    let eos = id(&ends.eos_token).or(eos_ids.first().copied());
    let others: Vec<u32> = eos_ids.into_iter().filter(|&id| Some(id) != eos).collect();
    let places = ["bos", "eos", "eot", "eom"];
    let ids = [bos, eos, others.first().copied(), others.get(1).copied()];
    for (place, id) in places.iter().zip(ids).filter_map(|(place, id)| Some((place, id?))) {
        w.set(&format!("tokenizer.ggml.{place}_token_id"), id);
    }
    // The tokenizer's own post-processor takes precedence; the flags are for files without one.
    let (add_bos, add_eos) = match &added {
        Some((first, last)) => (first.is_some(), last.is_some()),
        None => (ends.add_bos_token == Some(true), ends.add_eos_token == Some(true)),
    };
    w.set("tokenizer.ggml.add_bos_token", add_bos).set("tokenizer.ggml.add_eos_token", add_eos);
    if let Some(template) = chat_template(folder, ends.chat_template)? {
        w.set("tokenizer.chat_template", template);
    }
    Ok(())
}

/// The special tokens that the post-processor's template puts before and after a text; `None` if there is no template.
fn added_tokens(post_processor: Option<&Value>) -> Option<(Option<String>, Option<String>)> {
    let of = post_processor?;
    match of.get("type")?.as_str()? {
        "Sequence" => of.get("processors")?.as_array()?.iter().find_map(|p| added_tokens(Some(p))),
        "TemplateProcessing" => {
            let single = of.get("single")?.as_array()?;
            let special = |step: Option<&Value>| step?.get("SpecialToken")?.get("id")?.as_str().map(str::to_owned);
            Some((special(single.first()), special(single.last())))
        }
        _ => None,
    }
}

fn chat_template(folder: &Path, in_config: Option<Chat>) -> Result<Option<String>, SafetensorsError> {
    let path = folder.join("chat_template.jinja");
    if path.is_file() {
        return read_text(&path).map(Some);
    }
    Ok(match in_config {
        Some(Chat::One(text)) => Some(text),
        Some(Chat::Named(all)) => all.into_iter().find(|t| t.name == "default").map(|t| t.template),
        None => None,
    })
}

/// The name by which aio knows a pre-tokenizer.
fn pre_tokenizer(of: Option<&Value>, ignore_merges: bool) -> Option<&'static str> {
    let mut splits = Vec::new();
    collect_splits(of?, &mut splits)?;
    pre::name_of(&splits, ignore_merges)
}

/// Regular expressions of a pre-tokenizer, in order; `None` if it does something else.
fn collect_splits(of: &Value, splits: &mut Vec<String>) -> Option<()> {
    let flag = |name: &str, default: bool| of.get(name).and_then(Value::as_bool).unwrap_or(default);
    match of.get("type")?.as_str()? {
        "Sequence" => of.get("pretokenizers")?.as_array()?.iter().try_for_each(|p| collect_splits(p, splits)),
        "Split" if of.get("behavior")?.as_str()? == "Isolated" && !flag("invert", false) => {
            splits.push(of.get("pattern")?.get("Regex")?.as_str()?.to_owned());
            Some(())
        }
        "Digits" if flag("individual_digits", false) => {
            splits.push(pre::DIGIT.to_owned());
            Some(())
        }
        "ByteLevel" if !flag("add_prefix_space", true) => {
            if flag("use_regex", true) {
                splits.push(pre::GPT2.to_owned());
            }
            Some(())
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(of: Value, ignore_merges: bool) -> Option<&'static str> {
        pre_tokenizer(Some(&of), ignore_merges)
    }

    fn split(regex: &str) -> Value {
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, level]})
    }

    #[test]
    fn published_pre_tokenizers_are_recognised() {
        let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert_eq!(name(split(llama3), true), Some("llama3"));
        assert_eq!(name(split(llama3), false), Some("dbrx"));
        assert_eq!(name(split(&llama3.replace("{1,3}", "")), false), Some("qwen2"));
        assert_eq!(name(split(&llama3.replace("{1,3}", "{1,4}")), false), None);
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        assert_eq!(name(level.clone(), false), Some("gpt-2"));
        let digits = json!({"type": "Digits", "individual_digits": true});
        assert_eq!(name(json!({"type": "Sequence", "pretokenizers": [digits, level]}), false), Some("smollm"));
        assert_eq!(name(json!({"type": "Metaspace"}), false), None);
        assert_eq!(name(json!({"type": "ByteLevel"}), false), None, "a space in front is not added");
    }

    #[test]
    fn a_template_says_what_is_added() {
        let special = |t: &str| json!({"SpecialToken": {"id": t, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let template = json!({"type": "TemplateProcessing", "single": [special("<s>"), text]});
        let sequence = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]});
        assert_eq!(added_tokens(Some(&sequence)), Some((Some("<s>".to_owned()), None)));
        assert_eq!(added_tokens(Some(&json!({"type": "ByteLevel"}))), None);
    }
}
