//! Work that several threads share, on a host that may refuse to start threads.
//!
//! Called where files are hashed, checked or packed; a step's threads are the back end's own.

use std::thread::{Builder, scope};

/// Runs `work` on the calling thread and on up to `threads - 1` helpers, and returns when all have returned. `work` takes
/// piece after piece until there are none left, so threads that the system does not start (a limit on processes, no
/// memory) only make it slower.
///
/// # Panics
/// If `work` panics.
pub fn work_together(threads: usize, work: impl Fn() + Sync) {
    scope(|scope| {
        for _ in 1..threads {
            if Builder::new().spawn_scoped(scope, &work).is_err() {
                break;
            }
        }
        work();
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn every_piece_is_done_once_on_any_number_of_threads() {
        for threads in [0, 1, 2, 7] {
            let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
            work_together(threads, || {
                while next.fetch_add(1, Ordering::Relaxed) < 100 {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert_eq!(done.into_inner(), 100);
        }
    }
}
