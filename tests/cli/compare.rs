//! `aio graph diff`, `passes --until`, `shrink`, and `aio compile --check`.

use crate::{Place, check_failure, text};
use aio::inspect::{Budget, ChangeKind, diff, parse};
use aio::ir::DType;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

/// Two artefacts of one model. In the second, gate and up of layer 1 have norms of their own, so they do not fuse.
fn two_artefacts(place: &Place) -> String {
    let model = place.model("smollm2-135m", DType::Q4_1);
    place.good(&["compile", "-m", &model, "-o", "whole.aio"]);
    let decoder = include_str!("../../graphs/decoder.jinja");
    let norm = "%f{{ i }} = rms_norm %r{{ i }}, %fn{{ i }} {eps = {{ epsilon }}}\n";
    let own = format!("{norm}{{% if i == 1 %}}\n{}{{% endif %}}\n", norm.replacen("%f{{", "%own{{", 1));
    let input = "{{ \"gu\" if p == \"down\" else \"f\" }}";
    let other = "{{ \"gu\" if p == \"down\" else \"own\" if p == \"up\" and i == 1 else \"f\" }}";
    assert!(decoder.contains(norm) && decoder.contains(input));
    let settings = include_str!("../../graphs/llama.graph.jinja").split("{% include").next().unwrap();
    place.write("apart.jinja", settings.to_owned() + &decoder.replacen(norm, &own, 1).replacen(input, other, 1));
    place.good(&["compile", "-m", &model, "--template", "apart.jinja", "-o", "apart.aio"]);
    model
}

#[test]
fn a_fusion_that_differs_is_named() {
    let place = Place::new();
    two_artefacts(&place);
    let out = place.good(&["graph", "diff", "whole.aio", "apart.aio", "-o", "json"]);
    let value: Value = serde_json::from_str(&out).unwrap();
    let changes = value["diff"]["changes"].as_array().unwrap();
    assert_eq!((value["schema"].as_u64(), changes.len()), (Some(1), 1), "{out}");
    let change = &changes[0];
    assert_eq!((&change["kind"], &change["layers"]), (&"taken_apart".into(), &serde_json::json!([1])), "{out}");
    assert_eq!(change["before"], serde_json::json!(["gate_up blk.1.ffn_gate + ffn_up"]));
    let after: Vec<&str> = change["after"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    for part in ["linear blk.1.ffn_gate", "linear blk.1.ffn_up", "silu", "mul"] {
        assert!(after.iter().any(|t| t.starts_with(part)), "{part} in {after:?}");
    }
    let shown = place.good(&["graph", "diff", "whole.aio", "apart.aio"]);
    assert!(shown.contains("taken apart in layer 1: gate_up blk.1.ffn_gate + ffn_up -> "), "{shown}");
    let back = place.good(&["graph", "diff", "apart.aio", "whole.aio", "-o", "md"]);
    assert!(back.contains("fused in layer 1: ") && back.contains(" -> gate_up blk.1.ffn_gate"), "{back}");
    let same = place.good(&["graph", "diff", "whole.aio", "whole.aio", "--budget", "bytes=0%,time=0%,tasks=0%"]);
    assert!(same.contains("changes (0)"), "{same}");
}

#[test]
fn a_budget_that_is_exceeded_ends_with_status_1() {
    let place = Place::new();
    let model = two_artefacts(&place);
    let over = ["graph", "diff", "whole.aio", "apart.aio", "--budget"];
    let output = place.run(&[&over[..], &["tasks=5%,bytes=50%"]].concat());
    let stderr = check_failure(&output, 1, "over the budget: tasks grew by ");
    assert!(stderr.contains("more than 5.00 %") && !stderr.contains("bytes"), "{stderr}");
    assert!(text(&output.stdout).contains("taken apart"), "the comparison is still printed");
    place.good(&[&over[..], &["tasks=100%,bytes=50%,time=900%"]].concat());
    place.good(&["graph", "diff", "apart.aio", "whole.aio", "--budget", "tasks=0%,bytes=0%,time=0%"]);
    place.bad(&[&over[..], &["cows=1%"]].concat(), 2, "there is no figure `cows`");
    place.bad(&[&over[..], &["bytes=1"]].concat(), 2, "NAME=PERCENT%");
    // A report written before stands for its model.
    let base = place.good(&["graph", "inspect", &model, "-o", "json"]);
    place.write("base.json", &base);
    let unchanged = place.good(&["graph", "diff", "base.json", &model, "--budget", "bytes=0%,time=0%"]);
    assert!(unchanged.contains("changes (0)"), "{unchanged}");
    let part = place.good(&["graph", "inspect", &model, "-o", "json", "--top", "2"]);
    place.write("part.json", part);
    place.bad(&["graph", "diff", "part.json", &model], 2, "without --filter and --top");
    place.write("odd.json", "{}");
    place.bad(&["graph", "diff", "odd.json", &model], 2, "no schema version");
}

/// Measured reports carry their samples, so a difference comes with its significance.
#[test]
fn measured_times_are_compared_with_their_significance() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let out = place.good(&["graph", "inspect", &model, "--measure", "--reps", "12", "--context", "20", "-o", "json"]);
    let before = parse(&out).unwrap();
    let mut after = before.clone();
    let same = diff(&before, &after).measured.unwrap();
    assert!(!same.significant && same.growth == 0.0, "{same:?}");
    let step = after.header.measured.as_mut().unwrap();
    let slowest = step.seconds.iter().copied().fold(0.0, f64::max);
    step.seconds.iter_mut().for_each(|s| *s += slowest);
    step.p50_seconds += slowest;
    let slower = diff(&before, &after);
    let found = slower.measured.as_ref().unwrap();
    assert!(found.significant && found.p_value < 1e-3 && found.growth > 0.0, "{found:?}");
    let budget = Budget::parse("measured=1%").unwrap();
    assert_eq!(budget.exceeded(&slower).len(), 1);
    assert!(budget.exceeded(&diff(&after, &before)).is_empty(), "less is never too much");
    let other = diff(&before, &parse(&place.good(&["graph", "inspect", &model, "-o", "json"])).unwrap());
    assert_eq!(other.measured, None);
    assert!(other.changes.iter().all(|c| c.kind != ChangeKind::Replaced), "{:?}", other.changes);
}

#[test]
fn passes_show_their_time_and_stop_where_they_are_told() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let all = place.good(&["graph", "passes", "-m", &model]);
    assert!(all.lines().skip(1).all(|l| l.ends_with(" ms")) && all.contains("simplify"), "{all}");
    let simple = place.good(&["graph", "passes", "-m", &model, "--until", "simplify"]);
    place.write("simple.graph", &simple);
    assert_eq!(place.good(&["graph", "verify", "simple.graph"]), "ok\n");
    assert!(simple.contains("argmax"), "the tail is there: {simple}");
    let verifying = place.good(&["graph", "passes", "-m", &model, "--drafts", "3", "--until", "batch_verify"]);
    assert!(verifying.contains(" = verify ") && !simple.contains(" = verify "));
    let full = place.good(&["graph", "passes", "-m", &model, "--full", "--until", "tail"]);
    assert!(full.contains("input") && !full.contains("simplify") && full.contains("argmax"), "{full}");
    let tasks = place.good(&["graph", "passes", "-m", &model, "--until", "fuse"]);
    assert!(tasks.contains("gate_up"), "{tasks}");
    place.bad(&["graph", "passes", "-m", &model, "--until", "batch_verify"], 2, "add --drafts K");
    place.bad(&["graph", "passes", "-m", &model, "--until", "magic"], 2, "batch_verify");
}

/// A model stands for its graph where a text graph is taken; a compiled one is said to be that.
#[test]
fn a_model_may_be_given_as_a_graph() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    assert_eq!(place.good(&["graph", "print", &model]), place.good(&["graph", "print", "-m", &model]));
    assert!(place.good(&["graph", "passes", &model]).contains("simplify"));
    place.write("own.jinja", "{% if");
    place.bad(&["graph", "print", &model, "--template", "own.jinja"], 2, "own.jinja");
    let text = place.good(&["graph", "print", &model]);
    place.write("text.graph", text);
    place.bad(&["graph", "print", "text.graph", "--template", "own.jinja"], 2, "--template is for models");
    place.bad(&["graph", "print", "text.graph", "-m", &model], 2, "cannot be used with");
    place.good(&["compile", "-m", &model, "-o", "m.aio"]);
    for command in ["passes", "shrink", "print"] {
        place.bad(&["graph", command, "m.aio"], 2, "m.aio is a compiled model");
    }
    place.bad(&["graph", "run", &model], 2, "tiny.gguf is a model; `aio graph print -m tiny.gguf` prints its graph");
}

/// A program that fails on graphs with a word in them.
fn fails_on(place: &Place, word: &str) {
    place.write("fails.sh", format!("#!/bin/sh\n! grep -q '{word}' \"$1\"\n"));
    std::fs::set_permissions(place.path("fails.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_failing_graph_is_cut_down_to_what_fails() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    fails_on(&place, " = silu ");
    let small = place.good(&["graph", "shrink", "-m", &model, "--test", "fails.sh"]);
    place.write("small.graph", &small);
    assert_eq!(place.good(&["graph", "verify", "small.graph"]), "ok\n");
    assert!(small.contains(" = silu ") && small.lines().count() <= 5, "{small}");
    let again = place.good(&["graph", "shrink", "small.graph", "--test", "fails.sh"]);
    assert_eq!(again, small, "what is smallest stays");
    fails_on(&place, " = cumsum ");
    place.bad(
        &["graph", "shrink", "-m", &model, "--test", "fails.sh"],
        2,
        "does not fail, so there is nothing to keep",
    );
    place.bad(&["graph", "shrink", "small.graph", "--test", "none.sh"], 2, "cannot run none.sh");
    // The CPU computes this right.
    place.bad(&["graph", "shrink", "small.graph"], 2, "does not fail");
    place.bad(
        &["graph", "shrink", "small.graph", "--check", "compile", "--test", "fails.sh"],
        2,
        "cannot be used with",
    );
}

/// The CPU rounds what it multiplies with weights in blocks to 8 bits. Here an exponential enlarges that far beyond what is
/// right, among nodes that are.
const ENLARGED: &str = "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 64]\n%g = weight \"g\" : f32[64]\n\
    %w = weight \"w\" : q8_0[32, 64]\n%v = weight \"v\" : q8_0[64, 32]\n%n = rms_norm %x, %g {eps = 1e-5}\n%a = matmul %n, %w\n\
    %s = silu %a\n%f = fill {shape = [32], value = 64, dtype = f32}\n%m = mul %a, %f\n%e = exp %m\n%b = matmul %s, %v\n\
    %y = add %b, %x\noutput \"y\" = %y\noutput \"z\" = %e\n";

#[test]
fn a_graph_that_the_device_computes_wrong_is_cut_down_to_what_is_wrong() {
    let place = Place::new();
    place.write("g.graph", ENLARGED);
    let args = ["graph", "shrink", "g.graph", "--check", "run", "--rows", "3"];
    let output = place.run(&args);
    let (small, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("g.graph: ") && stderr.contains("8 nodes -> "), "{stderr}");
    assert!(small.contains("matmul") && small.contains("exp"), "both are needed to be wrong: {small}");
    for right in ["rms_norm", "silu", "add", "\"v\""] {
        assert!(!small.contains(right), "{right}: {small}");
    }
    place.write("small.graph", &small);
    let again = place.run(&["graph", "shrink", "small.graph", "--check", "run", "--rows", "3"]);
    assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), small.clone()), "it fails, and is smallest");
    // Without the exponential, and on the oracle, nothing is wrong.
    place.write("right.graph", ENLARGED.replace("exp %m", "neg %m"));
    place.bad(&["graph", "shrink", "right.graph", "--check", "run", "--rows", "3"], 2, "does not fail");
    place.bad(
        &["graph", "shrink", "g.graph", "--check", "run", "--rows", "3", "--device", "interp"],
        2,
        "does not fail",
    );
}

/// A program that fails on graphs with ` = silu `, and with another effect on those without, once it has failed on one that is
/// smaller than the whole.
fn fails_then(place: &Place, then: &str) {
    let script = format!(
        "#!/bin/sh\nif grep -q ' = silu ' \"$1\"; then echo x >> failed; exit 3; fi\n\
         test $(wc -l < failed) -lt 2 && exit 0\n{then}\n"
    );
    place.write("fails.sh", script);
    std::fs::set_permissions(place.path("fails.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Checks that a search that ended early printed a graph that still fails and is smaller than the whole.
fn check_smaller(place: &Place, whole: &str, output: &std::process::Output) {
    place.write("smaller.graph", &output.stdout);
    assert_eq!(place.good(&["graph", "verify", "smaller.graph"]), "ok\n");
    let smaller = text(&output.stdout);
    assert!(smaller.contains(" = silu ") && smaller.lines().count() < whole.lines().count(), "{smaller}");
}

#[test]
fn a_search_that_ends_early_prints_the_smallest_graph_so_far() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let whole = place.good(&["graph", "print", &model]);
    // Ctrl-C, while the program hangs, which is ended with what it started.
    fails_then(&place, "touch hangs; sleep 600");
    let mut child = place.command(&["graph", "shrink", &model, "--test", "fails.sh"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !place.path("hangs").exists() {
        assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    check_failure(&output, 2, "interrupted; the graph printed is the smallest so far");
    check_smaller(&place, &whole, &output);
    // A program that was killed did not answer.
    std::fs::remove_file(place.path("failed")).unwrap();
    fails_then(&place, "kill -9 $$");
    let output = place.run(&["graph", "shrink", &model, "--test", "fails.sh"]);
    check_failure(&output, 2, "was killed by signal 9; the graph printed is the smallest so far");
    check_smaller(&place, &whole, &output);
    fails_on(&place, " = silu ");
    place.write("kills.sh", "#!/bin/sh\nkill -9 $$\n");
    std::fs::set_permissions(place.path("kills.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    place.bad(&["graph", "shrink", &model, "--test", "kills.sh"], 2, "kills.sh was killed by signal 9");
}

/// Every graph hangs here, so that no machine is too slow for the test.
#[test]
fn a_program_that_hangs_is_ended() {
    let place = Place::new();
    let graph = "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 32]\n%b = silu %x\n%e = exp %b\noutput \"y\" = %e\n";
    place.write("g.graph", graph);
    place.write("hangs.sh", "#!/bin/sh\nsleep 600\n");
    std::fs::set_permissions(place.path("hangs.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = place.run(&["graph", "shrink", "g.graph", "--test", "hangs.sh", "--timeout", "1"]);
    let (small, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("hangs.sh hangs") && stderr.contains("2 nodes -> 0"), "{stderr}");
    place.write("small.graph", small);
    assert_eq!(place.good(&["graph", "verify", "small.graph"]), "ok\n");
    let base = ["graph", "shrink", "g.graph", "--timeout"];
    place.bad(&[&base[..], &["1"]].concat(), 2, "--test");
    place.bad(&[&base[..], &["0", "--test", "hangs.sh"]].concat(), 2, "--timeout");
}

/// What a device cannot compile is found among what it can.
#[cfg(feature = "ascend")]
#[test]
fn a_graph_that_does_not_compile_is_cut_down_to_its_node() {
    let place = Place::new();
    let graph = "aio 1\ngraph \"g\"\n%x = input \"x\" : f32[rows, 32]\n%w = weight \"w\" : f32[32, 32]\n%a = matmul %x, %w\n\
                 %b = silu %a\n%q = quantize %b {to = q8_0}\n%d = dequantize %q\n%e = add %d, %x\noutput \"y\" = %e\n\
                 output \"z\" = %a\n";
    place.write("g.graph", graph);
    let args = ["graph", "shrink", "g.graph", "--check", "compile", "--device", "ascend"];
    let output = place.run(&args);
    let (small, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert_eq!(small.lines().filter(|l| l.starts_with('%') && !l.contains("input")).count(), 1, "{small}");
    assert!(small.contains("quantize") && stderr.contains("5 nodes -> 1"), "{small} {stderr}");
}

#[test]
fn a_compiled_model_is_checked_without_its_weights() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    place.good(&["compile", "-m", &model, "-o", "m.aio"]);
    let fits = place.good(&["compile", "--check", "m.aio", "--ctx", "128"]);
    assert!(fits.ends_with("fits\n") && fits.contains("for 128 positions") && fits.contains("available"), "{fits}");
    let large = place.run(&["compile", "--check", "m.aio", "--ctx", "4000000000"]);
    check_failure(&large, 1, "m.aio cannot run here");
    assert!(text(&large.stdout).contains("does not fit: "), "{}", text(&large.stdout));
    // Weights are not read, so damage there is not found; `aio cache verify` looks for it.
    let bytes = std::fs::read(place.path("m.aio")).unwrap();
    let mut damaged = bytes.clone();
    let end = damaged.len();
    damaged[end - 64..].fill(0xaa);
    place.write("weights.aio", &damaged);
    place.good(&["compile", "--check", "weights.aio", "--ctx", "128"]);
    let short = place.write("short.aio", &bytes[..bytes.len() - 1]);
    check_failure(&place.run(&["compile", "--check", &short]), 1, "cannot run here");
    let mut head = bytes;
    head[100] ^= 1;
    let head = place.write("head.aio", head);
    check_failure(&place.run(&["compile", "--check", &head]), 1, "cannot run here");
    place.bad(&["compile", "--check", "none.aio"], 2, "none.aio");
    place.bad(&["compile", "--check", &model], 2, "not a compiled artefact");
    // Not a damaged artefact but none: there is nothing to check.
    for bytes in [&b""[..], b"GGUF", b"AIO", &[0; 8]] {
        place.write("other", bytes);
        place.bad(&["compile", "--check", "other"], 2, "not a compiled artefact");
    }
    #[cfg(target_os = "linux")]
    place.bad(&["compile", "--check", "/proc/self/mem"], 2, "not a compiled artefact");
    let start = std::fs::read(place.path("m.aio")).unwrap()[..12].to_owned();
    place.write("start.aio", start);
    check_failure(&place.run(&["compile", "--check", "start.aio"]), 1, "cannot run here");
    place.bad(&["compile", "--check", "m.aio", "-o", "x"], 2, "cannot be used with");
    place.bad(&["compile", "-m", &model], 2, "--output");
    let other = place.run(&["compile", "--check", "m.aio", "--device", "interp"]);
    check_failure(&other, 1, "cannot run here");
}

#[test]
fn an_artefact_of_another_model_is_stale() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    place.good(&["compile", "-m", &model, "-o", "m.aio"]);
    let base = ["compile", "--check", "m.aio", "--ctx", "128", "-m"];
    let same = place.good(&[&base[..], &[&model]].concat());
    assert!(same.ends_with("  model      tiny.gguf\nfits\n"), "{same}");
    // The name does not matter, the content does.
    std::fs::copy(place.path(&model), place.path("copy.gguf")).unwrap();
    place.good(&[&base[..], &["copy.gguf"]].concat());
    let mut bytes = std::fs::read(place.path(&model)).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    place.write("tuned.gguf", bytes);
    let output = place.run(&[&base[..], &["tuned.gguf"]].concat());
    check_failure(&output, 1, "m.aio is stale");
    let shown = text(&output.stdout);
    assert!(shown.contains("stale: it was compiled from another model than tuned.gguf") && !shown.contains("fits"));
    let both = place.run(&["compile", "--check", "m.aio", "-m", "tuned.gguf", "--ctx", "4000000000"]);
    check_failure(&both, 1, "m.aio cannot run here");
    assert!(text(&both.stdout).contains("stale: ") && text(&both.stdout).contains("does not fit: "));
    place.bad(&[&base[..], &["none.gguf"]].concat(), 2, "none.gguf");
    place.bad(&[&base[..], &["m.aio"]].concat(), 2, "needs the original model file");
}

/// An artefact of another version says so.
#[test]
fn a_stale_artefact_is_said_to_be_stale() {
    use aio::plan::artefact::{Artefact, Contents, Hash, Header, write};
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    place.good(&["compile", "-m", &model, "-o", "m.aio"]);
    let artefact = Artefact::open(&place.path("m.aio")).unwrap();
    let header = Header { compiler: Hash::of(b"another"), ..artefact.header().clone() };
    let weights = artefact.weights().map().unwrap();
    let contents = Contents {
        header: &header,
        meta: artefact.meta(),
        family: &artefact.family().unwrap(),
        weights: weights.as_ref(),
    };
    write(&place.path("old.aio"), &contents, &mut |_| std::ops::ControlFlow::Continue(())).unwrap();
    let output = place.run(&["compile", "--check", "old.aio", "--ctx", "64"]);
    check_failure(&output, 1, "old.aio cannot run here");
    let shown = text(&output.stdout);
    assert!(shown.contains("does not fit: ") && shown.contains("another version"), "{shown}");
}
