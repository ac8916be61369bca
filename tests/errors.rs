//! Triggers every error that input can cause; its message is a row in `tests/baselines/errors.csv`.
//!
//! The list of errors is read from the source. A new variant or enum fails this test until it has a case, or a line in
//! [`NOT_BY_INPUT`] that explains why no input can cause it. `AIO_BLESS=1` rewrites the messages.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

#[path = "errors/artefact.rs"]
mod artefact;
#[cfg(feature = "ascend")]
#[path = "errors/ascend.rs"]
mod ascend;
#[path = "errors/device.rs"]
mod device;
#[path = "errors/engine.rs"]
mod engine;
#[path = "errors/fleet.rs"]
mod fleet;
#[path = "errors/gguf.rs"]
mod gguf;
#[path = "errors/graph.rs"]
mod graph;
#[path = "errors/model.rs"]
mod model;
#[path = "errors/registry.rs"]
mod registry;
#[path = "errors/safetensors.rs"]
mod safetensors;
#[path = "errors/texts.rs"]
mod texts;

use aio_filetest::{baseline, workspace};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::path::Path;

/// Errors that no input can cause, with the reason.
const NOT_BY_INPUT: &[(&str, &str)] = &[
    ("AscendError::NoDevice", "a matter of the machine: a library without an NPU"),
    ("AscendError::NotSimulated", "a matter of the machine: settings of the simulator on a real NPU"),
    ("AscendError::OutOfMemory", "a matter of the machine; it becomes DeviceError::OutOfMemory, which has a case"),
    ("CompileError::BrokenGraph", "a fault of a pass"),
    ("CudaError::Architecture", "a matter of the machine: an old GPU"),
    ("CudaError::Call", "the driver fails, or a kernel under emulation, of which aio-filetest's tests see the message"),
    ("CudaError::Compile", "the compiler refuses aio's own kernels"),
    ("CudaError::Emulation", "only of tests, with a library that is none"),
    ("CudaError::NoBurst", "a matter of the machine; it becomes DeviceError::NoBurst, which has a case"),
    ("CudaError::NoCompiler", "a matter of the machine; tests/cli has its message where a driver is there"),
    ("CudaError::NoDriver", "a matter of the machine; tests/cli has its message"),
    ("CudaError::NoGpu", "a matter of the machine"),
    ("CudaError::NoHeaders", "a matter of the machine"),
    ("CudaError::NoKernel", "a fault of lowering, which names a kernel that no file has"),
    ("CudaError::OldCompiler", "a matter of the machine; aio-backend-cuda's tests have its message"),
    ("CudaError::OldDriver", "a matter of the machine"),
    ("CudaError::OutOfMemory", "a matter of the machine; it becomes DeviceError::OutOfMemory, which has a case"),
    ("CompileError::BrokenPlan", "a fault of the compiler; the plan verifier's own tests break plans by hand"),
    ("DeviceError::ImageRead", "a matter of the machine: a file that was opened and cannot be read or mapped"),
    ("DeviceError::Unavailable", "a matter of the machine: no such instruction set, no threads to be had"),
    ("MapError::Map", "the system refuses to map a file that it opened"),
    ("FleetError::Tokenizer", "the message of a TokenizerError, see there"),
    ("RegistryError::Kernels", "the message of a CudaError, see there"),
    ("TemplateError::Thread", "a matter of the machine: no more threads to be had"),
    ("TokenizerError::Split", "the expressions are constants, which a test compiles"),
    (
        "VerifyError::V001",
        "the text form and the builder number values themselves; ir's own tests break tables by hand",
    ),
    ("VerifyError::V002", "as V001"),
    ("VerifyError::V003", "the parser and the builder refuse it first, as P015"),
    ("VerifyError::V004", "as V003"),
    ("VerifyError::V005", "the parser refuses it first, as P016"),
    ("VerifyError::V006", "as V003"),
];

/// The errors triggered so far: the message of each variant.
#[derive(Default)]
struct Table {
    rows: BTreeMap<String, String>,
}

impl Table {
    /// Records an error of the enum `of`; `Debug` prints its variant first. Keeps the first message of each variant.
    fn add(&mut self, of: &str, error: impl Debug + Display) {
        let shown = format!("{error:?}");
        let variant = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        self.named(&format!("{of}::{variant}"), &error.to_string());
    }

    /// Records an error under a name.
    fn named(&mut self, name: &str, message: &str) {
        let message = message.replace('\n', "\\n");
        assert!(!message.trim().is_empty() && message.len() < 500, "{name}: {message}");
        self.rows.entry(name.to_owned()).or_insert(message);
    }

    /// Records an error whose message has paths in the test's temporary folder.
    fn add_in(&mut self, folder: &Path, of: &str, error: impl Debug + Display) {
        let shown = format!("{error:?}");
        let variant = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let message = error.to_string().replace(&folder.display().to_string(), "DIR");
        self.named(&format!("{of}::{variant}"), &message);
    }
}

/// Every variant of every public error enum in `crates/*/src` and the facade, and every rule in a verifier's table.
fn declared() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for folder in std::fs::read_dir(workspace("crates")).unwrap().flatten() {
        let source = folder.path().join("src");
        if source.is_dir() {
            read_folder(&source, &mut found);
        }
    }
    read_folder(&workspace("crates/facade"), &mut found);
    // The compiler makes plans, input never does: `CompileError::BrokenPlan` stands for all their rules.
    found.retain(|name| !name.starts_with("PlanError::"));
    found
}

fn read_folder(folder: &Path, found: &mut BTreeSet<String>) {
    for path in std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path()) {
        if path.is_dir() {
            read_folder(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            read_source(&std::fs::read_to_string(&path).unwrap(), found);
        }
    }
}

/// Relies on the source being formatted: variants are at one level of indentation, rules in the header's table.
fn read_source(text: &str, found: &mut BTreeSet<String>) {
    let mut current: Option<&str> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("pub enum ").and_then(|l| l.strip_suffix(" {")) {
            current = Some(name).filter(|n| n.ends_with("Error") || n.ends_with("ErrorKind"));
        } else if line == "}" {
            current = None;
        } else if let (Some(of), Some(code)) = (current, line.strip_prefix("    "))
            && code.starts_with(|c: char| c.is_ascii_uppercase())
        {
            found.insert(format!("{of}::{}", code.split(|c: char| !c.is_alphanumeric()).next().unwrap()));
        }
        if let Some(rule) = line.strip_prefix("//! | V") {
            found.insert(format!("VerifyError::V{}", &rule[..3]));
        }
    }
}

#[test]
fn every_error_that_input_can_cause_is_caused() {
    let mut table = Table::default();
    texts::cause(&mut table);
    graph::cause(&mut table);
    gguf::cause(&mut table);
    model::cause(&mut table);
    safetensors::cause(&mut table);
    artefact::cause(&mut table);
    device::cause(&mut table);
    registry::cause(&mut table);
    engine::cause(&mut table);
    fleet::cause(&mut table);
    #[cfg(feature = "ascend")]
    ascend::cause(&mut table);
    let declared = declared();
    let not: BTreeSet<String> = NOT_BY_INPUT.iter().map(|(name, _)| (*name).to_owned()).collect();
    let caused: BTreeSet<String> = table.rows.keys().cloned().collect();
    let both: Vec<_> = caused.intersection(&not).collect();
    assert!(both.is_empty(), "caused after all: {both:?}");
    let missing: Vec<_> = declared.iter().filter(|n| !caused.contains(*n) && !not.contains(*n)).collect();
    assert!(missing.is_empty(), "no case, and no reason why not: {missing:?}");
    let gone: Vec<_> = caused.union(&not).filter(|n| !declared.contains(*n)).collect();
    assert!(gone.is_empty(), "no longer declared: {gone:?}");
    baseline::compare(&workspace("tests/baselines/errors.csv"), "error,message", &table.rows);
}

#[test]
fn the_source_is_read_as_it_is_written() {
    let mut found = BTreeSet::new();
    let text = "//! | V001 | a rule |\npub enum AnError {\n    /// Doc.\n    #[error(\"x\")]\n    One,\n    Two {\n        \
                /// Doc.\n        field: u32,\n    },\n    Three(u32),\n}\npub enum Other {\n    Four,\n}\n";
    read_source(text, &mut found);
    let names: Vec<_> = found.iter().map(String::as_str).collect();
    assert_eq!(names, ["AnError::One", "AnError::Three", "AnError::Two", "VerifyError::V001"]);
    assert!(declared().len() > 100, "the source was found");
}
