//! Runs a program of the user's on a file, until it ends, takes too long, or Ctrl-C is pressed. Used by `graph_shrink`.

use crate::signals;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longest pause between two looks at the program.
const PAUSE: Duration = Duration::from_millis(20);

/// How a program ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself, or by a signal from elsewhere.
    By(ExitStatus),
    /// It ran longer than it may, and was killed.
    TimedOut,
    /// This program is to end; the other was killed.
    Interrupted,
}

/// Runs `program` with the file's path as its only argument, without input, and without its output.
///
/// # Errors
/// It cannot be started.
pub(crate) fn run(program: &Path, file: &Path, timeout: Option<Duration>) -> io::Result<Ended> {
    let mut command = Command::new(program);
    command.arg(file).stdin(Stdio::null()).stdout(Stdio::null());
    // With a process group of its own, all that it starts can be killed with it. Ctrl-C does not reach it there.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn()?;
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Ended::By(status));
        }
        let late = timeout.is_some_and(|most| start.elapsed() >= most);
        if late || signals::interrupted() {
            kill(&mut child);
            return Ok(if late { Ended::TimedOut } else { Ended::Interrupted });
        }
        std::thread::sleep(pause);
        pause = (2 * pause).min(PAUSE);
    }
}

/// Kills a program and what it started, and waits for its end.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // It fails if all have ended by themselves.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// The signal that ended a program; `None` if none did.
pub(crate) fn signal(status: ExitStatus) -> Option<i32> {
    #[cfg(unix)]
    return std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    return None;
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_program_ends_by_itself_by_a_signal_or_late() {
        let place = tempfile::tempdir().unwrap();
        let script = place.path().join("a script");
        let ended = |text: &str, timeout| {
            std::fs::write(&script, text).unwrap();
            run(Path::new("/bin/sh"), &script, timeout).unwrap()
        };
        let Ended::By(status) = ended("test $# = 0 && exit 7", None) else { panic!("it ends") };
        assert_eq!((status.code(), signal(status)), (Some(7), None));
        let Ended::By(status) = ended("kill -KILL $$", None) else { panic!("it is killed") };
        assert_eq!(signal(status), Some(9));
        assert!(matches!(ended("sleep 600", Some(Duration::from_millis(10))), Ended::TimedOut));
        assert!(run(&place.path().join("none"), &script, None).is_err());
    }
}
