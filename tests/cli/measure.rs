//! Subcommands that measure: the form of their results, never the figures.

use crate::Place;
use aio::ir::DType;
use aio_filetest::needs;
use serde_json::Value;

/// The fields of a row, in order. They are an interface.
const FIELDS: &[&str] = &[
    "test",
    "model",
    "model_bytes",
    "device",
    "isa",
    "threads",
    "rows",
    "depth",
    "reps",
    "tok_s_median",
    "tok_s_min",
    "tok_s_max",
    "ms_median",
    "samples",
    "weight_bytes",
    "kv_bytes",
    "gb_s",
    "read_bw_gb_s",
    "fraction_of_read_bw",
    "plan",
    "submissions_per_step",
    "syncs_per_step",
    "barriers_per_step",
    "allocations_per_step",
    "commit",
    "cpu",
];

#[test]
fn bench_prints_one_array_of_rows_and_nothing_else() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let base = ["bench", "-m", &model, "-p", "20", "-n", "4", "-d", "0,70", "--rows", "1,3", "-r", "2", "-t", "1"];
    let rows: Value = serde_json::from_str(&place.good(&[&base[..], &["-o", "json"]].concat())).unwrap();
    let rows = rows.as_array().unwrap();
    let names: Vec<_> = rows.iter().map(|r| (r["test"].as_str().unwrap(), r["depth"].as_u64().unwrap())).collect();
    let expected = ["pp20", "tg4", "rows1", "rows3"];
    assert_eq!(names, [0, 70].map(|d| expected.map(|t| (t, d))).concat());
    for row in rows {
        let keys: Vec<_> = row.as_object().unwrap().keys().collect();
        assert_eq!(keys, FIELDS);
        assert_eq!(row["samples"].as_array().unwrap().len(), 2);
        assert_eq!((&row["submissions_per_step"], &row["syncs_per_step"]), (&Value::from(1.0), &Value::from(1.0)));
        let (gb_s, read) = (row["gb_s"].as_f64().unwrap(), row["read_bw_gb_s"].as_f64().unwrap());
        assert!((row["fraction_of_read_bw"].as_f64().unwrap() - gb_s / read).abs() < 1e-9);
        assert!(row["tok_s_min"].as_f64() <= row["tok_s_median"].as_f64());
        assert!(row["tok_s_median"].as_f64() <= row["tok_s_max"].as_f64());
    }
    let kv = |i: usize| rows[i]["kv_bytes"].as_u64().unwrap();
    assert!(kv(5) > kv(1) && kv(1) > 0, "a deeper context reads more");
}

#[test]
fn bench_has_four_forms_and_leaves_tests_out() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::F16);
    let base = ["bench", "-m", &model, "-p", "0", "-n", "2", "-r", "1", "--warmup", "0"];
    let csv = place.good(&[&base[..], &["-o", "csv"]].concat());
    assert_eq!(csv.lines().next().unwrap(), FIELDS.join(","));
    assert_eq!(csv.lines().count(), 2);
    let lines = place.good(&[&base[..], &["-o", "jsonl", "--temp", "0.8"]].concat());
    assert_eq!(lines.lines().count(), 1);
    assert!(lines.contains("\"plan\":\"r1s1o1-sample\""), "{lines}");
    let both = place.run(&[&base[..], &["-o", "md", "--output-err", "json"]].concat());
    assert!(crate::text(&both.stdout).starts_with("| model |"));
    assert!(crate::text(&both.stderr).contains("[{\"test\":\"tg2\""));
    place.bad(&["bench", "-m", &model, "-p", "0", "-n", "0"], 2, "nothing to measure");
    place.bad(&["bench", "-m", &model, "-p", "9-1"], 2, "does not increase");
    place.bad(&["bench", "-m", &model, "--temp", "-1"], 2, "temperature");
    place.bad(&["bench", "-m", "no.gguf"], 2, "no.gguf");
    place.bad(&["bench", "-m", &model, "--rows", "1,73"], 2, "--rows 73");
    place.bad(&["bench", "-m", &model, "--batch", "73"], 2, "the maximum is 72");
    place.bad(&["bench", "-m", &model, "-t", "4294967295"], 2, "--threads takes a number from 0 to 1024");
}

#[test]
fn a_batch_counts_the_keys_and_values_of_all_its_sequences() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let base = ["bench", "-m", &model, "-p", "0", "-n", "32", "--batch", "1,2", "-d", "70", "-r", "2", "-t", "1"];
    let rows: Value = serde_json::from_str(&place.good(&[&base[..], &["-o", "json"]].concat())).unwrap();
    let rows = rows.as_array().unwrap();
    let name = |r: &Value| (r["test"].as_str().unwrap().to_owned(), r["rows"].as_u64().unwrap());
    let names: Vec<_> = rows.iter().map(name).collect();
    assert_eq!(names, [("tg32", 1), ("batch1", 1), ("batch2", 2)].map(|(t, n)| (t.to_owned(), n)));
    let kv: Vec<_> = rows.iter().map(|r| r["kv_bytes"].as_u64().unwrap()).collect();
    assert_eq!((kv[1], kv[2]), (kv[0], 2 * kv[0]));
    for row in rows {
        assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), FIELDS);
        assert_eq!((&row["submissions_per_step"], &row["syncs_per_step"]), (&Value::from(1.0), &Value::from(1.0)));
    }
    assert_eq!(rows[2]["plan"], "r17s17o17-argmax");
    let table = place.good(&[&base[..], &["--warmup", "0"]].concat());
    assert!(table.contains("| batch2 | 70 |"), "{table}");
}

#[test]
fn a_device_profile_is_measured_listed_and_shown() {
    let place = Place::new();
    place.bad(&["device", "show"], 2, "no profile yet");
    let table = place.good(&["device", "calibrate", "-r", "1", "--isa", "portable", "-t", "2", "--file", "p.toml"]);
    assert!(table.contains("| barrier, us | 2 |"), "{table}");
    let json: Value = serde_json::from_str(&place.good(&["device", "show", "p.toml", "-o", "json"])).unwrap();
    assert_eq!((&json["device"], &json["threads"]), (&Value::from("cpu-portable"), &Value::from(2)));
    let levels: Vec<_> = json["read"].as_array().unwrap().iter().map(|r| r["level"].as_str().unwrap()).collect();
    assert!(levels.contains(&"memory"), "{levels:?}");
    place.good(&["device", "calibrate", "-r", "1"]);
    // With a profile, the map of regimes has measured times beside predicted ones.
    let model = place.model("smollm2-135m", DType::Q4_1);
    let map = place.good(&["regime", &model, "--measure", "--batch", "1,2", "--context", "16,64", "-o", "json"]);
    let map: Value = serde_json::from_str(&map).unwrap();
    assert!(map["cells"].as_array().unwrap().iter().all(|c| c["measured_seconds"].as_f64().unwrap() > 0.0), "{map}");
    let listed: Value = serde_json::from_str(&place.good(&["device", "list", "-o", "json"])).unwrap();
    let with_profile = listed.as_array().unwrap().iter().filter(|d| d["profile"].is_string());
    assert_eq!(with_profile.count(), 1);
    assert!(place.good(&["device", "show"]).contains("multiply-adds"));
    let rows = listed.as_array().unwrap();
    assert!(
        rows.iter()
            .any(|r| r["device"].as_str().unwrap().starts_with("cuda") && !r["what"].as_str().unwrap().is_empty()),
        "{listed}"
    );
    place.write("bad.toml", "version = 7");
    place.bad(&["device", "show", "bad.toml"], 2, "version 7");
    place.bad(&["device", "show", "none.toml"], 2, "none.toml");
}

/// Without a GPU: a single message with the reason, before anything is downloaded or loaded.
#[test]
fn a_machine_without_a_gpu_says_so() {
    if aio::cuda::CudaDevice::probe().is_ok() {
        return needs::skip("cli cuda", "no-gpu", "this machine has a GPU");
    }
    let place = Place::new();
    let model = place.model("llama-1b", DType::Q8_0);
    for args in [&["run", "-m", &model, "-p", "x"][..], &["run", "-p", "x"]] {
        place.bad(&[args, &["--device", "cuda"]].concat(), 2, "device cuda is not available: ");
    }
    assert!(place.good(&["device", "list"]).contains("| cuda | device cuda is not available: "));
}

/// Chosen plans and predictions on a tiny model: the form of both tables, and the same choices from the recording.
#[test]
fn bench_plans_measures_records_and_replays() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let base = ["bench", "plans", "-m", &model, "--threads", "1", "--context", "30,70", "--batch", "1,2"];
    let quick =
        ["--acceptance", "0,0.8", "--drafts", "4", "-r", "2", "--warm-up", "12", "--pairs", "6", "--steps", "10"];
    let small = [&base[..], &quick, &["--seed", "7"]].concat();
    let json =
        |args: &[&str]| -> Value { serde_json::from_str(&place.good(&[args, &["-o", "json"]].concat())).unwrap() };
    let report = json(&[&small[..], &["--record", "steps.jsonl"]].concat());
    assert_eq!((&report["kind"], &report["seed"]), (&"measured".into(), &7.into()));
    let cells = report["regret"]["cells"].as_array().unwrap();
    let place_of = |c: &Value| (c["context"].as_u64().unwrap(), c["batch"].as_u64().unwrap(), c["acceptance"].as_f64());
    let grid = [30, 70].map(|n| [1, 2].map(|b| [0.0, 0.8].map(|a| (n, b, Some(a)))).concat()).concat();
    assert_eq!(cells.iter().map(place_of).collect::<Vec<_>>(), grid);
    for cell in cells {
        let most = 4 * cell["batch"].as_u64().unwrap();
        assert!(cell["chosen_drafts"].as_u64().unwrap() <= most && cell["best_drafts"].as_u64().unwrap() <= most);
        assert!(cell["half_interval"].as_f64().unwrap() >= 0.0 && cell["regret"].as_f64().unwrap() < 1.0, "{cell}");
        let same = cell["chosen_drafts"] == cell["best_drafts"];
        // Equal totals take equal times, so only an uneven division among several sequences can lose tokens.
        let (alone, lost) = (cell["batch"] == 1, cell["regret"].as_f64().unwrap());
        assert!(!same || cell["half_interval"] == 0.0 && lost >= 0.0 && (lost == 0.0 || !alone), "equal plans: {cell}");
    }
    let costs = &report["costs"];
    assert_eq!(costs["steps"].as_u64().unwrap() + costs["left_out"].as_u64().unwrap(), 10);
    // Per cell two rounds of five plans, and 60 steps between reads; the first line says what was measured.
    let recorded = std::fs::read_to_string(place.path("steps.jsonl")).unwrap();
    assert_eq!(recorded.lines().count(), 1 + 4 * 2 * 5 + 60);
    let replay = ["bench", "plans", "--replay", "steps.jsonl", "--only", "regret", "--acceptance", "0,0.8"];
    let (first, second) = (json(&replay), json(&replay));
    assert_eq!((&first, &first["kind"]), (&second, &"recorded".into()), "a replay depends on nothing but its file");
    let cells = first["regret"]["cells"].as_array().unwrap();
    assert_eq!(cells.iter().map(place_of).collect::<Vec<_>>(), grid);
    let in_bounds = |c: &Value| (0.0..1.0).contains(&c["regret"].as_f64().unwrap()) && c["half_interval"] == 0.0;
    assert!(cells.iter().all(in_bounds), "{first}");
    let table = place.good(&["bench", "plans", "--replay", "steps.jsonl", "--only", "regret"]);
    assert!(table.starts_with("# Plans, recorded") && table.contains("seed 1"), "{table}");
    assert!(table.contains("| context | batch | acceptance |") && table.contains("plus half the interval"), "{table}");
}

#[test]
fn bench_plans_refuses_what_it_cannot_run() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    place.bad(&["bench", "plans", "-m", &model, "--batch", "73", "--context", "8"], 2, "the maximum is 72");
    place.bad(&["bench", "plans", "-m", &model, "--context", "0"], 2, "--context needs a number above 0");
    place.bad(&["bench", "plans", "-m", &model, "--acceptance", "1.5"], 2, "expected a number from 0 to 1");
    place.bad(&["bench", "plans", "--replay", "none.jsonl"], 2, "none.jsonl");
    place.write("broken.jsonl", "{\"model\": 1}\n");
    place.bad(&["bench", "plans", "--replay", "broken.jsonl"], 2, "recording, line 1: column");
    place.bad(&["bench", "plans", "--replay", "x", "--record", "y"], 2, "cannot be used with");
}

#[test]
fn the_doctor_says_what_there_is_and_what_is_wrong() {
    let place = Place::new();
    let report: Value = serde_json::from_str(&place.good(&["doctor", "-o", "json"])).unwrap();
    assert_eq!(report["version"], 1);
    let kinds = |report: &Value| -> Vec<String> {
        let kind = |w: &Value| w["kind"].as_str().unwrap().to_owned();
        report["warnings"].as_array().unwrap().iter().map(kind).collect()
    };
    assert!(kinds(&report).contains(&"profile".to_owned()), "{report}");
    assert!(report["machine"]["allowed"].as_u64().unwrap() >= 1 && report["calibrated"].is_null(), "{report}");
    let devices = report["devices"].as_array().unwrap();
    assert!(devices.iter().any(|d| d["device"].as_str().unwrap().starts_with("cpu-")), "{report}");
    let text = place.good(&["doctor"]);
    for part in ["machine (", "devices (", "warnings (", "`aio device calibrate`"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    for row in ["extensions", "NVRTC", "nvcc", "ptxas", "system"] {
        assert!(text.lines().any(|l| l.trim_start().starts_with(row)), "{row}: {text}");
    }
    assert!(report["compilers"].is_object() && report["machine"]["features"].is_array(), "{report}");
    // Without a home folder, there is no cache: a warning, not an error.
    let homeless = |args: &[&str]| {
        let output = place.command(args).env_remove("HOME").env_remove("XDG_CACHE_HOME").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", crate::text(&output.stderr));
        crate::text(&output.stdout)
    };
    let without: Value = serde_json::from_str(&homeless(&["doctor", "-o", "json"])).unwrap();
    assert!(kinds(&without).contains(&"cache-folder".to_owned()), "{without}");
    assert!(homeless(&["doctor"]).contains("neither XDG_CACHE_HOME nor HOME is set"));
    assert!(homeless(&["device", "list"]).contains("none: neither XDG_CACHE_HOME nor HOME is set"));
    // A measured machine lacks that warning.
    place.good(&["device", "calibrate", "-r", "1"]);
    let report: Value = serde_json::from_str(&place.good(&["doctor", "-o", "json"])).unwrap();
    assert!(!kinds(&report).contains(&"profile".to_owned()), "{report}");
    assert!(report["calibrated"]["bytes_per_second"].as_f64().unwrap() > 0.0, "{report}");
}
