//! Work split over the host's processors. Which thread computes a part never changes its bits.

use std::sync::LazyLock;
use std::thread::{Builder, ScopedJoinHandle};

static THREADS: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from).min(16));

/// Fewest inner operations for which starting threads pays.
const THRESHOLD: usize = 400_000;

/// Computes `part(i)` for `i` in `0..parts`, in order of `i`; on several threads when `ops` inner operations are worth it.
pub fn map<R: Send>(parts: usize, ops: usize, part: impl Fn(usize) -> R + Sync) -> Vec<R> {
    let threads = if ops < THRESHOLD { 1 } else { (*THREADS).min(parts) };
    if threads <= 1 {
        return (0..parts).map(part).collect();
    }
    let each = parts.div_ceil(threads);
    let range = |t: usize| (t * each).min(parts)..((t + 1) * each).min(parts);
    let run = |t: usize| range(t).map(&part).collect::<Vec<_>>();
    let run = &run;
    std::thread::scope(|scope| {
        // A thread that the system does not start loses speed only: its part is computed here.
        let start = |t: usize| Builder::new().spawn_scoped(scope, move || run(t)).map_err(|_| t);
        let others: Vec<_> = (1..threads).map(start).collect();
        let mut out: Vec<R> = run(0);
        for other in others {
            match other.map(ScopedJoinHandle::join) {
                Ok(Ok(more)) => out.extend(more),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(t) => out.extend(run(t)),
            }
        }
        out
    })
}
