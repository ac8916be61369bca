//! Stop strings in a stream: holds text back while it could be the start of one.

/// Collects text piece by piece and releases text that can no longer be part of a stop string.
#[derive(Debug)]
pub(crate) struct StopScanner {
    stops: Vec<String>,
    held: String,
}

/// The result of a piece of text.
#[derive(Debug, PartialEq)]
pub(crate) enum Scan {
    /// Text that may be shown.
    Text(String),
    /// A stop string was found; this is the text before it.
    Stopped(String),
}

impl StopScanner {
    pub(crate) fn new(stops: Vec<String>) -> StopScanner {
        StopScanner { stops, held: String::new() }
    }

    /// Adds a piece of text.
    pub(crate) fn push(&mut self, piece: &str) -> Scan {
        self.held.push_str(piece);
        let hits = self.stops.iter().filter(|s| !s.is_empty()).filter_map(|s| self.held.find(s.as_str()));
        if let Some(at) = hits.min() {
            self.held.truncate(at);
            return Scan::Stopped(std::mem::take(&mut self.held));
        }
        let keep = self.stops.iter().map(|s| partial_match(&self.held, s)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        Scan::Text(std::mem::replace(&mut self.held, rest))
    }

    /// Returns the text still held back when the stream ends without a stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Length of the longest suffix of `text` that is a proper prefix of `stop`.
fn partial_match(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len().saturating_sub(1));
    (1..=longest).rev().find(|&n| text.as_bytes()[text.len() - n..] == stop.as_bytes()[..n]).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_held_while_it_may_be_a_stop_string() {
        let stops = vec!["END".to_owned(), "\n\n".to_owned()];
        let mut s = StopScanner::new(stops.clone());
        assert_eq!(s.push("abE"), Scan::Text("ab".to_owned()));
        assert_eq!(s.push("N"), Scan::Text(String::new()));
        assert_eq!(s.push("x\n"), Scan::Text("ENx".to_owned()));
        assert_eq!(s.push("\nrest"), Scan::Stopped(String::new()));
    }

    #[test]
    fn the_first_stop_string_wins_and_the_end_releases_the_rest() {
        let stops = vec!["bb".to_owned(), "c".to_owned()];
        let mut s = StopScanner::new(stops.clone());
        assert_eq!(s.push("acbb"), Scan::Stopped("a".to_owned()));
        let mut s = StopScanner::new(stops.clone());
        assert_eq!(s.push("ab"), Scan::Text("a".to_owned()));
        assert_eq!(s.finish(), "b");
    }

    #[test]
    fn multi_byte_text_is_cut_at_characters() {
        let stops = vec!["é!".to_owned()];
        let mut s = StopScanner::new(stops.clone());
        assert_eq!(s.push("né"), Scan::Text("n".to_owned()));
        assert_eq!(s.push("e"), Scan::Text("ée".to_owned()));
    }
}
