//! The cache folder: its location, and a check that only this user can write to it.
//!
//! Files there are loaded without further checks of their origin, so no other user may write to the folder. Called by
//! everything that keeps files between runs.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Path of the user's cache folder for aio; it may not exist yet.
///
/// # Errors
/// There is no home folder, or others may write to the cache folder.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|h| h.join(".cache")));
    let folder = base.context("neither XDG_CACHE_HOME nor HOME is set, so there is no cache folder")?.join("aio");
    check(&folder)?;
    Ok(folder)
}

/// Path of a folder in the cache; it may not exist yet.
///
/// # Errors
/// As for [`cache`], for either folder.
pub(crate) fn inside(name: &str) -> Result<PathBuf> {
    let folder = cache()?.join(name);
    check(&folder)?;
    Ok(folder)
}

fn check(folder: &Path) -> Result<()> {
    match fs::metadata(folder) {
        Ok(meta) => trusted(folder, &meta),
        // If a file is in the way, creating the folder reports it.
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(()),
        Err(e) => Err(e).with_context(|| format!("cannot read {}", folder.display())),
    }
}

/// Creates a folder in the cache, and the cache folder itself for this user alone.
///
/// # Errors
/// Errors of [`cache`] and of creating a folder.
pub(crate) fn create(folder: &Path) -> Result<()> {
    let fail = || format!("cannot create {}", folder.display());
    let cache = cache()?;
    if let Some(parent) = cache.parent().filter(|_| folder.starts_with(&cache)) {
        fs::create_dir_all(parent).with_context(fail)?;
        private(&cache).with_context(fail)?;
    }
    private(folder).with_context(fail)
}

#[cfg(unix)]
fn private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)
}

/// Checks that the folder belongs to this user or to root, and that no one else may write to it.
#[cfg(unix)]
fn trusted(folder: &Path, meta: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let shown = folder.display();
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me && meta.uid() != 0 {
        bail!("the cache folder {shown} belongs to another user (id {}); nothing in it is used", meta.uid());
    }
    // Older versions created it this way for users with their own group.
    let own = meta.uid() == me && meta.mode() & 0o022 == 0o020;
    if own && fs::set_permissions(folder, fs::Permissions::from_mode(meta.mode() & 0o755)).is_ok() {
        return Ok(());
    }
    if meta.mode() & 0o022 != 0 {
        bail!("other users may write to the cache folder {shown}; nothing in it is used until `chmod go-w` on it");
    }
    Ok(())
}

#[cfg(not(unix))]
fn trusted(_: &Path, _: &fs::Metadata) -> Result<()> {
    Ok(())
}
