//! Where the default model lies, for the tests that need it; without it they say that they skip.

use std::path::PathBuf;

/// The model's path, or `None` after printing why the test named `test` is skipped.
///
/// Panics instead where `AIO_REQUIRE` lists `model`.
pub fn path(test: &str) -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")));
    let path = cache.unwrap_or_default().join("aio/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var("AIO_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|r| r == "model"), "{} is missing, but AIO_REQUIRE has it", path.display());
    println!("SKIP {test}: {} is missing (`aio pull` fetches it)", path.display());
    None
}
