//! CUDA for the command line: where compiled kernels are kept, where CUDA's headers may lie, and the row of `aio device list`.

use crate::pull;
use aio::cuda::{CudaDevice, CudaOptions};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The first GPU.
pub(crate) fn device() -> Result<CudaDevice> {
    // Without a cache folder kernels are compiled at each start.
    let cache = pull::cache_folder().ok().map(|f| f.join("cuda"));
    Ok(CudaDevice::open(&aio::kernel_images(), &CudaOptions { cache, includes: includes() })?)
}

/// The row of `aio device list`: the GPU, or the reason why there is none.
pub(crate) fn row() -> (String, String, usize, String) {
    let (what, count) = match CudaDevice::probe() {
        Ok((name, multiprocessors)) => (name, multiprocessors as usize),
        Err(e) => (e.to_string(), 0),
    };
    ("cuda".to_owned(), what, count, String::new())
}

/// Folders that may have `cuda_fp16.h`: the toolkit that the environment names, then the usual places, then wheels.
fn includes() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(|f| f.join("include"));
    let usual = ["/usr/local/cuda/include", "/usr/include"].into_iter().map(PathBuf::from);
    // A wheel's libraries lie in `nvidia/cuda_nvrtc/lib`, the headers beside them.
    let paths = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let beside = |folder: PathBuf| folder.ancestors().nth(2).map(|n| n.join("cuda_runtime/include"));
    let wheels: Vec<_> = std::env::split_paths(&paths).filter(|p| p != Path::new("")).filter_map(beside).collect();
    named.chain(usual).chain(wheels).collect()
}
