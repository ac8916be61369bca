//! Rules for the source itself: dependency edges, where `unsafe` may be used, sizes, headers.
//!
//! Back ends and compiler share only the plan, `unsafe` stays in a few crates, files and functions stay readable.
//! Exceptions are listed here one by one.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

#[path = "tidy/circles.rs"]
mod circles;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Each crate (folder) and the workspace crates it may depend on directly, not counting dev-dependencies.
const EDGES: &[(&str, &[&str])] = &[
    ("ascend-sim", &[]),
    ("mapped", &[]),
    ("ir", &[]),
    ("plan", &["ir", "mapped"]),
    ("backend", &["ir", "plan"]),
    ("interp", &["backend", "ir", "plan"]),
    ("compiler", &["plan", "ir"]),
    ("conformance", &["backend", "compiler", "interp", "ir", "plan"]),
    ("backend-cpu", &["backend", "ir", "plan"]),
    ("backend-cuda", &["backend", "ir", "plan"]),
    ("backend-ascend", &["ascend-sim", "backend", "ir", "plan"]),
    ("model", &["ir", "mapped"]),
    ("orchestrator", &["plan"]),
    ("engine", &["model", "compiler", "backend", "ir", "orchestrator", "plan"]),
    ("fleet", &["engine", "model", "orchestrator"]),
    ("inspect", &["backend", "ir", "orchestrator", "plan"]),
    ("capi", &["aio"]),
];

/// Crates that may use `unsafe`; all others forbid it. The command line has two signal handlers.
const MAY_BE_UNSAFE: &[&str] =
    &["ascend-sim", "mapped", "backend-ascend", "backend-cpu", "backend-cuda", "capi", "cli"];

/// Maximum lines of a file, and of a file that contains tests.
const MAX_FILE: usize = 500;
const MAX_FILE_WITH_TESTS: usize = 800;
/// Maximum lines of a function.
const MAX_FUNCTION: usize = 100;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn all_files() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    for folder in ["crates", "tests", "benches", "examples"] {
        let folder = root().join(folder);
        if folder.is_dir() {
            rust_files(&folder, &mut paths);
        }
    }
    paths.push(root().join("build.rs"));
    let read = |p: &PathBuf| {
        let name = p.strip_prefix(root()).unwrap().display().to_string();
        (name, std::fs::read_to_string(p).unwrap())
    };
    paths.iter().map(read).collect()
}

#[test]
fn crates_depend_only_on_what_the_design_allows() {
    let allowed: BTreeMap<_, BTreeSet<_>> = EDGES.iter().map(|(c, d)| (*c, d.iter().copied().collect())).collect();
    let mut wrong = Vec::new();
    for (name, allowed) in &allowed {
        let manifest = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let section = manifest.split("[dependencies]").nth(1).unwrap_or("").split("\n[").next().unwrap();
        for line in section.lines().filter_map(|l| l.strip_prefix("aio-")) {
            let used = line.split([' ', '=', '.']).next().unwrap();
            if !allowed.contains(used) {
                wrong.push(format!("aio-{name} -> aio-{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "forbidden dependencies: {wrong:?}");
    let folders = std::fs::read_dir(root().join("crates")).unwrap().flatten();
    let listed = |n: &str| allowed.contains_key(n) || ["facade", "cli", "filetest"].contains(&n);
    let unlisted: Vec<_> = folders.map(|f| f.file_name().into_string().unwrap()).filter(|n| !listed(n)).collect();
    assert!(unlisted.is_empty(), "crates without a rule: {unlisted:?}");
}

#[test]
fn unsafe_stays_behind_its_fence() {
    for (name, text) in all_files() {
        let Some(folder) = name.strip_prefix("crates/").and_then(|n| n.split('/').next()) else { continue };
        if MAY_BE_UNSAFE.contains(&folder) {
            continue;
        }
        if name == format!("crates/{folder}/src/lib.rs") || name == "crates/facade/lib.rs" {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{name} does not forbid unsafe code");
        }
    }
}

/// If the system cannot start a thread, that is an error or a loss of speed, never a panic. `thread::Builder` returns
/// the error; these functions do not. A test's own threads may panic.
#[test]
fn no_library_panics_where_a_thread_cannot_start() {
    const PANIC: [&str; 3] = ["thread::spawn(", "scope.spawn(", "enable_steady_tick("];
    let mut found = Vec::new();
    for (name, text) in all_files().into_iter().filter(|(name, _)| name.starts_with("crates/")) {
        let shipped = text.split("#[cfg(test)]").next().unwrap_or("");
        if !name.contains("/tests")
            && name != "crates/backend-cpu/src/pool/model.rs"
            && PANIC.iter().any(|p| shipped.contains(p))
        {
            found.push(name);
        }
    }
    assert!(found.is_empty(), "threads that may not start: {found:?}");
}

/// Everything that the command line prints is escaped for terminals in one place, so it must go through there.
#[test]
fn the_command_line_prints_in_one_place() {
    const PRINT: [&str; 6] = ["println!", "print!", "eprintln!", "io::stdout()", "io::stderr()", "bar.println("];
    let may = ["crates/cli/output.rs"];
    let asks = |line: &str| line.contains("is_terminal()");
    let mut found = Vec::new();
    for (name, text) in
        all_files().into_iter().filter(|(n, _)| n.starts_with("crates/cli/") && !may.contains(&n.as_str()))
    {
        let lines = text.lines().filter(|l| !l.trim_start().starts_with("//") && !asks(l));
        found.extend(lines.filter(|l| PRINT.iter().any(|p| l.contains(p))).map(|l| format!("{name}: {l}")));
    }
    assert!(found.is_empty(), "printed past `output`: {found:?}");
}

#[test]
fn every_file_says_what_it_is_for() {
    let bare: Vec<_> = all_files().into_iter().filter(|(_, t)| !t.starts_with("//! ")).map(|(n, _)| n).collect();
    assert!(bare.is_empty(), "files without a header: {bare:?}");
}

#[test]
fn files_and_functions_stay_readable() {
    let mut long = Vec::new();
    for (name, text) in all_files() {
        let limit = if text.contains("#[cfg(test)]\nmod tests {") { MAX_FILE_WITH_TESTS } else { MAX_FILE };
        let lines = text.lines().count();
        if lines > limit {
            long.push(format!("{name}: {lines} lines"));
        }
        long.extend(long_functions(&text).into_iter().map(|f| format!("{name}: {f}")));
    }
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

/// Functions longer than allowed: from a line with `fn ` to the closing line at the same indentation.
fn long_functions(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let starts = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "unsafe fn ", "pub(super) unsafe fn "];
        if !starts.iter().any(|s| code.starts_with(s)) || line.trim_end().ends_with(';') {
            continue;
        }
        let close = format!("{}}}", &line[..line.len() - code.len()]);
        let len = lines[i..].iter().position(|l| *l == close).unwrap_or(0) + 1;
        if len > MAX_FUNCTION {
            found.push(format!("line {}: {len} lines: {}", i + 1, code));
        }
    }
    found
}

/// The crates whose sources determine an artefact's contents have the same build script, except for the list of
/// sources.
#[test]
fn sources_are_hashed_the_same_way_everywhere() {
    let script = |name: &str| {
        let text = std::fs::read_to_string(root().join("crates").join(name).join("build.rs")).unwrap();
        let lines = text.lines().filter(|l| !l.starts_with("const SOURCES")).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    for name in ["ir", "compiler", "backend-cpu"] {
        assert_eq!(script(name), script("plan"), "crates/{name}/build.rs");
    }
    let packing = std::fs::read_to_string(root().join("crates/backend-cpu/build.rs")).unwrap();
    for source in ["device.rs", "format.rs", "pack", "weights.rs"] {
        assert!(packing.contains(&format!("\"src/{source}\"")), "{source} counts");
        assert!(root().join("crates/backend-cpu/src").join(source).exists(), "{source} is there");
    }
}

#[test]
fn nothing_is_left_undone_without_an_owner() {
    let marks = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X"];
    let left: Vec<_> =
        all_files().into_iter().filter(|(_, t)| marks.iter().any(|m| t.contains(m))).map(|(n, _)| n).collect();
    assert!(left.is_empty(), "files with loose ends: {left:?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found = circles::circles(&all_files());
    let lines: Vec<String> = found.iter().map(|imports| imports.join("\n  ")).collect();
    assert!(found.is_empty(), "{} circles:\n  {}", lines.len(), lines.join("\n\n  "));
}

/// Extensions of files that documents refer to.
const NAMED: [&str; 9] = [".rs", ".md", ".csv", ".json", ".cu", ".cuh", ".jinja", ".py", ".toml"];

fn every_file(folder: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let hidden = path.file_name().is_some_and(|n| n == "target" || n == ".git");
        if path.is_dir() && !hidden {
            every_file(&path, out);
        } else if path.is_file() {
            out.push(format!("/{}", path.strip_prefix(root()).unwrap().display()));
        }
    }
}

/// A walkthrough that refers to a missing file is worse than none.
#[test]
fn documents_name_files_that_exist() {
    let mut files = Vec::new();
    every_file(&root(), &mut files);
    let mut missing = Vec::new();
    for document in ["ARCHITECTURE.md", "README.md", "SECURITY.md", "kernels/cuda/README.md"] {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        for word in text.split('`').skip(1).step_by(2) {
            let named = NAMED.iter().any(|end| word.ends_with(end));
            // Names with a placeholder, and text that a user would type, are examples.
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            let (word, example) = (word.trim_start_matches("./"), !word.contains('/'));
            if named && plain && !example && !files.iter().any(|f| f.ends_with(&format!("/{word}"))) {
                missing.push(format!("{document}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such files: {missing:#?}");
}

/// The files that a text names in code style: words with an ending of a source, table or document.
fn named_files(text: &str) -> BTreeSet<&str> {
    const ENDINGS: [&str; 11] = [".rs", ".cu", ".cuh", ".h", ".cpp", ".inc", ".py", ".toml", ".csv", ".json", ".md"];
    let plain = |word: &&str| word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
    let named = |word: &&str| !word.starts_with('.') && ENDINGS.iter().any(|end| word.ends_with(end));
    text.split('`').skip(1).step_by(2).filter(plain).filter(named).collect()
}

/// Each walkthrough says how many files it names, so a change that makes a step longer is seen; all of them exist.
#[test]
fn walkthroughs_count_the_files_they_name() {
    let mut files = Vec::new();
    every_file(&root(), &mut files);
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for section in text.split("\n## ").filter(|s| s.starts_with("Walkthrough: ")) {
        let (title, steps) = section.split_once('\n').unwrap();
        let named = named_files(steps);
        let missing = |name: &&&str| !files.iter().any(|f| f.ends_with(&format!("/{name}")));
        wrong.extend(named.iter().filter(missing).map(|name| format!("{title}: no file {name}")));
        let claim = format!("Names {} files.", named.len());
        if !steps.trim_start().starts_with(&claim) {
            wrong.push(format!("{title}: should begin with \"{claim}\""));
        }
        seen += 1;
    }
    assert!(wrong.is_empty() && seen == 5, "{seen} walkthroughs: {wrong:#?}");
}
