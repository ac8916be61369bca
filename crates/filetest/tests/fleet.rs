//! Fleets of tiny models: loading within a budget, probes, and routes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend_cpu::{CpuDevice, CpuOptions};
use aio_conformance::nmse;
use aio_engine::{Engine, EngineOptions, Flow, OutputBuffer, Sequence, Step, StepRow, StepWants};
use aio_filetest::edit::File;
use aio_filetest::logits::token;
use aio_filetest::tiny;
use aio_fleet::{
    Ask, Constant, Fleet, FleetError, FleetOptions, LinearHead, Loader, Probe, VariantSpec, VariantState, ZeroShot,
};
use aio_interp::InterpDevice;
use aio_ir::DType;
use aio_model::gguf::MetaValue;
use aio_model::synth::Preset;
use aio_orchestrator::routing::{Policy, RouteReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn options(hidden: bool) -> EngineOptions {
    EngineOptions { context: Some(256), prefill_rows: 128, sequences: 3, hidden, ..EngineOptions::default() }
}

fn cpu() -> Arc<CpuDevice> {
    Arc::new(CpuDevice::new(CpuOptions { threads: 1, ..CpuOptions::default() }).unwrap())
}

fn engine(hidden: bool) -> Engine {
    tiny::engine("smollm2-135m", DType::F32, cpu(), &options(hidden))
}

fn specs(needs: &[(&str, u64)]) -> Vec<VariantSpec> {
    let spec = |&(name, need): &(&str, u64)| VariantSpec { name: name.to_owned(), weight_bytes: need, need };
    needs.iter().map(spec).collect()
}

/// Loads tiny models; `broken` cannot be loaded, and the loader of `odd` panics.
fn loader() -> Loader {
    Arc::new(|name| match name {
        "broken" => Err("the file is damaged".into()),
        "odd" => panic!("as the test wants"),
        _ => Ok(engine(false)),
    })
}

fn policy(variant: &str) -> Policy {
    Policy::from_toml(&format!("name = \"p\"\n[default]\nvariant = \"{variant}\"")).unwrap()
}

fn fleet(needs: &[(&str, u64)], variant: &str, budget: u64) -> Result<Fleet, FleetError> {
    Fleet::load(specs(needs), policy(variant), loader(), FleetOptions { budget })
}

#[test]
fn a_loader_that_panics_leaves_nobody_waiting() {
    let fleet = fleet(&[("small", 1), ("odd", 2), ("large", 3)], "largest", 9).unwrap();
    fleet.wait(&mut |_, _| {});
    let states: Vec<VariantState> = fleet.states().into_iter().map(|(_, state)| state).collect();
    assert_eq!(states[1..], [VariantState::Failed("its loader panicked".to_owned()), VariantState::Ready]);
}

/// A family may be padded to different lengths, but a token must be the same in all variants.
#[test]
fn variants_share_their_tokens() {
    let file = |tokens: u32| {
        let mut preset = Preset::find("smollm2-135m").unwrap().tiny();
        preset.vocab_size = tokens;
        File::of(&preset, DType::F32)
    };
    let other = move || {
        let mut file = file(512);
        let tokens = file.keys.iter_mut().find(|(key, _)| key == "tokenizer.ggml.tokens");
        let Some((_, MetaValue::Array(_, items))) = tokens else { panic!("tokens are a list") };
        items[300] = "other".into();
        file
    };
    let load = |file: File| {
        let model = file.model().unwrap();
        let graph = model.graph(&tiny::templates(), None).unwrap();
        Engine::load(model, &graph, cpu(), &options(false)).unwrap()
    };
    let loader: Loader = Arc::new(move |name| {
        Ok(match name {
            "padded" => load(file(520)),
            "foreign" => load(other()),
            _ => load(file(512)),
        })
    });
    let specs = specs(&[("small", 1), ("padded", 2), ("foreign", 3)]);
    let fleet = Fleet::load(specs, policy("largest"), loader, FleetOptions { budget: 9 }).unwrap();
    fleet.wait(&mut |_, _| {});
    let states: Vec<VariantState> = fleet.states().into_iter().map(|(_, state)| state).collect();
    assert_eq!(states[..2], [VariantState::Ready, VariantState::Ready]);
    let VariantState::Failed(reason) = &states[2] else { panic!("{states:?}") };
    assert!(reason.starts_with("its token 300 is \"other\", that of `small`"), "{reason}");
    // A request that asks for a variant gets no other.
    let mut fleet = fleet;
    let ask = |variant| Ask { variant: Some(variant), ..Ask::new("x", 10, 20) };
    assert_eq!(fleet.route(&ask("padded")).unwrap().name, "padded");
    let message = fleet.route(&ask("foreign")).unwrap_err().to_string();
    assert!(message.contains("foreign: cannot be loaded") && !message.contains("small has"), "{message}");
}

/// The last hidden state, times the head, is the logits; and the CPU's is the oracle's.
#[test]
fn hidden_states_are_what_the_head_multiplies() {
    let ids: Vec<u32> = (0..20).map(token).collect();
    let run = |engine: &Engine, wants: StepWants<'static>| {
        let mut sequence = Sequence::new();
        engine.reserve(&mut sequence, ids.len()).unwrap();
        let row = |(position, &token): (usize, &u32)| StepRow {
            token,
            sequence: 0,
            position,
            wants: if position >= 17 { wants } else { StepWants::Nothing },
        };
        let rows: Vec<_> = ids.iter().enumerate().map(row).collect();
        let mut out = OutputBuffer::new();
        let outputs =
            engine.step(Step { sequences: &mut [&mut sequence], rows: &rows, drafts: &[] }, &mut out).unwrap();
        outputs.hidden().or(outputs.logits()).unwrap().to_vec()
    };
    let oracle = tiny::engine("smollm2-135m", DType::F32, Arc::new(InterpDevice::default()), &options(true));
    let own = engine(true);
    let (hidden, want) = (run(&own, StepWants::Hidden), run(&oracle, StepWants::Hidden));
    assert!(nmse(&hidden, &want) < 1e-6, "{}", nmse(&hidden, &want));
    let logits = run(&own, StepWants::Logits);
    let head = File::tiny("smollm2-135m", DType::F32).floats("token_embd.weight");
    let width = hidden.len() / 3;
    let products: Vec<f32> = hidden
        .chunks(width)
        .flat_map(|row| head.chunks(width).map(|w| row.iter().zip(w).map(|(a, b)| a * b).sum::<f32>()))
        .collect();
    assert!(nmse(&products, &logits) < 1e-4, "{}", nmse(&products, &logits));
}

#[test]
fn variants_load_within_the_budget_the_smallest_first() {
    let fleet = fleet(&[("large", 70), ("small", 10), ("huge", 900), ("broken", 20)], "largest", 200).unwrap();
    fleet.wait(&mut |_, _| {});
    let states: Vec<VariantState> = fleet.states().into_iter().map(|(_, state)| state).collect();
    assert_eq!(states[..2], [VariantState::Ready, VariantState::Ready]);
    assert_eq!(states[2], VariantState::NoRoom { need: 900, left: 100 });
    assert_eq!(states[3], VariantState::Failed("the file is damaged".to_owned()));
    let mut fleet = fleet;
    let routed = fleet.route(&Ask::new("x", 10, 20)).unwrap();
    assert_eq!(routed.route.reason, RouteReason::Full, "the largest has no room");
    assert_eq!(routed.route.rejected.iter().filter(|r| r.why == "no room").count(), 2);
    let error = fleet.route(&Ask::new("x", 256, 14)).unwrap_err().to_string();
    assert!(error.contains("270 positions") && error.contains("huge: needs 900 bytes"), "{error}");
    drop(routed);
    assert!(fleet.evict("large") && !fleet.evict("large") && !fleet.evict("nobody"));
    assert_eq!(fleet.states()[0].1, VariantState::Evicted);
    let away = fleet.route(&Ask::new("x", 10, 20)).unwrap();
    assert_eq!(away.name, "small");
    assert_eq!(fleet.restore("nobody"), None);
    assert_eq!(fleet.restore("huge"), Some(VariantState::NoRoom { need: 900, left: 190 }), "large and broken are gone");
    assert_eq!(fleet.restore("large"), Some(VariantState::Waiting));
    let mut seen = Vec::new();
    fleet.wait(&mut |name, state| seen.push((name.to_owned(), state.clone())));
    assert!(seen.is_empty() || seen.last() == Some(&("large".to_owned(), VariantState::Ready)), "{seen:?}");
    // The policy's variant is back, so a request that went elsewhere moves to it, computing its positions again.
    let large = policy("large");
    let ask = Ask { policy: Some(&large), ..Ask::new("x", 10, 20) };
    let moved = fleet.move_request(&ask, &away, 15, 15).unwrap().unwrap();
    assert_eq!(moved.name, "large");
    assert!(fleet.move_request(&ask, &moved, 15, 15).unwrap().is_none(), "it stays");
    assert!(!fleet.evict("large"), "a request runs there");
}

#[test]
fn a_fleet_that_cannot_begin_says_why() {
    let message = |needs: &[(&str, u64)], variant: &str, budget| fleet(needs, variant, budget).unwrap_err().to_string();
    assert_eq!(message(&[], "largest", 9), "a fleet needs a variant");
    assert_eq!(message(&[("a", 1), ("a", 2)], "largest", 9), "two variants are named `a`");
    assert_eq!(message(&[("a", 10)], "largest", 9), "variant `a` needs 10 bytes, and the budget is 9 bytes");
    assert_eq!(message(&[("broken", 1)], "largest", 9), "variant `broken` cannot be loaded: the file is damaged");
    assert_eq!(message(&[("a", 1)], "b", 9), "policy `p` names variant `b`; there are a");
}

#[test]
fn a_request_goes_where_its_category_says() {
    let text = "name = \"p\"\nprobe = \"constant:code\"\n[default]\nvariant = \"largest\"\n[[rule]]\ncategories = [\"code\"]\nvariant = \"small\"\n";
    let policy = Policy::from_toml(text).unwrap();
    let fleet =
        Fleet::load(specs(&[("small", 1), ("large", 2)]), policy, loader(), FleetOptions { budget: 9 }).unwrap();
    fleet.wait(&mut |_, _| {});
    let mut fleet = fleet.with_probe(Some(Box::new(Constant("code".to_owned()))));
    let routed = fleet.route(&Ask::new("x", 4, 4)).unwrap();
    assert_eq!((routed.name.as_str(), routed.route.reason), ("small", RouteReason::Rule));
    let lines = routed.explain(&["small".to_owned(), "large".to_owned()]).join("\n");
    assert!(lines.contains("probe: code") && lines.contains("not large: not the policy's"), "{lines}");
    // A policy that wants to be told asks the fleet's probe.
    let asks = Policy::from_toml(&text.replace("constant:code", "head")).unwrap();
    let mut fleet = fleet.with_probe(Some(Box::new(Constant("chat".to_owned()))));
    let routed = fleet.route(&Ask { policy: Some(&asks), ..Ask::new("x", 4, 4) }).unwrap();
    assert_eq!((routed.name.as_str(), routed.answer.unwrap().best().0), ("large", "chat"));
    assert_eq!(fleet.route(&Ask::new("x", 4, 4)).unwrap().name, "small", "the constant is the policy's own");
}

#[test]
fn probes_give_probabilities_and_a_head_learns_its_samples() {
    let engine = engine(true);
    let text = |i: u32| if i.is_multiple_of(2) { format!("aa {i} aa") } else { format!("{i} zz zz") };
    let samples: Vec<(String, String)> =
        (0..12).map(|i| (text(i), ["even", "odd"][i as usize % 2].to_owned())).collect();
    let read = AtomicU32::new(0);
    let head = LinearHead::train(&engine, &samples, 1e-3, &mut || {
        read.fetch_add(1, Ordering::Relaxed);
        Flow::Continue
    })
    .unwrap();
    assert_eq!((read.into_inner(), head.categories()), (12, &["even".to_owned(), "odd".to_owned()][..]));
    let mut head = LinearHead::from_json(&head.to_json()).unwrap();
    for (text, category) in &samples {
        let answer = head.probe(&engine, text).unwrap();
        assert_eq!(answer.best().0, category, "{answer:?}");
        assert!((answer.scores.iter().map(|s| s.1).sum::<f64>() - 1.0).abs() < 1e-9);
    }
    let categories = ["aa", "zz"].map(str::to_owned);
    let mut zero_shot = ZeroShot::new(&engine, &categories).unwrap();
    let first = zero_shot.probe(&engine, "aa 1").unwrap();
    assert_eq!(first, zero_shot.probe(&engine, "aa 1").unwrap(), "the question stays as it was");
    assert!((first.scores.iter().map(|s| s.1).sum::<f64>() - 1.0).abs() < 1e-9);
    let plain = self::engine(false);
    let error = head.probe(&plain, "x").unwrap_err().to_string();
    assert!(error.contains("without plans for hidden states"), "{error}");
    let one = LinearHead::train(&engine, &samples[..1], 1e-3, &mut || Flow::Continue).unwrap_err().to_string();
    assert_eq!(one, "samples: they are all of one category");
    let stopped = LinearHead::train(&engine, &samples, 1e-3, &mut || Flow::Stop).unwrap_err().to_string();
    assert_eq!(stopped, "stopped");
}

#[test]
fn requests_share_memory_and_the_machine_and_may_bring_their_own_policy() {
    // Each engine holds three sequences of 256 positions.
    let mut fleet = fleet(&[("small", 1), ("large", 2)], "largest", 9).unwrap();
    fleet.wait(&mut |_, _| {});
    let alone = fleet.route(&Ask::new("x", 100, 100)).unwrap();
    let beside = fleet.route(&Ask::new("x", 100, 100)).unwrap();
    assert!(beside.route.seconds > alone.route.seconds, "it shares steps");
    let smallest = policy("smallest");
    let own = fleet.route(&Ask { policy: Some(&smallest), ..Ask::new("x", 100, 100) }).unwrap();
    assert_eq!(own.name, "small");
    assert!(own.route.seconds > 1.5 * alone.route.seconds, "two variants share the machine");
    let more: Vec<_> = (0..2).map(|_| fleet.route(&Ask::new("x", 100, 100)).unwrap()).collect();
    assert_eq!([more[0].route.waits, more[1].route.waits], [false, true], "768 positions");
    let json = more[1].to_json(&["small".to_owned(), "large".to_owned()]);
    assert_eq!((&json["variant"], &json["rejected"][0]["why"]), (&"large".into(), &"not the policy's".into()));
    drop((alone, beside, more));
    assert!(!fleet.route(&Ask::new("x", 100, 100)).unwrap().route.waits, "requests that have ended take no memory");
}
