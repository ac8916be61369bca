//! How much memory a model needs, and how much there is: asked before anything is loaded.

use aio_ir::Dims;
use aio_plan::PlanFamily;
use std::fmt;

/// Bytes that a loaded model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights in the device's form; packing pads a little, so this is the file's size plus one part in 32.
    pub weights: u64,
    /// The KV pool.
    pub kv: u64,
    /// The arena and step buffers.
    pub arena: u64,
}

impl MemoryNeed {
    /// What a family needs with a pool of `pages` pages.
    pub fn of(family: &PlanFamily, pages: u32) -> MemoryNeed {
        let dims = Dims { pages, ..Dims::default() };
        let bytes = |ty: &aio_ir::TensorType| ty.bytes(&dims).unwrap_or(u64::MAX);
        let weights = family.weights.iter().fold(0u64, |n, w| n.saturating_add(bytes(&w.ty)));
        let kv = family.states.iter().fold(0u64, |n, s| n.saturating_add(bytes(&s.ty)));
        MemoryNeed { weights: weights.saturating_add(weights / 32), kv, arena: family.arena_bytes }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.arena)
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        write!(f, "{total} bytes (weights {}, KV cache {}, arena {})", self.weights, self.kv, self.arena)
    }
}

/// Bytes that this process may still take: the machine's available memory, or what its control group leaves if that
/// is less. `None` where the system does not say.
pub fn available_bytes() -> Option<u64> {
    let machine = meminfo_available(&std::fs::read_to_string("/proc/meminfo").ok()?);
    let group = cgroup_left();
    match (machine, group) {
        (Some(m), Some(g)) => Some(m.min(g)),
        (m, g) => m.or(g),
    }
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// What the tightest control group above this process leaves (version 2).
fn cgroup_left() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|l| l.strip_prefix("0::"))?.trim_start_matches('/');
    let root = std::path::Path::new("/sys/fs/cgroup");
    let mut left: Option<u64> = None;
    for group in root.join(path).ancestors().take_while(|p| p.starts_with(root)) {
        let read = |name: &str| std::fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        if let (Some(max), Some(used)) = (read("memory.max"), read("memory.current")) {
            // Page cache counts as used but is given back under pressure.
            let cache = std::fs::read_to_string(group.join("memory.stat")).ok();
            let cache = cache.as_deref().and_then(reclaimable).unwrap_or(0);
            let here = max.saturating_sub(used.saturating_sub(cache));
            left = Some(left.map_or(here, |l| l.min(here)));
        }
    }
    left
}

fn reclaimable(stat: &str) -> Option<u64> {
    let field = |name: &str| stat.lines().find_map(|l| l.strip_prefix(name))?.trim().parse::<u64>().ok();
    Some(field("active_file ")? + field("inactive_file ")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_texts_are_read() {
        assert_eq!(meminfo_available("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(meminfo_available("MemTotal: 9 kB\n"), None);
        assert_eq!(reclaimable("anon 5\nfile 9999\ninactive_file 4000\nactive_file 96\n"), Some(4096));
    }
}
