//! Compiled models: `aio compile`, running its output, and the cache, which does the same automatically.

use crate::{Place, check_failure, text};
use aio::ir::DType;
use aio::model::synth::{Preset, Synth};
use aio::plan::artefact::Hash;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

const RUN: [&str; 8] = ["-p", "hello", "-n", "6", "--temp", "0", "--ignore-eos", "--ids"];

fn ids(place: &Place, args: &[&str]) -> String {
    place.good(&[&["run"], args, &RUN[..]].concat())
}

/// A model whose file is old enough for a later change to show in its timestamps.
fn settled_model(place: &Place, name: &str, seed: u64) -> String {
    let preset = Preset::find("smollm2-135m").unwrap().tiny();
    place.write(name, Synth::new(&preset, DType::Q4_1, seed).unwrap().to_bytes().unwrap());
    until_settled(place, name);
    name.to_owned()
}

/// Waits until the cache may trust a file's timestamps, judged by the one the program uses.
fn until_settled(place: &Place, name: &str) {
    let meta = std::fs::metadata(place.path(name)).unwrap();
    let changed = SystemTime::UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
    let wait = Duration::from_millis(if meta.ctime_nsec() == 0 { 3100 } else { 150 });
    while SystemTime::now().duration_since(changed).is_ok_and(|age| age < wait) {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// With another model's entry under this model's name, the output is still this model's.
#[test]
fn an_entry_of_another_model_is_not_taken() {
    let place = Place::new();
    let (a, b) = (settled_model(&place, "a.gguf", 1), settled_model(&place, "b.gguf", 2));
    let want = ids(&place, &["-m", &a, "--no-cache"]);
    ids(&place, &["-m", &a]);
    let [entry] = &cached(&place)[..] else { panic!("one entry") };
    let other = ids(&place, &["-m", &b]);
    assert_ne!(want, other);
    let others = cached(&place);
    std::fs::copy(others.iter().find(|p| *p != entry).unwrap(), entry).unwrap();
    let output = place.run(&["cache", "verify"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("it was made as entry"), "{}", text(&output.stdout));
    let output = place.run(&[&["run", "-m", &a], &RUN[..]].concat());
    assert!(text(&output.stderr).contains("is replaced: it was made as entry"), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), want);
    place.good(&["cache", "verify"]);
}

/// Index entries of another model, or of none, are not used for this model.
#[test]
fn an_index_of_another_model_is_not_taken() {
    let place = Place::new();
    let (a, b) = (settled_model(&place, "a.gguf", 1), settled_model(&place, "b.gguf", 2));
    let want = ids(&place, &["-m", &a]);
    let index =
        || std::fs::read_dir(folder(&place).join("index")).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    let [of_a] = &index()[..] else { panic!("one model") };
    assert_ne!(ids(&place, &["-m", &b]), want);
    let of_b = index().into_iter().find(|p| p != of_a).unwrap();
    let text = std::fs::read_to_string(of_b).unwrap();
    let mut empty: serde_json::Value = serde_json::from_str(&text).unwrap();
    empty["files"] = serde_json::json!([]);
    for entry in [text, empty.to_string()] {
        std::fs::write(of_a, entry).unwrap();
        assert_eq!(ids(&place, &["-m", &a]), want);
    }
}

/// An entry that cannot be read, or that does not fit in memory, may be sound.
#[test]
fn an_entry_that_cannot_be_used_now_stays() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    let want = ids(&place, &["-m", &model]);
    let [entry] = &cached(&place)[..] else { panic!("one entry") };
    place.bad(&["run", "-m", &model, "--ctx", "4000000000", "-p", "x"], 2, "memory");
    assert!(entry.is_file());
    // A directory cannot be read as a file, even by root.
    std::fs::remove_file(entry).unwrap();
    std::fs::create_dir(entry).unwrap();
    assert_eq!(ids(&place, &["-m", &model]), want);
    assert!(entry.is_dir());
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    let want = ids(&place, &["-m", &model]);
    assert_eq!(std::fs::metadata(place.path("cache/aio")).unwrap().permissions().mode() & 0o777, 0o700);
    std::fs::set_permissions(place.path("cache/aio"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let output = place.run(&[&["run", "-m", &model], &RUN[..]].concat());
    assert_eq!(text(&output.stdout), want);
    assert!(text(&output.stderr).contains("other users may write to the cache folder"), "{}", text(&output.stderr));
    place.bad(&["cache", "list"], 2, "chmod go-w");
}

fn folder(place: &Place) -> PathBuf {
    place.path("cache/aio/artefacts")
}

/// Paths of the artefacts in the cache.
fn cached(place: &Place) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(place)).into_iter().flatten().flatten().map(|e| e.path());
    let mut found: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == "aio")).collect();
    found.sort();
    found
}

/// Makes a file this many seconds old and returns its new time.
fn set_age(path: &PathBuf, seconds: u64) -> SystemTime {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    modified(path)
}

fn modified(path: &PathBuf) -> SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

#[test]
fn a_compiled_model_takes_the_models_place() {
    let place = Place::new();
    let model = place.model("qwen3-0.6b", DType::Q4K);
    let want = ids(&place, &["-m", &model, "--no-cache"]);
    let summary = place.good(&["compile", "-m", &model, "-o", "a.aio"]);
    assert!(summary.contains("weights") && summary.contains("18 plans: r1s1o1-argmax"), "{summary}");
    place.good(&["compile", "-m", &model, "-o", "b.aio", "--threads", "1", "--isa", "portable"]);
    place.good(&["compile", "-m", &model, "-o", "c.aio"]);
    let read = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert!(read("a.aio") == read("c.aio"), "compiled twice, other bytes");
    std::fs::remove_file(place.path(&model)).unwrap();
    for args in [&["-m", "a.aio"][..], &["-m", "a.aio", "--mmap"], &["-m", "b.aio"], &["-m", "c.aio", "--ctx", "64"]] {
        assert_eq!(ids(&place, args), want, "{args:?}");
    }
    place.write("text.txt", "a quick brown fox ".repeat(20));
    place.good(&["perplexity", "-m", "a.aio", "-f", "text.txt", "--ctx", "100"]);
    let bench = place.good(&["bench", "-m", "a.aio", "--mmap", "-p", "8", "-n", "2", "-r", "1", "-o", "json"]);
    assert!(bench.contains("tg2"), "{bench}");
    assert!(cached(&place).is_empty(), "nothing to keep of a model that is compiled");
}

#[test]
fn rows_decide_the_plans() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let want = ids(&place, &["-m", &model, "--no-cache"]);
    let summary = place.good(&["compile", "-m", &model, "-o", "one.aio", "--rows", "3,1,3"]);
    assert!(summary.contains("8 plans: r1s1o1-argmax"), "{summary}");
    assert_eq!(ids(&place, &["-m", "one.aio"]), want, "a prompt in steps of three rows");
    place.bad(&["compile", "-m", &model, "-o", "zero.aio", "--rows", "0"], 2, "--rows");
    place.bad(&["compile", "-m", &model, "-o", "no/such/folder.aio"], 2, "no/such/folder.aio");
    place.bad(&["compile", "-m", &model, "-o", "x.aio", "--device", "interp"], 2, "no packed form");
    place.bad(&["compile", "-m", "missing", "-o", "x.aio"], 2, "missing");
}

/// Changes an artefact's header and corrects its checksum.
fn with_header(bytes: &[u8], change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes[..480]);
    let sum = Hash::of(&bytes[..480]);
    bytes[480..512].copy_from_slice(&sum.0);
    bytes
}

#[test]
fn what_cannot_be_used_is_refused_with_a_reason() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_0);
    place.good(&["compile", "-m", &model, "-o", "good.aio"]);
    let good = std::fs::read(place.path("good.aio")).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let last = good.len() - 1;
    let cases = [
        ("version", with_header(&good, |h| h[8] = 77), "format version 77"),
        ("order", with_header(&good, |h| h[12..16].reverse()), "another byte order"),
        ("stale", with_header(&good, |h| h[56] ^= 1), "another version of aio"),
        ("form", with_header(&good, |h| h[152..155].copy_from_slice(b"gpu")), "packed as `gpu"),
        ("header", flipped(90), "checksum of its header"),
        ("meta", flipped(600), "section `meta`"),
        ("weights", flipped(last), "chunk "),
        ("cut", good[..last].to_vec(), "its parts take"),
        ("front", good[..100].to_vec(), "its parts take"),
    ];
    for (name, bytes, message) in cases {
        place.write(name, bytes);
        let stderr = place.bad(&["run", "-m", name, "-p", "x"], 2, message);
        assert!(stderr.contains(name), "the file is named: {stderr}");
    }
    // Without the magic number, it is taken for a model file.
    place.write("magic", flipped(1));
    place.bad(&["run", "-m", "magic", "-p", "x"], 2, "not a GGUF file");
    place.bad(&["run", "-m", "good.aio", "-p", "x", "--dispatch", "op"], 2, "fused plans");
    place.bad(&["run", "-m", "good.aio", "-p", "x", "--device", "interp"], 2, "no packed form");
    place.bad(
        &["run", "-m", "good.aio", "-p", "x", "--ctx", "4000000000"],
        2,
        "available; a smaller context needs less (--ctx",
    );
    place.write("t.jinja", "");
    place.bad(&["run", "-m", "good.aio", "-p", "x", "--template", "t.jinja"], 2, "already compiled");
    place.bad(&["graph", "print", "-m", "good.aio"], 2, "compiled artefact");
    place.bad(&["compile", "-m", "good.aio", "-o", "x.aio"], 2, "compiled artefact");
    check_failure(&place.run(&["cache", "verify", "good.aio", "weights", "meta"]), 1, "2 of 3 artefacts");
    assert!(place.good(&["cache", "verify", "good.aio"]).contains("good.aio: ok"));
}

#[test]
fn the_second_run_starts_from_the_cache() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    let fresh = ids(&place, &["-m", &model, "--no-cache"]);
    assert!(cached(&place).is_empty());
    assert_eq!(ids(&place, &["-m", &model]), fresh);
    let [artefact] = &cached(&place)[..] else { panic!("{:?}", cached(&place)) };
    for args in [&["-m", &model[..]][..], &["-m", &model, "--mmap"], &["-m", "./a.gguf", "--isa", "portable"]] {
        let before = set_age(artefact, 1000);
        let want = if args.len() == 4 { ids(&place, &[args, &["--no-cache"]].concat()) } else { fresh.clone() };
        assert_eq!(ids(&place, args), want);
        assert!(modified(artefact) > before, "{args:?} used the artefact");
    }
    // A copy has the same content, so one artefact serves both.
    std::fs::copy(place.path(&model), place.path("b.gguf")).unwrap();
    until_settled(&place, "b.gguf");
    assert_eq!(ids(&place, &["-m", "b.gguf"]), fresh);
    assert_eq!(cached(&place).len(), 1);
    // Plans work for all contexts.
    ids(&place, &["-m", &model, "--ctx", "64"]);
    assert_eq!(cached(&place).len(), 1);
    // Another model with the same name.
    settled_model(&place, "a.gguf", 2);
    assert_ne!(ids(&place, &["-m", &model]), fresh);
    assert_eq!(cached(&place).len(), 2);
    assert!(place.good(&["cache", "verify"]).lines().all(|l| l.ends_with(": ok")));
}

#[test]
fn a_template_of_ones_own_is_another_model() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    place.write("own.jinja", "{% set rope_pairs = \"adjacent\" %}{% include \"decoder.jinja\" %}");
    let own = ids(&place, &["-m", &model, "--template", "own.jinja"]);
    let first = cached(&place);
    assert_eq!(first.len(), 1);
    let before = set_age(&first[0], 1000);
    assert_eq!(ids(&place, &["-m", &model, "--template", "own.jinja"]), own);
    assert!(modified(&first[0]) > before);
    place.write("own.jinja", "{% set rope_pairs = \"halves\" %}{% include \"decoder.jinja\" %}");
    ids(&place, &["-m", &model, "--template", "own.jinja"]);
    assert_eq!(cached(&place).len(), 2);
}

#[test]
fn processes_that_fill_the_cache_at_once_leave_it_whole() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    let fresh = ids(&place, &["-m", &model, "--no-cache"]);
    let args = [&["run", "-m", &model], &RUN[..]].concat();
    let start = || place.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), fresh.clone()), "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains("note:"), "{}", text(&output.stderr));
    }
    let files: Vec<_> = place.listing().into_iter().filter(|p| p.starts_with(folder(&place))).collect();
    assert_eq!(files.len(), 2, "one artefact, one index entry, nothing half-written: {files:?}");
    assert!(place.good(&["cache", "verify"]).ends_with(": ok\n"));
    let before = set_age(&cached(&place)[0], 1000);
    assert_eq!(ids(&place, &["-m", &model]), fresh);
    assert!(modified(&cached(&place)[0]) > before);
}

#[test]
fn a_damaged_artefact_is_packed_anew() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    let fresh = ids(&place, &["-m", &model]);
    let path = cached(&place).remove(0);
    let good = std::fs::read(&path).unwrap();
    for at in [100, good.len() - 1] {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        std::fs::write(&path, &bad).unwrap();
        let found = place.run(&["cache", "verify"]);
        check_failure(&found, 1, "1 of 1 artefacts");
        assert!(text(&found.stdout).contains("damaged"), "{}", text(&found.stdout));
        let output = place.run(&[&["run", "-m", &model], &RUN[..]].concat());
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), fresh.clone()), "{stderr}");
        assert_eq!(stderr.matches("note:").count(), 1, "{stderr}");
        assert!(stderr.contains("is replaced") && stderr.contains("damaged"), "{stderr}");
        assert!(std::fs::read(&path).unwrap() == good, "it is whole again");
    }
}

#[test]
fn a_cache_that_cannot_be_written_is_a_note() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    let args = [&["run", "-m", &model], &RUN[..]].concat();
    let noted = |command: &mut Command, what: &str| {
        let output = command.output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains("note: the packed model is not kept") && stderr.contains(what), "{stderr}");
    };
    std::fs::create_dir(place.path("cache")).unwrap();
    place.write("cache/aio", "a file where a folder should be");
    noted(&mut place.command(&args), "cannot create");
    std::fs::remove_file(place.path("cache/aio")).unwrap();
    // Simulates a full disk by a limit on the size of files.
    let mut full = Command::new("sh");
    full.args(["-c", "ulimit -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_aio")]).args(&args);
    full.current_dir(place.path("")).env("XDG_CACHE_HOME", place.path("cache")).stdin(Stdio::null());
    noted(&mut full, "cannot write");
    assert!(cached(&place).is_empty());
    let left: Vec<_> = place.listing().into_iter().filter(|p| p.to_string_lossy().contains(".part")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_least_recently_used_make_room() {
    let place = Place::new();
    let models: Vec<_> = (1..=3).map(|seed| settled_model(&place, &format!("{seed}.gguf"), seed)).collect();
    let run = |model: &str, limit: &str| {
        let args = [&["run", "-m", model], &RUN[..]].concat();
        let output = place.command(&args).env("AIO_CACHE_LIMIT", limit).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    run(&models[0], "0");
    assert!(cached(&place).is_empty(), "0 keeps none");
    run(&models[0], "");
    let first = cached(&place).remove(0);
    set_age(&first, 1000);
    let bytes = std::fs::metadata(&first).unwrap().len();
    run(&models[1], "1G");
    let second = cached(&place).into_iter().find(|p| *p != first).unwrap();
    set_age(&second, 2000);
    run(&models[2], &(bytes * 5 / 2).to_string());
    assert!(cached(&place).contains(&first) && !cached(&place).contains(&second), "the older one went");
    assert_eq!(cached(&place).len(), 2);
    assert!(run(&models[1], "lots").contains("AIO_CACHE_LIMIT"));
}

#[test]
fn the_cache_is_shown_and_cleared() {
    let place = Place::new();
    assert!(place.good(&["cache", "list"]).contains("artefacts (0)"));
    assert_eq!(place.good(&["cache", "clear"]), "removed 0 artefacts, 0 bytes\n");
    place.good(&["cache", "verify"]);
    let model = settled_model(&place, "a.gguf", 1);
    ids(&place, &["-m", &model]);
    ids(&place, &["-m", &settled_model(&place, "b.gguf", 2)]);
    let [old, _] = &cached(&place)[..] else { panic!("{:?}", cached(&place)) };
    set_age(old, 3 * 86400);
    let list: serde_json::Value = serde_json::from_str(&place.good(&["cache", "list", "-o", "json"])).unwrap();
    let shown = list["artefacts"].as_array().unwrap();
    assert_eq!((shown.len(), &shown[0]["state"], &shown[1]["state"]), (2, &"ready".into(), &"ready".into()));
    assert!(
        shown[0]["idle_s"].as_u64().unwrap() >= 3 * 86400 && shown[0]["target"].as_str().unwrap().starts_with("cpu")
    );
    let bytes = std::fs::read(old).unwrap();
    std::fs::write(old, with_header(&bytes, |h| h[56] ^= 1)).unwrap();
    assert!(place.good(&["cache", "list"]).contains("| stale |"));
    set_age(old, 3 * 86400);
    assert!(place.good(&["cache", "clear", "--older-than", "2"]).starts_with("removed 1 artefacts, "));
    assert!(!old.exists());
    place.good(&["cache", "clear"]);
    assert!(cached(&place).is_empty());
}

#[test]
fn what_a_killed_process_left_in_the_cache_goes() {
    let place = Place::new();
    let left = |place: &Place| {
        std::fs::create_dir_all(folder(place)).unwrap();
        let path = folder(place).join(".some.aio.4294967295.part");
        std::fs::write(&path, "x").unwrap();
        path
    };
    let path = left(&place);
    place.good(&["cache", "clear", "--older-than", "2"]);
    assert!(!path.exists(), "cleared");
    let path = left(&place);
    ids(&place, &["-m", &settled_model(&place, "a.gguf", 1)]);
    assert!(!path.exists() && cached(&place).len() == 1, "the next model that is cached cleans up");
}

#[test]
fn a_model_larger_than_the_cache_is_not_even_looked_at() {
    let place = Place::new();
    let model = settled_model(&place, "a.gguf", 1);
    // A modification time in the future must not keep a model out of the cache.
    let file = std::fs::File::options().write(true).open(place.path(&model)).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_secs(3600)).unwrap();
    until_settled(&place, &model);
    let args = [&["run", "-m", &model], &RUN[..]].concat();
    for (limit, entries) in [("1", 0), ("1G", 1)] {
        let output = place.command(&args).env("AIO_CACHE_LIMIT", limit).output().unwrap();
        assert!(output.status.success(), "limit {limit}: {}", text(&output.stderr));
        assert_eq!(cached(&place).len(), entries, "limit {limit}");
        assert_eq!(folder(&place).join("index").exists(), entries > 0, "limit {limit}");
    }
}

#[test]
fn a_link_to_an_artefact_stays_a_link() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    std::fs::create_dir(place.path("deep")).unwrap();
    std::os::unix::fs::symlink("deep/a.aio", place.path("link.aio")).unwrap();
    place.good(&["compile", "-m", &model, "-o", "link.aio", "--rows", "1"]);
    assert!(place.path("link.aio").is_symlink() && place.path("deep/a.aio").is_file());
    place.good(&["compile", "-m", &model, "-o", "link.aio", "--rows", "1"]);
    assert!(place.path("link.aio").is_symlink());
}

#[test]
fn a_model_is_never_compiled_over_itself() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q4_1);
    let before = std::fs::read(place.path(&model)).unwrap();
    place.bad(&["compile", "-m", &model, "-o", &model], 2, "is the model itself");
    std::fs::hard_link(place.path(&model), place.path("other.gguf")).unwrap();
    place.bad(&["compile", "-m", &model, "-o", "other.gguf"], 2, "is the model itself");
    assert!(std::fs::read(place.path(&model)).unwrap() == before, "the model is as it was");
}

#[test]
fn a_cache_that_cannot_be_read_is_an_error() {
    let place = Place::new();
    assert!(place.good(&["cache", "list", "-o", "json"]).contains("[]"), "no folder is an empty cache");
    place.write("cache", "a file where the folder should be");
    place.bad(&["cache", "list"], 2, "cannot read");
    let output = place.run(&["cache", "verify", "none.aio", "cache", "none either.aio"]);
    let (shown, message) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(shown.contains("none.aio: ") && shown.contains("none either.aio: "), "all are looked at: {shown}");
    assert!(message.contains("2 of 3 artefacts cannot be read, 1 cannot be used"), "{message}");
}
