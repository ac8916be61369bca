//! Signals. Ctrl-C, SIGTERM and SIGHUP end the program after the current step, so that partial files are removed. If a
//! mapped model file is truncated, the program exits with a message.
//!
//! After SIGTERM and SIGHUP the exit status is 128 plus the signal's number, whatever was completed before. Ctrl-C ends
//! a generation without an error. A second signal ends the program immediately. An ignored SIGHUP stays ignored
//! (`nohup`).

use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The signal that ends the program; 0 for none.
static ENDED_BY: AtomicI32 = AtomicI32::new(0);

/// Whether Ctrl-C was pressed or the program should end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed) || ended_by().is_some()
}

/// The signal other than Ctrl-C that ends the program.
pub(crate) fn ended_by() -> Option<i32> {
    Some(ENDED_BY.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Forgets an earlier Ctrl-C, so that the next one counts as the first.
pub(crate) fn reset() {
    INTERRUPTED.store(false, Ordering::Relaxed);
    install();
}

/// Runs work that may block for long and needs no clean-up, such as reading a pipe. A signal ends the program
/// immediately.
///
/// # Errors
/// A signal arrived before.
pub(crate) fn while_waiting<T>(work: impl FnOnce() -> T) -> Result<T> {
    end_at_once();
    if interrupted() {
        bail!("interrupted");
    }
    let result = work();
    install();
    Ok(result)
}

#[cfg(unix)]
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

#[cfg(unix)]
extern "C" fn on_interrupt(signal: libc::c_int) {
    if signal == libc::SIGINT {
        INTERRUPTED.store(true, Ordering::Relaxed);
    } else {
        ENDED_BY.store(signal, Ordering::Relaxed);
    }
}

#[cfg(unix)]
extern "C" fn on_bus_error(_: libc::c_int) {
    const MESSAGE: &[u8] = b"error: the model file was truncated or its disk failed while it was in use\n";
    static ENDING: AtomicBool = AtomicBool::new(false);
    // All threads read the file, so several may fault. One prints the message and exits; the others wait for that.
    while ENDING.swap(true, Ordering::Relaxed) {
        // SAFETY: `pause` is async-signal-safe and takes no arguments.
        unsafe { libc::pause() };
    }
    // SAFETY: `write` and `_exit` are async-signal-safe; the message is static.
    unsafe {
        libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(2);
    }
}

/// The terminal's settings before line editing; null if it was not used.
#[cfg(unix)]
static TERMINAL: AtomicPtr<libc::termios> = AtomicPtr::new(std::ptr::null_mut());

#[cfg(unix)]
extern "C" fn on_end_while_editing(signal: libc::c_int) {
    /// Turns off bracketed paste.
    const NO_MARKS: &[u8] = b"\x1b[?2004l\r\n";
    // SAFETY: all three are async-signal-safe; the pointer is null or points to a value that is never freed.
    unsafe {
        let before = TERMINAL.load(Ordering::Relaxed);
        if !before.is_null() {
            libc::tcsetattr(0, libc::TCSANOW, before);
            libc::write(1, NO_MARKS.as_ptr().cast(), NO_MARKS.len());
        }
        libc::_exit(128 + signal);
    }
}

/// Edits a line on the terminal. A signal restores the terminal and ends the program.
pub(crate) fn while_editing<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(unix)]
    // SAFETY: the termios is initialised if the call succeeds, and leaked, so the handler may read it at any time.
    unsafe {
        if TERMINAL.load(Ordering::Relaxed).is_null() {
            let mut now: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(0, &mut now) == 0 {
                TERMINAL.store(Box::into_raw(Box::new(now)), Ordering::Relaxed);
            }
        }
        handle(&ENDING, on_end_while_editing as *const () as libc::sighandler_t, 0);
    }
    let result = if ended_by().is_none() { Some(work()) } else { None };
    install();
    result.unwrap_or_else(|| std::process::exit(128 + ended_by().unwrap_or(0)))
}

/// Discards typed input that has not been read.
pub(crate) fn drop_typed() {
    #[cfg(unix)]
    // SAFETY: the call takes only numbers.
    unsafe {
        libc::tcflush(0, libc::TCIFLUSH);
    }
}

/// Lets signals end the program immediately, until `install`. For work that needs no clean-up.
pub(crate) fn end_at_once() {
    #[cfg(unix)]
    // SAFETY: the default action runs no code of this program.
    unsafe {
        handle(&ENDING, libc::SIG_DFL, 0);
    }
}

/// Sets the handler of these signals, except those ignored from the start.
///
/// # Safety
/// The handler must be async-signal-safe.
#[cfg(unix)]
unsafe fn handle(signals: &[libc::c_int], handler: libc::sighandler_t, flags: libc::c_int) {
    for &signal in signals {
        // SAFETY: both actions are fully initialised; the caller guarantees the handler.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            let asked = libc::sigaction(signal, std::ptr::null(), &mut action);
            let ignored = asked == 0 && action.sa_sigaction == libc::SIG_IGN;
            if ignored && signal == libc::SIGHUP {
                continue;
            }
            action = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = flags;
            libc::sigaction(signal, &action, std::ptr::null_mut());
        }
    }
}

/// Installs the handlers. A second signal ends the program immediately.
pub(crate) fn install() {
    #[cfg(unix)]
    // SAFETY: the handlers only store to an atomic, or write and exit; an ignored signal runs nothing.
    unsafe {
        handle(&ENDING, on_interrupt as *const () as libc::sighandler_t, libc::SA_RESETHAND);
        handle(&[libc::SIGBUS], on_bus_error as *const () as libc::sighandler_t, 0);
        // Exceeding the file size limit then fails the write, whose clean-up runs, instead of killing the process.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
