//! The compilers of CUDA kernels on this machine: NVRTC, which aio uses, and the toolkit's programs, which help to look into
//! kernels. Used by `aio doctor`.

use serde::Serialize;
use std::path::{Path, PathBuf};

/// What was found; `None` for what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Compilers {
    /// Version of the library that can be opened, such as `12.8`; also `None` in a build without CUDA.
    pub nvrtc: Option<String>,
    /// Paths of programs.
    pub nvcc: Option<PathBuf>,
    pub ptxas: Option<PathBuf>,
}

impl Compilers {
    /// Looks in the search path, the toolkit that the environment names, and the usual place.
    pub(super) fn find() -> Compilers {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let search = set("PATH").unwrap_or_default();
        let toolkits = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(set).map(PathBuf::from);
        let toolkits = toolkits.chain([PathBuf::from("/usr/local/cuda")]).map(|folder| folder.join("bin"));
        let folders: Vec<PathBuf> = std::env::split_paths(&search).chain(toolkits).collect();
        let [nvcc, ptxas] = ["nvcc", "ptxas"].map(|name| program(name, &folders));
        Compilers { nvrtc: nvrtc(), nvcc, ptxas }
    }
}

/// The first file of a name in these folders.
fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let absolute = folders.iter().filter(|folder| Path::is_absolute(folder));
    absolute.map(|folder| folder.join(name)).find(|path| path.is_file())
}

#[cfg(feature = "cuda")]
fn nvrtc() -> Option<String> {
    aio::cuda::compiler_version().map(|(major, minor)| format!("{major}.{minor}"))
}

#[cfg(not(feature = "cuda"))]
fn nvrtc() -> Option<String> {
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_first_folder_with_the_program_counts() {
        let place = tempfile::tempdir().unwrap();
        let folder = |name: &str| place.path().join(name);
        for name in ["a", "b/nvcc", "c"] {
            std::fs::create_dir_all(folder(name)).unwrap();
        }
        std::fs::write(folder("a/ptxas"), "").unwrap();
        std::fs::write(folder("c/nvcc"), "").unwrap();
        let folders = [folder("none"), PathBuf::from("."), folder("a"), folder("b"), folder("c")];
        assert_eq!(program("nvcc", &folders), Some(folder("c/nvcc")), "a folder is no program");
        assert_eq!(program("ptxas", &folders), Some(folder("a/ptxas")));
        assert_eq!(program("ptxas", &folders[3..]), None);
    }
}
