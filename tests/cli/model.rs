//! Subcommands that read or write models.

use crate::Place;
use aio::ir::DType;
use serde_json::Value;

fn json(text: &str) -> Value {
    assert_eq!(text.lines().count(), 1, "one object on one line");
    serde_json::from_str(text).unwrap()
}

#[test]
fn run_generates_the_same_ids_in_every_form() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let base = ["run", "-m", &model, "-p", "hello", "-n", "5", "--temp", "0", "--ignore-eos"];
    let ids = place.good(&[&base[..], &["--ids"]].concat());
    assert_eq!(ids.trim().split(',').filter(|id| id.parse::<u32>().is_ok()).count(), 5);
    let out = json(&place.good(&[&base[..], &["-o", "json"]].concat()));
    let listed: Vec<String> = out["ids"].as_array().unwrap().iter().map(Value::to_string).collect();
    assert_eq!(listed.join(","), ids.trim());
    assert_eq!(out["stop_reason"], "length");
    let portable = place.good(&[&base[..], &["--ids", "--isa", "portable", "--threads", "1"]].concat());
    assert_eq!(portable.trim().split(',').count(), 5);
}

#[test]
fn run_submits_the_whole_step_or_each_op() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::F16);
    let base = ["run", "-m", &model, "-p", "hello", "-n", "5", "--temp", "0", "--ignore-eos", "--spec", "off"];
    let run = |dispatch| json(&place.good(&[&base[..], &["-o", "json", "--dispatch", dispatch]].concat()));
    let (graph, op) = (run("graph"), run("op"));
    assert_eq!((&graph["submissions"], &graph["syncs"]), (&Value::from(5), &Value::from(5)));
    assert_eq!((&graph["dispatch"], &op["dispatch"]), (&Value::from("graph"), &Value::from("op")));
    assert_eq!(op["submissions"], op["syncs"]);
    assert!(op["submissions"].as_u64().unwrap() > 5 * 30, "{op}");
    let output = place.run(&[&base[..], &["--dispatch", "op"]].concat());
    let line = crate::text(&output.stderr);
    assert!(line.contains(&format!("{} submissions, {} syncs", op["submissions"], op["syncs"])), "{line}");
    place.bad(&[&base[..], &["--dispatch", "token2"]].concat(), 2, "--dispatch");
}

#[test]
fn run_refuses_what_cannot_be() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let long = "word ".repeat(40);
    place.bad(&["run", "-m", &model, "-p", &long, "--ctx", "16"], 2, "tokens, the context 16; use a larger --ctx");
    place.write("long.txt", "one two three ".repeat(800_000));
    for chat in [&[][..], &["--chat"]] {
        let args = ["run", "-m", &model, "-f", "long.txt", "--ctx", "16"];
        let stderr = place.bad(&[&args[..], chat].concat(), 2, "tokens, the context 16; use a larger --ctx");
        assert!(stderr.len() < 1000, "{stderr}");
    }
    place.bad(&["run", "-m", &model, "-p", ""], 2, "prompt is empty");
    place.bad(&["run", "-m", &model, "-f", "no-prompt.txt"], 2, "no-prompt.txt");
    place.bad(&["run", "-m", &model, "-p", "x", "--temp", "-1"], 2, "temperature");
    place.bad(&["run", "-m", &model, "-p", "x", "--template", "no.jinja"], 2, "no.jinja");
    place.write("bad.jinja", "{% for %}");
    place.bad(&["run", "-m", &model, "-p", "x", "--template", "bad.jinja"], 2, "bad.jinja");
}

#[test]
fn broken_models_are_refused_by_every_subcommand() {
    let place = Place::new();
    let whole = std::fs::read(place.path(&place.model("smollm2-135m", DType::Q4_0))).unwrap();
    place.write("text.txt", "some text");
    let mut cases: Vec<(String, Vec<u8>, &str)> =
        vec![("empty".into(), Vec::new(), "empty"), ("foreign".into(), b"PK\x03\x04 is a zip".to_vec(), "not a GGUF")];
    for length in [3, 4, 8, 23, 100, 5000, whole.len() / 2, whole.len() - 1] {
        cases.push((format!("cut-{length}"), whole[..length].to_vec(), "error:"));
    }
    for (name, bytes, message) in &cases {
        place.write(name, bytes);
        place.bad(&["gguf", name], 2, message);
        place.bad(&["run", "-m", name, "-p", "x"], 2, message);
    }
    for args in [
        &["gguf", "missing"][..],
        &["gguf", "."],
        &["run", "-m", "missing", "-p", "x"],
        &["perplexity", "-m", "missing", "-f", "text.txt"],
        &["perplexity", "-m", "empty", "-f", "text.txt"],
        &["graph", "print", "-m", "missing"],
        &["graph", "plan", "-m", "cut-100"],
    ] {
        place.bad(args, 2, "error:");
    }
}

#[test]
fn gguf_shows_a_model_in_three_forms() {
    let place = Place::new();
    let model = place.model("qwen3-0.6b", DType::Q4K);
    let out = json(&place.good(&["gguf", &model, "-o", "json"]));
    assert_eq!(out["version"], 3);
    let metadata = out["metadata"].as_array().unwrap();
    let value = |key: &str| metadata.iter().find(|m| m["key"] == key).unwrap()["value"].clone();
    assert_eq!(value("general.architecture"), "qwen3");
    assert_eq!(value("qwen3.attention.layer_norm_rms_epsilon"), 1e-6);
    assert_eq!(value("tokenizer.ggml.tokens")["length"], 512);
    assert_eq!(value("tokenizer.ggml.tokens")["first"].as_array().unwrap().len(), 8);
    assert!(value("tokenizer.chat_template").as_str().unwrap().ends_with("{% endif %}"));
    let tensors = out["tensors"].as_array().unwrap();
    let embedding = tensors.iter().find(|t| t["name"] == "token_embd.weight").unwrap();
    assert_eq!((embedding["type"].as_str(), &embedding["shape"]), (Some("q4_k"), &serde_json::json!([512, 256])));
    let types = out["tensor_types"].as_array().unwrap();
    let counted: u64 = types.iter().map(|t| t["tensors"].as_u64().unwrap()).sum();
    assert_eq!(counted, tensors.len() as u64);
    let text = place.good(&["gguf", &model]);
    assert!(
        text.contains("tensor types (2)") && text.contains("... (") && text.contains("token_embd.weight"),
        "{text}"
    );
    assert!(place.good(&["gguf", &model, "-o", "md"]).contains("| q4\\_k |"));
}

/// A hand-written file with one tensor, since the writer cannot produce unknown types.
fn strange_file() -> Vec<u8> {
    let put = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let mut out = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &1u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
    out.extend([put("general.architecture"), 8u32.to_le_bytes().to_vec(), put("martian")].concat());
    out.extend([put("martian.\u{1b}[31m"), 6u32.to_le_bytes().to_vec(), f32::NAN.to_le_bytes().to_vec()].concat());
    out.extend([put("t"), 1u32.to_le_bytes().to_vec(), 64u64.to_le_bytes().to_vec()].concat());
    out.extend([39u32.to_le_bytes().as_slice(), &0u64.to_le_bytes()].concat());
    out.resize(out.len().next_multiple_of(32) + 64, 0);
    out
}

#[test]
fn gguf_shows_unknown_architectures_and_types() {
    let place = Place::new();
    place.write("strange.gguf", strange_file());
    let text = place.good(&["gguf", "strange.gguf"]);
    assert!(text.contains("martian") && text.contains("MXFP4") && !text.contains('\u{1b}'), "{text}");
    let out = json(&place.good(&["gguf", "strange.gguf", "-o", "json"]));
    assert_eq!((&out["metadata"][1]["value"], &out["tensors"][0]["bytes"]), (&"NaN".into(), &Value::Null));
    place.bad(&["run", "-m", "strange.gguf", "-p", "x"], 2, "error:");
}

#[test]
fn synth_writes_a_model_that_opens() {
    let place = Place::new();
    let args = ["synth", "--preset", "smollm2-135m", "--type", "Q4_K", "--layers", "1", "--seed", "3", "-o", "s.gguf"];
    let output = place.run(&args);
    assert!(output.status.success());
    assert!(crate::text(&output.stderr).contains("q5_0 instead of q4_k"), "rows of 576 are not whole blocks");
    let out = json(&place.good(&["gguf", "s.gguf", "-o", "json"]));
    assert_eq!(out["file_bytes"].as_u64(), Some(std::fs::metadata(place.path("s.gguf")).unwrap().len()));
    let bad = ["synth", "--preset", "smollm2-135m", "--type", "q4_1", "--layers", "1", "-o", "no/such/folder/x.gguf"];
    place.bad(&bad, 2, "no/such/folder");
}

#[test]
fn run_takes_folders_in_hugging_faces_form() {
    let place = Place::new();
    aio_filetest::hugging_face::write(&place.path(""), "qwen2-0.5b", DType::F16, 1, 2);
    let args = ["-p", "hello", "-n", "5", "--temp", "0", "--ignore-eos", "--ids"];
    let ids = place.good(&[&["run", "-m", "."], &args[..]].concat());
    assert_eq!(ids.trim().split(',').count(), 5);
    let model = place.model("qwen2-0.5b", DType::F16);
    assert_eq!(place.good(&[&["run", "-m", &model], &args[..]].concat()), ids);
    std::fs::write(place.path("config.json"), "{").unwrap();
    place.bad(&["run", "-m", ".", "-p", "x"], 2, "config.json: EOF while parsing");
}

#[test]
fn perplexity_scores_second_halves() {
    let place = Place::new();
    let model = place.model("pangu-1b", DType::Q8_0);
    place.write("text.txt", "a quick brown fox ".repeat(20));
    let args = ["perplexity", "-m", &model, "-f", "text.txt", "--ctx", "100"];
    let out = json(&place.good(&[&args[..], &["-o", "json"]].concat()));
    let chunks = out["tokens"].as_u64().unwrap() / 100;
    assert_eq!(out["scored"], chunks * 49);
    let perplexity = out["perplexity"].as_f64().unwrap();
    assert!(perplexity > 50.0 && perplexity < 5000.0, "random weights know nothing: {perplexity}");
    let text = place.good(&args);
    assert!(text.lines().last().unwrap().starts_with(&format!("perplexity {perplexity:.4} +/- ")), "{text}");
    place.bad(&["perplexity", "-m", &model, "-f", "text.txt", "--ctx", "400"], 2, "fewer than one chunk");
    place.write("bytes.bin", [0xff, 0xfe]);
    place.bad(&["perplexity", "-m", &model, "-f", "bytes.bin"], 2, "bytes.bin");
}

#[test]
fn run_takes_a_chat_template_from_a_file_or_by_name() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let base = ["run", "-m", &model, "-p", "hello", "-n", "3", "--temp", "0", "--ignore-eos", "--ids"];
    let ids = |more: &[&str]| place.good(&[&base[..], more].concat());
    let chatml = ids(&["--chat-template", "chatml"]);
    assert_eq!(chatml, ids(&["--chat"]), "the model's own template is ChatML");
    std::fs::write(place.path("own.jinja"), "{{ messages[0].content }}!").unwrap();
    let with_own = place.run(&[&base[..], &["--chat-template", "own.jinja", "--verbose-prompt"]].concat());
    assert!(crate::text(&with_own.stderr).contains("\"!\""), "{}", crate::text(&with_own.stderr));
    let bad = |name, message| place.bad(&[&base[..], &["--chat-template", name]].concat(), 2, message);
    bad("chatlm", "--chat-template chatlm: neither a format (alpaca, chatml,");
    std::fs::write(place.path("deep.jinja"), "{{ ".to_owned() + &"not ".repeat(20_000) + "1 }}").unwrap();
    bad("deep.jinja", "the template nests too deeply");
}

#[test]
fn a_model_without_finite_logits_ends_with_one_message() {
    let place = Place::new();
    let name = place.model("smollm2-135m", DType::Q4_1);
    let path = place.path(&name);
    let mut bytes = std::fs::read(&path).unwrap();
    let norm = aio::model::gguf::Gguf::from_bytes(bytes.clone()).unwrap().tensor("output_norm.weight").unwrap().clone();
    bytes[norm.file_offset as usize..][..4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    for more in [&["--temp", "0"][..], &["--temp", "0.8"], &["--spec", "4"], &["-o", "json"], &["--dispatch", "op"]] {
        let run = ["run", "-m", &name, "-p", "hello", "-n", "5", "--ignore-eos", "--no-cache"];
        place.bad(&[&run[..], more].concat(), 2, "step 1 gave no token: a logit at position");
    }
    place.bad(&["bench", "-m", &name, "-n", "4", "-p", "0", "--no-cache"], 2, "a logit is NaN or infinite");
}
