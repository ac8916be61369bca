//! Gives the binary its commit, for `aio --version` and the header of every machine output; the graph templates, which are
//! all files of `graphs/`; and the CUDA kernels: their sources, and machine code where `nvcc` is there.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Architectures for which machine code is made, as nvcc names them.
const ARCHITECTURES: [(u32, &str); 5] =
    [(80, "sm_80"), (89, "sm_89"), (90, "sm_90a"), (100, "sm_100"), (120, "sm_120")];

/// Compiled for each model, when it is loaded.
const BURST: &str = "burst.cu";

fn main() {
    println!("cargo::rerun-if-changed=.git/HEAD");
    println!("cargo::rerun-if-changed=.git/refs/heads");
    let commit = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output().ok();
    let commit = commit.filter(|o| o.status.success()).and_then(|o| String::from_utf8(o.stdout).ok());
    let commit = commit.map_or_else(|| "unknown".to_owned(), |c| c.trim().to_owned());
    println!("cargo::rustc-env=AIO_COMMIT={commit}");
    templates(Path::new("graphs")).expect("the graph templates can be read and their table written");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels(Path::new("kernels/cuda")).expect("the kernels can be read and their table written");
    }
}

/// Names of the files in a folder, in order.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names: Vec<_> =
        std::fs::read_dir(folder)?.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// Where this script writes.
fn out() -> PathBuf {
    PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default())
}

/// Writes the table of graph templates that the library includes.
fn templates(folder: &Path) -> std::io::Result<()> {
    let mut table = String::new();
    for name in names(folder)?.iter().filter(|n| n.ends_with(".jinja")) {
        let _ = writeln!(table, "({name:?}, include_str!({:?})),", folder.canonicalize()?.join(name));
    }
    std::fs::write(out().join("graph_templates.rs"), format!("&[{table}]\n"))
}

/// Writes the table of kernels that the library includes.
fn kernels(folder: &Path) -> std::io::Result<()> {
    println!("cargo::rerun-if-env-changed=PATH");
    let (out, mut names) = (out(), names(folder)?);
    // What only the emulation includes stays out.
    names.retain(|n| n.ends_with(".cu") || n.ends_with(".cuh") || n == "args.h");
    let (mut sources, mut cubins) = (String::new(), String::new());
    let nvcc = Command::new("nvcc").arg("--version").output().is_ok_and(|o| o.status.success());
    for name in &names {
        let path = folder.canonicalize()?.join(name);
        let _ = writeln!(sources, "Source {{ name: {name:?}, text: include_str!({path:?}) }},");
        for (number, architecture) in ARCHITECTURES.iter().filter(|_| nvcc && name.ends_with(".cu") && name != BURST) {
            let cubin = out.join(format!("{name}.{architecture}.cubin"));
            let arch = format!("-arch={architecture}");
            let status =
                Command::new("nvcc").args(["-cubin", "-std=c++17", &arch, "-o"]).arg(&cubin).arg(&path).status();
            // An older toolkit lacks the newest architectures; those are compiled at run time.
            if status.is_ok_and(|s| s.success()) {
                let bytes = format!("include_bytes!({cubin:?})");
                let _ = writeln!(cubins, "Cubin {{ unit: {name:?}, architecture: {number}, bytes: {bytes} }},");
            }
        }
    }
    let table = format!("pub const SOURCES: &[Source] = &[{sources}];\npub const CUBINS: &[Cubin] = &[{cubins}];\n");
    std::fs::write(out.join("cuda_kernels.rs"), table)
}
