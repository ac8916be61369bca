//! Memory checks before anything is loaded: how much a model needs, and how much is available.

use crate::error::EngineError;
use crate::need::MemoryNeed;
use aio_backend::Device;

impl MemoryNeed {
    /// Fails if more memory is needed than available. Called before anything large is allocated.
    pub(crate) fn check(self) -> Result<(), EngineError> {
        self.check_against(available_bytes(), None)
    }

    /// Like [`MemoryNeed::check`], including the device's scratch memory and against the device's own memory, if it has
    /// any.
    pub(crate) fn check_on(mut self, device: &dyn Device, scratch: impl FnOnce() -> u64) -> Result<(), EngineError> {
        let own = device.available_bytes();
        let (available, name) = (own.or_else(available_bytes), own.map(|_| device.memory_name()));
        if available.is_none_or(|available| self.total() <= available) {
            // Computed only now, since it takes long for an unreasonably large pool.
            self.scratch = scratch();
        }
        self.check_against(available, name)
    }

    fn check_against(self, available: Option<u64>, of: Option<String>) -> Result<(), EngineError> {
        match available {
            Some(available) if self.total() > available => Err(EngineError::Memory { need: self, available, of }),
            _ => Ok(()),
        }
    }
}

/// Bytes that this process may still allocate: the machine's available memory, or what its control groups leave if that
/// is less. `None` if the system does not say.
pub fn available_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let machine = meminfo_available(&read("/proc/meminfo")?);
    let groups = read("/proc/self/cgroup").and_then(|own| groups_left(&own, &read));
    match (machine, groups) {
        (Some(m), Some(g)) => Some(m.min(g)),
        (m, g) => m.or(g),
    }
}

fn meminfo_available(text: &str) -> Option<u64> {
    let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The files of one version of control groups.
struct Hierarchy {
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` whose bytes count as used but are reclaimed under pressure.
    cache: &'static [&'static str],
}

const V2: Hierarchy = Hierarchy {
    root: "/sys/fs/cgroup",
    limit: "memory.max",
    used: "memory.current",
    cache: &["active_file ", "inactive_file "],
};
const V1: Hierarchy = Hierarchy {
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cache: &["total_active_file ", "total_inactive_file "],
};

/// Bytes left in the tightest control group of a process, of either version. `own` is its `/proc/self/cgroup`.
fn groups_left(own: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
    let of_line = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        match controllers {
            "" => V2.left(path, read),
            c if c.split(',').any(|c| c == "memory") => V1.left(path, read),
            _ => None,
        }
    };
    own.lines().filter_map(of_line).min()
}

impl Hierarchy {
    /// The minimum left in any group from `path` up to the root.
    fn left(&self, path: &str, read: &dyn Fn(&str) -> Option<String>) -> Option<u64> {
        let mut path = path.trim_end_matches('/');
        let mut least: Option<u64> = None;
        loop {
            let file = |name: &str| read(&format!("{}{path}/{name}", self.root));
            let number = |name: &str| file(name)?.trim().parse::<u64>().ok();
            if let (Some(limit), Some(used)) = (number(self.limit), number(self.used)) {
                let cache = file("memory.stat").map_or(0, |stat| self.reclaimable(&stat));
                let left = limit.saturating_sub(used.saturating_sub(cache));
                least = Some(least.map_or(left, |l| l.min(left)));
            }
            // Inside a container the path may be the host's; the root is then the container's own group.
            match path.rfind('/') {
                Some(parent) => path = &path[..parent],
                None => return least,
            }
        }
    }

    fn reclaimable(&self, stat: &str) -> u64 {
        let field = |name: &str| stat.lines().find_map(|l| l.strip_prefix(name))?.trim().parse::<u64>().ok();
        self.cache.iter().filter_map(|name| field(name)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `groups_left` with files by path.
    fn left(own: &str, files: &[(&str, &str)]) -> Option<u64> {
        groups_left(own, &|path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn available_memory_is_read() {
        assert_eq!(meminfo_available("MemTotal: 9 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(meminfo_available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_on_the_way_up_counts() {
        let files = [
            ("/sys/fs/cgroup/a/b/memory.max", "9000\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "1000\n"),
            ("/sys/fs/cgroup/a/memory.max", "5000\n"),
            ("/sys/fs/cgroup/a/memory.current", "4500\n"),
            ("/sys/fs/cgroup/a/memory.stat", "anon 5\nfile 9999\ninactive_file 700\nactive_file 50\n"),
            ("/sys/fs/cgroup/memory.current", "4500\n"),
        ];
        assert_eq!(left("0::/a/b\n", &files), Some(5000 - 4500 + 750));
        assert_eq!(left("0::/a/b/c/\n", &files), Some(1250), "groups without files are passed by");
        assert_eq!(left("0::/a/b\n", &[("/sys/fs/cgroup/a/b/memory.max", "max\n")]), None);
        assert_eq!(left("0::/\n", &[]), None);
    }

    #[test]
    fn version_1_is_read_beside_version_2() {
        let mut files = vec![
            ("/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "8000\n"),
            ("/sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "3000\n"),
            ("/sys/fs/cgroup/memory/docker/x/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n"),
        ];
        let own = "12:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n";
        assert_eq!(left(own, &files), Some(5500));
        files.push(("/sys/fs/cgroup/memory.max", "2000\n"));
        files.push(("/sys/fs/cgroup/memory.current", "1900\n"));
        assert_eq!(left(own, &files), Some(100));
        // The container sees its own group at the root, under the host's path.
        let inside = [
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "700\n"),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "600\n"),
        ];
        assert_eq!(left("4:memory:/docker/x\n", &inside), Some(100));
    }
}
