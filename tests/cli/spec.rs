//! `aio bench spec`: the form of its results, its counts, and the input it rejects; never how fast anything was.

use crate::{Place, text};
use aio::ir::DType;
use serde_json::Value;

/// The fields of a row, in order. They are an interface.
const FIELDS: &[&str] = &[
    "workload",
    "prompts",
    "tokens",
    "temperature",
    "spec",
    "dispatch",
    "drafter",
    "model",
    "draft_model",
    "device",
    "isa",
    "threads",
    "rounds",
    "seed",
    "tok_s_median",
    "tok_s_min",
    "tok_s_max",
    "ratio_median",
    "ratio_low95",
    "acceptance",
    "tokens_per_step",
    "ms_median",
    "submissions_per_token",
    "syncs_per_token",
    "weight_bytes_per_token",
    "prefill_ratio_median",
    "repeated_share",
    "ratio_without_repeats",
    "prompt_overlap",
    "mismatches",
    "samples",
    "ratios",
    "runs",
    "commit",
    "cpu",
];

/// Two workloads with repetitive prompts; one is sampled.
fn workload(place: &Place) -> String {
    let line = |workload: &str, id: u32, temperature: f32| {
        let prompt = "the same words again, ".repeat(5 + id as usize);
        format!(
            "{{\"workload\": \"{workload}\", \"id\": \"{id}\", \"prompt\": \"{prompt}\", \"max_tokens\": 20, \
             \"temperature\": {temperature}, \"stop\": []}}\n"
        )
    };
    let lines = [line("cold", 0, 0.0), line("cold", 1, 0.0), line("hot", 0, 0.8), line("cold", 2, 0.0)];
    place.write("own.jsonl", lines.concat())
}

fn rows(place: &Place, args: &[&str]) -> Vec<Value> {
    let out: Value = serde_json::from_str(&place.good(args)).unwrap();
    out.as_array().unwrap().clone()
}

#[test]
fn every_way_to_draft_is_a_row_with_its_runs() {
    let place = Place::new();
    let (model, file) = (place.model("smollm2-135m", DType::Q4_1), workload(&place));
    let base = ["bench", "spec", "-m", &model, "--workload", &file, "--threads", "1", "-o", "json"];
    let rows = rows(&place, &[&base[..], &["--limit", "2", "-n", "12", "-r", "2"]].concat());
    let name = |r: &Value| format!("{} {}", r["workload"].as_str().unwrap(), r["spec"].as_str().unwrap());
    let names: Vec<_> = rows.iter().map(name).collect();
    let expected = ["cold", "hot"].map(|w| ["off", "2", "4", "8", "16", "auto"].map(|s| format!("{w} {s}")));
    assert_eq!(names, expected.concat());
    for row in &rows {
        assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), FIELDS);
        let prompts = if row["workload"] == "cold" { 2 } else { 1 };
        assert_eq!(
            (row["prompts"].as_u64(), &row["tokens"], &row["mismatches"]),
            (Some(prompts), &(12 * prompts).into(), &0.into())
        );
        assert_eq!(row["samples"].as_array().unwrap().len(), 2, "a round each");
        assert_eq!(row["ratios"].as_array().unwrap().len() as u64, 2 * prompts);
        assert_eq!(row["ratio_low95"], Value::Null, "fewer than five pairs");
        let runs = row["runs"].as_array().unwrap();
        assert_eq!(runs.len() as u64, 2 * prompts);
        for run in runs {
            let [tokens, steps, accepted] = ["tokens", "steps", "accepted"].map(|f| run[f].as_u64().unwrap());
            // The first token comes from the prompt; drafts past the end are not accepted.
            assert!(steps + accepted >= tokens - 1 && steps < tokens, "{run}");
        }
        let per_token = row["submissions_per_token"].as_f64().unwrap();
        assert!((per_token * row["tokens_per_step"].as_f64().unwrap() - 1.0).abs() < 1e-9, "a step is a submission");
        assert_eq!(row["syncs_per_token"], row["submissions_per_token"]);
    }
    let off = &rows[0];
    assert_eq!(
        (&off["drafter"], &off["ratio_median"], &off["tokens_per_step"]),
        (&Value::Null, &1.0.into(), &1.0.into())
    );
    assert_eq!((&rows[1]["drafter"], &rows[1]["threads"]), (&"suffix".into(), &1.into()));
}

#[test]
fn baselines_take_turns_with_plain_decoding_of_their_own() {
    let place = Place::new();
    let (model, file) = (place.model("smollm2-135m", DType::Q4_1), workload(&place));
    let base = ["bench", "spec", "-m", &model, "--workload", &file, "--limit", "1", "-r", "1", "-o", "json"];
    let args = ["-n", "8", "--dispatch", "op,graph,token", "--spec", "off,3", "--drafter", "lookup,suffix,lookup"];
    let rows = rows(&place, &[&base[..], &args].concat());
    let name =
        |r: &Value| ["dispatch", "drafter", "spec"].map(|f| r[f].as_str().unwrap_or("none").to_owned()).join(" ");
    let names: Vec<_> = rows[..9].iter().map(name).collect();
    let of =
        |dispatch| [format!("{dispatch} none off"), format!("{dispatch} lookup 3"), format!("{dispatch} suffix 3")];
    assert_eq!(names, ["graph", "token", "op"].map(of).concat());
    assert_eq!(rows.len(), 18);
    for row in &rows {
        let per_token = row["submissions_per_token"].as_f64().unwrap();
        match row["dispatch"].as_str().unwrap() {
            "token" => {
                assert_eq!((per_token, &row["weight_bytes_per_token"]), (1.0, &rows[0]["weight_bytes_per_token"]))
            }
            "op" => assert!(per_token > 20.0, "{per_token}"),
            _ => assert!(per_token <= 1.0, "{per_token}"),
        }
    }
}

#[test]
fn a_draft_model_is_counted_too() {
    let place = Place::new();
    let (model, file) = (place.model("smollm2-135m", DType::Q8_0), workload(&place));
    let base = ["bench", "spec", "-m", &model, "--workload", &file, "--limit", "1", "-r", "1", "-n", "9", "-o", "json"];
    let rows = rows(&place, &[&base[..], &["--draft-model", &model, "--spec", "3"]].concat());
    let drafted = &rows[1];
    assert_eq!((&drafted["drafter"], &drafted["acceptance"]), (&"model".into(), &1.0.into()), "it drafts its own text");
    assert_eq!((&drafted["draft_model"], &drafted["spec"]), (&"tiny.gguf".into(), &"3".into()));
    // Eight tokens after the first: each step verifies three drafts and adds one token.
    assert_eq!(drafted["tokens_per_step"], 4.0);
    // The draft model reads the prompt before the first token.
    assert_eq!(drafted["submissions_per_token"], 1.0);
    assert_eq!(drafted["weight_bytes_per_token"], rows[0]["weight_bytes_per_token"]);
    place.bad(&[&base[..], &["--drafter", "model"]].concat(), 2, "belong together");
    place.bad(&[&base[..], &["--draft-model", &model, "--drafter", "suffix"]].concat(), 2, "belong together");
}

#[test]
fn run_drafts_as_its_flags_say() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let base =
        ["run", "-m", &model, "-p", "one two one two one two", "-n", "25", "--temp", "0", "--ignore-eos", "-o", "json"];
    let run = |flags: &[&str]| -> Value { serde_json::from_str(&place.good(&[&base[..], flags].concat())).unwrap() };
    let plain = run(&["--spec", "off"]);
    assert_eq!((&plain["drafts"], &plain["steps"], &plain["submissions"]), (&0.into(), &24.into(), &25.into()));
    // A draft model identical to the model: one token from the prompt, then six steps with three drafts each.
    let twin = run(&["--spec", "3", "--draft-model", &model]);
    let of_twin = ["drafts", "accepted", "steps", "submissions"].map(|f| twin[f].as_u64().unwrap());
    assert_eq!(of_twin, [18, 18, 6, 1 + 6 + 2 + 18], "{twin}");
    assert_eq!(twin["accepted_by_position"], serde_json::json!([[6, 6], [6, 6], [6, 6]]));
    assert_eq!(twin["steps_by_drafts"], serde_json::json!([0, 0, 0, 6]));
    assert_eq!(
        (&twin["spec"], &twin["tokens_per_step"], &twin["draft_failure"]),
        (&"3".into(), &4.0.into(), &Value::Null)
    );
    let token = run(&["--spec", "3", "--draft-model", &model, "--dispatch", "token"]);
    assert_eq!(token["submissions"], 1 + 24 + 2 + 18);
    for flags in
        [&["--spec", "auto"][..], &["--spec", "5", "--drafter", "lookup"], &["--spec", "5", "--drafter", "suffix"]]
    {
        assert_eq!(run(flags)["ids"], plain["ids"], "{flags:?}");
    }
    assert_eq!((&twin["ids"], &token["ids"]), (&plain["ids"], &plain["ids"]));
    let output = place.run(&[&base[..10], &["--spec", "auto", "--explain"]].concat());
    assert!(text(&output.stderr).contains("drafts"), "{}", text(&output.stderr));
    let output = place.run(&[&base[..10], &["--spec", "2", "--explain"]].concat());
    assert!(text(&output.stderr).contains("nothing to show with --spec 2"), "{}", text(&output.stderr));
    place.bad(&[&base[..], &["--drafter", "model"]].concat(), 2, "belong together");
    place.bad(&[&base[..], &["--spec", "65"]].concat(), 2, "up to 64");
}

/// A workload whose texts exceed any context is rejected, not truncated.
#[test]
fn a_workload_too_long_for_any_context_is_refused() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let line = "{\"workload\": \"long\", \"id\": \"0\", \"prompt\": \"one two\", \"max_tokens\": 4294967295, \
                \"temperature\": 0, \"stop\": []}\n";
    let file = place.write("long.jsonl", line);
    place.bad(&["bench", "spec", "-m", &model, "--workload", &file, "-r", "1"], 2, "memory");
}

#[test]
fn tables_and_lines_and_built_in_workloads() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::F16);
    let base = ["bench", "spec", "-m", &model, "--workload", "chat", "--limit", "1", "-n", "8", "-r", "1"];
    let table = place.good(&[&base[..], &["--workload", "prose-hot"]].concat());
    assert!(table.starts_with("| workload | dispatch | drafter | spec |") && table.contains("| x off |"), "{table}");
    assert!(table.contains("| prose-hot | graph | suffix | auto | 1 | 8 |"), "{table}");
    assert!(table.contains("submissions/token"), "{table}");
    let csv = place.good(&[&base[..], &["--spec", "2", "-o", "csv"]].concat());
    let fields: Vec<_> = FIELDS.iter().copied().filter(|f| *f != "runs").collect();
    assert_eq!(csv.lines().next().unwrap(), fields.join(","));
    assert_eq!(csv.lines().count(), 3);
    let lines = place.good(&[&base[..], &["--spec", "off", "-o", "jsonl", "--isa", "portable"]].concat());
    assert!(lines.lines().count() == 1 && lines.contains("\"isa\":\"portable\""), "{lines}");
}

#[test]
fn bad_workloads_end_with_status_2() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::F16);
    let bad = |workload: &str, message: &str| {
        place.bad(&["bench", "spec", "-m", &model, "--workload", workload], 2, message);
    };
    place.write("broken.jsonl", "{\"workload\": \"w\", \"id\": \"0\", \"prompt\": \"x\", \"max_tokens\": 4}\n{oops}\n");
    bad("broken.jsonl", "broken.jsonl:2: key must be a string");
    place.write("fields.jsonl", "{\"workload\": \"w\", \"id\": \"0\", \"prompt\": \"x\"}\n");
    bad("fields.jsonl", "fields.jsonl:1: missing field `max_tokens`");
    place.write(
        "hot.jsonl",
        "{\"workload\": \"w\", \"id\": \"0\", \"prompt\": \"x\", \"max_tokens\": 4, \"temperature\": -1}\n",
    );
    bad("hot.jsonl", "temperature");
    place.write("empty.jsonl", "\n");
    bad("empty.jsonl", "empty.jsonl has no prompt");
    place.write("bytes.jsonl", [0xff, 0xfe]);
    bad("bytes.jsonl", "bytes.jsonl");
    bad("none.jsonl", "none.jsonl");
    bad("poetry", "unknown workload poetry, expected one of copy, grounded");
    place.bad(&["bench", "spec", "-m", &model, "--spec", "2,65"], 2, "up to 64");
    place.bad(&["bench", "spec", "-m", "no.gguf"], 2, "no.gguf");
    place.bad(&["bench", "-r", "1", "spec"], 2, "spec");
}
