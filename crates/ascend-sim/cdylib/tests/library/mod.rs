//! Where cargo put the library under test, and its three names as links.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use std::path::{Path, PathBuf};

/// The names under which programs look for the interface.
pub const NAMES: [&str; 3] = ["ascendcl", "nnopbase", "opapi"];

fn file_name(name: &str) -> String {
    format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX)
}

/// The library that cargo built for this test: it lies beside the test itself.
pub fn built() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    let path = folder.join(file_name(NAMES[0]));
    assert!(path.is_file(), "cargo did not build {}", path.display());
    path
}

/// Makes links to the library under all names.
pub fn links(folder: &Path) -> Vec<PathBuf> {
    let target = built();
    let link = |name: &&str| {
        let path = folder.join(file_name(name));
        std::os::unix::fs::symlink(&target, &path).unwrap();
        path
    };
    NAMES.iter().map(link).collect()
}
