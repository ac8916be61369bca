//! `--device ascend` on the simulated Ascend: right tokens, modelled rates, a trace, and flags that are refused by name.

use crate::{Place, check_failure, text};
use aio::ir::DType;

#[test]
fn the_simulated_ascend_is_listed_beside_a_real_one() {
    let place = Place::new();
    let listed = place.good(&["device", "list", "--device", "ascend"]);
    assert!(listed.contains("| ascend-910b") && listed.contains("simulated: times are modelled"), "{listed}");
    assert_eq!(listed.lines().count(), 4, "{listed}");
    place.bad(&["device", "calibrate", "--device", "ascend"], 2, "no profile");
    place.write("no-cann.so", "no library");
    let named = place.good(&["device", "list", "--acl-lib", "no-cann.so"]);
    assert!(named.contains("AscendCL cannot be opened from `./no-cann.so`") && named.contains("| cpu-"), "{named}");
    let cpu = ["device", "list", "--device", "cpu", "--acl-lib", "no-cann.so"];
    place.bad(&cpu, 2, "--acl-lib does not apply to --device cpu");
}

#[test]
fn memory_that_lacks_is_that_of_the_modelled_chip() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::F16);
    let run = ["run", "-m", &model, "-p", "hello", "-n", "2", "--ctx", "131072", "--device", "ascend"];
    let small = [&run[..], &["--chip", "910B4"]].concat();
    place.good(&small);
    let large = ["run", "-m", &model, "-p", "x", "--ctx", "4000000000", "--device", "ascend"];
    place.bad(&large, 2, "bytes are available on ascend-910b3, a modelled chip");
}

#[test]
fn a_run_says_that_its_rates_are_modelled() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::F16);
    let run = |more: &[&str]| {
        let base = ["run", "-m", &model, "-p", "hello", "-n", "4", "--temp", "0", "--device", "ascend"];
        place.run(&[&base[..], more].concat())
    };
    let output = run(&["--spec", "off", "--lengths", "bucket"]);
    let line = text(&output.stderr);
    assert!(!line.contains("steps: "), "there is one form: {line}");
    assert!(line.contains("tok/s modelled; generated 4 tokens") && line.contains("4 submissions, 4 syncs"), "{line}");
    assert!(line.contains("graphs captured in") && line.contains("the simulation ran at"), "{line}");
    let auto = run(&["--spec", "off", "--lengths", "auto"]);
    assert!(text(&auto.stderr).contains("steps: 4 bucket; "), "{}", text(&auto.stderr));
    let json = |more: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&run(&[&["-o", "json"], more].concat()).stdout).unwrap()
    };
    let whole = json(&[]);
    assert_eq!(whole["clock"], "modelled");
    for flags in [&["--lengths", "patch"][..], &["--dispatch", "op"], &["--host", "torch-eager", "--chip", "910B4"]] {
        assert_eq!(json(flags)["ids"], whole["ids"], "{flags:?}");
    }
    assert!(json(&["--chip", "910B4"])["device"].as_str().unwrap().ends_with("910b4"));
}

#[test]
fn what_measures_refuses_modelled_times() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::F16);
    let spec = ["bench", "spec", "-m", &model, "--device", "ascend", "-n", "2"];
    place.bad(&spec, 2, "are modelled, and this benchmark measures them");
    let bench = ["bench", "-m", &model, "--device", "ascend"];
    let instead = "cannot be measured, so it has no profile; `aio run --device ascend` prints the rates of a run, \
                   `aio device model` what the simulated Ascend models";
    place.bad(&bench, 2, instead);
    place.write("text", "one two three four five six seven eight nine ten ".repeat(8));
    let scored = place.run(&["perplexity", "-m", &model, "-f", "text", "--ctx", "16", "--device", "ascend"]);
    assert!(text(&scored.stderr).contains("tok/s modelled on ascend-910b"), "{}", text(&scored.stderr));
}

#[test]
fn a_trace_has_host_and_device_in_modelled_time() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::F16);
    let run = ["run", "-m", &model, "-p", "hello", "-n", "2", "--temp", "0", "--device", "ascend", "--trace", "t.json"];
    place.good(&run);
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(place.path("t.json")).unwrap()).unwrap();
    assert_eq!(trace["otherData"]["kind"], "modelled");
    let events = trace["traceEvents"].as_array().unwrap();
    for (process, name) in [(1, "graph replay"), (2, "mm"), (2, "fused_infer_attention_score")] {
        assert!(events.iter().any(|e| e["pid"] == process && e["name"] == name), "{name}");
    }
    let run = ["run", "-m", &model, "-p", "hello", "-n", "2", "--device", "interp", "--trace", "u.json"];
    place.bad(&run, 2, "keeps no trace of its steps");
    assert!(!place.path("u.json").exists());
}

#[test]
fn plans_for_ascend_have_its_pages() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::F16);
    let plan = place.good(&["graph", "plan", "-m", &model, "--device", "ascend"]);
    assert!(plan.contains("have pages of 128") && plan.contains("for ascend-910b"), "{plan}");
}

#[test]
fn flags_and_libraries_that_do_not_fit_are_refused() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::F16);
    let run = ["run", "-m", &model, "-p", "x"];
    let with = |more: &[&'static str]| place.run(&[&run[..], more].concat());
    check_failure(&with(&["--lengths", "patch"]), 2, "--lengths does not apply to --device cpu");
    let none = with(&["--device", "ascend", "--acl-lib", "no-such-library.so"]);
    check_failure(&none, 2, "device ascend is not available: AscendCL cannot be opened from `no-such-library.so`");
    if cfg!(all(target_os = "linux", target_env = "gnu")) {
        let other = with(&["--device", "ascend", "--acl-lib", "libc.so.6"]);
        check_failure(&other, 2, "AscendCL has no function `aclInit`");
    }
    place.write("here.so", "no library");
    let here = with(&["--device", "ascend", "--acl-lib", "here.so"]);
    assert!(!check_failure(&here, 2, "AscendCL cannot be opened from").contains("No such file"));
    for trace in ["no/folder/t.json", "/"] {
        check_failure(&with(&["--device", "ascend", "--trace", trace]), 2, "cannot write");
    }
    check_failure(&with(&["--device", "ascend", "--chip", "910A"]), 2, "invalid value '910A'");
    check_failure(&with(&["--device", "ascend", "--threads", "2"]), 2, "--threads does not apply to --device ascend");
}
