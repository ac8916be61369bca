//! Compares chat templates with Python's jinja2 set up like transformers: both give the same text, or both fail.
//!
//! Needs a Python with jinja2. The peer's templates are read from where `benches/peers/build` unpacked them.
//! Conversations, constructs and our own templates are in `tests/data/jinja`.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aio_filetest::needs;
use aio_model::chat::{ChatTemplate, Clock, FORMATS};
use serde_json::{Value, json};

const NOW: u64 = 1_709_209_845;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/jinja").join(name)
}

/// The conversations, with the variables of every transformers call.
fn conversations() -> Vec<(String, Value)> {
    let text = std::fs::read_to_string(data("conversations.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let complete = |(name, variables): (&String, &Value)| {
        let mut whole = json!({"add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>"});
        whole.as_object_mut().unwrap().extend(variables.as_object().unwrap().clone());
        (name.clone(), whole)
    };
    all.as_object().unwrap().iter().map(complete).collect()
}

fn templates(folder: &Path) -> BTreeMap<String, String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    let jinja = paths.filter(|p| p.extension().is_some_and(|e| e == "jinja"));
    jinja.map(|p| (p.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(p).unwrap())).collect()
}

/// The results of jinja2 for each template and each of the variables, in that order.
fn theirs(python: &mut Command, templates: &BTreeMap<String, String>, variables: &[(String, Value)]) -> Vec<Value> {
    let jobs: Vec<_> = templates.keys().flat_map(|t| variables.iter().map(move |(_, v)| json!([t, v]))).collect();
    let request = json!({"now": NOW, "templates": templates, "jobs": jobs});
    let mut child =
        python.arg(data("render.py")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The position where the two texts differ.
fn difference(ours: &str, theirs: &str) -> String {
    let at = ours.bytes().zip(theirs.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        let from = (0..=at.saturating_sub(60)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.get(from..).unwrap_or("").chars().take(160).collect::<String>()
    };
    format!("at byte {at}\n    ours   {:?}\n    theirs {:?}", around(ours), around(theirs))
}

/// Templates that fail in jinja2 but give a text here: `map` gives lists here, and generators in jinja2, which `tojson`
/// rejects.
const MORE_LENIENT: [&str; 1] = ["llama-cpp-deepseek-r1"];

/// Compares all templates on all variables. Templates that jinja2 itself does not compile are named and skipped.
fn compare(test: &str, templates: &BTreeMap<String, String>, variables: &[(String, Value)]) {
    let Some(mut python) = needs::jinja(test) else { return };
    let theirs = theirs(&mut python, templates, variables);
    let mut faults = Vec::new();
    let (mut texts, mut refusals) = (0, 0);
    for (i, (name, template)) in templates.iter().enumerate() {
        let rows = &theirs[i * variables.len()..(i + 1) * variables.len()];
        if rows[0]["at"] == "compile" {
            println!("{name}: jinja2 does not compile it: {}", rows[0]["error"]);
            continue;
        }
        let parsed = ChatTemplate::new(template, Clock { unix_s: NOW });
        for ((conversation, variables), their) in variables.iter().zip(rows) {
            let ours = parsed.as_ref().map_err(ToString::to_string);
            let ours = ours.and_then(|p| p.render_variables(variables).map_err(|e| e.to_string()));
            match (ours, their["text"].as_str()) {
                (Ok(our), Some(their)) if our == their => texts += 1,
                (Err(_), None) => refusals += 1,
                (Ok(_), None) if MORE_LENIENT.contains(&name.as_str()) => refusals += 1,
                (Ok(our), Some(their)) => faults.push(format!("{name}, {conversation}: {}", difference(&our, their))),
                (Ok(our), None) => {
                    faults.push(format!("{name}, {conversation}: theirs {}, ours {our:?}", their["error"]))
                }
                (Err(our), Some(their)) => {
                    let their: String = their.chars().take(120).collect();
                    faults.push(format!("{name}, {conversation}: ours {our}; theirs {their:?}"));
                }
            }
        }
    }
    println!("{test}: {} templates, {texts} equal texts, {refusals} refused by both", templates.len());
    assert!(faults.is_empty(), "{} differ:\n{}", faults.len(), faults.join("\n"));
    assert!(texts > 0, "something was compared");
}

#[test]
fn the_peers_templates_give_what_jinja2_gives() {
    let test = "the_peers_templates_give_what_jinja2_gives";
    let Some(folder) = needs::peer_templates(test) else { return };
    let templates = templates(&folder);
    assert_eq!(templates.len(), 71, "b11434 has 71 templates");
    compare(test, &templates, &conversations());
}

#[test]
fn our_templates_give_what_jinja2_gives() {
    let mut all = templates(&data("templates"));
    all.extend(FORMATS.iter().map(|(name, text)| (format!("format {name}"), (*text).to_owned())));
    assert!(all.len() >= 20);
    compare("our_templates_give_what_jinja2_gives", &all, &conversations());
}

/// Each construct separately, so that a difference names it.
#[test]
fn constructs_give_what_jinja2_gives() {
    let text = std::fs::read_to_string(data("constructs.txt")).unwrap();
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with("##"));
    let all: BTreeMap<_, _> = lines.map(|l| (l.to_owned(), l.replace("\\N", "\n").replace("\\R", "\r"))).collect();
    let several = conversations().into_iter().filter(|(name, _)| name == "tools called").collect::<Vec<_>>();
    compare("constructs_give_what_jinja2_gives", &all, &several);
}
