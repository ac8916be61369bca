//! The command line as users see it: the real binary, every subcommand, good and bad input. Models are synthetic and
//! tiny, so no test needs a download.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "cli/artefact.rs"]
mod artefact;
#[cfg(feature = "ascend")]
#[path = "cli/ascend.rs"]
mod ascend;
#[cfg(unix)]
#[path = "cli/chat.rs"]
mod chat;
#[cfg(unix)]
#[path = "cli/compare.rs"]
mod compare;
#[cfg(feature = "cuda")]
#[path = "cli/cuda.rs"]
mod cuda;
#[path = "cli/export.rs"]
mod export;
#[path = "cli/fleet.rs"]
mod fleet;
#[path = "cli/graph.rs"]
mod graph;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/kernels.rs"]
mod kernels;
#[path = "cli/measure.rs"]
mod measure;
#[path = "cli/model.rs"]
mod model;
#[cfg(feature = "ascend")]
#[path = "cli/model_tables.rs"]
mod model_tables;
#[path = "cli/odd_models.rs"]
mod odd_models;
#[path = "cli/pull.rs"]
mod pull;
#[path = "cli/signals.rs"]
mod signals;
#[path = "cli/simulate.rs"]
mod simulate;
#[path = "cli/spec.rs"]
mod spec;
#[path = "cli/terminal.rs"]
mod terminal;

use aio::ir::DType;
use aio::model::synth::{Preset, Synth};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A temporary folder for one test, and the binary run in it.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        name.to_owned()
    }

    /// A narrow model of two layers.
    fn model(&self, preset: &str, dtype: DType) -> String {
        let preset = Preset::find(preset).unwrap().tiny();
        self.write("tiny.gguf", Synth::new(&preset, dtype, 1).unwrap().to_bytes().unwrap())
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
        // Only what a program needs to start, so a user's settings cannot affect tests.
        command.env_clear().env("HOME", self.path("home")).env("TMPDIR", std::env::temp_dir());
        for name in ["PATH", "LD_LIBRARY_PATH", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env("XDG_CACHE_HOME", self.path("cache"));
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed and returns its stdout.
    fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that must fail with this status and message, and returns its stderr.
    fn bad(&self, args: &[&str], status: i32, message: &str) -> String {
        let before = self.listing();
        let output = self.run(args);
        assert_eq!(self.listing(), before, "{args:?} left files behind");
        check_failure(&output, status, message)
    }

    fn listing(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        collect(self.folder.path(), &mut all);
        all.sort();
        all
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check_failure(output: &Output, status: i32, message: &str) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    let errors = stderr.lines().filter(|l| l.starts_with("error:")).count();
    assert_eq!(errors, 1, "one line begins with `error:`: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert!(stderr.contains(message), "expected {message:?} in {stderr}");
    stderr
}

#[test]
fn every_command_has_help_with_examples() {
    let place = Place::new();
    let commands = ["pull", "run", "compile", "perplexity", "gguf", "synth", "bench"].map(|c| vec![c]);
    let groups = [vec![], vec!["graph"], vec!["cache"], vec!["device"], vec!["trace"], vec!["trace", "make"]];
    let groups = groups.into_iter().chain([vec!["simulate"], vec!["regime"]]);
    let benches = [vec!["bench", "spec"], vec!["bench", "plans"]];
    let commands = commands.into_iter().chain(benches).chain(groups);
    let graph = ["verify", "print", "dot", "passes", "plan", "buckets", "inspect", "diff", "shrink", "run", "ops"]
        .map(|c| vec!["graph", c]);
    let cache = ["list", "verify", "clear"].map(|c| vec!["cache", c]);
    let device = ["list", "show", "calibrate"].map(|c| vec!["device", c]);
    for mut command in commands.chain(graph).chain(cache).chain(device) {
        command.push("--help");
        let help = place.good(&command);
        assert!(help.contains("Examples:"), "{command:?}: {help}");
        for line in help.lines().filter(|l| l.contains("[default")) {
            assert!(!line.contains("[default: ]"), "{command:?}: {line}");
        }
    }
    assert!(place.good(&["synth", "--help"]).contains("pangu-7b"));
    assert!(place.good(&["--version"]).starts_with("aio "));
}

#[test]
fn a_negative_number_is_told_what_the_flag_admits() {
    let place = Place::new();
    for (flag, admitted) in [
        ("--top-k", "0..=4294967295"),
        ("-n", "0 or more"),
        ("--seed", "0 or more"),
        ("--burst", "0 or more"),
        ("--repeat-last-n", "0 or more"),
        ("--ctx", "1.."),
        ("--threads", "1..=1024"),
    ] {
        let shown = place.bad(&["run", "-p", "x", flag, "-1"], 2, "invalid value '-1' for");
        assert!(shown.contains(admitted), "{flag}: {shown}");
    }
    place.bad(&["bench", "spec", "--seed", "-1"], 2, "invalid value '-1' for '--seed");
    place.bad(&["cache", "clear", "--older-than", "-1"], 2, "invalid value '-1' for");
}

#[test]
fn arguments_are_escaped_in_messages_of_flags() {
    let place = Place::new();
    for args in [&["run", "--\u{1b}[31mred"][..], &["\u{1b}[31mred"], &["run", "--top-k", "\u{1b}]0;t\u{7}"]] {
        let shown = place.bad(args, 2, "error:");
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }
}

#[test]
fn bad_flags_end_with_status_2() {
    let place = Place::new();
    place.bad(&["run", "--no-such-flag"], 2, "--no-such-flag");
    place.bad(&["no-such-command"], 2, "no-such-command");
    place.bad(&["run", "-p", "x", "--ctx", "0"], 2, "--ctx");
    place.bad(&["run", "-p", "x", "-f", "y"], 2, "cannot be used with");
    place.bad(&["perplexity", "-f", "x", "--ctx", "2"], 2, "--ctx");
    place.bad(&["synth", "--preset", "gpt-5", "--type", "q4_0", "-o", "x"], 2, "smollm2-135m");
    place.bad(&["synth", "--preset", "pangu-1b", "--type", "i32", "-o", "x"], 2, "q4_k");
    place.bad(&["graph", "run", "g", "--in", "x"], 2, "NAME=FILE");
    place.bad(&["graph", "run", "g", "--dim", "cows=3"], 2, "cows");
    place.bad(&["graph", "run", "g", "--dim", "rows=-3"], 2, "-3");
    place.bad(&["graph", "plan", "--rows", "0"], 2, "--rows");
    place.bad(&["pull", "http://127.0.0.1/x"], 2, "--sha256");
    place.bad(&["pull", "http://127.0.0.1/x", "--sha256", "12"], 2, "64 hexadecimal");
}
