//! The machine's name and the current date. Used where figures are printed or stored.

use aio::model::chat::Clock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The host name.
pub(crate) fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "unknown".to_owned() } else { name.trim().to_owned() }
}

/// The current date in UTC, `YYYY-MM-DD`.
pub(crate) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (year, month, day) = Clock { unix_s: seconds }.date();
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_has_ten_characters() {
        assert_eq!(today().len(), 10);
    }
}
