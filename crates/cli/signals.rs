//! Signals: Ctrl-C ends after the current step; a model file truncated under our feet ends with a message.

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Whether Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Forgets an earlier Ctrl-C.
pub(crate) fn reset() {
    INTERRUPTED.store(false, Ordering::Relaxed);
}

#[cfg(unix)]
extern "C" fn on_interrupt(_: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
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

/// Lets Ctrl-C end the program at once, until `install`: for work that leaves nothing half done.
pub(crate) fn end_at_once() {
    #[cfg(unix)]
    // SAFETY: the default action runs nothing of ours.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
    }
}

/// Installs the handlers. A second Ctrl-C ends the program at once.
pub(crate) fn install() {
    #[cfg(unix)]
    // SAFETY: the handlers only store to an atomic, or write and exit; the action is fully initialised; a signal that is
    // ignored runs nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_interrupt as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_RESETHAND;
        libc::sigaction(libc::SIGINT, &action, std::ptr::null_mut());
        action.sa_sigaction = on_bus_error as *const () as libc::sighandler_t;
        action.sa_flags = 0;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
        // A file over the size limit is then an error of the write, whose clean-up runs, and not the end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}
