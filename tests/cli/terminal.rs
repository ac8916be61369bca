//! Output on a terminal: nothing from a file, a URL or a subprocess takes effect there, and line lengths are bounded.

use crate::{Place, text};
use aio::ir::DType;
use aio_filetest::edit::File;
use std::process::Output;

/// Sequences that clear the screen, set the window title, ring the bell, change colour and move back.
const HOSTILE: &str = "\x1b[2J\x1b]0;owned\x07\u{9b}31m\r\u{8}";

fn model() -> File {
    File::tiny("llama-1b", DType::Q8_0)
}

/// Checks that the output shows the hostile text in a form that a terminal does not obey.
fn check(what: &str, output: &Output) {
    let shown = text(&output.stdout) + &text(&output.stderr);
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!shown.contains(obeyed), "{what}: {shown:?}");
    assert!(shown.contains("[2J"), "{what} shows it: {shown}");
    let long = shown.lines().find(|l| l.chars().count() > 3000 && !l.starts_with('{'));
    assert_eq!(long, None, "{what}");
}

#[test]
fn no_string_of_a_model_reaches_a_terminal_raw() {
    let place = Place::new();
    let raise =
        format!("{{{{ raise_exception({HOSTILE:?}) }}}}").replace("\\u{1b}", "\x1b").replace("\\u{9b}", "\u{9b}");
    for (what, file, args) in [
        ("the name", model().set("general.name", HOSTILE), &["gguf"][..]),
        ("the name", model().set("general.name", HOSTILE), &["gguf", "-o", "md"]),
        ("the name", model().set("general.name", HOSTILE), &["gguf", "-o", "json"]),
        ("a key", model().set(HOSTILE, 1u32), &["gguf"]),
        ("a key", model().set(&format!("llama.{HOSTILE}"), 1u32), &["run", "-p", "x"]),
        ("the architecture", model().set("general.architecture", HOSTILE), &["run", "-p", "x"]),
        ("the kind of scaling", model().set("llama.rope.scaling.type", HOSTILE), &["run", "-p", "x"]),
        ("the tokenizer", model().set("tokenizer.ggml.model", HOSTILE), &["run", "-p", "x"]),
        ("the pre-tokenizer", model().set("tokenizer.ggml.pre", HOSTILE), &["run", "-p", "x"]),
        ("a tensor", model().vector(HOSTILE, &[1.0; 8]), &["run", "-p", "x"]),
        ("the template", model().set("tokenizer.chat_template", raise.as_str()), &["run", "--chat", "-p", "x"]),
    ] {
        place.write("m.gguf", file.bytes());
        let mut all = vec![args[0]];
        all.extend(if args[0] == "gguf" { &["m.gguf"][..] } else { &["-m", "m.gguf", "--no-cache"] });
        all.extend(&args[1..]);
        check(&format!("{what} {args:?}"), &place.run(&all));
    }
}

#[test]
fn no_string_of_an_artefact_in_the_cache_reaches_a_terminal_raw() {
    let place = Place::new();
    place.write("m.gguf", model().set("general.name", HOSTILE).bytes());
    std::fs::File::open(place.path("m.gguf")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    place.good(&["compile", "-m", "m.gguf", "-o", "m.aio"]);
    let cache = place.path("cache/aio/artefacts");
    std::fs::create_dir_all(&cache).unwrap();
    std::fs::copy(place.path("m.aio"), cache.join("m.aio")).unwrap();
    for form in ["md", "json"] {
        let output = place.run(&["cache", "list", "-o", form]);
        assert!(text(&output.stdout).contains("m.aio"), "{}", text(&output.stdout));
        check(form, &output);
    }
}

#[test]
fn no_line_of_a_graph_reaches_a_terminal_raw_or_whole() {
    let place = Place::new();
    place.write("g.graph", format!("aio 1\ngraph \"g\"\n%x = nope {HOSTILE}\n"));
    check("a line", &place.run(&["graph", "verify", "g.graph"]));
    check("a line", &place.run(&["graph", "print", "g.graph"]));
    let long = "y".repeat(5 << 20);
    place.write("long.graph", format!("aio 1\ngraph \"g\"\n%x = nope {HOSTILE} {long}\n"));
    check("a long line", &place.run(&["graph", "verify", "long.graph"]));
    place.write("op.graph", format!("aio 1\ngraph \"g\"\n%x = {long} [2J\n"));
    let output = place.run(&["graph", "verify", "op.graph"]);
    assert!(output.stdout.len() + output.stderr.len() < 10_000, "a name of 5 MB is cut");
}

#[cfg(unix)]
#[test]
fn what_a_subprocess_says_does_not_reach_a_terminal_raw() {
    let place = Place::new();
    let script = "printf 'ERROR: \\033[2J\\033]0;owned\\007\\302\\2331m\\r\\n' >&2; exit 1";
    let path = crate::signals::python(&place, script);
    check("pip", &place.command(&["pull"]).env("PATH", path).output().unwrap());
    let url = format!("http://127.0.0.1:1/{HOSTILE}");
    check("a URL", &place.run(&["pull", &url, "--sha256", &"0".repeat(64)]));
}

#[test]
fn a_key_of_70000_bytes_is_cut_in_tables() {
    let place = Place::new();
    place.write("m.gguf", model().set(&format!("a{}", "k".repeat(70_000)), 1u32).bytes());
    for form in ["text", "md"] {
        let shown = place.good(&["gguf", "m.gguf", "-o", form]);
        assert!(shown.contains("(70001 bytes)") && shown.lines().all(|l| l.chars().count() < 2000), "{form}: {shown}");
    }
    assert!(place.good(&["gguf", "m.gguf", "-o", "json"]).contains(&"k".repeat(70_000)), "JSON is whole");
}
