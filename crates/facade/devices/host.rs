//! Reads the processor's name and caches from the operating system. Used by the CPU entry.

/// The processor's name, or the architecture's if the system does not report it.
pub fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':'));
    line.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

/// Level and bytes of each data cache of the first processor; empty if the system does not report them.
pub(super) fn caches() -> Vec<(u32, u64)> {
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

/// Parses `48K`, `2M` or plain bytes.
fn size_bytes(text: &str) -> Option<u64> {
    let (number, unit) = match text.strip_suffix('K') {
        Some(number) => (number, 1 << 10),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1 << 20)),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
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
}
