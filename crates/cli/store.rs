//! The cache of artefacts: `<cache>/artefacts/<key>.aio`, filled and used by every subcommand that loads a model.
//!
//! The key is a hash of the model's content, the graph templates, the sources of the compiler and packing code, and the
//! step sizes. At start the model itself is not read: a small file per model in `index` maps the state of its files to
//! the hash of their content. A model missing from the cache is packed as usual, and its artefact is written when the
//! work is done, so the user never waits for it. Problems with the cache are notes, not errors.

use crate::args::{LoadArgs, ModelArgs};
use crate::content::{FileState, hash_files};
use crate::{folders, input, output, scratch, signals};
use aio::backend::{Device, DeviceError, ImageAccess};
use aio::engine::{Compiled, Dispatch, Engine, EngineError, EngineOptions, compiler_hash};
use aio::plan::artefact::{Artefact, ArtefactError, Hash, Header};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Default limit on the total bytes of artefacts; `AIO_CACHE_LIMIT` overrides it.
const DEFAULT_LIMIT: u64 = 20 << 30;

/// The folder of the artefacts.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = folders::inside("artefacts")?;
    folders::inside("artefacts/index")?;
    Ok(folder)
}

/// The artefacts in a folder with their size and last use, oldest first; empty if the folder does not exist.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn artefacts(folder: &Path) -> Result<Vec<(PathBuf, u64, SystemTime)>> {
    let mut found: Vec<(PathBuf, u64, SystemTime)> = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries.with_context(|| format!("cannot read {}", folder.display()))?,
    };
    for entry in entries.flatten() {
        let (path, meta) = (entry.path(), entry.metadata());
        if path.extension().is_some_and(|e| e == "aio")
            && let Ok(meta) = meta
            && meta.is_file()
        {
            found.push((path, meta.len(), meta.modified().unwrap_or(SystemTime::UNIX_EPOCH)));
        }
    }
    found.sort_by(|a, b| (a.2, &a.0).cmp(&(b.2, &b.0)));
    Ok(found)
}

/// An index entry of a model.
#[derive(Debug, Serialize, Deserialize)]
struct IndexEntry {
    /// Hash of the content of all files, hexadecimal.
    content: String,
    /// The states of its files, in order.
    files: Vec<FileState>,
}

/// A model's place in the cache: enough to look it up, and to fill it later.
pub(crate) struct CacheEntry {
    folder: PathBuf,
    /// The model's path as given.
    model: PathBuf,
    /// The file's state before it was opened.
    state: FileState,
    /// Path and text of the given graph template.
    template: Option<(PathBuf, String)>,
    /// The other parts of the key, besides the content.
    rest: Vec<String>,
}

impl CacheEntry {
    /// The cache entry of a model. `None` if the cache is off or has no folder, the device has no packed form, the
    /// plans are unfused, the model is not a single file, or the template is a pipe, which can be read only once.
    pub(crate) fn of(
        path: &Path,
        model: &ModelArgs,
        load: &LoadArgs,
        device: &dyn Device,
        options: &EngineOptions,
    ) -> Option<CacheEntry> {
        // Models in Hugging Face format are folders of many files.
        let other = path.extension().is_some_and(|e| e == "safetensors" || e == "json");
        let gguf = path.is_file() && !other;
        let form = device.image_form()?;
        if load.no_cache || !gguf || options.dispatch == Dispatch::Op {
            return None;
        }
        let template = match &model.template {
            Some(path) if path.is_file() => Some((path.clone(), input::text(path, input::TEMPLATE).ok()?)),
            Some(_) => return None,
            None => None,
        };
        let mut rest = vec![compiler_hash(&form).to_string(), options.prefill_rows.to_string()];
        rest.extend(template.iter().map(|(_, text)| text.clone()));
        rest.extend(aio::templates().texts().map(str::to_owned));
        let state = FileState::of(path).ok()?;
        let folder = match folder() {
            Ok(folder) => folder,
            Err(e) => {
                note!("note: the cache is not used: {}", output::describe(&e));
                return None;
            }
        };
        Some(CacheEntry { folder, model: path.canonicalize().ok()?, state, template, rest })
    }

    fn index_path(&self) -> PathBuf {
        let name = Hash::of_texts(&[&self.model.to_string_lossy()]);
        self.folder.join("index").join(format!("{name}.json"))
    }

    /// The file name of the model's entry.
    fn key(&self, content: &str) -> Hash {
        let texts: Vec<&str> = std::iter::once(content).chain(self.rest.iter().map(String::as_str)).collect();
        Hash::of_texts(&texts)
    }

    /// The model's content hash from the index, if its files are unchanged.
    fn known_content(&self) -> Option<String> {
        let entry: IndexEntry = serde_json::from_slice(&fs::read(self.index_path()).ok()?).ok()?;
        let same = |f: &FileState| FileState::of(&f.path).is_ok_and(|now| now == *f);
        // The entry may belong to another model.
        let own = entry.files.iter().any(|f| f.is_same_file(&self.state));
        (own && entry.files.iter().all(same)).then_some(entry.content)
    }

    /// Loads the model from the cache. `None` if it is missing or unusable; a note tells the latter.
    ///
    /// # Errors
    /// Errors unrelated to the artefact, such as too little memory.
    pub(crate) fn load(
        &self,
        device: Arc<dyn Device>,
        options: &EngineOptions,
        access: ImageAccess,
    ) -> Result<Option<Engine>> {
        let Some(content) = self.known_content() else { return Ok(None) };
        let key = self.key(&content);
        let path = path_of(&self.folder, key);
        let opened = match Artefact::open(&path) {
            Err(ArtefactError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            opened => opened.map_err(EngineError::from),
        };
        let load = |artefact: Artefact| match foreign(&path, artefact.header(), Some(&content)) {
            Some(fault) => Ok(Err(fault)),
            None => Engine::from_artefact(artefact, device, options, access).map(Ok),
        };
        match opened.and_then(load) {
            Ok(Ok(engine)) => {
                touch(&path);
                Ok(Some(engine))
            }
            Ok(Err(fault)) => Ok(discard(&path, &fault)),
            Err(e) if is_unsound(&e) => Ok(discard(&path, &e.to_string())),
            Err(e @ (EngineError::Artefact(_) | EngineError::Device(DeviceError::ImageRead(_)))) => {
                note!("note: cannot use {} from the cache now: {e}", path.display());
                Ok(None)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Adds the model to the cache. Call when the work is done.
    pub(crate) fn fill(&self, engine: &Engine) {
        if let Err(e) = self.try_fill(engine)
            && !signals::interrupted()
        {
            note!("note: the packed model is not kept in the cache: {}", output::describe(&e));
        }
    }

    fn try_fill(&self, engine: &Engine) -> Result<()> {
        let limit = limit();
        if signals::interrupted() || limit == 0 {
            return Ok(());
        }
        let compiled = Compiled::of(engine)?;
        if compiled.weight_bytes() > limit {
            return Ok(());
        }
        let paths = engine.model().gguf.paths();
        let states = || paths.iter().map(|p| FileState::of(&p.canonicalize()?)).collect::<std::io::Result<Vec<_>>>();
        let files = states().context("cannot read the model")?;
        if !files.iter().any(|f| f.is_same_file(&self.state)) || !files.iter().all(FileState::is_settled) {
            bail!("the model file has just changed");
        }
        if let Some((path, text)) = &self.template
            && input::text(path, input::TEMPLATE).ok().as_ref() != Some(text)
        {
            bail!("the template has just changed");
        }
        let bytes = engine.model().gguf.file_bytes();
        let bar = output::bar(2 * bytes, "caching the packed model");
        let content = hash_files(&paths, &|n| bar.inc(n))?;
        engine.model().gguf.check_unchanged()?;
        if states()? != files {
            bail!("the model file has just changed");
        }
        let key = self.key(&content.to_string());
        let path = path_of(&self.folder, key);
        if !path.exists() {
            folders::create(&self.folder)?;
            clean(&self.folder);
            let mut progress = |n| {
                bar.inc(n);
                if signals::interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            compiled.write(&path, content, Some(key), &mut progress)?;
            make_room(&self.folder, &path, limit);
        }
        bar.finish_and_clear();
        self.remember(IndexEntry { content: content.to_string(), files })
    }

    fn remember(&self, entry: IndexEntry) -> Result<()> {
        let path = self.index_path();
        let fail = || format!("cannot write {}", path.display());
        folders::create(&self.folder.join("index"))?;
        aio::mapped::write_whole(&path, &serde_json::to_vec(&entry).with_context(fail)?).with_context(fail)
    }
}

fn path_of(folder: &Path, key: Hash) -> PathBuf {
    folder.join(format!("{key}.aio"))
}

/// Why an artefact does not belong at its path in the cache: it has another key or, if known, other content. The name
/// alone proves nothing, since any file can be copied over another.
pub(crate) fn foreign(path: &Path, header: &Header, content: Option<&str>) -> Option<String> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let key = header.key.map_or_else(|| "none".to_owned(), |key| key.to_string());
    if key != name {
        return Some(format!("it was made as entry {key}, not under this name"));
    }
    let other = content.filter(|content| *content != header.model.to_string())?;
    Some(format!("it was made of the model {}, not of {other}", header.model))
}

/// Whether an error means that the artefact itself is unusable. If it cannot be read, or memory or a device is missing,
/// it may be sound.
fn is_unsound(error: &EngineError) -> bool {
    match error {
        EngineError::Artefact(ArtefactError::Read { .. } | ArtefactError::Map(_)) => false,
        EngineError::Artefact(_) | EngineError::Model(_) | EngineError::Device(DeviceError::Image(_)) => true,
        _ => false,
    }
}

/// Removes an unusable entry.
fn discard(path: &Path, fault: &str) -> Option<Engine> {
    note!("note: {} in the cache is replaced: {fault}", path.display());
    // If it cannot be removed, the note appears again on the next run.
    let _ = fs::remove_file(path);
    None
}

/// Removes what processes left when they were killed while filling the cache.
pub(crate) fn clean(folder: &Path) {
    scratch::clean(folder);
    scratch::clean(&folder.join("index"));
}

/// Records the use of an artefact. Fails silently in a read-only folder, where nothing is evicted either.
fn touch(path: &Path) {
    let _ = fs::File::open(path).and_then(|f| f.set_modified(SystemTime::now()));
}

/// Removes the least recently used artefacts until the total is within the limit; never the one just written.
fn make_room(folder: &Path, keep: &Path, limit: u64) {
    // An artefact was just written here, so the folder is readable; if not, nothing can be removed either.
    let all = artefacts(folder).unwrap_or_default();
    let mut total: u64 = all.iter().map(|(_, bytes, _)| bytes).sum();
    for (path, bytes, _) in all.iter().filter(|(path, _, _)| path != keep) {
        if total <= limit {
            return;
        }
        // If it cannot be removed, the next run tries again.
        if fs::remove_file(path).is_ok() {
            total -= bytes;
        }
    }
}

/// The limit on the total bytes of artefacts.
fn limit() -> u64 {
    let Some(text) = std::env::var_os("AIO_CACHE_LIMIT").filter(|v| !v.is_empty()) else { return DEFAULT_LIMIT };
    text.to_str().and_then(bytes).unwrap_or_else(|| {
        note!("note: AIO_CACHE_LIMIT is not a number of bytes such as 500M or 20G; using {DEFAULT_LIMIT}");
        DEFAULT_LIMIT
    })
}

/// Parses a number of bytes, with K, M, G or T for powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let text = text.trim().trim_end_matches(['B', 'b']).trim_end_matches('i');
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn limits_have_units() {
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("500M"), Some(500 << 20));
        assert_eq!(bytes("20GiB"), Some(20 << 30));
        assert_eq!(bytes("3kB"), Some(3 << 10));
        for bad in ["", "x", "-1", "1.5G", "20GG", "99999999999T"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_least_recently_used_go_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let now = SystemTime::now();
        for (name, age) in [("old.aio", 300), ("older.aio", 400), ("new.aio", 100), ("written.aio", 500)] {
            fs::write(path(name), [0; 100]).unwrap();
            let file = fs::File::options().write(true).open(path(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        }
        fs::write(path("other"), [0; 1000]).unwrap();
        make_room(folder.path(), &path("written.aio"), 400);
        assert_eq!(artefacts(folder.path()).unwrap().len(), 4, "all fit");
        touch(&path("older.aio"));
        make_room(folder.path(), &path("written.aio"), 350);
        let left = || artefacts(folder.path()).unwrap().into_iter().map(|(p, _, _)| p).collect::<Vec<_>>();
        assert_eq!(left(), [path("written.aio"), path("new.aio"), path("older.aio")]);
        make_room(folder.path(), &path("written.aio"), 10);
        assert_eq!(left(), [path("written.aio")], "the one just written stays");
    }
}
