//! Traces, their simulation, maps of regimes and buckets for a trace: forms, and what must hold whatever the constants are.

use crate::Place;
use aio::ir::DType;
use serde_json::Value;

/// A profile of a small machine.
const PROFILE: &str = r#"version = 1
host = "h"
date = "2026-11-30"
device = "cpu-avx2"
processor = "p"
threads = 2
commit = "c"

[costs]
submission_us = {median = 5.0, min = 5.0, max = 5.0}
barrier_us = {median = 1.0, min = 1.0, max = 1.0}
wake_us = {median = 40.0, min = 40.0, max = 40.0}

[[read]]
level = "memory"
bytes = 1073741824
threads = 2
gb_s = {median = 20.0, min = 19.0, max = 21.0}

[[peak]]
kind = "int8"
threads = 2
gmac_s = {median = 600.0, min = 590.0, max = 610.0}
"#;

fn json(place: &Place, args: &[&str]) -> Value {
    serde_json::from_str(&place.good(&[args, &["-o", "json"]].concat())).unwrap()
}

#[test]
fn traces_come_from_their_seed() {
    let place = Place::new();
    let base = ["trace", "make", "-n", "20", "--mix", "code", "--rate", "2"];
    let trace = place.good(&base);
    assert_eq!(trace.lines().count(), 20);
    assert_eq!(place.good(&base), trace);
    assert_ne!(place.good(&[&base[..], &["--seed", "2"]].concat()), trace);
    let first: Value = serde_json::from_str(trace.lines().next().unwrap()).unwrap();
    assert!(first["prompt"].as_u64().unwrap() >= 256 && first["copy"].is_number(), "{first}");
    for rate in ["-1", "1e-300", "inf", "nan"] {
        place.bad(&["trace", "make", "--rate", rate], 2, "expected 0, or a number from");
    }
    place.bad(&["trace", "make", "--context", "9"], 2, "64");
}

#[test]
fn a_trace_runs_on_a_profile() {
    let place = Place::new();
    let (profile, model) = (place.write("p.toml", PROFILE), place.model("smollm2-135m", DType::Q4_1));
    let trace = place.write("t.jsonl", place.good(&["trace", "make", "-n", "12", "--context", "256"]));
    let base = ["simulate", "--trace", &trace, "--device", &profile, "--variants", &model];
    let report = json(&place, &[&base[..], &["--policy", "static-small", "--decisions", "d.jsonl"]].concat());
    assert_eq!((&report["kind"], &report["variants"][0]["requests"]), (&"modelled".into(), &12.into()));
    let tokens: u64 = std::fs::read_to_string(place.path("t.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["output"].as_u64().unwrap())
        .sum();
    assert_eq!(report["tokens"], tokens);
    let decisions = std::fs::read_to_string(place.path("d.jsonl")).unwrap();
    assert_eq!(decisions.lines().count(), 12);
    assert!(decisions.contains("\"reason\":\"rule\""), "{decisions}");
    let text = place.good(&base);
    assert!(text.contains("| throughput |") && text.contains("| tiny |"), "{text}");
    let slow = json(&place, &[&base[..], &["--sequences", "1", "--spec", "off"]].concat());
    assert!(slow["tok_s"].as_f64() < report["tok_s"].as_f64(), "one at a time, no drafts");

    place.bad(
        &["simulate", "--trace", &place.write("e.jsonl", "{\"arrival\":0}")],
        2,
        "e.jsonl: trace, line 1: column 13: missing field",
    );
    place.bad(&["simulate", "--policy", "fast"], 2, "there is no policy `fast`; there are adaptive, paper");
    place.bad(&["simulate", "--policy", &place.write("p2.toml", "name = 1")], 2, "p2.toml: line 1, column 8");
    let named = place.write("named.toml", "name = \"n\"\n[default]\nvariant = \"huge\"\n");
    place.bad(&[&base[..], &["--policy", &named]].concat(), 2, "policy `n` names variant `huge`; there are tiny");
    place.bad(&["simulate", "--device", "310P"], 2, "there is no device `310P`");
    place.bad(&[&base[..], &["--dispatch", "op"]].concat(), 2, "needs a modelled chip");
    place.bad(&[&base[..], &["--decisions", &trace]].concat(), 2, "t.jsonl is the input");
    place.bad(&["simulate", "--variants", "pangu-1b,pangu-1b"], 2, "two variants are named `pangu-1b`");
    for busy in ["1", "2-1x3", "1-2x0", "a-bxc"] {
        place.bad(&[&base[..], &["--busy", busy]].concat(), 2, "expected FROM-TOxFACTOR");
    }
    let seconds = |more: &[&str]| json(&place, &[&base[..], more].concat())["seconds"].as_f64().unwrap();
    assert!(seconds(&["--busy", "0-1e9x2"]) > 1.9 * seconds(&[]), "every step takes twice as long");
    place.bad(&[&base[..], &["--memory", "0.000001"]].concat(), 2, "the variants' weights alone take");
    place.bad(&[&base[..5], &["--variants", "no.gguf"]].concat(), 2, "`no.gguf` is neither a preset");
}

#[cfg(feature = "ascend")]
#[test]
fn each_mechanism_is_worth_something() {
    let place = Place::new();
    let all = json(&place, &["simulate", "--table", "mechanisms"]);
    let sections = all.as_array().unwrap();
    assert_eq!(sections.len(), 6);
    let number = |row: &Value, column: &str| row[column].as_str().unwrap().parse::<f64>().unwrap();
    for section in sections {
        assert_eq!(section["kind"], "modelled");
        let rows = section["rows"].as_array().unwrap();
        let over: Vec<f64> = rows.iter().map(|row| number(row, "over the first")).collect();
        assert_eq!(over.len(), 12);
        assert!(over[1] >= over[0] && over[2] > 2.0, "one graph a step: {over:?}");
        assert!((over[3] / over[2] - 1.0).abs() < 0.01 && over[4] >= over[3], "drafts one by one: {over:?}");
        assert!(over[5] > over[4] && over[7] > over[6], "{over:?}");
        // Beyond eight sequences at once, most of the gain comes from one graph a step.
        assert!(over[2] > over[6] / over[2], "{over:?}");
        let notes = section["notes"].as_array().unwrap();
        assert!(notes.iter().filter(|n| n.as_str().unwrap().starts_with("Ours against")).count() == 2, "{notes:?}");
    }
    let turned = ["simulate", "--table", "paper", "--variants", "pangu-7b,pangu-1b"];
    place.bad(&turned, 2, "the paper's figures are of --variants pangu-1b,pangu-7b");
    let paper = json(&place, &["simulate", "--table", "paper"]);
    let curve = paper.as_array().unwrap().last().unwrap();
    assert!(curve["notes"][0].as_str().unwrap().contains("+19.6 % lies at"), "{curve}");
}

#[test]
fn a_map_of_regimes_has_boundaries_as_numbers() {
    let place = Place::new();
    let (profile, model) = (place.write("p.toml", PROFILE), place.model("smollm2-135m", DType::Q4_1));
    let base = ["regime", &model, "--device", &profile, "--batch", "1,64", "--context", "16,65536"];
    let map = json(&place, &base);
    let cells = map["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 4);
    assert!(cells.iter().all(|c| c["predicted_seconds"].as_f64().unwrap() > 0.0 && c["measured_seconds"].is_null()));
    assert_eq!(cells[1]["regime"], "kv-bound");
    let boundary = &map["boundaries"][0];
    assert_eq!((&boundary["to"], &boundary["unit"]), (&"kv-bound".into(), &"positions".into()), "{boundary}");
    let text = place.good(&base);
    assert!(text.contains("## Boundaries") && text.contains("Drafts pay as shown"), "{text}");
    let svg = place.good(&[&base[..], &["-o", "svg"]].concat());
    assert!(
        svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && svg.matches("<rect").count() == 8,
        "{svg}"
    );
    let html = place.good(&[&base[..], &["-o", "html"]].concat());
    assert!(html.starts_with("<!doctype html>") && html.contains("<th>boundary"), "{html}");
    place.bad(&["regime", &model], 2, "this machine has no profile; `aio device calibrate` makes one");
    place.bad(&[&base[..], &["--measure"]].concat(), 2, "--measure runs steps on the cpu");
    place.bad(&[&base[..], &["--batch", "0"]].concat(), 2, "--batch");
}

#[test]
fn buckets_are_planned_for_a_trace() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let trace = place.write("t.jsonl", place.good(&["trace", "make", "-n", "10", "--context", "512"]));
    let base = ["graph", "buckets", "-m", &model, "--plan-for", &trace, "--most", "3"];
    let sets = json(&place, &base);
    let best = sets["best"].as_array().unwrap();
    assert_eq!(best.len(), 3);
    let sum =
        |set: &Value, field: &str| set.as_array().unwrap().iter().map(|b| b[field].as_f64().unwrap()).sum::<f64>();
    assert_eq!(sum(&sets["best"], "steps"), sum(&sets["in_use"], "steps"));
    assert!(sum(&sets["best"], "padding") <= sum(&sets["in_use"], "padding") + 0.05);
    assert!(place.good(&base).contains("padding in all"));
    place.bad(&["graph", "buckets", "--most", "3"], 2, "--plan-for");
}
