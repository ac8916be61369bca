//! `aio cache`: lists, verifies and removes the compiled models in the cache folder.

use crate::args::{CacheClearArgs, CacheCommand, CacheListArgs, CacheVerifyArgs, ShowForm};
use crate::outcome::Outcome;
use crate::output::{json_line, print_now};
use crate::table::Table;
use crate::{output, signals, store};
use aio::backend::threads::work_together;
use aio::engine::compiler_hash;
use aio::model::gguf::Gguf;
use aio::plan::artefact::{Artefact, ArtefactError, WeightFile};
use anyhow::{Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

pub(crate) fn main(command: CacheCommand) -> Result<Outcome> {
    match command {
        CacheCommand::List(args) => list(&args),
        CacheCommand::Verify(args) => verify(&args),
        CacheCommand::Clear(args) => clear(&args),
    }
}

/// What `aio cache list` shows of an artefact, known without reading its weights.
struct Shown {
    file: String,
    model: String,
    target: String,
    bytes: u64,
    /// Seconds since its last use.
    idle_s: u64,
    /// `ready`, `stale`, or the fault.
    state: String,
}

impl Shown {
    fn of(path: &Path, bytes: u64, used: SystemTime) -> Shown {
        let idle_s = SystemTime::now().duration_since(used).unwrap_or_default().as_secs();
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unknown = |state: String| Shown {
            file: file.clone(),
            model: String::new(),
            target: String::new(),
            bytes,
            idle_s,
            state,
        };
        let artefact = match Artefact::open(path) {
            Ok(artefact) => artefact,
            Err(e) => return unknown(e.to_string()),
        };
        let head = Gguf::from_head(artefact.meta().to_vec());
        let name = head.ok().and_then(|g| g.get_str("general.name").ok().flatten().map(str::to_owned));
        let form = aio::cpu::IMAGE_FORM;
        let ready = artefact.check_made_for(form.name, compiler_hash(&form)).is_ok();
        let state = match entry_fault(path, &artefact) {
            Some(fault) => fault,
            None => if ready { "ready" } else { "stale" }.to_owned(),
        };
        let target = artefact.header().target.clone();
        Shown { model: name.unwrap_or_default(), target, ..unknown(state) }
    }
}

fn list(args: &CacheListArgs) -> Result<Outcome> {
    let folder = store::folder()?;
    let shown: Vec<Shown> = store::artefacts(&folder)?.iter().map(|(p, b, t)| Shown::of(p, *b, *t)).collect();
    let text = match args.output {
        ShowForm::Json => {
            let item = |s: &Shown| {
                json!({"file": s.file, "model": s.model, "target": s.target, "bytes": s.bytes, "idle_s": s.idle_s,
                       "state": s.state})
            };
            json_line(json!({"folder": folder, "artefacts": shown.iter().map(item).collect::<Vec<_>>()}))
        }
        ShowForm::Md => {
            let row = |s: &Shown| {
                let idle = s.idle_s.to_string();
                vec![s.file.clone(), s.model.clone(), s.target.clone(), s.bytes.to_string(), idle, s.state.clone()]
            };
            let heads = vec!["file", "model", "compiled on", ">bytes", ">idle s", "state"];
            Table { title: "artefacts", heads, rows: shown.iter().map(row).collect() }.markdown()
        }
    };
    print_now(&text)?;
    Ok(Outcome::Fine)
}

fn verify(args: &CacheVerifyArgs) -> Result<Outcome> {
    let paths: Vec<PathBuf> = match &args.files[..] {
        [] => store::artefacts(&store::folder()?)?.into_iter().map(|(path, _, _)| path).collect(),
        files => files.to_vec(),
    };
    let (mut damaged, mut unread) = (0, 0);
    for path in &paths {
        match check(path) {
            Ok(None) => print_now(&format!("{}: ok\n", path.display()))?,
            Ok(Some(fault)) => {
                damaged += 1;
                print_now(&format!("{}: {fault}\n", path.display()))?;
            }
            Err(e) if signals::interrupted() => return Err(e),
            Err(e) => {
                unread += 1;
                print_now(&format!("{}: {}\n", path.display(), output::describe(&e)))?;
            }
        }
    }
    if unread > 0 {
        bail!("{unread} of {} artefacts cannot be read, {damaged} cannot be used", paths.len());
    }
    if damaged == 0 {
        return Ok(Outcome::Fine);
    }
    note!("error: {damaged} of {} artefacts cannot be used", paths.len());
    Ok(Outcome::CheckFailed)
}

/// For a file in the cache, why it does not belong there.
fn entry_fault(path: &Path, artefact: &Artefact) -> Option<String> {
    let folder = |path: &Path| path.canonicalize().ok();
    let inside = store::folder()
        .ok()
        .and_then(|f| folder(&f))
        .is_some_and(|cache| path.parent().and_then(folder) == Some(cache));
    store::foreign(path, artefact.header(), None).filter(|_| inside)
}

/// Reads every chunk of an artefact and returns its fault, if any.
fn check(path: &Path) -> Result<Option<String>> {
    let artefact = match Artefact::open(path).and_then(|a| a.family().map(|_| a)) {
        Ok(artefact) => match entry_fault(path, &artefact) {
            Some(fault) => return Ok(Some(fault)),
            None => artefact,
        },
        // An unreadable file may be sound, so this is an error and not a fault.
        Err(e @ ArtefactError::Read { .. }) => return Err(e.into()),
        Err(e) => return Ok(Some(e.to_string())),
    };
    let bar = output::bar(artefact.file_bytes(), "checking");
    let faults = faults(artefact.weights(), &|n| bar.inc(n));
    bar.finish_and_clear();
    if signals::interrupted() {
        bail!("interrupted");
    }
    let more = if faults.len() > 1 { format!(" (and {} more)", faults.len() - 1) } else { String::new() };
    Ok(faults.first().map(|f| format!("{f}{more}")))
}

/// Descriptions of the damaged chunks, in order; checked on all cores.
fn faults(weights: &WeightFile, progress: &(dyn Fn(u64) + Sync)) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= weights.chunks() || signals::interrupted() {
                return;
            }
            let range = weights.chunk(chunk);
            buffer.resize((range.end - range.start) as usize, 0);
            if let Err(e) = weights.read_chunk(chunk, &mut buffer) {
                faults.lock().unwrap_or_else(PoisonError::into_inner).push((chunk, e.to_string()));
            }
            progress(buffer.len() as u64);
        }
    };
    work_together(std::thread::available_parallelism().map_or(1, |n| n.get()), work);
    let mut faults = faults.into_inner().unwrap_or_else(PoisonError::into_inner);
    faults.sort();
    faults.into_iter().map(|(_, fault)| fault).collect()
}

fn clear(args: &CacheClearArgs) -> Result<Outcome> {
    let folder = store::folder()?;
    let least = Duration::from_secs(u64::from(args.older_than.unwrap_or(0)) * 86400);
    let (mut count, mut bytes, mut kept) = (0, 0, 0);
    for (path, size, used) in store::artefacts(&folder)? {
        let idle = SystemTime::now().duration_since(used).unwrap_or_default();
        if args.older_than.is_some() && idle < least {
            continue;
        }
        match std::fs::remove_file(&path) {
            Ok(()) => (count, bytes) = (count + 1, bytes + size),
            Err(e) => {
                kept += 1;
                note!("error: cannot remove {}: {e}", path.display());
            }
        }
    }
    store::clean(&folder);
    if args.older_than.is_none() {
        // The index only maps models to content hashes, so it is useless without artefacts.
        let _ = std::fs::remove_dir_all(folder.join("index"));
    }
    print_now(&format!("removed {count} artefacts, {bytes} bytes\n"))?;
    if kept > 0 {
        bail!("{kept} artefacts could not be removed");
    }
    Ok(Outcome::Fine)
}
