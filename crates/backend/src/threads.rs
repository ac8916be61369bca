//! Shared work on several threads, on hosts that may refuse to start threads.
//!
//! Used for hashing, checking and packing files. A back end manages the threads of a step itself.

use std::thread::{Builder, scope};

/// Runs `work` on the calling thread and on up to `threads - 1` helpers, and returns when all are done. `work` takes
/// one piece after another until none is left, so helpers that fail to start (process limit, no memory) only cost
/// speed.
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
