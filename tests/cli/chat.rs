//! A chat on a terminal emulated by Python's `pty`. Each step waits for output of the program, never for a time.

use crate::{Place, text};
use aio::ir::DType;
use aio_filetest::edit::File;
use aio_filetest::needs;
use std::process::Command;

/// Starts a program on a terminal and performs the steps: `wait` for bytes, `send` bytes, `kill` with a signal. Prints
/// all that was shown; the last line has the exit status and whether the terminal settings were restored.
const TERMINAL: &str = r#"
import json, os, pty, select, sys, termios
steps, argv = json.loads(sys.argv[1]), sys.argv[2:]
ours, theirs = pty.openpty()
before = termios.tcgetattr(theirs)
pid = os.fork()
if pid == 0:
    os.close(ours)
    os.login_tty(theirs) if hasattr(os, "login_tty") else (os.setsid(), [os.dup2(theirs, i) for i in range(3)])
    os.execv(argv[0], argv)
shown, at = b"", 0
def turn(data):
    "Writes some of the data, or reads some of what is shown."
    global shown
    read, write, _ = select.select([ours], [ours] if data else [], [])
    if read:
        shown += os.read(ours, 65536)
    return data[os.write(ours, data[:1024]):] if write else data
for kind, data in steps:
    data = data.encode("latin-1") if isinstance(data, str) else data
    if kind == "send":
        while data:
            data = turn(data)
    elif kind == "wait":
        while data not in shown[at:]:
            turn(b"")
        at = shown.index(data, at) + len(data)
    elif kind == "kill":
        os.kill(pid, data)
os.set_blocking(ours, False)
status = None
while status is None:
    select.select([ours], [], [], 0.05)
    try:
        shown += os.read(ours, 65536)
    except (BlockingIOError, OSError):
        pass
    done, code = os.waitpid(pid, os.WNOHANG)
    status = os.waitstatus_to_exitcode(code) if done else None
same = termios.tcgetattr(theirs)[:4] == before[:4]
sys.stdout.buffer.write(shown + b"\n%d %s\n" % (status, b"same" if same else b"changed"))
"#;

/// Written by the editor when it is ready for a turn, and when it has read one.
const READY: &str = "\x1b[?2004h";

fn wait(what: &str) -> (&'static str, serde_json::Value) {
    ("wait", what.into())
}

/// A step that sends bytes, encoded as Latin-1 characters.
fn send(what: &str) -> (&'static str, serde_json::Value) {
    ("send", what.into())
}

/// The output of a chat, and its last line; `None` if there is no Python with `pty`.
fn chat(test: &str, place: &Place, file: File, steps: &[(&str, serde_json::Value)]) -> Option<(String, String)> {
    let python = Command::new("python3").args(["-c", "import pty, termios, os; os.waitstatus_to_exitcode"]).output();
    if !python.is_ok_and(|o| o.status.success()) {
        needs::skip(test, "a terminal", "there is no Python with `pty`");
        return None;
    }
    place.write("m.gguf", file.bytes());
    place.write("terminal.py", TERMINAL);
    let steps = serde_json::to_string(steps).unwrap();
    let aio = env!("CARGO_BIN_EXE_aio");
    let mut command = place.command(&[]);
    let environment: Vec<_> = command.get_envs().map(|(k, v)| (k.to_owned(), v.map(|v| v.to_owned()))).collect();
    command = Command::new("python3");
    command.env_clear().envs(environment.into_iter().filter_map(|(k, v)| Some((k, v?)))).env("TERM", "xterm");
    command.args(["terminal.py", &steps, aio, "run", "-m", "m.gguf", "-n", "3", "--temp", "0", "--ignore-eos"]);
    let output = command.arg("--no-cache").current_dir(place.path("")).output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown} {}", text(&output.stderr));
    let (shown, last) = shown.trim_end().rsplit_once('\n').unwrap();
    Some((shown.to_owned(), last.to_owned()))
}

fn model() -> File {
    File::tiny("llama-1b", DType::Q8_0)
}

fn history(place: &Place) -> String {
    std::fs::read_to_string(place.path("cache/aio/history")).unwrap_or_default()
}

#[test]
fn pasted_lines_are_one_turn_and_the_history_is_the_users_alone() {
    let place = Place::new();
    let paste = "\x1b[200~first line\nsecond line\x1b[201~\r";
    let long = "x".repeat(6000) + "\r";
    let steps =
        [wait(READY), send(paste), wait(READY), send(&long), wait("tokens, the context"), wait(READY), send("\x04")];
    let Some((shown, last)) = chat("pasted_lines_are_one_turn", &place, model(), &steps) else { return };
    assert_eq!(last, "0 same", "{shown}");
    assert_eq!(shown.matches(READY).count(), 3, "{shown:?}");
    let history = history(&place);
    assert!(history.contains("first line\\nsecond line\n"), "{history}");
    assert!(history.contains(&format!("{}\n", "x".repeat(6000))), "no line is cut: {}", history.len());
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(place.path("cache/aio/history")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn ctrl_c_clears_the_line_and_ctrl_d_ends_the_chat() {
    let place = Place::new();
    let steps = [wait(READY), send("thrown away"), wait("thrown away"), send("\x03"), wait(READY), send("\x04")];
    let Some((shown, last)) = chat("ctrl_c_clears_the_line", &place, model(), &steps) else { return };
    assert_eq!(last, "0 same", "{shown}");
    assert!(!history(&place).contains("thrown"), "{}", history(&place));
}

#[test]
fn bytes_that_are_not_utf_8_do_not_end_a_chat() {
    let place = Place::new();
    let steps = [
        wait(READY),
        send("a\u{ff}\u{fe}b"),
        wait("not UTF-8"),
        wait(READY),
        send("after\r"),
        wait(READY),
        send("\x04"),
    ];
    let Some((shown, last)) = chat("bytes_that_are_not_utf_8", &place, model(), &steps) else { return };
    assert_eq!(last, "0 same", "{shown}");
    assert!(history(&place).contains("after"), "{}", history(&place));
}

#[test]
fn sigterm_puts_the_terminal_back() {
    let place = Place::new();
    let steps = [wait(READY), send("half a turn"), wait("half a turn"), ("kill", 15.into())];
    let Some((shown, last)) = chat("sigterm_puts_the_terminal_back", &place, model(), &steps) else { return };
    assert_eq!(last, "143 same", "{shown}");
    assert!(shown.contains("\x1b[?2004l"), "{shown:?}");
}

#[test]
fn a_models_name_and_its_text_are_not_obeyed_by_the_terminal() {
    let place = Place::new();
    // Every token except single bytes is hostile, and the first of them is always chosen.
    let mut bias = vec![0.0; 512];
    bias[0x1b] = 1000.0;
    let file = model().set("general.name", "\x1b]0;owned\x07").vector("output.bias", &bias);
    let steps = [wait(READY), send("hello\r"), wait(READY), send("\x04")];
    let Some((shown, last)) = chat("a_models_name", &place, file, &steps) else { return };
    assert_eq!(last, "0 same", "{shown}");
    assert!(shown.contains("\\u{1b}]0;owned\\u{7} on") && !shown.contains("\x1b]0;"), "{shown:?}");
    assert!(shown.contains("\\u{1b}\\u{1b}\\u{1b}"), "the text is shown: {shown:?}");
}
