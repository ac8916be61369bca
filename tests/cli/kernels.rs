//! `aio kernels`: the form of its results and its exit status; the figures of `perf` are never compared.

use crate::Place;
use aio::ir::DType;
use serde_json::Value;

fn rows(json: &str) -> Vec<Value> {
    serde_json::from_str::<Value>(json).unwrap().as_array().unwrap().clone()
}

#[test]
fn cases_are_listed_with_their_full_string_and_filtered() {
    let place = Place::new();
    let all = rows(&place.good(&["kernels", "list", "-o", "json"]));
    assert_eq!(all.len(), aio::conformance::cases().len());
    let some = rows(&place.good(&["kernels", "list", "--op", "linear,head", "--type", "q4_0,f16", "-o", "json"]));
    assert!(some.iter().all(|r| ["linear", "head"].contains(&r["op"].as_str().unwrap())));
    assert!(some.iter().any(|r| r["type"] == "f16") && some.iter().any(|r| r["type"] == "q4_0"));
    let shape = place.good(&["kernels", "list", "--case", r"^linear-norm-q4_0 .* w=q4_0\[264,256\]", "-o", "jsonl"]);
    assert_eq!(shape.lines().count(), 1, "{shape}");
    let csv = place.good(&["kernels", "list", "--op", "verify", "-o", "csv"]);
    assert!(csv.starts_with("case,op,type,rows,count,bound,tensors\n"), "{csv}");
    place.bad(&["kernels", "list", "--case", "("], 2, "unclosed group");
    place.bad(&["kernels", "list", "--op", "liner"], 2, "expected a fused kind (qkv");
    place.bad(&["kernels", "list", "--type", "q9"], 2, "expected one of");
    place.bad(&["kernels", "list", "--case", "no such case"], 2, "no case is selected");
}

#[test]
fn a_model_gives_the_tasks_of_its_plans() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_0);
    let listed = rows(&place.good(&["kernels", "list", "--from", &model, "--rows", "1,3", "-o", "json"]));
    let decode: Vec<_> = listed.iter().filter(|r| r["rows"] == serde_json::json!([1])).collect();
    assert_eq!(listed.len(), 2 * decode.len());
    let count = |op: &str| decode.iter().find(|r| r["op"] == op).map(|r| r["count"].as_u64().unwrap());
    assert_eq!((count("qkv"), count("head"), count("attend_pages")), (Some(2), Some(1), Some(2)));
    let base = ["kernels", "test", "--from", &model, "--rows", "1,3"];
    for device in ["cpu", "interp"] {
        let tested = rows(&place.good(&[&base[..], &["--device", device, "-o", "json"]].concat()));
        assert!(tested.len() > decode.len() && tested.iter().all(|r| r["outcome"] == "pass"), "{tested:?}");
    }
    place.bad(&["kernels", "list", "--from", "no.gguf"], 2, "no.gguf");
    place.bad(&["kernels", "list", "--from", &model, "--rows", "0"], 2, "--rows 0");
    let twice = rows(&place.good(&["kernels", "list", "--from", &model, "--rows", "1,3,1", "-o", "json"]));
    assert_eq!(twice, listed, "a number of rows counts once");
    for command in ["list", "test", "support"] {
        place.bad(&["kernels", command, "--op", "conv", "--rows", "2"], 2, "--rows is for the steps of a model");
    }
}

#[test]
fn kernels_are_tested_at_each_level() {
    let place = Place::new();
    let base = ["kernels", "test", "--isa", "portable", "--op", "linear,conv"];
    let tested = rows(&place.good(&[&base[..], &["-o", "json"]].concat()));
    let of = |outcome: &str| tested.iter().filter(|r| r["outcome"] == outcome).collect::<Vec<_>>();
    let (pass, unsupported) = (of("pass"), of("unsupported"));
    assert_eq!(pass.len() + unsupported.len(), tested.len());
    assert!(pass.iter().all(|r| r["error"].as_f64().unwrap() <= r["bound"].as_f64().unwrap()));
    assert!(unsupported.iter().all(|r| r["error"].is_null() && r["reason"] == "conv: it has no kernel"));
    assert!(tested.iter().all(|r| r["device"] == "cpu-portable"));
    let summary = place.good(&base);
    let counts = format!("{} pass, {} unsupported, 0 fail", pass.len(), unsupported.len());
    assert!(summary.contains(&counts), "{summary}");
    let each = place.good(&[&base[..], &["--each"]].concat());
    assert_eq!(each.lines().filter(|l| l.contains("cpu-portable")).count(), tested.len());
    place.bad(&["kernels", "test", "--device", "interp", "--isa", "avx2"], 2, "--isa does not apply");
    let twice = ["kernels", "test", "--isa", "portable,portable", "--op", "linear,conv", "-o", "json"];
    assert_eq!(rows(&place.good(&twice)), tested, "an instruction set counts once");
}

#[test]
fn a_table_of_support_is_made_and_compared() {
    let place = Place::new();
    let base = ["kernels", "support", "--isa", "portable", "--op", "conv,verify"];
    let table = place.good(&[&base[..], &["-o", "csv"]].concat());
    assert!(table.starts_with("case,kind,outcome\n") && table.contains("op-conv-4,conv,unsupported\n"), "{table}");
    place.write("support.csv", &table);
    let same = place.good(&[&base[..], &["--check", "support.csv"]].concat());
    assert_eq!(same, format!("{} rows are the same\n", table.lines().count() - 1));
    place.write("other.csv", table.replace("op-conv-4,conv,unsupported", "op-conv-4,conv,pass"));
    let checked = place.run(&[&base[..], &["--check", "other.csv"]].concat());
    assert_eq!(checked.status.code(), Some(1));
    assert_eq!(crate::text(&checked.stdout), "changed: op-conv-4,conv,pass is now conv,unsupported\n");
    // Rows that the filter leaves out are not missing.
    let kept = aio_filetest::workspace("crates/filetest/baselines/support-cpu.csv");
    place.good(&[&base[..], &["--check", kept.to_str().unwrap()]].concat());
    place.write("notes.csv", "# Notes\n");
    place.bad(&[&base[..], &["--check", "notes.csv"]].concat(), 2, "notes.csv:1: not a table of `aio kernels support`");
    place.write("short.csv", table.replace("op-conv-4,conv,unsupported", "op-conv-4,conv"));
    place.bad(&[&base[..], &["--check", "short.csv"]].concat(), 2, "expected 3 fields, found 2");
    let markdown = place.good(&base);
    assert!(markdown.contains("| conv | 3 |  | f32 |  |"), "{markdown}");
}

/// The fields of a row, in order. They are an interface.
const FIELDS: [&str; 39] = [
    "version",
    "case",
    "op",
    "type",
    "rows",
    "depth",
    "count",
    "model",
    "device",
    "chip",
    "host",
    "threads",
    "date",
    "commit",
    "clock",
    "cache",
    "copies",
    "copy_bytes",
    "rotates",
    "bytes_read",
    "bytes_written",
    "flops",
    "us_median",
    "us_min",
    "us_max",
    "gb_s",
    "read_gb_s",
    "of_read",
    "gflop_s",
    "peak",
    "peak_gflop_s",
    "of_peak",
    "bound",
    "variant",
    "passes",
    "samples_us",
    "read_samples_gb_s",
    "candidates",
    "tensors",
];

fn lines(jsonl: &str) -> Vec<Value> {
    jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn kernels_are_timed_beside_the_limits_of_the_same_run() {
    let place = Place::new();
    let base =
        ["kernels", "perf", "--op", "linear,conv", "--type", "q4_0,f32", "--case", "^linear-q4|conv", "--threads", "1"];
    let more = ["-r", "3", "--passes", "1", "--rows", "1,5", "--depth", "16", "-o", "jsonl"];
    let output = place.run(&[&base[..], &more].concat());
    assert_eq!(output.status.code(), Some(0));
    assert!(crate::text(&output.stderr).contains("not timed: 6 cases, unsupported, conv: it has no kernel"));
    let rows = lines(&crate::text(&output.stdout));
    let kinds: Vec<_> = rows.iter().map(|r| (r["rows"].as_u64().unwrap(), r["cache"].as_str().unwrap())).collect();
    assert_eq!(kinds, [(1, "cold"), (1, "warm"), (5, "cold"), (5, "warm")]);
    for row in &rows {
        assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), FIELDS);
        assert_eq!((row["samples_us"].as_array().unwrap().len(), &row["clock"]), (3, &Value::from("measured")));
        assert_eq!(row["read_samples_gb_s"].as_array().unwrap().len(), 3);
        assert_eq!((&row["variant"], &row["candidates"]), (&Value::Null, &Value::Array(Vec::new())));
        assert_eq!(
            (&row["peak"], row["flops"].as_u64()),
            (&Value::from("int8"), Some(2 * 256 * 264 * row["rows"].as_u64().unwrap()))
        );
        let number = |name: &str| row[name].as_f64().unwrap();
        assert!(number("us_min") <= number("us_median") && number("us_median") <= number("us_max"));
        let bytes = number("bytes_read") + number("bytes_written");
        assert!((number("gb_s") - bytes / number("us_median") / 1e3).abs() < 1e-9 * number("gb_s"));
        assert!((number("of_peak") - number("gflop_s") / number("peak_gflop_s")).abs() < 1e-9);
        let memory = number("of_read") >= number("of_peak");
        assert_eq!(row["bound"], if memory { "memory" } else { "compute" });
    }
    let copied = rows[0]["copies"].as_u64().unwrap() * rows[0]["bytes_read"].as_u64().unwrap();
    assert!(copied > 32 << 20 && rows[1]["copies"].as_u64().unwrap() <= 64, "{copied}");
    let twice = ["-r", "3", "--passes", "1", "--rows", "1,1", "--depth", "16", "--cache", "warm,warm", "-o", "jsonl"];
    assert_eq!(lines(&place.good(&[&base[..], &twice].concat())).len(), 1);
    let csv = place.good(&[&base[..], &more[..9], &["csv", "--cache", "warm"]].concat());
    assert_eq!(csv.lines().next().unwrap(), FIELDS.join(","));
    assert_eq!(csv.lines().count(), 3);
    place.bad(&["kernels", "perf", "--depth", "1024", "--rows", "600"], 2, "--rows 600");
}

#[test]
fn a_model_s_tasks_are_timed_with_their_number() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_0);
    let base = ["kernels", "perf", "--from", &model, "-r", "2", "--passes", "2", "--cache", "warm"];
    let table = place.good(&base);
    assert!(table.contains("| 2 | gate\\_up-q4\\_0-"), "{table}");
    assert!(
        table.contains("all tasks, 1 rows, warm, cpu-") && table.contains(" threads, 2 passes of 2 rounds, measured; "),
        "{table}"
    );
    let rows = rows(&place.good(&[&base[..], &["-o", "json"]].concat()));
    let tasks: u64 = rows.iter().map(|r| r["count"].as_u64().unwrap()).sum();
    assert_eq!(tasks, 2 * 5 + 2, "five tasks in each of two layers, the look-up and the head");
    assert!(rows.iter().all(|r| r["model"] == "tiny.gguf"));
}

#[cfg(feature = "ascend")]
#[test]
fn the_simulated_ascend_says_that_its_times_are_modelled() {
    let place = Place::new();
    let base = ["kernels", "perf", "--device", "ascend", "--op", "gate_up", "--type", "f16", "-r", "1", "-o", "json"];
    let rows = rows(&place.good(&base));
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&row["clock"], &row["cache"]), (&Value::from("modelled"), &Value::from("modelled")));
    assert!(row["us_median"].as_f64().unwrap() > 0.0 && row["of_read"].as_f64().unwrap() > 0.0);
}

/// Two rows of results with these medians, and rounds around them.
fn results(place: &Place, name: &str, medians: [f64; 2], change: impl Fn(&mut Value)) -> String {
    let base = ["kernels", "perf", "--op", "gate_up", "--type", "q4_0", "--rows", "1,2", "-r", "1", "--passes", "1"];
    let made = place.good(&[&base[..], &["--cache", "warm", "-o", "jsonl"]].concat());
    let mut out = String::new();
    for (mut row, median) in lines(&made).into_iter().zip(medians) {
        let rounds = |scale: f64| (0..9).map(|i| Value::from(scale * (1.0 + 0.001 * f64::from(i * 7 % 9)))).collect();
        row["samples_us"] = rounds(median);
        row["read_samples_gb_s"] = rounds(10.0);
        row["us_median"] = Value::from(median);
        row["read_gb_s"] = Value::from(10.0);
        row["passes"] = Value::from(9);
        change(&mut row);
        out += &format!("{row}\n");
    }
    place.write(name, out)
}

#[test]
fn runs_are_compared_by_rank() {
    let place = Place::new();
    let a = results(&place, "a.jsonl", [100.0, 50.0], |_| {});
    let b = results(&place, "b.jsonl", [110.0, 50.0], |_| {});
    let compared = rows(&place.good(&["kernels", "compare", &a, &b, "-o", "json"]));
    let of = |name: &str| compared.iter().map(|r| r[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("verdict"), ["slower", "same"]);
    let ratio = |i: usize| ["low", "ratio", "high"].map(|name| compared[i][name].as_f64().unwrap());
    assert!((ratio(0)[1] - 1.1).abs() < 0.01 && ratio(0)[0] > 1.09 && ratio(0)[2] < 1.11, "{compared:?}");
    assert!(ratio(1)[0] < 1.0 && ratio(1)[2] > 1.0, "{compared:?}");
    let back = rows(&place.good(&["kernels", "compare", &b, &a, "--fail-slower", "3", "-o", "json"]));
    assert_eq!((&back[0]["verdict"], &back[0]["exceeds"]), (&Value::from("faster"), &Value::from(false)));
    // 10 % is significantly more than 3 %, and not more than 10 %.
    let over = place.run(&["kernels", "compare", &a, &b, "--fail-slower", "3"]);
    assert_eq!(over.status.code(), Some(1));
    assert!(crate::text(&over.stdout).contains("slower, over the limit"), "{}", crate::text(&over.stdout));
    assert!(crate::text(&over.stderr).contains("error: 1 of 2 are slower by more than 3 %"));
    let within = place.good(&["kernels", "compare", &a, &b, "--fail-slower", "10%"]);
    assert!(within.contains("1 slower, 0 faster, 1 the same"), "{within}");
    // The machine read memory faster by as much as the kernels took longer.
    let fast = results(&place, "fast.jsonl", [110.0, 50.0], |row| {
        let reads = (0..9).map(|i| Value::from(10.0 / 1.1 * (1.0 + 0.001 * f64::from(i * 7 % 9)))).collect();
        row["read_samples_gb_s"] = if row["rows"] == 1 { reads } else { row["read_samples_gb_s"].clone() };
    });
    let by_share = rows(&place.good(&["kernels", "compare", &a, &fast, "--by", "share", "-o", "json"]));
    assert!(by_share.iter().all(|r| r["verdict"] == "same"), "{by_share:?}");
    // Where reads are far from what they were, kernels are not to blame.
    let busy = results(&place, "busy.jsonl", [150.0, 50.0], |row| row["read_gb_s"] = Value::from(6.0));
    let unclear = place.good(&["kernels", "compare", &a, &busy, "--fail-slower", "3"]);
    assert!(unclear.contains("0 slower, 0 faster, 1 the same, 1 unclear"), "{unclear}");
}

/// With three passes a side, no order of the times has a probability below 10 %.
#[test]
fn passes_that_are_too_few_are_not_said_to_be_the_same() {
    let place = Place::new();
    let few = |row: &mut Value| row["passes"] = Value::from(3);
    let (a, b) = (results(&place, "a3.jsonl", [100.0, 50.0], few), results(&place, "b3.jsonl", [110.0, 50.0], few));
    let table = place.good(&["kernels", "compare", &a, &b]);
    assert!(table.contains("0 slower, 0 faster, 0 the same, 2 with too few passes"), "{table}");
    let compared = rows(&place.good(&["kernels", "compare", &a, &b, "-o", "json"]));
    let verdicts: Vec<_> =
        compared.iter().map(|r| (&r["verdict"], r["p_least"].as_f64().unwrap(), &r["low"])).collect();
    assert_eq!(verdicts, [(&Value::from("too few passes"), 0.2, &Value::Null); 2]);
    // Two of 70 orders with four, two of 252 with five; there are two cases.
    place.bad(&["kernels", "compare", &a, &b, "--fail-slower", "3"], 2, "with 3 and 3 passes");
    place.bad(&["kernels", "compare", &a, &b, "--fail-slower", "3"], 2, "it takes 5 in each run");
}

/// As many cases as the whole list has, with the default number of passes: what several have can be found, what a single
/// one has cannot, and is not said to be the same.
#[test]
fn a_long_list_of_cases_shows_its_differences() {
    let place = Place::new();
    let cases = 1600;
    let one = results(&place, "one.jsonl", [100.0, 50.0], |_| {});
    let one: Value = lines(&std::fs::read_to_string(place.path(&one)).unwrap())[0].clone();
    let run = |name: &str, slower: u64, passes: u64| {
        let row = |i: u64| {
            let mut row = one.clone();
            let scale = if i < slower { 120.0 } else { 100.0 };
            // Those that are the same have the same mixture of passes.
            let times = |k: u64| Value::from(scale + (k * 3 % passes) as f64 + if i < slower { 0.5 } else { 0.0 });
            row["case"] = Value::from(format!("case {i}"));
            row["samples_us"] = (0..passes).map(times).collect();
            row["read_samples_gb_s"] = (0..passes).map(|_| Value::from(10.0)).collect();
            row["passes"] = Value::from(passes);
            format!("{row}\n")
        };
        place.write(name, (0..cases).map(row).collect::<String>())
    };
    let base = run("base.jsonl", 0, 7);
    let many = place.good(&["kernels", "compare", &base, &run("many.jsonl", 40, 7)]);
    assert!(
        many.contains("\n40 slower, 0 faster, 0 the same, 1560 with too few passes"),
        "{}",
        &many[many.len() - 300..]
    );
    let single = place.good(&["kernels", "compare", &base, &run("single.jsonl", 1, 7)]);
    assert!(single.contains("\n0 slower, 0 faster, 0 the same, 1600 with too few passes"));
    place.bad(&["kernels", "compare", &base, &base, "--fail-slower", "3"], 2, "it takes 10 in each run");
    let (base, single) = (run("base10.jsonl", 0, 10), run("single10.jsonl", 1, 10));
    let found = place.run(&["kernels", "compare", &base, &single, "--fail-slower", "3"]);
    crate::check_failure(&found, 1, "1 of 1600 are slower by more than 3 %");
    assert!(crate::text(&found.stdout).contains("\n1 slower, 0 faster, 1599 the same;"));
}

#[test]
fn rows_of_one_file_are_different_cases() {
    let place = Place::new();
    let a = results(&place, "a.jsonl", [100.0, 50.0], |_| {});
    let text = std::fs::read_to_string(place.path(&a)).unwrap();
    place.write("twice.jsonl", format!("{text}\n{text}"));
    place.bad(&["kernels", "compare", "twice.jsonl", &a], 2, "twice.jsonl:4: the same case as in line 1 (");
    place.bad(&["kernels", "compare", &a, "twice.jsonl"], 2, "twice.jsonl:4: the same case as in line 1 (");
    let (first, second) = text.split_once('\n').unwrap();
    let third = second.replace("\"rows\":2", "\"rows\":3");
    place.write("more.jsonl", format!("{first}\n{third}"));
    let compared = place.run(&["kernels", "compare", &a, "more.jsonl"]);
    let note = "not compared: 1 of a.jsonl and 1 of more.jsonl, which the other file lacks";
    assert!(crate::text(&compared.stderr).contains(note), "{}", crate::text(&compared.stderr));
}

#[test]
fn runs_that_cannot_be_compared_are_refused() {
    let place = Place::new();
    let a = results(&place, "a.jsonl", [100.0, 50.0], |_| {});
    let other = results(&place, "other.jsonl", [100.0, 50.0], |row| row["host"] = Value::from("elsewhere"));
    place.bad(&["kernels", "compare", &a, &other], 2, "other.jsonl of elsewhere (");
    place.good(&["kernels", "compare", &a, &other, "--any-host"]);
    let newer = results(&place, "newer.jsonl", [100.0, 50.0], |row| row["version"] = Value::from(2));
    place.bad(&["kernels", "compare", &a, &newer], 2, "newer.jsonl:1: version 2, expected 1");
    let unlike = results(&place, "unlike.jsonl", [100.0, 50.0], |row| row["depth"] = Value::from(7));
    place.bad(&["kernels", "compare", &a, &unlike], 2, "have no case in common");
    let zero = results(&place, "zero.jsonl", [0.0, 50.0], |_| {});
    place.bad(&["kernels", "compare", &a, &zero], 2, "a time is not above 0");
    place.write("bad.jsonl", "{}\n");
    place.bad(&["kernels", "compare", &a, "bad.jsonl"], 2, "bad.jsonl:1: not a row of");
    let odd = results(&place, "odd.jsonl", [100.0, 50.0], |row| row["passes"] = Value::from(0));
    place.bad(&["kernels", "compare", &a, &odd], 2, "0 passes have 9 samples");
    place.write("empty.jsonl", "\n");
    place.bad(&["kernels", "compare", "empty.jsonl", &a], 2, "has no rows");
    place.bad(&["kernels", "compare", &a, &a, "--fail-slower", "-3"], 2, "expected a percentage");
}
