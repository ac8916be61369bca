//! The CUDA back end without a GPU: builds the emulation of its kernels and opens devices on it.
//!
//! With `AIO_GPU=1` in the environment, the same tests run on the first GPU (`scripts/gpu-check.sh`). They share one
//! device, and some compare its counters, so they must run one at a time (`--test-threads=1`).

use crate::needs;
use aio_backend_cuda::{CudaDevice, CudaOptions, EmulationOptions, KernelImages, Source, ThreadOrder};
use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Three orders of threads; results must agree in all of them.
pub const ORDERS: [ThreadOrder; 3] =
    [ThreadOrder::Ascending, ThreadOrder::Descending, ThreadOrder::Random { seed: 0x5eed }];

/// Compiler flags of the library: products are rounded separately, and loops are optimised for this machine.
const FLAGS: [&str; 8] =
    ["-std=c++17", "-O2", "-march=native", "-ffp-contract=off", "-fPIC", "-shared", "-pthread", "-DAIO_EMULATE"];

/// Exit status of a test process that lost its GPU.
const LOST: i32 = 3;

/// Path of the emulation library, or `None` after a SKIP. Built once per state of the sources.
///
/// # Panics
/// If the compiler refuses the kernels.
pub fn library(test: &str) -> Option<PathBuf> {
    static LIBRARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match LIBRARY.get_or_init(build) {
        Ok(path) => Some(path.clone()),
        Err(reason) => {
            needs::skip(test, "cxx", reason);
            None
        }
    }
}

/// Whether tests run on a GPU.
pub fn on_gpu() -> bool {
    std::env::var_os("AIO_GPU").is_some_and(|v| v == "1")
}

/// An emulated device, or `None` after a SKIP; with `AIO_GPU=1` the GPU, which ignores the options. If an earlier test
/// left the GPU refusing everything, the process exits, because later results would mean nothing.
///
/// # Panics
/// As [`library`], and if the library or the GPU cannot be opened.
pub fn device(test: &str, options: EmulationOptions) -> Option<CudaDevice> {
    if on_gpu() {
        static GPU: OnceLock<CudaDevice> = OnceLock::new();
        let gpu = GPU.get_or_init(gpu);
        if let Err(e) = gpu.synchronize() {
            eprintln!("{test}: an earlier test lost the GPU, so nothing after it is run: {e}");
            std::process::exit(LOST);
        }
        return Some(gpu.clone());
    }
    let library = library(test)?;
    Some(CudaDevice::emulated(&library, options).unwrap_or_else(|e| panic!("{e}")))
}

/// The first GPU, with the kernels of the workspace. Compiled kernels are cached in the same folder as the binary's.
fn gpu() -> CudaDevice {
    let folder = crate::workspace("kernels/cuda");
    let names = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = names.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.retain(|n| n.ends_with(".cu") || n.ends_with(".cuh") || n == "args.h");
    names.sort();
    let source = |name: String| {
        let text = std::fs::read_to_string(folder.join(&name)).expect("a source can be read");
        // Kept for the life of the process, like the sources embedded in the binary.
        Source { name: name.leak(), text: text.leak() }
    };
    let sources: Vec<Source> = names.into_iter().map(source).collect();
    let images = KernelImages { sources: sources.leak(), cubins: &[] };
    let options = options();
    CudaDevice::open(&images, &options).unwrap_or_else(|e| panic!("{e}"))
}

/// Options for a GPU in tests: the binary's folder of compiled kernels, and headers from CUDA_HOME or CUDA_PATH.
pub fn options() -> CudaOptions {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|h| h.join(".cache"))).map(|c| c.join("aio/cuda"));
    let includes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|h| h.join("include")).collect();
    CudaOptions { cache, includes, ..CudaOptions::default() }
}

fn build() -> Result<PathBuf, String> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let version = Command::new(&compiler).arg("--version").output();
    let version = version.map_err(|e| format!("there is no C++ compiler: `{compiler}`: {e}"))?;
    let sources = crate::workspace("kernels/cuda");
    let folder = crate::workspace("target/cuda-emulation");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let path = folder.join(format!("emulation-{:016x}.so", state(&sources, &version.stdout)));
    if path.is_file() {
        return Ok(path);
    }
    // Built under a temporary name and renamed, since other test processes build it too.
    let fresh = folder.join(format!("emulation-{}.tmp", std::process::id()));
    let out = Command::new(&compiler).args(FLAGS).arg(sources.join("emulate.cpp")).arg("-o").arg(&fresh).output();
    let out = out.expect("the compiler ran before");
    assert!(out.status.success(), "{compiler} refuses the kernels:\n{}", String::from_utf8_lossy(&out.stderr));
    std::fs::rename(&fresh, &path).expect("the target folder can be written");
    Ok(path)
}

/// A hash of the sources, the compiler and the machine's instruction set, which `-march=native` depends on.
fn state(folder: &Path, compiler: &[u8]) -> u64 {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).expect("the sources are there").flatten().map(|e| e.path()).collect();
    names.sort();
    let mut hash = DefaultHasher::new();
    hash.write(compiler);
    for name in names.iter().filter(|n| n.is_file()) {
        hash.write(&std::fs::read(name).expect("a source can be read"));
    }
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    hash.write(processor.lines().find(|l| l.starts_with("flags")).unwrap_or_default().as_bytes());
    hash.finish()
}
