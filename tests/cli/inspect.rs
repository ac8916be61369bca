//! `aio graph inspect`: what it says of models, compiled models and text graphs, in every form.

use crate::Place;
use aio::inspect::{Report, parse};
use aio::ir::DType;
use serde_json::Value;
use std::collections::BTreeSet;

/// A projection that reads 256 inputs, on weights in a block format.
const LINEAR: &str = "aio 1\ngraph \"linear\"\n%x = input \"x\" : f32[rows, 256]\n%w = weight \"w\" : q8_0[8, 256]\n\
                      %y = matmul %x, %w\noutput \"y\" = %y\n";

fn report(place: &Place, args: &[&str]) -> Report {
    parse(&place.good(&[&["graph", "inspect"], args, &["-o", "json"]].concat())).unwrap()
}

/// The model that commands use by default, wherever it is cached.
fn default_model(test: &str) -> Option<String> {
    aio_filetest::needs::default_model(test).map(|p| p.display().to_string())
}

#[test]
fn the_bytes_of_a_step_are_those_of_the_file() {
    let place = Place::new();
    let model = place.model("qwen3-0.6b", DType::Q4_1);
    let file: Value = serde_json::from_str(&place.good(&["gguf", &model, "-o", "json"])).unwrap();
    let tensors = file["tensors"].as_array().unwrap();
    let bytes = |name: &str| -> u64 {
        tensors.iter().filter(|t| t["name"] != name).map(|t| t["bytes"].as_u64().unwrap()).sum()
    };
    let r = report(&place, &[&model, "--context", "100"]);
    let tied = !tensors.iter().any(|t| t["name"] == "output.weight");
    assert_eq!(r.header.model_bytes, bytes(""));
    assert_eq!(r.header.weight_bytes, bytes(if tied { "" } else { "token_embd.weight" }));
    let kv: u64 = r.header.kv_bytes_per_token;
    let attention = r.groups.op.iter().find(|g| g.key == "attend_pages").unwrap();
    assert_eq!(attention.work.kv_bytes, 100 * kv, "attention reads each position once");
    let written = r.groups.op.iter().find(|g| g.key == "qkv").unwrap();
    assert_eq!(written.work.kv_bytes, kv, "a step of one row writes one position");
    let task = |sum: fn(&aio::inspect::TaskRow) -> u64| r.tasks.iter().map(sum).sum::<u64>();
    assert_eq!(task(|t| t.work.flops), r.header.work.flops);
    let looked_up = r.tasks[0].work.weight_bytes;
    assert_eq!(task(|t| t.work.weight_bytes), r.header.weight_bytes + looked_up);
    assert_eq!(r.tasks.len(), r.header.task_count);
    for groups in [&r.groups.op, &r.groups.layer, &r.groups.block, &r.groups.dtype] {
        assert_eq!(groups.iter().map(|g| g.tasks).sum::<usize>(), r.header.task_count);
        assert!((groups.iter().map(|g| g.predicted_share).sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn the_default_model_reads_what_is_published_of_it() {
    let Some(model) = default_model("the_default_model_reads_what_is_published_of_it") else { return };
    let place = Place::new();
    let r = report(&place, &[&model]);
    assert_eq!((r.header.weight_bytes, r.header.kv_bytes_per_token), (96_576_768, 23_040));
    let text = place.good(&["graph", "inspect", &model]);
    assert!(text.contains("weights    96.58 MB a step") && text.contains("kv         23,040 bytes a token"), "{text}");
}

#[test]
fn a_plan_is_the_same_in_a_model_and_in_its_artefact() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_0);
    place.good(&["compile", "-m", &model, "-o", "tiny.aio"]);
    for flags in [&["--rows", "8", "--seqs", "2"][..], &["--drafts", "3"], &["--tail", "sample"]] {
        let [whole, compiled] = [&model[..], "tiny.aio"].map(|file| report(&place, &[&[file][..], flags].concat()));
        assert_eq!(whole.tasks, compiled.tasks);
        assert_eq!((&whole.memory, &whole.groups), (&compiled.memory, &compiled.groups));
        assert!(whole.buckets.iter().all(|b| b.compile_ms.is_some()));
        assert!(compiled.buckets.iter().all(|b| b.compile_ms.is_none() && b.plan_bytes.is_some()));
    }
    place.bad(&["graph", "inspect", "tiny.aio", "--tail", "hidden"], 2, "has no plan for this step; it has r1s1o1");
    place.bad(&["graph", "inspect", "tiny.aio", "--template", "x"], 2, "already compiled");
}

#[test]
fn weights_are_not_read() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    place.good(&["compile", "-m", &model, "-o", "tiny.aio"]);
    let want = report(&place, &["tiny.aio"]);
    let mut bytes = std::fs::read(place.path("tiny.aio")).unwrap();
    let end = bytes.len();
    bytes[end - 4096..].fill(0xff);
    place.write("tiny.aio", bytes);
    assert_eq!(report(&place, &["tiny.aio"]), want);
}

#[test]
fn a_text_graph_has_its_bytes_and_operations() {
    let place = Place::new();
    place.write("linear.graph", LINEAR);
    let r = report(&place, &["linear.graph", "--rows", "4", "--device", "interp"]);
    let task = &r.tasks[0];
    assert_eq!((task.work.weight_bytes, task.work.flops), (8 * 256 / 32 * 34, 4 * 8 * 256 * 2));
    assert_eq!((task.name.as_str(), task.dtype.as_str()), ("w", "q8_0"));
    assert_eq!(task.work.activation_bytes, 4 * (256 + 8) * 4);
    assert_eq!(task.weights[0].shape, ["8", "256"]);
    assert!((task.intensity - task.work.flops as f64 / task.work.bytes() as f64).abs() < 1e-12);
}

#[test]
fn buffers_of_the_memory_plan_do_not_overlap_and_the_peak_is_where_it_says() {
    let place = Place::new();
    let model = place.model("llama-1b", DType::Q4_0);
    let m = report(&place, &[&model, "--rows", "17"]).memory;
    assert!(m.intervals.len() > 5 && m.arena_bytes >= m.lower_bound);
    assert_eq!(m.live[m.peak_task.unwrap()], m.lower_bound);
    assert_eq!(m.live.iter().max(), Some(&m.lower_bound));
    for (i, a) in m.intervals.iter().enumerate() {
        assert!(a.offset + a.bytes <= m.arena_bytes);
        for b in &m.intervals[i + 1..] {
            let in_time = a.first <= b.last && b.first <= a.last;
            let apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
            assert!(!in_time || apart, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn more_work_is_never_predicted_to_take_less_time() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let seconds = |flags: &[&str]| report(&place, &[&[&model[..]][..], flags].concat()).header.predicted_seconds;
    assert!(seconds(&["--context", "4096"]) > seconds(&["--context", "16"]));
    assert!(seconds(&["--rows", "16"]) > seconds(&["--rows", "2"]));
    let drafts = report(&place, &[&model]).speculation;
    assert!(drafts.windows(2).all(|w| w[0].cost <= w[1].cost) && drafts[0].cost >= 1.0, "{drafts:?}");
    let even: Vec<f64> = drafts.iter().map(|d| d.break_even.unwrap_or(1.0)).collect();
    assert!(even.iter().all(|p| (0.0..=1.0).contains(p)), "{even:?}");
}

#[test]
fn a_filter_and_a_limit_narrow_tasks_but_not_sums() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let all = report(&place, &[&model]);
    let some = report(&place, &[&model, "--filter", "^attend|ffn_down"]);
    assert!(some.tasks.iter().all(|t| t.kind == "attend_pages" || t.name.contains("ffn_down")));
    assert_eq!((some.tasks.len(), some.tasks.len() + some.omitted), (4, all.tasks.len()));
    assert_eq!((&some.groups, &some.header), (&all.groups, &all.header));
    let two = report(&place, &[&model, "--top", "2"]);
    let mut slowest: Vec<f64> = all.tasks.iter().map(|t| t.predicted_seconds).collect();
    slowest.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(two.tasks.iter().map(|t| t.predicted_seconds).collect::<Vec<_>>(), slowest[..2]);
    let csv = place.good(&["graph", "inspect", &model, "-o", "csv", "--filter", "head"]);
    let lines: Vec<&str> = csv.lines().collect();
    // Commas between quotes are text.
    let columns = |line: &str| line.split('"').step_by(2).map(|part| part.matches(',').count()).sum::<usize>();
    assert!(lines.len() == 2 && columns(lines[0]) == columns(lines[1]) && lines[1].contains(",head,"), "{csv}");
    place.bad(&["graph", "inspect", &model, "--filter", "("], 2, "`(` is not a regular expression: unclosed group");
}

#[test]
fn tables_show_the_groups_that_were_asked_for() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let text = place.good(&["graph", "inspect", &model, "--by", "layer", "--by", "type", "--top", "3"]);
    assert!(text.contains("by layer (3)") && text.contains("by type (") && !text.contains("by kind"), "{text}");
    assert!(
        text.contains("tasks, slowest first (3)") && text.contains("speculation") && text.contains("arena"),
        "{text}"
    );
    let markdown = place.good(&["graph", "inspect", &model, "-o", "md"]);
    assert!(
        markdown.starts_with("# tiny.gguf: r1s1o1-argmax on ") && markdown.contains("| kind | tasks |"),
        "{markdown}"
    );
    assert!(!markdown.contains('\u{1b}'));
}

#[test]
fn nodes_that_do_not_fuse_are_named_with_the_reason() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    assert_eq!(report(&place, &[&model]).lints, [], "the default shape fuses whole");
    let graph = include_str!("../filetests/fuse/gate_up_not_other_norm.graph");
    place.write("norms.graph", graph);
    let missed = report(&place, &["norms.graph"]).lints;
    assert!(
        missed.iter().any(|l| l.code == "missed-fusion" && l.message.contains("no part of gate_up: ")),
        "{missed:?}"
    );
    let kv = "aio 1\ngraph \"g\"\n%kv = state \"kv\" : f32[pages, 4]\n%i = input \"i\" : u32[rows]\n\
              %y = gather %kv, %i\noutput \"y\" = %y\n";
    place.write("kv.graph", kv);
    let wide = report(&place, &["kv.graph", "--device", "interp"]).lints;
    assert!(wide.iter().any(|l| l.code == "f32-kv"), "{wide:?}");
    let padded = report(&place, &[&model, "--rows", "18"]).lints;
    assert!(padded.iter().any(|l| l.code == "padding" && l.message.contains("r72s72o72")), "{padded:?}");
    let plain = "aio 1\ngraph \"g\"\n%w = weight \"w\" : q8_0[8, 32]\n%y = dequantize %w\noutput \"y\" = %y\n";
    place.write("plain.graph", plain);
    let hot = report(&place, &["plain.graph"]).lints;
    assert!(hot.iter().any(|l| l.code == "dequantize-in-loop"), "{hot:?}");
}

/// Every key of the JSON form is in its description.
#[test]
fn the_schema_names_every_field() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let flags = ["--rows", "18", "--measure", "--reps", "2", "--context", "20"];
    let text = place.good(&[&["graph", "inspect", &model, "-o", "json"], &flags[..]].concat());
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["schema"], 1);
    let mut keys = BTreeSet::new();
    collect(&value, &mut keys);
    let schema = include_str!("../../crates/inspect/SCHEMA.md");
    let missing: Vec<&String> = keys.iter().filter(|k| !schema.contains(&format!("`{k}`"))).collect();
    assert!(keys.len() > 50 && missing.is_empty(), "{missing:?} of {}", keys.len());
    assert!(parse(&text.replace("\"schema\":1", "\"schema\":9")).unwrap_err().contains("schema 9"));
    assert!(parse("{}").unwrap_err().contains("no schema version"));
}

/// A trace of a run says which plans served it.
#[test]
fn a_run_log_counts_the_steps_of_each_plan() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let run = ["run", "-m", &model, "-p", "a b c d e f g h", "-n", "5", "--temp", "0", "--ignore-eos", "--spec", "off"];
    place.good(&[&run[..], &["--trace", "t.json"]].concat());
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(place.path("t.json")).unwrap()).unwrap();
    let buckets = report(&place, &[&model, "--log", "t.json"]).buckets;
    let hits: f64 = buckets.iter().map(|b| b.hits.unwrap()).sum();
    assert_eq!(hits as u64, trace["otherData"]["steps"].as_u64().unwrap());
    let of = |plan: &str| buckets.iter().find(|b| b.plan == plan).unwrap();
    assert!(of("r1s1o1-argmax").hits >= Some(4.0) && of("r1s1o1-argmax").padding_share == Some(0.0), "{buckets:?}");
    let prompt = buckets.iter().find(|b| b.rows > 1 && b.hits > Some(0.0)).unwrap();
    assert!(prompt.padding_share.is_some_and(|s| s > 0.0 && s < 1.0), "{prompt:?}");
    let text = place.good(&["graph", "inspect", &model, "--log", "t.json"]);
    assert!(text.contains("padding"), "{text}");
    place.write("odd.json", "{}");
    place.bad(&["graph", "inspect", &model, "--log", "odd.json"], 2, "odd.json: not a trace: it has no traceEvents");
}

fn collect(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            keys.insert(key.clone());
            collect(value, keys);
        }),
        Value::Array(items) => items.iter().for_each(|item| collect(item, keys)),
        _ => {}
    }
}

#[test]
fn a_profile_sets_the_rates() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let profile = "version = 1\nhost = \"h\"\ndate = \"2026-01-01\"\ndevice = \"cpu-avx2\"\nprocessor = \"a chip\"\n\
        threads = 4\ncommit = \"c\"\n[costs]\nsubmission_us = { median = 1.0, min = 1.0, max = 1.0 }\n\
        barrier_us = { median = 1.0, min = 1.0, max = 1.0 }\nwake_us = { median = 1.0, min = 1.0, max = 1.0 }\n\
        [[read]]\nlevel = \"memory\"\nbytes = 1\nthreads = 4\ngb_s = { median = 50.0, min = 50.0, max = 50.0 }\n\
        [[peak]]\nkind = \"int8\"\nthreads = 4\ngmac_s = { median = 900.0, min = 900.0, max = 900.0 }\n";
    place.write("fast.toml", profile);
    let fast = report(&place, &[&model, "--profile", "fast.toml"]).header;
    assert_eq!((fast.machine.bandwidth, fast.machine.name.as_str()), (50e9, "a chip"));
    let other = report(&place, &[&model, "--profile", "fast.toml"]).tasks;
    assert!(other.iter().all(|t| t.kernel.as_ref().unwrap().name == "chosen at load"), "another machine's kernels");
    let assumed = report(&place, &[&model]).header;
    assert!(assumed.predicted_seconds != fast.predicted_seconds);
    place.bad(&["graph", "inspect", &model, "--profile", "none.toml"], 2, "none.toml");
}

#[test]
fn hostile_files_end_with_a_message() {
    let place = Place::new();
    place.write("empty", "");
    place.write("text", "hello");
    place.write("gguf", "GGUF\x03\0\0\0");
    place.write("aio", "AIOPLAN\0".repeat(100));
    for name in ["empty", "text", "gguf", "aio", "missing"] {
        place.bad(&["graph", "inspect", name], 2, "error:");
    }
    place.bad(&["graph", "inspect", "text", "-m", "x"], 2, "cannot be used with");
    place.bad(&["graph", "inspect", "--rows", "0"], 2, "--rows");
}

/// Times depend on the machine, but not what they add up to.
#[test]
fn measured_tasks_stand_beside_predictions() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let flags = ["--measure", "--reps", "8", "--context", "40", "--threads", "2"];
    let r = report(&place, &[&[&model[..]], &flags[..]].concat());
    let step = r.header.measured.unwrap();
    assert_eq!((step.steps, r.header.machine.threads), (8, 2));
    assert!(step.p50_seconds > 0.0 && step.p50_seconds <= step.p99_seconds && step.read_bandwidth > 0.0);
    for task in &r.tasks {
        let m = task.measured.unwrap();
        assert!(m.p50_seconds >= 0.0 && m.p50_seconds <= m.p99_seconds && m.p99_seconds <= step.p99_seconds);
        if m.p50_seconds > 0.0 {
            let bytes = (task.work.weight_bytes + task.work.kv_bytes) as f64;
            assert!((m.gb_s * 1e9 * m.p50_seconds - bytes).abs() <= 1e-6 * bytes);
            assert!((m.bandwidth_share - m.gb_s * 1e9 / step.read_bandwidth).abs() < 1e-9);
            assert!((m.error - (task.predicted_seconds / m.p50_seconds - 1.0)).abs() < 1e-9);
        }
    }
    let shares: f64 = step.idle.iter().map(|i| i.share).sum();
    let names: Vec<&str> = step.idle.iter().map(|i| i.cause.as_str()).collect();
    assert_eq!(names, ["launch", "late thread", "barrier", "away", "host"]);
    assert!((0.0..=1.0).contains(&shares), "{shares}");
    assert!(r.groups.op.iter().all(|g| g.measured_seconds.is_some()));
    assert_eq!(step.threads.len(), 2);
    for thread in &step.threads {
        let ends = thread.stretches.windows(2).map(|w| w[0].start_seconds + w[0].seconds - w[1].start_seconds);
        assert!(ends.into_iter().all(|gap| gap.abs() < 1e-9), "{thread:?}");
        assert!(thread.stretches.iter().all(|s| s.cause.as_deref().is_none_or(|c| names.contains(&c))));
    }
    let text = place.good(&[&["graph", "inspect", &model], &flags[..]].concat());
    assert!(text.contains("measured us") && text.contains("of peak") && text.contains("idle"), "{text}");
    place.write("linear.graph", LINEAR);
    place.bad(
        &["graph", "inspect", "linear.graph", "--measure"],
        2,
        "--measure needs a model: linear.graph is a text graph",
    );
}

/// Steps of every sort run on the plan that the report is about.
#[test]
fn steps_of_every_sort_are_measured() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let base = [&model[..], "--measure", "--reps", "3", "--threads", "2"];
    for (flags, plan) in [
        (&["--drafts", "3"][..], "r17s17o17-argmax-verify"),
        (&["--drafts", "2", "--seqs", "2", "--tail", "sample"], "r17s17o17-sample-verify"),
        (&["--rows", "40", "--context", "200"], "r72s72o72-argmax"),
        (&["--rows", "6", "--seqs", "2", "--outs", "3"], "r17s17o17-argmax"),
        (&["--tail", "logits"], "r1s1o1-logits"),
        (&["--rows", "4", "--outs", "2", "--tail", "hidden"], "r17s17o17-hidden"),
    ] {
        let r = report(&place, &[&base[..], flags].concat());
        assert_eq!((r.header.plan.as_str(), r.header.measured.unwrap().steps), (plan, 3), "{flags:?}");
        assert!(r.tasks.iter().all(|t| t.measured.is_some()), "{flags:?}");
    }
    let uneven = [&base[..], &["--rows", "5", "--seqs", "2"]].concat();
    place.bad(&[&["graph", "inspect"], &uneven[..]].concat(), 2, "5 rows are not shared evenly by 2");
}

#[test]
fn devices_without_a_timeline_are_not_measured() {
    let place = Place::new();
    // Nothing is opened before: there is no such file.
    let built = [("interp", true), ("cuda", cfg!(feature = "cuda")), ("ascend", cfg!(feature = "ascend"))];
    for (device, _) in built.into_iter().filter(|(_, is_built)| *is_built) {
        let args = ["graph", "inspect", "none.gguf", "--measure", "--device", device];
        place.bad(&args, 2, &format!("it does not run on --device {device}"));
    }
}

/// Which kernels run on this machine depends on it; that all tasks tell, and why, does not.
#[test]
fn each_task_has_its_kernel_and_the_reason() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let plain = report(&place, &[&model, "--isa", "portable"]);
    for task in &plain.tasks {
        let kernel = task.kernel.as_ref().unwrap();
        assert!(kernel.name.starts_with("portable/") || kernel.name.starts_with("plain/"), "{kernel:?}");
        assert!(kernel.candidates.is_empty() && !kernel.why.is_empty(), "{kernel:?}");
    }
    let of = |r: &Report, kind: &str| r.tasks.iter().find(|t| t.kind == kind).unwrap().kernel.clone().unwrap();
    let head = of(&plain, "head");
    assert!(head.name.ends_with("/argmax") && head.why.starts_with("instruction set asked for"), "{head:?}");
    assert!(of(&plain, "gate_up").name.contains("/q4_1/1x16"), "{:?}", of(&plain, "gate_up"));
    assert!(of(&plain, "attend_pages").why.contains("splits of 256 positions"));
    let here = of(&report(&place, &[&model]), "head");
    assert!(here.why.starts_with("the widest instruction set that this machine has"), "{here:?}");
    let many = of(&report(&place, &[&model, "--rows", "40", "--outs", "1"]), "gate_up");
    assert!(many.why.contains("40 rows: ") && many.why.contains("threads share"), "{many:?}");
    assert!(report(&place, &[&model, "--device", "interp"]).tasks.iter().all(|t| t.kernel.is_none()));
    let csv = place.good(&["graph", "inspect", &model, "-o", "csv", "--isa", "portable"]);
    assert!(csv.lines().next().unwrap().ends_with(",kernel,why") && csv.contains(",portable/q4_1/"), "{csv}");
    let text = place.good(&["graph", "inspect", &model, "--isa", "portable"]);
    assert!(text.contains("portable/q4_1/1x16"), "{text}");
}

/// A modelled chip takes the names and constants that `aio regime` and `aio simulate` take.
#[cfg(feature = "ascend")]
#[test]
fn modelled_chips_have_their_own_rates() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::F16);
    let of = |chip: &str| report(&place, &[&model, "--device", "ascend", "--profile", chip]).header;
    let [first, last] = ["910b1", "910B4"].map(of);
    assert_eq!((first.machine.name.as_str(), last.machine.name.as_str()), ("Ascend 910B1", "Ascend 910B4"));
    assert_eq!(first.machine.figures, aio::inspect::Figures::Modelled);
    assert!(first.machine.bandwidth > last.machine.bandwidth && first.machine.op_seconds > 0.0, "{first:?}");
    for (chip, header) in [("910b1", &first), ("910b4", &last)] {
        let map = place.good(&["regime", &model, "--device", chip, "--batch", "1", "--context", "256", "-o", "json"]);
        let map: Value = serde_json::from_str(&map).unwrap();
        let modelled = map["cells"][0]["predicted_seconds"].as_f64().unwrap();
        let predicted = header.predicted_seconds;
        assert!((predicted / modelled - 1.0).abs() < 0.1, "{chip}: {predicted} and {modelled}");
    }
    let text = place.good(&["graph", "inspect", &model, "--profile", "910b2"]);
    assert!(text.contains("Ascend 910B2") && text.contains("(modelled)"), "{text}");
    for command in [&["graph", "inspect", &model, "--profile", "910b9"][..], &["regime", &model, "--device", "910b9"]] {
        place.bad(command, 2, "there is no device `910b9`: not a chip (910B1, 910B2, 910B3, 910B4)");
    }
}

/// A trace of a real run: the form that Chrome and Perfetto read, and each thread's time without a gap.
#[test]
fn the_trace_of_a_run_accounts_for_each_threads_time() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    for dispatch in ["graph", "op"] {
        let run = ["run", "-m", &model, "-p", "hello", "-n", "6", "--ignore-eos", "--threads", "2", "--spec", "off"];
        let output = place.run(&[&run[..], &["--dispatch", dispatch, "--trace", "t.json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", crate::text(&output.stderr));
        assert!(
            crate::text(&output.stderr).contains("threads were idle for launch"),
            "{}",
            crate::text(&output.stderr)
        );
        check_trace(&std::fs::read_to_string(place.path("t.json")).unwrap());
    }
}

pub(crate) fn check_trace(text: &str) {
    let trace: Value = serde_json::from_str(text).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    for e in events {
        let phase = e["ph"].as_str().unwrap();
        assert!(e["pid"].is_u64() && e["tid"].is_u64() && e["name"].is_string(), "{e}");
        assert!(phase == "M" || e["ts"].as_f64().is_some_and(|ts| ts >= 0.0), "{e}");
        match phase {
            "X" => assert!(e["dur"].as_f64().is_some_and(|d| d > 0.0) && e["cat"].is_string(), "{e}"),
            "C" => assert!(e["args"]["value"].is_number(), "{e}"),
            "s" | "f" => assert!(e["id"].is_string(), "{e}"),
            other => assert_eq!(other, "M", "{e}"),
        }
    }
    let spans = |cat: &str| -> Vec<&Value> { events.iter().filter(|e| e["ph"] == "X" && e["cat"] == cat).collect() };
    let steps = spans("step");
    assert!(!steps.is_empty() && steps.len() as u64 == trace["otherData"]["steps"].as_u64().unwrap());
    let number = |e: &Value, key: &str| e[key].as_f64().unwrap();
    let mut idle = 0.0;
    for step in &steps {
        let (start, dur) = (number(step, "ts"), number(step, "dur"));
        for thread in [1, 2] {
            let own = spans("task").into_iter().chain(spans("idle"));
            let mut own: Vec<&Value> =
                own.filter(|e| e["tid"] == thread && e["args"]["step"] == step["args"]["step"]).collect();
            own.sort_by(|a, b| number(a, "ts").total_cmp(&number(b, "ts")));
            let sum: f64 = own.iter().map(|e| number(e, "dur")).sum();
            assert!((sum / dur - 1.0).abs() <= 0.02, "thread {thread}: {sum} of {dur} us");
            assert!(own.iter().all(|e| number(e, "ts") >= start - 1e-3));
            let gaps = own.windows(2).map(|w| number(w[1], "ts") - number(w[0], "ts") - number(w[0], "dur"));
            assert!(gaps.into_iter().all(|gap| gap.abs() < 1e-3), "stretches neither overlap nor leave gaps");
            for e in own.iter().filter(|e| e["cat"] == "idle") {
                assert_eq!(e["name"], e["args"]["cause"], "an idle stretch is named by its cause");
                idle += number(e, "dur");
            }
        }
    }
    let between: f64 = spans("between").iter().map(|e| number(e, "dur")).sum();
    let said = trace["otherData"]["between_steps_seconds"].as_f64().unwrap();
    assert!((between / 2.0 - said * 1e6).abs() <= 1e-6 * between + 1e-3, "{between} us on two threads, {said} s");
    assert_eq!(spans("between").len(), 2 * (steps.len() - 1), "the time between steps is on each thread's track");
    let sums = trace["otherData"]["idle_seconds"].as_object().unwrap();
    let all: f64 = sums.values().map(|s| s.as_f64().unwrap()).sum();
    assert!((all * 1e6 - idle).abs() <= 1e-6 * idle + 1e-3, "the sums by cause are those of the stretches");
    let names: BTreeSet<&str> = spans("task").iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert!(names.iter().any(|n| n.contains("blk.1.ffn_down")), "tasks carry the names of weights: {names:?}");
    for counter in ["GB/s read", "arena live bytes"] {
        assert!(events.iter().any(|e| e["ph"] == "C" && e["name"] == counter), "{counter}");
    }
    let flows = |phase: &str| -> BTreeSet<&str> {
        events.iter().filter(|e| e["ph"] == phase).map(|e| e["id"].as_str().unwrap()).collect()
    };
    assert!(!flows("s").is_empty() && flows("s") == flows("f"), "each arrow has both ends");
}
