//! The cache of compiled kernels, so that a second start compiles nothing.
//!
//! One file per unit, named by the hash of all sources and the architecture. Files are written under a temporary name
//! and renamed. Each starts with a hash of the rest, so a damaged one is recompiled. Failures only cost time.

use std::path::{Path, PathBuf};

/// Size of the hash at the start of a file.
const HASH: usize = 32;

/// The cache of compiled kernels. See the module docs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    /// The folder; `None` disables the cache.
    pub folder: Option<PathBuf>,
    /// Folders that may contain CUDA's own headers, best first.
    pub includes: Vec<PathBuf>,
}

impl Cache {
    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{key}.cubin")))
    }

    /// The bytes stored under a key.
    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.path(key)?).ok()?;
        let (hash, body) = bytes.split_at_checked(HASH)?;
        (blake3::hash(body).as_bytes() == hash && !body.is_empty()).then(|| body.to_vec())
    }

    /// Stores bytes under a key.
    pub(super) fn put(&self, key: &str, body: &[u8]) {
        let Some(path) = self.path(key) else { return };
        // On failure the next start compiles again.
        let _ = write(&path, body);
    }
}

fn write(path: &Path, body: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let fresh = path.with_extension(format!("tmp{}", std::process::id()));
    let mut bytes = blake3::hash(body).as_bytes().to_vec();
    bytes.extend_from_slice(body);
    std::fs::write(&fresh, bytes)?;
    std::fs::rename(&fresh, path)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn what_is_kept_is_found_unless_it_is_damaged() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        let cache = Cache { folder: Some(folder.to_path_buf()), includes: Vec::new() };
        assert_eq!(cache.get("a"), None);
        cache.put("a", b"cubin");
        assert_eq!(cache.get("a").as_deref(), Some(&b"cubin"[..]));
        let path = folder.join("a.cubin");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[HASH] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(cache.get("a"), None);
        std::fs::write(&path, b"short").unwrap();
        assert_eq!(cache.get("a"), None);
        Cache::default().put("a", b"x");
    }
}
