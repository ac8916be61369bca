//! Compares token ids with those of llama.cpp, stored as data, and decodes back to text.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use aio_filetest::needs;
use aio_model::Warning;
use aio_model::gguf::write::GgufWriter;
use aio_model::gguf::{Gguf, MetaValue};
use aio_model::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};
use serde_json::Value;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn default_tokenizer(test: &str) -> Option<Tokenizer> {
    let gguf = Gguf::open(needs::default_model(test)?).unwrap();
    Some(Tokenizer::from_gguf(&gguf).unwrap())
}

#[test]
fn golden_prompts() {
    let Some(tokenizer) = default_tokenizer("golden_prompts") else { return };
    let rows: Value = serde_json::from_str(include_str!("../../../tests/data/golden-smollm2.json")).unwrap();
    for row in rows.as_array().unwrap() {
        let prompt = row["prompt"].as_str().unwrap();
        assert_eq!(tokenizer.encode_prompt(prompt, true).unwrap(), ids(&row["prompt_ids"]), "{prompt:?}");
        let text = tokenizer.decode(&ids(&row["greedy_ids"]), true).unwrap();
        assert_eq!(text, row["text"].as_str().unwrap());
    }
}

#[test]
fn odd_texts_as_llama_tokenize_does_them() {
    let Some(tokenizer) = default_tokenizer("odd_texts_as_llama_tokenize_does_them") else { return };
    let rows: Value = serde_json::from_str(include_str!("data/llama-tokenize-smollm2.json")).unwrap();
    for row in rows.as_array().unwrap() {
        let (text, special) = (row["text"].as_str().unwrap(), row["parse_special"].as_bool().unwrap());
        let got = tokenizer.encode_prompt(text, special).unwrap();
        assert_eq!(got, ids(&row["ids"]), "{text:?}, parse_special {special}");
        assert_eq!(tokenizer.decode(&got, true).unwrap(), text);
        let mut stream = StreamDecoder::with_special();
        let mut streamed: String = got.iter().map(|&id| stream.push(&tokenizer, id)).collect();
        streamed += &stream.finish();
        assert_eq!(streamed, text);
    }
}

#[test]
fn ends_of_the_default_model() {
    let Some(tokenizer) = default_tokenizer("ends_of_the_default_model") else { return };
    let vocab = tokenizer.vocab();
    assert_eq!((vocab.bos(), vocab.eos(), tokenizer.add_bos()), (Some(1), Some(2), false));
    // <|endoftext|>, <|im_end|> and, as in llama.cpp, <reponame>.
    assert_eq!(vocab.ends().collect::<Vec<_>>(), [0, 2, 4]);
}

/// A byte-level vocabulary: 256 bytes, "ab", a control and a user-defined token.
fn byte_level() -> GgufWriter {
    let printable = |b: u8| match b {
        0..=0x20 => 0x100 + u32::from(b),
        0x7f..=0xa0 => 0x121 + u32::from(b) - 0x7f,
        0xad => 0x143,
        b => u32::from(b),
    };
    let mut tokens: Vec<String> = (0..=255).map(|b| char::from_u32(printable(b)).unwrap().to_string()).collect();
    tokens.extend(["ab".to_owned(), "<|im_end|>".to_owned(), "<u>".to_owned()]);
    let mut kinds = vec![1i32; 257];
    kinds.extend([3, 4]);
    let mut w = GgufWriter::new();
    w.set("tokenizer.ggml.model", "gpt2").set("tokenizer.ggml.pre", "gpt-2");
    w.set("tokenizer.ggml.tokens", tokens).set("tokenizer.ggml.token_type", kinds);
    w.set("tokenizer.ggml.merges", vec!["a b".to_owned()]);
    w
}

fn build(w: &GgufWriter) -> Result<Tokenizer, TokenizerError> {
    let bytes = w.to_bytes(&mut |_, _| Ok(())).unwrap();
    Tokenizer::from_gguf(&Gguf::from_bytes(bytes).unwrap())
}

#[test]
fn specials_are_parsed_only_when_asked() {
    let t = build(&byte_level()).unwrap();
    assert_eq!(t.encode("ab<|im_end|>", true).unwrap(), [256, 257]);
    assert_eq!(t.encode("ab<|im_end|>", false).unwrap().len(), 11);
    assert_eq!(t.encode("<u>ab<u>", false).unwrap(), [258, 256, 258]);
    assert_eq!(t.decode(&[256, 257, 258], false).unwrap(), "ab<u>");
    assert_eq!(t.decode(&[257], true).unwrap(), "<|im_end|>");
    assert!(t.vocab().is_end(257) && !t.vocab().is_end(258));
    assert!(matches!(t.decode(&[259], true), Err(TokenizerError::TokenId { id: 259, tokens: 259 })));
}

#[test]
fn a_stream_never_emits_half_a_character() {
    let t = build(&byte_level()).unwrap();
    let mut stream = StreamDecoder::new();
    let out: Vec<String> = "a€😀".bytes().map(|b| stream.push(&t, t_id(&t, b))).collect();
    assert_eq!(out, ["a", "", "", "€", "", "", "", "😀"]);
    assert_eq!(stream.finish(), "");
    let out: Vec<String> = [0xff, 0xe2, 0x82, b'x', 0xf0].iter().map(|&b| stream.push(&t, t_id(&t, b))).collect();
    assert_eq!(out, ["\u{fffd}", "", "", "\u{fffd}x", ""]);
    assert_eq!(stream.finish(), "\u{fffd}");
}

/// In [`byte_level`] the id of a byte is the byte.
fn t_id(t: &Tokenizer, byte: u8) -> u32 {
    assert!(t.vocab().len() > 256);
    byte.into()
}

#[test]
fn faults_are_typed() {
    let error = |key: &str, value: MetaValue| build(byte_level().set(key, value)).unwrap_err();
    assert!(matches!(error("tokenizer.ggml.model", "bert".into()), TokenizerError::Model { got } if got == "bert"));
    assert!(matches!(error("tokenizer.ggml.pre", "future".into()), TokenizerError::Pre { got } if got == "future"));
    let merges = |m: &str| error("tokenizer.ggml.merges", vec![m.to_owned()].into());
    assert!(matches!(merges("ab"), TokenizerError::Merge { index: 0, .. }));
    assert!(matches!(merges(""), TokenizerError::Merge { .. }));
    let twice = vec!["a".to_owned(), "a".to_owned()];
    assert!(matches!(
        error("tokenizer.ggml.tokens", twice.into()),
        TokenizerError::Length { .. } | TokenizerError::DuplicateToken { .. }
    ));
    assert!(matches!(error("tokenizer.ggml.token_type", vec![1i32].into()), TokenizerError::Length { .. }));
    assert!(matches!(error("tokenizer.ggml.tokens", Vec::<String>::new().into()), TokenizerError::Count { got: 0 }));
    assert!(matches!(error("tokenizer.ggml.suppress_tokens", vec![1i32].into()), TokenizerError::Suppressed { .. }));
    build(byte_level().set("tokenizer.ggml.suppress_tokens", Vec::<i32>::new())).unwrap();
}

#[test]
fn special_tokens_outside_the_vocabulary_are_warned_of_and_missing() {
    for (name, value) in [("bos", 259u32), ("eos", 260), ("unknown", 999), ("eot", 259), ("eom", 259), ("fim_pad", 259)]
    {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let t = build(byte_level().set(&key, value)).unwrap();
        let warning = Warning::SpecialId { key: key.clone(), got: value, tokens: 259 };
        assert_eq!(t.warnings(), std::slice::from_ref(&warning));
        assert_eq!(
            warning.to_string(),
            format!("{key} is {value}, but there are 259 tokens; the key is taken as missing")
        );
        assert_eq!((t.vocab().bos(), t.vocab().eos(), t.vocab().unknown()), (None, None, None));
    }
    // Some converters write "no such token" this way.
    assert!(build(byte_level().set("tokenizer.ggml.bos_token_id", u32::MAX)).unwrap().warnings().is_empty());
}

#[test]
fn a_token_that_is_asked_for_and_missing_is_warned_of_and_not_added() {
    for (flag, id_key) in [
        ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id"),
        ("tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id"),
    ] {
        let t = build(byte_level().set(flag, true)).unwrap();
        assert_eq!(t.warnings(), [Warning::NotAdded { flag, id_key }]);
        assert_eq!(t.encode_prompt("ab", false).unwrap(), [256]);
    }
}

#[test]
fn lists_longer_than_the_vocabulary_and_tokens_without_text_are_warned_of() {
    let key = "tokenizer.ggml.token_type";
    let t = build(byte_level().set(key, [vec![1i32; 257], vec![3, 4, 1, 1]].concat())).unwrap();
    assert_eq!(t.warnings(), [Warning::Longer { key, got: 261, tokens: 259 }]);
    assert_eq!(t.encode("ab<|im_end|>", true).unwrap(), [256, 257]);
    let MetaValue::Array(ty, mut items) = gguf_value("tokenizer.ggml.tokens") else { panic!("a list") };
    (items[7], items[9]) = ("".into(), "".into());
    let t = build(byte_level().set("tokenizer.ggml.tokens", MetaValue::Array(ty, items))).unwrap();
    assert_eq!(t.warnings(), [Warning::EmptyTokens { count: 2, first: 7 }]);
}

#[test]
fn a_missing_pre_tokenizer_is_warned_of_and_the_default_taken() {
    let mut plain = GgufWriter::new();
    for (key, value) in Gguf::from_bytes(byte_level().to_bytes(&mut |_, _| Ok(())).unwrap()).unwrap().metadata() {
        if key != "tokenizer.ggml.pre" {
            plain.set(key, value.to_meta());
        }
    }
    let t = build(&plain).unwrap();
    assert_eq!(t.warnings(), [Warning::NoPre { assumed: "default" }]);
    assert!(t.warnings()[0].to_string().contains("\"default\" is assumed"));
    let named = build(byte_level().set("tokenizer.ggml.pre", "default")).unwrap();
    let text = "a1234 b's";
    assert_eq!(t.encode(text, false).unwrap(), named.encode(text, false).unwrap());
}

#[test]
fn merges_that_make_no_token_are_warned_of_and_their_text_is_encoded_by_bytes() {
    let list = ["b c", "a bc", "a b", "x y"].map(str::to_owned).to_vec();
    let t = build(byte_level().set("tokenizer.ggml.merges", list)).unwrap();
    let warning = Warning::Merges { count: 3, first: 0, text: "b c".to_owned() };
    assert_eq!(t.warnings(), [warning]);
    let bytes = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    // "b c" comes first by rank and leaves no "ab" to join.
    assert_eq!(t.encode("abc", false).unwrap(), bytes("abc"));
    assert_eq!(t.encode("ab xy", false).unwrap(), [&[256][..], &bytes(" xy")].concat());
}

#[test]
fn a_token_that_is_not_utf8_is_warned_of_and_the_others_stay() {
    let MetaValue::Array(ty, mut items) = gguf_value("tokenizer.ggml.tokens") else { panic!("a list") };
    items[258] = MetaValue::Bytes(vec![0xff, b'u']);
    let t = build(byte_level().set("tokenizer.ggml.tokens", MetaValue::Array(ty, items))).unwrap();
    assert_eq!(t.warnings(), [Warning::NotUtf8 { what: "token 258".to_owned() }]);
    assert_eq!(t.encode("ab<u>", false).unwrap()[0], 256);
}

/// A value of [`byte_level`].
fn gguf_value(key: &str) -> MetaValue {
    let gguf = Gguf::from_bytes(byte_level().to_bytes(&mut |_, _| Ok(())).unwrap()).unwrap();
    gguf.get(key).unwrap().to_meta()
}

#[test]
fn text_behind_a_long_run_of_spaces_is_tokenized_as_elsewhere() {
    for pre in ["gpt-2", "llama-bpe", "qwen2", "default", "gpt-4o"] {
        let t = build(byte_level().set("tokenizer.ggml.pre", pre)).unwrap();
        let (short, long) = (t.encode("  ab12 ab", false).unwrap(), " ".repeat(1_500_000) + "  ab12 ab");
        let ids = t.encode(&long, false).unwrap();
        assert_eq!(ids[1_500_000..], short, "{pre}");
        assert!(ids[..1_500_000].iter().all(|&id| id == 32), "{pre}");
    }
}

#[test]
fn sentencepiece_joins_by_score() {
    let mut w = GgufWriter::new();
    let tokens = ["<unk>", "<s>", "</s>", "<0xC3>", "<0xA4>", "▁", "a", "b", "c", "ab", "bc", "▁a", "abc"];
    let kinds = [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1, 1, 1];
    let scores = [0.0, 0.0, 0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0, -0.5];
    w.set("tokenizer.ggml.model", "llama").set("tokenizer.ggml.bos_token_id", 1u32);
    w.set("tokenizer.ggml.eos_token_id", 2u32).set("tokenizer.ggml.unknown_token_id", 0u32);
    w.set("tokenizer.ggml.tokens", tokens.map(str::to_owned).to_vec());
    w.set("tokenizer.ggml.token_type", kinds.to_vec()).set("tokenizer.ggml.scores", scores.to_vec());
    let t = build(&w).unwrap();
    // "bc" is joined before "ab"; then "abc" before "▁a".
    assert_eq!(t.encode_prompt("abc", false).unwrap(), [1, 5, 12]);
    assert_eq!(t.encode("ab</s>a", true).unwrap(), [5, 9, 2, 11]);
    assert_eq!(t.encode("ä", false).unwrap(), [5, 3, 4]);
    assert_eq!(t.encode("ö", false).unwrap(), [5, 3, 0]);
    assert_eq!(t.decode(&[1, 11, 3, 4], false).unwrap(), " aä");
    assert!(t.encode("", false).unwrap().is_empty());
}

#[test]
fn a_sentencepiece_model_that_names_no_special_tokens_has_the_usual_ones() {
    let mut w = GgufWriter::new();
    w.set("tokenizer.ggml.model", "llama").set("tokenizer.ggml.eos_token_id", 99u32);
    w.set("tokenizer.ggml.tokens", ["<unk>", "<s>", "</s>", "a"].map(str::to_owned).to_vec());
    let t = build(&w).unwrap();
    assert_eq!((t.vocab().bos(), t.vocab().eos(), t.vocab().unknown()), (Some(1), Some(2), Some(0)));
    let shown: Vec<_> = t.warnings().iter().map(ToString::to_string).collect();
    assert!(shown.contains(&"tokenizer.ggml.bos_token_id is missing; token 1 (\"<s>\") is assumed".to_owned()));
    assert!(shown.iter().any(|s| s.contains("eos_token_id is 99")) && shown.len() == 4, "{shown:?}");
    assert_eq!(t.encode_prompt("", false).unwrap(), [1]);
    let one = build(w.set("tokenizer.ggml.tokens", vec!["a".to_owned()])).unwrap();
    assert!(!one.add_bos() && one.warnings().iter().any(|w| matches!(w, Warning::NotAdded { .. })));
}

#[test]
fn every_pre_tokenizer_compiles_and_loses_nothing() {
    let text = "I'm 12345 x²  \t\r\n\n  É'S ÀB cd 日本語、中文 한국 \u{a0}\u{200b}😀#!a/b\n/ _x__ 'll";
    for (names, _) in aio_model::tokenizer::pre::SUPPORTED {
        for name in *names {
            let mut w = byte_level();
            w.set("tokenizer.ggml.pre", *name).set("tokenizer.ggml.bos_token_id", 0u32);
            let t = build(&w).unwrap();
            let ids = t.encode(text, false).unwrap();
            assert_eq!(t.decode(&ids, false).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn a_text_has_at_least_the_tokens_that_its_length_tells() {
    let t = build(&byte_level()).unwrap();
    for text in ["", "a", "abababab", "<|im_end|><|im_end|>ab", "  \n\n grüße 世界 😀", "<u><u><u>"] {
        for special in [true, false] {
            let count = t.encode(text, special).unwrap().len();
            assert!(t.least_tokens(text) <= count, "{text:?}: {} and {count}", t.least_tokens(text));
        }
    }
    assert_eq!(t.least_tokens(&"<|im_end|>".repeat(1000)), 1000);
    // If bytes have no tokens, there is no bound.
    assert_eq!(build(&three_letters()).unwrap().least_tokens("xxxxxxxx"), 0);
}

/// A byte-level vocabulary of three tokens.
fn three_letters() -> GgufWriter {
    let mut w = byte_level();
    w.set("tokenizer.ggml.tokens", vec!["a".to_owned(), "b".to_owned(), "ab".to_owned()]);
    w.set("tokenizer.ggml.token_type", vec![1i32; 3]);
    w
}

#[test]
fn a_byte_without_a_token_becomes_the_unknown_one_or_is_an_error_that_names_it() {
    let message = |t: &Tokenizer, text: &str| match t.encode(text, true) {
        Err(e @ TokenizerError::NoToken { .. }) => e.to_string(),
        other => panic!("{other:?}"),
    };
    let t = build(&three_letters()).unwrap();
    assert_eq!(t.encode("ab", true).unwrap(), [2]);
    let said = "the vocabulary has no token for the byte 0xc3 of \"é\", and no unknown token";
    assert!(message(&t, "é").starts_with(said), "{}", message(&t, "é"));
    assert!(message(&t, &format!("ab {}", "x".repeat(10_000))).len() < 200);
    let t = build(three_letters().set("tokenizer.ggml.unknown_token_id", 0u32)).unwrap();
    assert_eq!(t.encode("bé", true).unwrap(), [1, 0, 0]);
}

#[test]
fn encoding_stops_past_its_limit() {
    let t = build(&byte_level()).unwrap();
    let text = "ab cd<|im_end|> ".repeat(1000);
    let all = t.encode(&text, true).unwrap();
    for limit in [0, 1, 7, 100] {
        let some = t.encode_up_to(&text, true, limit).unwrap();
        assert!(some.len() > limit && some.len() < limit + 10 && all.starts_with(&some), "{limit}: {}", some.len());
    }
    assert_eq!(t.encode_up_to(&text, true, all.len()).unwrap(), all);
}
