//! Interruptions while a command runs: Ctrl-C, a model truncated while it is read, a full disk, a terminal.

use crate::{Place, check_failure, text};
use aio::ir::DType;
use aio_filetest::needs;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Only a guard against hanging forever; no test passes or fails by how long it takes.
const PATIENCE: Duration = Duration::from_secs(600);

/// Waits until a condition holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} never came about");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn interrupt(child: &Child) {
    signal(child, "INT");
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Sends Ctrl-C to a process once `ready` holds.
fn interrupted(command: &mut Command, what: &str, ready: impl FnMut() -> bool) -> Output {
    let child = start(command);
    until(what, ready);
    interrupt(&child);
    child.wait_with_output().unwrap()
}

/// All files and folders below a folder, including hidden ones.
fn everything(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    entries.flat_map(|p| if p.is_dir() { [vec![p.clone()], everything(&p)].concat() } else { vec![p] }).collect()
}

fn found(folder: &Path, name: &str) -> bool {
    everything(folder).iter().any(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(name)))
}

/// Makes a `python3` that runs this script. Use the returned folder as the whole PATH, so that no real one is found.
pub(crate) fn python(place: &Place, script: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let bin = place.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let path = bin.join("python3");
    std::fs::write(&path, format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

#[test]
fn ctrl_c_ends_a_pull_at_once_and_leaves_nothing() {
    let place = Place::new();
    let cache = place.path("cache");
    let path = python(&place, "exec sleep 600");
    let mut pull = place.command(&["pull"]);
    let output = interrupted(pull.env("PATH", path), "pip's log", || found(&cache, "pip.log"));
    check_failure(&output, 2, "interrupted while fetching");
    assert_eq!(everything(&cache), [cache.join("aio"), cache.join("aio/models")]);
}

#[test]
fn the_next_pull_cleans_up_after_the_dead() {
    let place = Place::new();
    let models = place.path("cache/aio/models");
    let old = std::time::SystemTime::now() - Duration::from_secs(7200);
    for name in [".pull-1/lock", ".pull-2/x", ".pull-3/x", ".pull-4/lock"] {
        std::fs::create_dir_all(models.join(name).parent().unwrap()).unwrap();
        std::fs::write(models.join(name), "x").unwrap();
    }
    // The second is old, the third may be about to be locked, the fourth is held by a living process, and so is the
    // partial file b, whatever its number.
    std::fs::File::open(models.join(".pull-2")).unwrap().set_modified(old).unwrap();
    let held = std::fs::File::options().write(true).open(models.join(".pull-4/lock")).unwrap();
    held.lock().unwrap();
    let mut files = Vec::new();
    for name in [".a.gguf.4294967295.part", ".b.gguf.4294967295.part", "c.part"] {
        std::fs::write(models.join(name), "x").unwrap();
        files.push(std::fs::File::options().write(true).open(models.join(name)).unwrap());
    }
    files[1].lock().unwrap();
    files[2].set_modified(old).unwrap();
    let path = python(&place, "echo no network >&2; exit 1");
    let output = place.command(&["pull"]).env("PATH", path).output().unwrap();
    check_failure(&output, 2, "no network");
    let mut left: Vec<_> = std::fs::read_dir(&models).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".b.gguf.4294967295.part", ".pull-3", ".pull-4", "c.part"]);
}

#[test]
fn ctrl_c_ends_synth_and_leaves_nothing() {
    let place = Place::new();
    let mut synth = place.command(&["synth", "--preset", "pangu-7b", "--type", "q4_0", "-o", "big.gguf"]);
    let folder = place.path("");
    let output = interrupted(&mut synth, "the partial file", || found(&folder, ".part"));
    check_failure(&output, 2, "stopped before the model was written");
    assert!(everything(&folder).is_empty(), "{:?}", everything(&folder));
}

#[test]
fn sigterm_and_sighup_leave_nothing_and_are_the_exit_status() {
    // A program started by `nohup` ignores SIGHUP, and so do tests that it starts.
    let ends = |name: &str| name != "HUP" || !ignores_sighup();
    for (name, status) in [("TERM", 143), ("HUP", 129)].into_iter().filter(|(name, _)| ends(name)) {
        let place = Place::new();
        let folder = place.path("");
        let child = start(&mut place.command(&["synth", "--preset", "pangu-7b", "--type", "q4_0", "-o", "big.gguf"]));
        until("the partial file", || found(&folder, ".part"));
        signal(&child, name);
        check_failure(&child.wait_with_output().unwrap(), status, "stopped before the model was written");
        assert!(everything(&folder).is_empty(), "{:?}", everything(&folder));
    }
}

/// Whether this process, and therefore its children, ignores SIGHUP.
fn ignores_sighup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|l| l.strip_prefix("SigIgn:"));
    mask.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}

#[test]
fn an_ignored_sighup_ends_nothing() {
    let place = Place::new();
    let program = place.command(&["synth", "--preset", "pangu-7b", "--type", "q4_0", "-o", "big.gguf"]);
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program.get_program()).args(program.get_args());
    nohup.current_dir(program.get_current_dir().unwrap());
    nohup.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let folder = place.path("");
    let child = start(&mut nohup);
    until("the partial file", || found(&folder, ".part"));
    signal(&child, "HUP");
    // Any effect of HUP has happened by now.
    signal(&child, "TERM");
    check_failure(&child.wait_with_output().unwrap(), 143, "stopped before the model was written");
}

#[test]
fn the_first_ctrl_c_ends_the_wait_for_a_prompt() {
    use std::os::unix::process::ExitStatusExt;
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    // More than a pipe holds, so once it is written, the program is reading.
    let more = vec![b'x'; 1 << 20];
    let mut child = place.command(&["run", "-m", &model]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(&more).unwrap();
    interrupt(&child);
    assert_eq!(child.wait().unwrap().signal(), Some(2));
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for args in [&["run", "-m", &model, "-f", "pipe"][..], &["graph", "verify", "pipe"], &["perplexity", "-f", "pipe"]]
    {
        let mut child = place.command(args).spawn().unwrap();
        // Blocks until the program opens it too.
        let mut writer = std::fs::File::options().write(true).open(&pipe).unwrap();
        writer.write_all(&more).unwrap();
        interrupt(&child);
        assert_eq!(child.wait().unwrap().signal(), Some(2), "{args:?}");
    }
}

#[test]
fn a_prompt_comes_by_a_pipe() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let pipe = place.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let args = ["run", "-m", &model, "-f", "pipe", "-n", "2", "--temp", "0", "--ids", "--ignore-eos", "--no-cache"];
    let child = start(&mut place.command(&args));
    std::fs::File::options().write(true).open(&pipe).unwrap().write_all(b"hello").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    place.write(
        "linear.graph",
        "aio 1\ngraph \"g\"\n%x = fill {shape = [262144], value = 1.0, dtype = f32}\noutput \"y\" = %x\n",
    );
    let binary = env!("CARGO_BIN_EXE_aio");
    let before = everything(&place.path(""));
    // Limits files to 64 blocks: of 512 bytes according to POSIX, of 1 KiB in some shells.
    for command in [
        format!("ulimit -f 64 && exec {binary} synth --preset smollm2-135m --type q4_1 --layers 1 -o big.gguf"),
        format!("ulimit -f 64 && exec {binary} graph run linear.graph --out y=y.npy"),
    ] {
        let output = Command::new("sh").arg("-c").arg(&command).current_dir(place.path("")).output().unwrap();
        check_failure(&output, 2, "File too large");
        assert_eq!(everything(&place.path("")), before, "{command}");
    }
    assert!(place.path(&model).is_file());
    if Path::new("/dev/full").exists() {
        let command = format!("exec {binary} gguf {model} > /dev/full");
        let output = Command::new("sh").arg("-c").arg(command).current_dir(place.path("")).output().unwrap();
        check_failure(&output, 2, "cannot write to standard output");
    }
}

#[test]
fn what_is_no_regular_file_is_not_replaced() {
    let place = Place::new();
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    place
        .write("g.graph", "aio 1\ngraph \"g\"\n%x = fill {shape = [4], value = 1.0, dtype = f32}\noutput \"y\" = %x\n");
    let synth = ["synth", "--preset", "smollm2-135m", "--type", "q4_1", "--layers", "1", "-o", "pipe"];
    place.bad(&synth, 2, "not a regular file");
    place.bad(&["graph", "run", "g.graph", "--out", "y=pipe"], 2, "not a regular file");
    place.bad(&["device", "show", "pipe"], 2, "not a regular file");
    assert!(!place.path("pipe").is_file());
}

#[test]
fn ctrl_c_ends_a_compilation_before_it_writes() {
    let place = Place::new();
    // The template is read before anything is written, and nothing writes to this pipe.
    let model = place.model("smollm2-135m", DType::Q4_1);
    assert!(Command::new("mkfifo").arg(place.path("template")).status().unwrap().success());
    let mut child = start(&mut place.command(&["compile", "-m", &model, "-o", "a.aio", "--template", "template"]));
    until("the reader of the template", || {
        // Without a reader this fails instead of blocking.
        let mut options = std::fs::File::options();
        let opened = options.write(true).custom_flags(libc::O_NONBLOCK).open(place.path("template"));
        opened.inspect(|_| interrupt(&child)).is_ok()
    });
    assert!(!child.wait().unwrap().success());
    assert!(!place.path("a.aio").exists());
}

#[test]
fn a_model_cut_short_while_it_is_read_ends_with_a_message() {
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::F32);
    assert!(Command::new("mkfifo").arg(place.path("template")).status().unwrap().success());
    // The model is mapped before the template is read, and its weights are read afterwards, so the pipe stops the
    // program in between.
    let child = start(&mut place.command(&["run", "-m", &model, "-p", "x", "--template", "template"]));
    let mut opened = None;
    until("the reader of the template", || {
        // Without a reader this fails instead of blocking.
        let open = std::fs::File::options().write(true).custom_flags(libc::O_NONBLOCK).open(place.path("template"));
        opened = open.ok();
        opened.is_some()
    });
    let mut pipe = opened.unwrap();
    std::fs::File::options().write(true).open(place.path(&model)).unwrap().set_len(4096).unwrap();
    pipe.write_all(b"{% set rope_pairs = \"adjacent\" %}{% include \"decoder.jinja\" %}").unwrap();
    drop(pipe);
    check_failure(&child.wait_with_output().unwrap(), 2, "truncated or its disk failed");
}

#[test]
fn a_chat_on_a_terminal_answers_and_ends() {
    if !Command::new("script").arg("--version").output().is_ok_and(|o| o.status.success()) {
        needs::skip("a_chat_on_a_terminal_answers_and_ends", "script", "there is no `script` to make a terminal");
        return;
    }
    let place = Place::new();
    let model = place.model("smollm2-135m", DType::Q8_0);
    let chat = format!("{} run -m {model} -n 4 --temp 0 --ignore-eos --threads 1", env!("CARGO_BIN_EXE_aio"));
    let mut command = Command::new("timeout");
    command
        .args(["--foreground", "120", "script", "-qec", &chat, "/dev/null"])
        .current_dir(place.path(""))
        .env("TERM", "dumb");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut wait_for = |prompts: usize| {
        let mut byte = [0];
        while shown.matches("> ").count() < prompts {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "it ended after {shown:?}");
            shown.push(char::from(byte[0]));
        }
        shown.clone()
    };
    assert!(wait_for(1).contains("end of file (Ctrl-D) ends the chat"));
    keys.write_all(b"hello\n").unwrap();
    let first = wait_for(2);
    keys.write_all(b"\n").unwrap();
    wait_for(3);
    keys.write_all(b"again\n").unwrap();
    let second = wait_for(4);
    assert!(second.len() > first.len() + "> \r\n> again\r\n".len(), "an answer came: {second:?}");
    keys.write_all(&[4]).unwrap();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}: {}", text(shown.as_bytes()));
}
