//! Variants: `run --variants`, `route`, `bench trace`. Forms, choices and refusals; never times.

use crate::{Place, text};
use aio::ir::DType;
use aio::model::synth::{Preset, Synth};
use serde_json::Value;

const SAMPLES: &str = "{\"text\": \"aa 1 aa\", \"category\": \"code\", \"source\": \"s\"}
{\"text\": \"zz 2 zz zz\", \"category\": \"math\", \"source\": \"s\"}
{\"text\": \"aa 3 aa\", \"category\": \"code\", \"source\": \"s\"}
{\"text\": \"zz 4 zz zz\", \"category\": \"math\", \"source\": \"s\"}
";

/// Two variants, named by their files.
fn variants(place: &Place) -> String {
    let write = |name: &str, dtype| {
        let preset = Preset::find("smollm2-135m").unwrap().tiny();
        place.write(name, Synth::new(&preset, dtype, 1).unwrap().to_bytes().unwrap())
    };
    [write("small.gguf", DType::Q4_0), write("large.gguf", DType::F32)].join(",")
}

fn json(place: &Place, args: &[&str]) -> Value {
    let output = place.run(&[args, &["-o", "json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_prompt_goes_to_the_variant_of_the_policy() {
    let place = Place::new();
    let files = variants(&place);
    let base = ["run", "--variants", &files, "--ctx", "256", "-p", "aa 1 aa", "-n", "4", "--temp", "0", "--explain"];
    let with = |more: &[&str]| json(&place, &[&base[..], more].concat());
    for (policy, variant) in [("static-small", "small"), ("static-large", "large")] {
        let run = with(&["--policy", policy]);
        assert_eq!((&run["route"]["variant"], &run["route"]["reason"]), (&variant.into(), &"rule".into()), "{run}");
        assert_eq!(run["route"]["rejected"][0]["why"], "not the policy's");
        assert_eq!(run["route"]["probe"], Value::Null);
        assert!(run["route"]["expected_seconds"].as_f64().unwrap() > 0.0, "{run}");
    }
    // A request may ask for a variant, and then no probe is asked.
    let run = with(&["--policy", "static-small", "--variant", "large", "--probe", "zero-shot"]);
    assert_eq!((&run["route"]["variant"], &run["route"]["reason"]), (&"large".into(), &"asked".into()), "{run}");
    assert_eq!(
        (&run["route"]["probe"], &run["route"]["rejected"][0]["why"]),
        (&Value::Null, &"another was asked for".into())
    );
    // A policy without a probe gets one from a flag.
    let run = with(&["--policy", "static-small", "--probe", "zero-shot", "--categories", "code,math"]);
    assert!(run["route"]["probe"]["category"].is_string(), "{run}");
    // Nothing was measured of these variants, so the default policy takes the larger one, unless that would be late.
    let probe = ["--probe", "zero-shot", "--categories", "code,math"];
    let run = with(&["--probe", "none"]);
    let why = &run["route"]["rejected"][0]["why"];
    assert_eq!((&run["route"]["variant"], why), (&"large".into(), &"not good enough".into()), "{run}");
    let run = with(&probe);
    assert!(["code", "math"].contains(&run["route"]["probe"]["category"].as_str().unwrap()), "{run}");
    // Equal quality in all categories.
    let quality = place.write("q.toml", "[quality.code]\nsmall = 1\nlarge = 1\n[quality.math]\nsmall = 1\nlarge = 1\n");
    let own = "name = \"mine\"\nprobe = \"zero-shot\"\n[default]\nvariant = \"fastest\"\nspeculation = 2\ndrafter = \"lookup\"\n";
    let policy = place.write("mine.toml", own);
    let run = with(&[&probe[..], &["--policy", &policy, "--quality", &quality]].concat());
    assert_eq!((&run["route"]["reason"], &run["spec"]), (&"fastest".into(), &"2".into()), "{run}");
    assert_eq!(with(&[&probe[..], &["--policy", &policy, "--spec", "off"]].concat())["spec"], "off", "flags go first");
    let output = place.run(&[&base[..], &probe[..]].concat());
    let lines = text(&output.stderr);
    for part in ["probe: ", "variant: large (", "  not small: ", " s measured"] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

#[test]
fn variants_are_refused_with_a_reason() {
    let place = Place::new();
    let files = variants(&place);
    let base = ["run", "--variants", &files, "-p", "x", "-n", "2"];
    let bad = |more: &[&str], message: &str| place.bad(&[&base[..], more].concat(), 2, message);
    bad(&["--policy", "quick"], "there is no policy `quick`; there are adaptive, paper");
    bad(&["--variant", "huge"], "there is no variant `huge`; there are small, large");
    bad(&["--probe", "head"], "`aio route train`");
    bad(&["--head", &place.write("head.json", "{}")], "head.json: head: missing field");
    bad(&["--memory", "0.000001"], "needs");
    let infinite = place.write("i.toml", "[quality.code]\nsmall = inf\n");
    bad(&["--quality", &infinite], "line 2, column 9: a quality of inf");
    bad(&["--quality", &place.write("q.toml", "[quality.code]\nsmall = \"x\"\n")], "q.toml: line 2, column 9");
    place.bad(&["run", "--variants", "none.gguf", "-p", "x"], 2, "variant none.gguf");
    let twice = format!("{files},{}", files.split(',').next().unwrap());
    place.bad(&["run", "--variants", &twice, "-p", "x"], 2, "two variants are named `small`");
    place.bad(&["run", "--policy", "paper", "-p", "x"], 2, "--variants");
    let small = files.split(',').next().unwrap();
    for flag in ["--policy", "--head", "--quality", "--within", "--memory", "--categories", "--probe", "--variant"] {
        let value = match flag {
            "--within" | "--memory" => "1",
            "--probe" => "none",
            _ => "x",
        };
        place.bad(&["run", "-m", small, "-p", "x", flag, value], 2, "--variants");
    }
    // Results never replace what they are made from.
    let samples = place.write("s.jsonl", SAMPLES);
    place.bad(&["route", "train", &samples, "-m", small, "--out", small], 2, "is the input");
    place.bad(&["bench", "plans", "-m", small, "--record", small], 2, "is the input");
    place.bad(&["run", "-m", small, "-p", "x", "--device", "ascend", "--trace", small], 2, "is the input");
    place.bad(&["simulate", "--variants", &files, "--device", "910b2", "--decisions", small], 2, "is the input");
    place.bad(&["bench", "trace", "--variants", &files, "--pace", "1e-300"], 2, "1e-6");
}

#[test]
fn a_head_is_trained_tested_and_used() {
    let place = Place::new();
    let files = variants(&place);
    let (samples, small) = (place.write("s.jsonl", SAMPLES), files.split(',').next().unwrap());
    let head = place.path("h.json").display().to_string();
    let trained = place.good(&["route", "train", &samples, "-m", small, "--out", &head]);
    assert!(trained.contains("4 prompts, code, math"), "{trained}");
    let scores = json(&place, &["route", "test", &samples, "-m", small, "--head", &head]);
    let of = |probe: &str| scores.as_array().unwrap().iter().find(|s| s["probe"] == probe).unwrap().clone();
    assert_eq!(of("head")["balanced_accuracy"], 1.0, "it has seen them");
    assert!(of("zero-shot")["balanced_accuracy"].as_f64().unwrap() <= 1.0);
    let run = ["run", "--variants", &files, "--ctx", "256", "--head", &head, "-p", "zz 9 zz zz", "-n", "2"];
    assert_eq!(json(&place, &run)["route"]["probe"]["category"], "math");
    // A head of another model is refused.
    let other = place.write(
        "o.gguf",
        Synth::new(&Preset::find("llama-1b").unwrap().tiny(), DType::F16, 1).unwrap().to_bytes().unwrap(),
    );
    place.bad(&["route", "test", &samples, "-m", &other, "--head", &head], 2, "train again");
    place.bad(&["route", "train", &place.write("e.jsonl", ""), "-m", small], 2, "e.jsonl");
    place.bad(&["route", "train", &samples, "-m", small, "--out", &samples], 2, "s.jsonl is the input");
    // However strong the penalty, the head can be read.
    let strong = place.path("strong.json").display().to_string();
    place.good(&["route", "train", &samples, "-m", small, "--out", &strong, "--penalty", "1e6"]);
    json(&place, &["route", "test", &samples, "-m", small, "--head", &strong]);
}

#[test]
fn a_trace_runs_for_real_by_several_policies() {
    let place = Place::new();
    let files = variants(&place);
    let trace = place.write("t.jsonl", place.good(&["trace", "make", "-n", "6", "--context", "128", "--rate", "1000"]));
    let base = ["bench", "trace", "--trace", &trace, "--variants", &files, "-r", "2", "--within", "100"];
    let report = json(&place, &[&base[..], &["--policies", "static-small,static-large,paper"]].concat());
    assert_eq!((&report["kind"], report["policies"].as_array().unwrap().len()), (&"measured".into(), 3));
    for (policy, wanted) in report["policies"].as_array().unwrap().iter().zip([Some("small"), Some("large"), None]) {
        let runs = policy["runs"].as_array().unwrap();
        assert_eq!(runs.len(), 2);
        let requests = runs[1]["requests"].as_array().unwrap();
        assert_eq!(requests.len(), 6);
        for request in requests {
            assert!(wanted.is_none_or(|name| request["variant"] == name), "{request}");
            assert!(request["seconds"].as_f64() >= request["first_token_seconds"].as_f64(), "{request}");
            let code = request["category"] == "code";
            assert!(wanted.is_some() || (request["variant"] == "small") == code, "{request}");
        }
    }
    let table = place.good(&base);
    assert!(table.contains("## The trace, measured") && table.contains("## Over time"), "{table}");
    // Labelled prompts, and a head that reads them.
    let lines = ["code", "math"].map(|c| {
        format!("{{\"arrival\": 0.0, \"category\": \"{c}\", \"prompt\": 40, \"output\": 4, \"copy\": 0.2}}\n")
    });
    let (own, samples) = (place.write("own.jsonl", lines.concat()), place.write("s.jsonl", SAMPLES));
    let (head, small) = (place.path("h.json").display().to_string(), files.split(',').next().unwrap());
    place.good(&["route", "train", &samples, "-m", small, "--out", &head]);
    let probed =
        ["bench", "trace", "--trace", &own, "--variants", &files, "--prompts", &samples, "--head", &head, "-r", "1"];
    let report = json(&place, &[&probed[..], &["--policies", "static-large,paper"]].concat());
    for (policy, right) in report["policies"].as_array().unwrap().iter().zip([Value::Null, true.into()]) {
        let requests = policy["runs"][0]["requests"].as_array().unwrap();
        assert!(requests.len() == 2 && requests.iter().all(|r| r["probe_right"] == right), "{policy}");
    }
    place.bad(&[&base[..], &["--prompts", &samples]].concat(), 2, "no prompts of category `");
    place.bad(&[&base[..], &["--only", "poems"]].concat(), 2, "no requests of category poems");
    place.bad(&["bench", "trace"], 2, "--variants");
    place.bad(&[&base[..], &["--device", "ascend"]].concat(), 2, "cannot be measured");
    place.bad(&[&base[..], &["--policies", "static-small,nothing"]].concat(), 2, "no policy `nothing`");
}
