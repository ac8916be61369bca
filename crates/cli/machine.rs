//! What the system says of the machine: names and cache sizes. Used where figures are printed or kept.

use aio::model::chat::Clock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The processor's own name, or the architecture's where the system does not say.
pub(crate) fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    line.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Name of the machine in the network.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

/// Bytes of the data caches of the first processor, level by level; empty where the system does not say.
pub(crate) fn caches() -> Vec<(u32, u64)> {
    let mut levels: Vec<(u32, u64)> = Vec::new();
    for index in 0..16 {
        let read = |name: &str| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
            std::fs::read_to_string(path).map(|t| t.trim().to_owned()).ok()
        };
        let (Some(kind), Some(level), Some(size)) = (read("type"), read("level"), read("size")) else { break };
        if let (Ok(level), Some(bytes)) = (level.parse(), size_bytes(&size))
            && kind != "Instruction"
        {
            levels.push((level, bytes));
        }
    }
    levels.sort_unstable();
    levels
}

/// `48K`, `2M` or plain bytes.
fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Today in UTC, `YYYY-MM-DD`.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = Clock { unix_s: seconds }.date();
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!(size_bytes("48K"), Some(48 << 10));
        assert_eq!(size_bytes("2M"), Some(2 << 20));
        assert_eq!(size_bytes("64"), Some(64));
        assert_eq!(size_bytes("x"), None);
    }

    #[test]
    fn the_day_has_ten_characters() {
        assert_eq!(today().len(), 10);
    }
}
