//! A C program that knows the interface by its own declarations alone, loaded and linked, gives the expected output.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod library;

#[allow(dead_code, reason = "the other needs are those of other tests")]
#[path = "../../../filetest/src/needs.rs"]
mod needs;

use std::path::{Path, PathBuf};
use std::process::Command;

const EXPECTED: &str = include_str!("program.txt");

/// Compiles the program with further arguments; `None` after a SKIP.
fn compiled(test: &str, folder: &Path, more: &[&str]) -> Option<PathBuf> {
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let (source, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program.c"), folder.join("program"));
    let mut command = Command::new(&compiler);
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1", "-o"]).arg(&to).arg(source).args(more);
    match command.output() {
        Err(e) => {
            needs::skip(test, "cxx", &format!("no C compiler: {compiler}: {e}"));
            None
        }
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            Some(to)
        }
    }
}

/// The output with addresses and handles made equal.
fn output(mut command: Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let mut parts = text.split("0x");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + "ADDRESS" + part.trim_start_matches(|c: char| c.is_ascii_hexdigit()))
}

#[test]
fn a_program_that_loads_the_library_replays_an_updated_graph_and_sees_each_fault() {
    let folder = tempfile::tempdir().unwrap();
    let test = "a_program_that_loads_the_library_replays_an_updated_graph_and_sees_each_fault";
    let Some(program) = compiled(test, folder.path(), &["-ldl"]) else { return };
    let mut command = Command::new(program);
    command.arg(library::built());
    assert_eq!(output(command), EXPECTED);
}

#[test]
#[cfg(target_os = "linux")]
fn a_program_that_is_linked_with_the_three_libraries_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let test = "a_program_that_is_linked_with_the_three_libraries_does_the_same";
    library::links(folder.path());
    let search = format!("-L{}", folder.path().display());
    let names = library::NAMES.map(|n| format!("-l{n}"));
    let mut more = vec!["-DLINKED", &*search, "-Wl,--no-as-needed"];
    more.extend(names.iter().map(String::as_str));
    let Some(program) = compiled(test, folder.path(), &more) else { return };
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", folder.path());
    assert_eq!(output(command), EXPECTED);
}
