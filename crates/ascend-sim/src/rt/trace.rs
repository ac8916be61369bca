//! The modelled time line: spans of tasks on streams and of calls on the host, in the Chrome trace format.
//!
//! Off unless a control call turns it on, since it grows with every task.

use std::fmt::Write as _;

/// A span of modelled time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Kernel, or call of the host.
    pub name: String,
    /// Stream, or `None` for the host.
    pub stream: Option<i32>,
    /// Begin in nanoseconds.
    pub start: u64,
    /// End in nanoseconds.
    pub end: u64,
}

/// The spans so far.
#[derive(Debug, Default)]
pub struct Trace {
    /// Whether spans are kept.
    pub on: bool,
    /// Spans in the order of execution.
    pub spans: Vec<Span>,
}

impl Trace {
    /// Adds a span.
    pub fn add(&mut self, name: &str, stream: Option<i32>, start: u64, end: u64) {
        if self.on {
            self.spans.push(Span { name: name.to_owned(), stream, start, end });
        }
    }

    /// The trace as JSON that Perfetto and `chrome://tracing` read. Gaps between a stream's spans are idle time.
    pub fn json(&self) -> String {
        let mut out = String::from("{\"otherData\":{\"time\":\"modelled\"},\"traceEvents\":[");
        for (i, span) in self.spans.iter().enumerate() {
            let (pid, tid) = span.stream.map_or((0, 0), |id| (1, id));
            let (ts, dur) = (span.start as f64 / 1e3, (span.end - span.start) as f64 / 1e3);
            let comma = if i == 0 { "" } else { "," };
            let name = span.name.escape_default();
            _ = write!(out, "{comma}{{\"name\":\"{name}\",\"ph\":\"X\",\"pid\":{pid},\"tid\":{tid},\"ts\":{ts},\"dur\":{dur}}}");
        }
        out.push_str("]}");
        out
    }
}
