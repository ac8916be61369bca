//! The C example, compiled in both languages against the installed package, prints the golden tokens.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]
#![cfg(target_os = "linux")]

mod common;

use common::{LANGUAGES, built, compiler, needs, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// llama.cpp's greedy answers with the default model, which `tests/golden.rs` describes.
const GOLDEN: &str = include_str!("../../../tests/data/golden-smollm2.json");

/// A prompt and the tokens after it, as far as llama.cpp is certain of each: `tests/golden.rs` says why the rest may differ.
fn golden() -> (String, Vec<String>) {
    let cases: serde_json::Value = serde_json::from_str(GOLDEN).unwrap();
    let case = &cases[0];
    let margins = case["margins"].as_array().unwrap();
    let certain = margins.iter().take_while(|m| m.as_f64().unwrap() >= 0.35).count();
    let tokens = case["greedy_ids"].as_array().unwrap()[..certain].iter().map(ToString::to_string).collect();
    (case["prompt"].as_str().unwrap().to_owned(), tokens)
}

/// Installs the package into a folder.
fn install(prefix: &Path) {
    run(Command::new("bash").arg(root().join("scripts/install")).arg(prefix).arg(built()));
}

/// What pkg-config says of the installed package, or `None` after a SKIP.
fn pkg_config(test: &str, prefix: &Path, arguments: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(arguments).arg("aio");
    match command.output() {
        Err(e) => {
            needs::skip(test, "cxx", &format!("no pkg-config: {e}"));
            None
        }
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            Some(String::from_utf8(done.stdout).unwrap().split_whitespace().map(str::to_owned).collect())
        }
    }
}

/// The example in a language, linked as pkg-config says.
fn example(test: &str, prefix: &Path, language: (&str, &str, &[&str]), of: &[&str]) -> Option<PathBuf> {
    let flags = pkg_config(test, prefix, of)?;
    let to = prefix.join(format!("generate-{}", language.1));
    let mut command = compiler(test, language)?;
    run(command.arg(root().join("examples/c/generate.c")).arg("-x").arg("none").arg("-o").arg(&to).args(flags));
    Some(to)
}

/// The first 32 tokens after a prompt by the Rust interface.
fn in_rust(model: &Path, prompt: &str) -> Vec<String> {
    let device = aio::devices::Registry::with_defaults().open("cpu", &Default::default()).unwrap().device;
    let engine = aio::load(aio::model::Model::open(model).unwrap(), device, &Default::default()).unwrap();
    let ids = engine.model().tokenizer.encode_prompt(prompt, true).unwrap();
    let mut request = aio::engine::Request::new(ids, aio::engine::Sampling::greedy());
    request.max_tokens = Some(32);
    let done = engine.generate(&request, &mut |_| aio::engine::Flow::Continue).unwrap();
    done.ids.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_prints_the_golden_tokens_in_both_languages() {
    let test = "the_example_prints_the_golden_tokens_in_both_languages";
    let Some(model) = needs::default_model(test) else { return };
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    let mut expected = None;
    for language in LANGUAGES {
        let Some(program) = example(test, prefix.path(), language, &["--cflags", "--libs"]) else { return };
        let mut command = Command::new(program);
        command.env("LD_LIBRARY_PATH", prefix.path().join("lib"));
        let (prompt, golden) = golden();
        assert!(golden.len() >= 4, "{golden:?}");
        let done = run(command.arg(&model).args([&prompt, "32"]));
        let errors = String::from_utf8(done.stderr).unwrap();
        let tokens: Vec<&str> = errors.lines().find_map(|l| l.strip_prefix("tokens: ")).unwrap().split(' ').collect();
        assert_eq!(tokens[..golden.len()], golden);
        assert_eq!(tokens, *expected.get_or_insert_with(|| in_rust(&model, &prompt)));
    }
}

#[test]
fn the_example_names_what_is_wrong() {
    let test = "the_example_names_what_is_wrong";
    let prefix = tempfile::tempdir().unwrap();
    install(prefix.path());
    let Some(program) = example(test, prefix.path(), LANGUAGES[0], &["--cflags", "--libs"]) else { return };
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", prefix.path().join("lib"));
    let done = command.args(["/nowhere.gguf", "Hi", "4"]).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let errors = String::from_utf8(done.stderr).unwrap();
    assert!(errors.starts_with("model: status 6: cannot open /nowhere.gguf: "), "{errors}");
}
