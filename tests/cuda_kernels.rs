//! The CUDA kernels without a GPU: they compile within their budget and compute correct numbers under the emulation.
//!
//! Both checks are scripts, so that kernel authors can run them without Rust: `scripts/cuda-check` (NVRTC and ptxas
//! from Python wheels) and `scripts/cuda-selftest` (a C++17 compiler, numpy).

use aio_filetest::needs;
use std::path::Path;
use std::process::Command;

/// Runs a script; exit status 2 means that something it needs is missing.
fn run(test: &str, need: &str, script: &str, args: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(script);
    let output = match Command::new("python3").arg(path).args(args).output() {
        Ok(output) => output,
        Err(error) => return needs::skip(test, need, &format!("python3: {error}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    print!("{out}");
    match output.status.code() {
        Some(0) => {}
        Some(2) => {
            needs::skip(test, need, &format!("{script}: {}", err.lines().last().or(out.lines().last()).unwrap_or("")))
        }
        _ => panic!("{script} failed:\n{out}\n{err}"),
    }
}

#[test]
fn kernels_compile_within_their_budget() {
    run("kernels_compile", "ptx", "cuda-check", &[]);
}

#[test]
fn kernels_agree_with_plain_references_under_the_emulation() {
    run("kernels_agree", "cxx", "cuda-selftest", &[]);
}
