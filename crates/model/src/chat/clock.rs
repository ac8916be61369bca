//! Dates in chat templates: `strftime_now` with the codes of Python's `strftime` in the C locale.
//!
//! The caller supplies the time, so that the same call gives the same prompt.

use std::fmt::Write;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Datelike, Utc};
use minijinja::Error;

use crate::render::Text;

/// The clock that a template sees: local wall-clock time as seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Seconds since 1970-01-01 00:00:00 in UTC, or with a time zone offset added.
    pub unix_s: u64,
}

impl Clock {
    /// Year, month (1..=12) and day (1..=31).
    pub fn date(&self) -> (u64, u64, u64) {
        let time = self.time();
        (u64::from(time.year().unsigned_abs()), u64::from(time.month()), u64::from(time.day()))
    }

    fn time(&self) -> DateTime<Utc> {
        // Past the end of the calendar, its last second.
        let seconds = i64::try_from(self.unix_s).unwrap_or(i64::MAX);
        DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// Python's `datetime.strftime` of a time without a zone. Unknown codes are kept.
    pub(super) fn strftime(&self, format: &str) -> Result<String, Error> {
        let time = self.time();
        let mut out = Text::default();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            out.push(&rest[..at])?;
            let len = code_len(&rest[at..]);
            out.push(&expand(&rest[at..at + len], time))?;
            rest = &rest[at + len..];
        }
        out.push(rest)?;
        Ok(out.into_string())
    }
}

/// Length of the code at the start of `text`: a percent sign, an optional flag, an optional `E` or `O`, and a letter.
fn code_len(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    chars.next_if(|(_, c)| matches!(c, '-' | '_' | '0' | '^' | '#'));
    chars.next_if(|(_, c)| matches!(c, 'E' | 'O'));
    chars.next().map_or(text.len(), |(i, c)| i + c.len_utf8())
}

fn expand(code: &str, time: DateTime<Utc>) -> String {
    // Modifiers for other calendars and digits have no effect in the C locale.
    let plain = code.replace(['E', 'O'], "");
    let (is_upper, plain) = if plain.contains('^') { (true, plain.replace('^', "")) } else { (false, plain) };
    match plain.as_str() {
        "%z" | "%Z" | "%:z" => return String::new(),
        "%f" => return "000000".to_owned(),
        "%" => return code.to_owned(),
        "%+" | "%v" | "%:" | "%." | "%3" | "%6" | "%9" => return code.to_owned(),
        _ => {}
    }
    let mut out = String::new();
    let known = !StrftimeItems::new(&plain).any(|item| matches!(item, Item::Error));
    if !known || write!(out, "{}", time.format(&plain)).is_err() {
        return code.to_owned();
    }
    if is_upper { out.to_uppercase() } else { out }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_writes_them() {
        let clock = Clock { unix_s: 1_709_209_845 };
        for (format, text) in [
            ("%d %b %Y, %A %H:%M:%S", "29 Feb 2024, Thursday 12:30:45"),
            ("%Y-%m-%dT%H:%M:%S.%f%z", "2024-02-29T12:30:45.000000"),
            ("%a %B %-d %e %j %I %p %y %C", "Thu February 29 29 060 12 PM 24 20"),
            ("%c|%x|%X|%D|%F|%T|%R", "Thu Feb 29 12:30:45 2024|02/29/24|12:30:45|02/29/24|2024-02-29|12:30:45|12:30"),
            ("%U %W %V %G %u %w %s %% %n%t.", "08 09 09 2024 4 4 1709209845 % \n\t."),
            ("%^b %Od %Q %", "FEB 29 %Q %"),
        ] {
            assert_eq!(clock.strftime(format).unwrap(), text, "{format}");
        }
        assert_eq!(Clock { unix_s: u64::MAX }.date().1, 12);
    }

    #[test]
    fn dates_across_centuries() {
        for (day, date) in [(0, (1970, 1, 1)), (11_016, (2000, 2, 29)), (47_540, (2100, 2, 28)), (47_541, (2100, 3, 1))]
        {
            assert_eq!(Clock { unix_s: day * 86_400 }.date(), date);
        }
    }
}
