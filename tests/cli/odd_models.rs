//! Model files with unusual metadata: honoured, reported in a warning, or rejected by name.

use crate::Place;
use aio::ir::DType;
use aio_filetest::edit::File;

const RUN: [&str; 9] = ["-p", "hello", "-n", "4", "--temp", "0", "--ignore-eos", "--ids", "--no-cache"];

fn file() -> File {
    File::tiny("llama-1b", DType::Q8_0)
}

/// The ids printed by `aio run`, and its stderr.
fn run(place: &Place, file: &File) -> (String, String) {
    place.write("m.gguf", file.bytes());
    let output = place.run(&[&["run", "-m", "m.gguf"], &RUN[..]].concat());
    let stderr = crate::text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    (crate::text(&output.stdout), stderr)
}

#[test]
fn biases_and_factors_change_the_ids() {
    let place = Place::new();
    let (base, _) = run(&place, &file());
    let mut bias = vec![0.0; 512];
    bias[68] = 1000.0;
    assert_eq!(run(&place, &file().vector("output.bias", &bias)).0.trim(), "68,68,68,68");
    let down: Vec<f32> = (0..256).map(|i| if i < 128 { 3.0 } else { -3.0 }).collect();
    assert_ne!(run(&place, &file().vector("blk.1.ffn_down.bias", &down)).0, base);
    assert_ne!(run(&place, &file().set("llama.rope.scaling.attn_factor", 30.0f32)).0, base);
    assert_eq!(run(&place, &file().set("llama.attention.head_count_kv", vec![2u32, 2])).0, base);
}

#[test]
fn what_is_not_honoured_is_refused_by_name_wherever_a_graph_is_made() {
    let place = Place::new();
    for (file, message) in [
        (file().vector("blk.0.post_attention_norm.weight", &[1.0; 256]), "\"blk.0.post_attention_norm.weight\""),
        (file().set("llama.attention.causal", false), "\"llama.attention.causal\" is false"),
        (file().set("llama.unheard.of", 1u32), "\"llama.unheard.of\" (1)"),
        (file().set("llama.attention.head_count_kv", vec![2u32, 1]), "the same for every layer"),
    ] {
        place.write("m.gguf", file.bytes());
        for command in [&["run", "-p", "x"][..], &["compile", "-o", "m.aio"], &["graph", "print"], &["graph", "plan"]] {
            let stderr = place.bad(&[command, &["-m", "m.gguf"]].concat(), 2, message);
            assert!(stderr.contains("m.gguf"), "the file is named: {stderr}");
        }
    }
}

#[test]
fn recoverable_metadata_are_warned_of_once_and_run() {
    let place = Place::new();
    let (base, quiet) = run(&place, &file());
    assert!(!quiet.contains("warning"), "{quiet}");
    for (file, message) in [
        (
            file().set("tokenizer.ggml.eos_token_id", 512u32),
            "tokenizer.ggml.eos_token_id is 512, but there are 512 tokens",
        ),
        (file().set("tokenizer.ggml.add_eos_token", true).without_key("tokenizer.ggml.eos_token_id"), "none is added"),
        (file().set("tokenizer.ggml.merges", vec!["Ġ t".to_owned(), "Ġ Ġ".to_owned()]), "merge 1 (\"Ġ Ġ\")"),
        (file().without_key("tokenizer.ggml.pre"), "\"default\" is assumed"),
        (
            file().set("general.name", aio::model::gguf::MetaValue::Bytes(b"Mod\xe8le".to_vec())),
            "general.name is not UTF-8",
        ),
    ] {
        let (ids, stderr) = run(&place, &file);
        assert_eq!((ids.as_str(), stderr.matches("warning: ").count()), (base.as_str(), 1), "{stderr}");
        assert!(stderr.contains(message), "{stderr}");
    }
    // The artefact in the cache gives the same warning.
    place.write("m.gguf", file().set("tokenizer.ggml.eos_token_id", 512u32).bytes());
    for _ in 0..2 {
        let output = place.run(&[&["run", "-m", "m.gguf"], &RUN[..8]].concat());
        assert!(crate::text(&output.stderr).contains("warning: tokenizer.ggml.eos_token_id"));
    }
    let text = place.good(&["gguf", "m.gguf"]);
    assert!(text.contains("llama.block_count"), "{text}");
}

#[test]
fn gguf_shows_all_of_a_file_whose_strings_are_not_utf8() {
    let place = Place::new();
    place
        .write("m.gguf", file().set("general.name", aio::model::gguf::MetaValue::Bytes(b"Mod\xe8le".to_vec())).bytes());
    for form in ["text", "md", "json"] {
        let shown = place.good(&["gguf", "m.gguf", "-o", form]);
        assert!(shown.contains("Mod\u{fffd}le") && shown.contains("512") && shown.contains("blk.1"), "{shown}");
    }
}

#[test]
fn a_template_file_makes_an_architecture_with_new_keys() {
    let place = Place::new();
    let mut file = file().set("llama.gravity", 1u32).set("general.architecture", "martian");
    file.keys.iter_mut().for_each(|(key, _)| *key = key.replace("llama.", "martian."));
    place.write("m.gguf", file.bytes());
    place.bad(&["run", "-m", "m.gguf", "-p", "x"], 2, "no graph template for architecture `martian`");
    let template = "{% set rope_pairs = \"adjacent\" %}{% set rope_factors = meta(\"gravity\") == 1 %}{% include \"decoder.jinja\" %}";
    place.write("martian.jinja", template);
    let run = |m: &str, more: &[&str]| place.good(&[&["run", "-m", m], &RUN[..], more].concat());
    let ids = run("m.gguf", &["--template", "martian.jinja"]);
    place.write("llama.gguf", self::file().bytes());
    assert_eq!(ids, run("llama.gguf", &[]));
    // If the template does not read the key, it is an error.
    place.write(
        "deaf.jinja",
        "{% set rope_pairs = \"adjacent\" %}{% set rope_factors = true %}{% include \"decoder.jinja\" %}",
    );
    place.bad(&["run", "-m", "m.gguf", "-p", "x", "--template", "deaf.jinja"], 2, "\"martian.gravity\" (1)");
}

#[test]
fn every_template_of_the_folder_is_built_in() {
    let (built, folder) = (aio::templates(), aio_filetest::tiny::templates());
    assert!(built.texts().eq(folder.texts()) && built.architectures().count() >= 4);
}
