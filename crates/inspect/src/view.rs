//! What a reader asked for: tasks by name, or the slowest ones.

use crate::report::{Report, TaskRow};
use regex_automata::meta::{BuildError, Regex};

/// A pattern that is no regular expression.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a regular expression: {reason}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// Why.
    pub reason: String,
}

/// A regular expression on names, kinds and blocks of tasks.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn new(pattern: &str) -> Result<Pattern, PatternError> {
        let reason = |e: BuildError| {
            let text = e.syntax_error().map_or_else(|| e.to_string(), ToString::to_string);
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        };
        let wrong = |e| PatternError { pattern: pattern.to_owned(), reason: reason(e) };
        Regex::new(pattern).map(Pattern).map_err(wrong)
    }

    /// Whether a task's name, kind, block, type, or any of its tensors' names matches.
    pub fn matches(&self, task: &TaskRow) -> bool {
        let tensors = [&task.weights, &task.operands, &task.results].into_iter().flatten().map(|t| t.name.as_str());
        let block = task.block.to_string();
        let own = [task.name.as_str(), task.kind.as_str(), block.as_str(), task.dtype.as_str()];
        own.into_iter().chain(tensors).any(|text| self.0.is_match(text))
    }
}

impl Report {
    /// Keeps the tasks that match, and of these the `top` that take longest, in order of execution or, with `top`, of
    /// time. Sums stay those of all tasks.
    pub fn keep(&mut self, pattern: Option<&Pattern>, top: Option<usize>) {
        let before = self.tasks.len();
        if let Some(pattern) = pattern {
            self.tasks.retain(|t| pattern.matches(t));
        }
        if let Some(top) = top {
            self.tasks.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()));
            self.tasks.truncate(top);
        }
        self.omitted += before - self.tasks.len();
    }
}

impl TaskRow {
    /// Measured seconds, or predicted ones.
    pub fn seconds(&self) -> f64 {
        self.measured.map_or(self.predicted_seconds, |m| m.p50_seconds)
    }
}
