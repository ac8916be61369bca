//! What a machine has, as Linux says it: processors, caches, memory, limits. Read below a folder that stands for `/`, so that
//! tests can describe other machines. Whatever the system does not say is missing. Used by `aio doctor`, and by
//! `aio kernels perf` for the caches.

use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A machine at this moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Machine {
    /// The kernel's version.
    pub kernel: Option<String>,
    /// The processor's name.
    pub processor: Option<String>,
    /// Instruction-set extensions that kernels may use, as the system names them, in its order.
    pub features: Vec<String>,
    /// Logical processors that are switched on, and physical cores among them.
    pub processors: usize,
    pub cores: usize,
    /// Logical processors that this process may use, by its affinity.
    pub allowed: usize,
    /// Processors' worth of time that the control group may use.
    pub quota: Option<f64>,
    /// Periods in which the control group had used its time up, of all periods.
    pub throttled: Option<(u64, u64)>,
    /// Processes that ran or wanted to, on average over the last minute.
    pub load: Option<f64>,
    /// How the kernel chooses the clock: `performance`, `powersave` and so on.
    pub governor: Option<String>,
    /// Data and unified caches of the first processor.
    pub caches: Vec<Cache>,
    /// Bytes of memory: all, available to this process, and swap in use.
    pub memory: Option<u64>,
    pub available: Option<u64>,
    pub swapped: Option<u64>,
    /// When the kernel backs memory with huge pages: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
}

/// A cache.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Cache {
    pub level: u32,
    pub bytes: u64,
    /// Logical processors that share it.
    pub shared_by: usize,
}

/// Instruction-set extensions beyond the architecture's first version that make a difference to kernels: x86, then Arm.
const FEATURES: [&str; 25] = [
    "ssse3",
    "sse4_1",
    "sse4_2",
    "avx",
    "f16c",
    "fma",
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512_vbmi",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_int8",
    "amx_bf16",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "sve2",
];

/// Files below a folder.
struct Files<'a>(&'a Path);

impl Files<'_> {
    fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.0.join(path)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The value of `key: value` or `key value` in a file.
    fn field(&self, path: &str, key: &str) -> Option<String> {
        let text = self.text(path)?;
        let value = |line: &str| {
            let rest = line.strip_prefix(key)?;
            rest.starts_with([':', ' ', '\t']).then(|| rest.trim_start_matches([':', ' ', '\t']).trim().to_owned())
        };
        text.lines().find_map(value)
    }

    /// Bytes of a line of `/proc/meminfo`.
    fn memory(&self, key: &str) -> Option<u64> {
        let kib: u64 = self.field("proc/meminfo", key)?.split_whitespace().next()?.parse().ok()?;
        kib.checked_mul(1024)
    }

    /// Folders `prefix0`, `prefix1` and so on inside a folder, in order.
    fn numbered(&self, folder: &str, prefix: &str) -> Vec<PathBuf> {
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix(prefix)?.parse::<u32>().ok();
        let entries = std::fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut found: Vec<(u32, PathBuf)> = entries.filter_map(|path| Some((number(&path)?, path))).collect();
        found.sort();
        found.into_iter().map(|(_, path)| path).collect()
    }
}

impl Machine {
    /// Reads what the files below `root` say.
    pub(crate) fn read(root: &Path) -> Machine {
        let files = Files(root);
        let status = |key| files.field("proc/self/status", key);
        let stat =
            |key: &str| group(&files).iter().find_map(|g| files.field(&format!("{g}/cpu.stat"), key)?.parse().ok());
        let (processors, cores) = processors(&files);
        let swap = |key| files.memory(key);
        Machine {
            kernel: files.text("proc/sys/kernel/osrelease"),
            processor: files.field("proc/cpuinfo", "model name"),
            features: features(&files),
            processors,
            cores,
            allowed: status("Cpus_allowed_list").map_or(processors, |list| count(&list)),
            quota: group(&files).iter().filter_map(|g| quota(&files.text(&format!("{g}/cpu.max"))?)).reduce(f64::min),
            throttled: stat("nr_throttled").zip(stat("nr_periods")),
            load: files.text("proc/loadavg").and_then(|t| t.split_whitespace().next()?.parse().ok()),
            governor: files.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            caches: caches(&files),
            memory: files.memory("MemTotal"),
            available: files.memory("MemAvailable"),
            swapped: swap("SwapTotal").zip(swap("SwapFree")).map(|(all, free)| all.saturating_sub(free)),
            huge_pages: files.text("sys/kernel/mm/transparent_hugepage/enabled").and_then(|t| chosen(&t)),
        }
    }
}

impl Machine {
    /// Bytes of all caches of a level that this process may use; `None` if the system does not report them.
    fn level_bytes(&self, level: u32) -> Option<u64> {
        let cache = self.caches.iter().find(|c| c.level == level)?;
        Some(cache.bytes * self.allowed.max(1).div_ceil(cache.shared_by) as u64)
    }

    /// Bytes of the second-level caches, and of those of the last level.
    pub(crate) fn cache_bytes(&self) -> (Option<u64>, Option<u64>) {
        let last = self.caches.iter().map(|c| c.level).max();
        (self.level_bytes(2), last.and_then(|level| self.level_bytes(level)))
    }
}

/// Those of [`FEATURES`] that the first processor has: `flags` on x86, `Features` on Arm.
fn features(files: &Files<'_>) -> Vec<String> {
    let list = ["flags", "Features"].iter().find_map(|key| files.field("proc/cpuinfo", key)).unwrap_or_default();
    list.split_whitespace().filter(|name| FEATURES.contains(name)).map(str::to_owned).collect()
}

/// Logical processors and physical cores.
fn processors(files: &Files<'_>) -> (usize, usize) {
    let online = files.text("sys/devices/system/cpu/online").map(|list| numbers(&list)).unwrap_or_default();
    let core = |n: &u32| {
        let topology = format!("sys/devices/system/cpu/cpu{n}/topology");
        let id = |name: &str| files.number::<i64>(&format!("{topology}/{name}"));
        Some((id("physical_package_id")?, id("core_id")?))
    };
    let cores: BTreeSet<(i64, i64)> = online.iter().filter_map(core).collect();
    (online.len(), if cores.is_empty() { online.len() } else { cores.len() })
}

fn caches(files: &Files<'_>) -> Vec<Cache> {
    let read = |path: PathBuf| {
        let own = Files(&path);
        let bytes = size(&own.text("size")?)?;
        let data = own.text("type")? != "Instruction";
        let shared_by = count(&own.text("shared_cpu_list").unwrap_or_default()).max(1);
        data.then_some(Cache { level: own.number("level")?, bytes, shared_by })
    };
    files.numbered("sys/devices/system/cpu/cpu0/cache", "index").into_iter().filter_map(read).collect()
}

/// Folders of the process's control group of version 2, from its own up to the root.
fn group(files: &Files<'_>) -> Vec<String> {
    let own = files.text("proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_end_matches('/').to_owned();
    let mut folders = vec![format!("sys/fs/cgroup{path}")];
    let mut rest = path.as_str();
    while let Some((parent, _)) = rest.rsplit_once('/') {
        folders.push(format!("sys/fs/cgroup{parent}"));
        rest = parent;
    }
    folders
}

/// Processors' worth of time of a `cpu.max`: `quota period`, or `max period`.
fn quota(text: &str) -> Option<f64> {
    let (quota, period) = text.split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// A size such as `32K`, in bytes.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(number) => (number, &text[number.len()..]),
        None => (text, ""),
    };
    let shift = ["", "K", "M", "G"].iter().position(|u| *u == unit)? * 10;
    number.parse::<u64>().ok()?.checked_shl(shift as u32)
}

/// The numbers of a list such as `0-3,8`.
fn numbers(list: &str) -> Vec<u32> {
    let of = |part: &str| -> Option<std::ops::RangeInclusive<u32>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
        (to < 1 << 16).then_some(from..=to)
    };
    list.split(',').filter_map(of).flatten().collect()
}

fn count(list: &str) -> usize {
    numbers(list).len()
}

/// The word in brackets, as in `always [madvise] never`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A folder with these files.
    fn root(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("aio-doctor-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn a_container_on_a_large_host() {
        let cpu = "sys/devices/system/cpu";
        let mut files: Vec<(String, String)> = [
            ("proc/sys/kernel/osrelease", "6.1.0\n"),
            (
                "proc/cpuinfo",
                "processor\t: 0\nmodel name\t: A Processor\nmodel\t\t: 7\nflags\t\t: fpu avx rep_good fma avx2\n",
            ),
            ("proc/self/status", "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-2\n"),
            ("proc/self/cgroup", "0::/box/inner\n"),
            ("proc/loadavg", "5.50 2.00 1.00 3/100 4242\n"),
            ("proc/meminfo", "MemTotal:  8000 kB\nMemAvailable: 500 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\n"),
            ("sys/fs/cgroup/box/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/box/inner/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/box/inner/cpu.stat", "usage_usec 9\nnr_periods 200\nnr_throttled 50\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/devices/system/cpu/online", "0-3\n"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .to_vec();
        for n in 0..4 {
            files.push((format!("{cpu}/cpu{n}/topology/physical_package_id"), "0\n".to_owned()));
            files.push((format!("{cpu}/cpu{n}/topology/core_id"), format!("{}\n", n / 2)));
        }
        for (index, (kind, level, size, shared)) in
            [("Data", 1, "48K", "0-1"), ("Instruction", 1, "32K", "0-1"), ("Unified", 2, "2M", "0-3")]
                .iter()
                .enumerate()
        {
            let folder = format!("{cpu}/cpu0/cache/index{index}");
            for (name, text) in [
                ("type", (*kind).to_owned()),
                ("level", level.to_string()),
                ("size", (*size).to_owned()),
                ("shared_cpu_list", (*shared).to_owned()),
            ] {
                files.push((format!("{folder}/{name}"), text));
            }
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let root = root("container", &files);
        let machine = Machine::read(&root);
        std::fs::remove_dir_all(&root).unwrap();
        let want = Machine {
            kernel: Some("6.1.0".to_owned()),
            processor: Some("A Processor".to_owned()),
            features: ["avx", "fma", "avx2"].map(str::to_owned).to_vec(),
            processors: 4,
            cores: 2,
            allowed: 3,
            quota: Some(1.5),
            throttled: Some((50, 200)),
            load: Some(5.5),
            governor: Some("powersave".to_owned()),
            caches: vec![
                Cache { level: 1, bytes: 48 << 10, shared_by: 2 },
                Cache { level: 2, bytes: 2 << 20, shared_by: 4 },
            ],
            memory: Some(8000 << 10),
            available: Some(500 << 10),
            swapped: Some(60 << 10),
            huge_pages: Some("madvise".to_owned()),
        };
        assert_eq!(machine, want);
    }

    #[test]
    fn a_system_that_says_nothing() {
        let machine = Machine::read(Path::new("/nonexistent"));
        assert_eq!(machine, Machine::default());
        // And one that says nonsense.
        let root = root(
            "nonsense",
            &[
                ("proc/meminfo", "MemTotal: many kB\n"),
                ("proc/self/cgroup", "nothing"),
                ("sys/fs/cgroup/cpu.max", "1 0"),
                ("sys/devices/system/cpu/online", "0-4294967295,x,2"),
                ("sys/devices/system/cpu/cpu0/cache/index0/size", "99999999999999999999K"),
                ("sys/kernel/mm/transparent_hugepage/enabled", "always"),
            ],
        );
        let machine = Machine::read(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(machine, Machine { processors: 1, cores: 1, allowed: 1, ..Machine::default() });
    }
}
