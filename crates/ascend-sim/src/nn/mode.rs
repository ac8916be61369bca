//! How sums are ordered. Real tiling follows M and KV, so bits may differ between shapes; a mode of the simulator shows it.

use std::sync::atomic::{AtomicBool, Ordering};

static VARY: AtomicBool = AtomicBool::new(false);

/// Makes the order of sums depend on the number of rows and on the KV length, as tiling does on the hardware.
///
/// Off by default: then a result depends on its own row alone. Tasks read it when they run.
pub fn vary_sums(on: bool) {
    VARY.store(on, Ordering::Relaxed);
}

/// Whether [`vary_sums`] is on.
pub fn varies() -> bool {
    VARY.load(Ordering::Relaxed)
}

/// Number of parts into which a product over `k` is cut at `m` rows.
pub fn product_parts(m: usize, k: usize) -> usize {
    if varies() && k >= 64 { 1 + (m * 3 + k / 64) % 7 } else { 1 }
}

/// Number of parts into which attention cuts `kv` positions.
pub fn kv_parts(kv: usize) -> usize {
    if varies() { 1 + (kv / 16) % 4 } else { 1 }
}
