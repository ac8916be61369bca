//! Traces of requests: one JSON object a line.
//!
//! Read by the simulator and by `aio bench trace`, written by `aio trace make`.

mod make;

pub use make::{Mix, TraceOptions, make};

use serde::{Deserialize, Serialize};

/// Most positions of a request.
const MOST: u32 = 1 << 24;
/// Latest arrival in seconds.
const LATEST: f64 = 1e9;

/// A request of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Seconds from the start of the trace.
    pub arrival: f64,
    /// What kind of request it is, such as `code`.
    pub category: String,
    /// Tokens of its prompt.
    pub prompt: u32,
    /// Tokens that it generates.
    pub output: u32,
    /// The share of the output that repeats earlier text, 0 to 1. Drafts are right there.
    pub copy: f64,
}

/// Why a trace cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A line is no request.
    #[error("trace, line {line}: {message}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// There are no requests.
    #[error("the trace has no requests")]
    Empty,
}

/// Parses a trace: a request a line, empty lines aside. Returns the requests by arrival.
///
/// # Errors
/// [`TraceError`].
pub fn parse(text: &str) -> Result<Vec<TraceRequest>, TraceError> {
    let mut requests = Vec::new();
    for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |message: String| TraceError::Line { line: i + 1, message };
        let request: TraceRequest =
            serde_json::from_str(line).map_err(|e| wrong(format!("column {}: {}", e.column(), cause(&e))))?;
        request.check().map_err(wrong)?;
        requests.push(request);
    }
    if requests.is_empty() {
        return Err(TraceError::Empty);
    }
    requests.sort_by(|a, b| a.arrival.total_cmp(&b.arrival));
    Ok(requests)
}

/// The error without its place, which the line already has.
pub(crate) fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// Writes a trace.
pub fn print(requests: &[TraceRequest]) -> String {
    let line = |request| serde_json::to_string(request).expect("numbers and texts have a JSON form") + "\n";
    requests.iter().map(line).collect()
}

impl TraceRequest {
    fn check(&self) -> Result<(), String> {
        if !(0.0..=LATEST).contains(&self.arrival) {
            return Err(format!("arrival is {:?}, expected 0 to {LATEST:.0e} seconds", self.arrival));
        }
        for (name, tokens) in [("prompt", self.prompt), ("output", self.output)] {
            if !(1..=MOST).contains(&tokens) {
                return Err(format!("{name} is {tokens}, expected 1 to {MOST} tokens"));
            }
        }
        if !(0.0..=1.0).contains(&self.copy) {
            return Err(format!("copy is {:?}, expected 0 to 1", self.copy));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"arrival":1.5,"category":"code","prompt":100,"output":20,"copy":0.5}"#;

    #[test]
    fn a_trace_survives_its_text_and_is_sorted() {
        let text = format!("{}\n\n{LINE}\n", LINE.replace("1.5", "2"));
        let requests = parse(&text).unwrap();
        assert_eq!(requests.iter().map(|r| r.arrival).collect::<Vec<_>>(), [1.5, 2.0]);
        assert_eq!(parse(&print(&requests)).unwrap(), requests);
    }

    #[test]
    fn errors_name_line_and_field() {
        let message = |line: String| parse(&format!("{LINE}\n{line}")).unwrap_err().to_string();
        assert_eq!(message(LINE.replace("0.5", "1.5")), "trace, line 2: copy is 1.5, expected 0 to 1");
        assert_eq!(
            message(LINE.replace("\"output\":20", "\"output\":0")),
            "trace, line 2: output is 0, expected 1 to 16777216 tokens"
        );
        assert_eq!(message(LINE.replace("1.5", "-1")), "trace, line 2: arrival is -1.0, expected 0 to 1e9 seconds");
        assert!(
            message(LINE.replace("copy", "cpoy")).starts_with("trace, line 2: column 64: unknown field `cpoy`"),
            "{}",
            message(LINE.replace("copy", "cpoy"))
        );
        assert!(message("{".to_owned()).starts_with("trace, line 2: column 1: EOF"), "{}", message("{".to_owned()));
        assert_eq!(parse("\n").unwrap_err(), TraceError::Empty);
    }
}
