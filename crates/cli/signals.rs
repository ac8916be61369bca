//! Signals: Ctrl-C, SIGTERM and SIGHUP end after the current step, so that partial files go; a model file truncated under
//! our feet ends with a message.
//!
//! After SIGTERM and SIGHUP the exit status is 128 and the signal's number, whatever was done until then; Ctrl-C ends a
//! generation and is no error of it. A second signal ends the program at once. SIGHUP stays ignored where it is (`nohup`).

use anyhow::{Result, bail};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The signal that ends the program; 0 for none.
static ENDED_BY: AtomicI32 = AtomicI32::new(0);

/// Whether Ctrl-C was pressed, or the program is to end.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed) || ended_by().is_some()
}

/// The signal other than Ctrl-C that ends the program.
pub(crate) fn ended_by() -> Option<i32> {
    Some(ENDED_BY.load(Ordering::Relaxed)).filter(|&signal| signal != 0)
}

/// Forgets an earlier Ctrl-C; the next one is the first again.
pub(crate) fn reset() {
    INTERRUPTED.store(false, Ordering::Relaxed);
    install();
}

/// Does what may wait for long and leaves nothing half done, such as reading a pipe: a signal ends the program at once.
///
/// # Errors
/// A signal that came before.
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
    // All threads read the file, so several may come here; one speaks and ends the process, the others wait for that.
    while ENDING.swap(true, Ordering::Relaxed) {
        // SAFETY: `pause` may be called from a signal handler and takes nothing.
        unsafe { libc::pause() };
    }
    // SAFETY: `write` and `_exit` may be called from a signal handler; the message is static.
    unsafe {
        libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(2);
    }
}

/// How the terminal was before its line editor; null if there was none.
#[cfg(unix)]
static TERMINAL: AtomicPtr<libc::termios> = AtomicPtr::new(std::ptr::null_mut());

#[cfg(unix)]
extern "C" fn on_end_while_editing(signal: libc::c_int) {
    /// Pasted text is no longer marked.
    const NO_MARKS: &[u8] = b"\x1b[?2004l\r\n";
    // SAFETY: all three may be called from a signal handler; the pointer is null or to a value that is never freed.
    unsafe {
        let before = TERMINAL.load(Ordering::Relaxed);
        if !before.is_null() {
            libc::tcsetattr(0, libc::TCSANOW, before);
            libc::write(1, NO_MARKS.as_ptr().cast(), NO_MARKS.len());
        }
        libc::_exit(128 + signal);
    }
}

/// Edits a line on the terminal: a signal puts the terminal back and ends the program.
pub(crate) fn while_editing<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(unix)]
    // SAFETY: the termios is filled by the call that says so; it is leaked, so the handler may read it at any time.
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

/// Throws away what was typed and not read yet.
pub(crate) fn drop_typed() {
    #[cfg(unix)]
    // SAFETY: the call takes numbers alone.
    unsafe {
        libc::tcflush(0, libc::TCIFLUSH);
    }
}

/// Lets signals end the program at once, until `install`: for work that leaves nothing half done.
pub(crate) fn end_at_once() {
    #[cfg(unix)]
    // SAFETY: the default action runs nothing of ours.
    unsafe {
        handle(&ENDING, libc::SIG_DFL, 0);
    }
}

/// Sets what is done at signals, save those that were ignored from the start.
///
/// # Safety
/// The handler does only what a signal handler may.
#[cfg(unix)]
unsafe fn handle(signals: &[libc::c_int], handler: libc::sighandler_t, flags: libc::c_int) {
    for &signal in signals {
        // SAFETY: both actions are fully initialised; the handler is the caller's promise.
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

/// Installs the handlers. A second signal ends the program at once.
pub(crate) fn install() {
    #[cfg(unix)]
    // SAFETY: the handlers only store to an atomic, or write and exit; a signal that is ignored runs nothing.
    unsafe {
        handle(&ENDING, on_interrupt as *const () as libc::sighandler_t, libc::SA_RESETHAND);
        handle(&[libc::SIGBUS], on_bus_error as *const () as libc::sighandler_t, 0);
        // A file over the size limit is then an error of the write, whose clean-up runs, and not the end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
