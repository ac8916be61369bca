//! Draft models with a longer or shorter vocabulary than the model's: tokens in common are drafted, others never.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_engine::{Engine, EngineError, EngineOptions, Flow, ModelDrafter, Request, Sampling, Sequence, Speculation};
use aio_filetest::edit::File;
use aio_filetest::tiny;
use aio_ir::DType;
use aio_model::gguf::MetaValue;
use aio_model::synth::Preset;
use aio_orchestrator::Drafter;
use std::sync::Arc;

/// A tiny model with this many tokens; models agree on the tokens they share.
fn file(tokens: u32) -> File {
    let mut preset = Preset::find("llama-1b").unwrap().tiny();
    preset.vocab_size = tokens;
    File::of(&preset, DType::Q8_0)
}

/// The same model, but it prefers one token to all others.
fn fond_of(token: usize, tokens: u32) -> File {
    let mut bias = vec![0.0; tokens as usize];
    bias[token] = 1000.0;
    file(tokens).vector("output.bias", &bias)
}

fn load(file: &File) -> Engine {
    let model = file.model().unwrap();
    let graph = model.graph(&tiny::templates(), None).unwrap();
    let device = Arc::new(CpuDevice::new(CpuOptions { threads: 1, isa: None, pin: false }).unwrap());
    Engine::load(model, &graph, device, &EngineOptions { context: Some(96), ..EngineOptions::default() }).unwrap()
}

/// Generates with and without drafts, which must agree, and returns the numbers of drafted and accepted tokens.
fn drafted(target: &File, draft: &File, prompt: &[u32]) -> (u64, u64) {
    let engine = load(target);
    let mut request = Request::new(prompt.to_vec(), Sampling::greedy());
    (request.max_tokens, request.ignore_eog, request.speculation) = (Some(24), true, Speculation::Off);
    let want = engine.generate(&request, &mut |_| Flow::Continue).unwrap().ids;
    let draft = Arc::new(load(draft));
    let drafter: Box<dyn Drafter> = Box::new(ModelDrafter::new(draft, &engine, Sampling::greedy()).unwrap());
    request.speculation = Speculation::Fixed(3);
    let done = engine.generate_in(&mut Sequence::new(), &request, Some(drafter), &mut |_| Flow::Continue).unwrap();
    assert_eq!(done.ids, want);
    assert_eq!(done.speculation.failure, None);
    (done.speculation.drafted, done.speculation.accepted)
}

#[test]
fn a_draft_model_with_more_or_fewer_tokens_drafts() {
    let prompt = [104, 105, 32, 104];
    for tokens in [508, 512, 520] {
        let (drafts, _) = drafted(&file(512), &file(tokens), &prompt);
        assert!(drafts > 0, "{tokens} tokens");
    }
}

#[test]
fn tokens_that_the_model_lacks_are_never_drafted() {
    assert_eq!(drafted(&file(512), &fond_of(515, 520), &[104, 105]), (0, 0));
    let (drafts, accepted) = drafted(&fond_of(300, 512), &fond_of(300, 520), &[104, 105]);
    assert!(drafts > 0 && accepted == drafts, "{accepted} of {drafts}");
}

/// Drafting that finds nothing costs its steps: the speculator's account must hear of them.
#[test]
fn a_draft_that_finds_nothing_has_a_time() {
    let target = load(&file(512));
    let draft = Arc::new(load(&fond_of(515, 520)));
    let mut drafter = ModelDrafter::new(draft, &target, Sampling::greedy()).unwrap();
    let mut out = Vec::new();
    drafter.draft(3, &mut out).unwrap();
    assert_eq!(drafter.last_time(), None, "nothing is committed, so nothing ran");
    drafter.extend(&[104, 105]);
    drafter.draft(3, &mut out).unwrap();
    assert!(out.is_empty() && drafter.last_time().is_some_and(|time| time.seconds() > 0.0));
    assert_eq!(drafter.time_per_token(), None);
}

#[test]
fn tokens_that_the_draft_model_lacks_do_not_stop_it() {
    let (drafts, accepted) = drafted(&fond_of(509, 512), &fond_of(300, 400), &[510, 511, 104, 405]);
    assert!(drafts > 0 && accepted == 0, "{accepted} of {drafts}");
}

#[test]
fn tokens_in_common_must_agree_unless_they_are_unused_in_both() {
    let target = load(&file(512));
    let renamed = |kind: i32| {
        let mut odd = file(520);
        for (key, value) in &mut odd.keys {
            match (key.as_str(), value) {
                ("tokenizer.ggml.tokens", MetaValue::Array(_, items)) => items[300] = "other".into(),
                ("tokenizer.ggml.token_type", MetaValue::Array(_, items)) => items[300] = MetaValue::I32(kind),
                _ => {}
            }
        }
        odd
    };
    let refused =
        |target: &Engine, draft: &File| ModelDrafter::new(Arc::new(load(draft)), target, Sampling::greedy()).map(drop);
    for kind in [1, 5] {
        let error = refused(&target, &renamed(kind)).unwrap_err();
        assert!(matches!(&error, EngineError::DraftModel { reason } if reason.contains("token 300")), "{error}");
    }
    let mut padded = file(512);
    let kinds = padded.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.token_type");
    let Some((_, MetaValue::Array(_, items))) = kinds else { panic!("kinds are a list") };
    items[300] = MetaValue::I32(5);
    refused(&load(&padded), &renamed(5)).unwrap();
}
