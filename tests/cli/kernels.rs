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
    let markdown = place.good(&base);
    assert!(markdown.contains("| conv | 3 |  | f32 |  |"), "{markdown}");
}
