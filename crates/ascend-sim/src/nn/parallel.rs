//! Work split over the host's processors. Which thread computes a part never changes its bits.

use std::sync::LazyLock;

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
    std::thread::scope(|scope| {
        let part = &part;
        let others: Vec<_> =
            (1..threads).map(|t| scope.spawn(move || range(t).map(part).collect::<Vec<_>>())).collect();
        let mut out: Vec<R> = range(0).map(part).collect();
        for other in others {
            match other.join() {
                Ok(more) => out.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        out
    })
}
