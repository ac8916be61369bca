//! The growing output of one request: text, stop strings, the reason it ended.

use crate::EngineError;
use crate::flow::Flow;
use crate::request::{Request, StopReason};
use crate::stop::{Scan, StopScanner};
use aio_model::tokenizer::{StreamDecoder, Tokenizer};

/// Ids and text so far.
#[derive(Debug)]
pub(crate) struct Output {
    pub ids: Vec<u32>,
    pub text: String,
    /// Why it ended; `None` while it continues.
    pub reason: Option<StopReason>,
    /// The error that ended it.
    pub failure: Option<EngineError>,
    /// Steps so far.
    pub steps: usize,
    decoder: StreamDecoder,
    scanner: StopScanner,
    limit: usize,
}

impl Output {
    pub(crate) fn new(request: &Request) -> Output {
        let limit = request.max_tokens.unwrap_or(usize::MAX);
        Output {
            ids: Vec::new(),
            text: String::new(),
            reason: (limit == 0).then_some(StopReason::MaxTokens),
            failure: None,
            steps: 0,
            decoder: StreamDecoder::new(),
            scanner: StopScanner::new(request.stop.clone()),
            limit,
        }
    }

    /// Whether it continues.
    pub(crate) fn is_open(&self) -> bool {
        self.reason.is_none() && self.failure.is_none()
    }

    /// Ends the output because the row at `position` gave no token. Text held back goes to the sink.
    pub(crate) fn fail(&mut self, position: usize, sink: &mut dyn FnMut(&str) -> Flow) {
        self.failure = Some(EngineError::NoToken { step: self.steps, position });
        self.finish(sink);
    }

    /// Number of tokens that may still be generated.
    pub(crate) fn left(&self) -> usize {
        self.limit.saturating_sub(self.ids.len())
    }

    /// Adds a token, which gives the sequence `len` of `context` tokens. Text that is final goes to the sink.
    pub(crate) fn push(
        &mut self,
        tokenizer: &Tokenizer,
        request: &Request,
        token: u32,
        (len, context): (usize, usize),
        sink: &mut dyn FnMut(&str) -> Flow,
    ) {
        self.ids.push(token);
        if request.ends_with(tokenizer.vocab(), token) {
            self.reason = Some(StopReason::EndOfGeneration);
            return;
        }
        let piece = self.decoder.push(tokenizer, token);
        let (text, stopped) = match self.scanner.push(&piece) {
            Scan::Text(text) => (text, false),
            Scan::Stopped(text) => (text, true),
        };
        self.text.push_str(&text);
        let flow = sink(&text);
        self.reason = if stopped {
            Some(StopReason::StopString)
        } else if self.left() == 0 {
            Some(StopReason::MaxTokens)
        } else if len >= context {
            Some(StopReason::ContextFull)
        } else if flow == Flow::Stop {
            Some(StopReason::Cancelled)
        } else {
            None
        };
    }

    /// Releases held-back text, unless a stop string ended the output.
    pub(crate) fn finish(&mut self, sink: &mut dyn FnMut(&str) -> Flow) {
        if self.reason != Some(StopReason::StopString) && !self.ids.is_empty() {
            let mut rest = self.scanner.finish();
            rest.push_str(&self.decoder.finish());
            self.text.push_str(&rest);
            sink(&rest);
        }
    }
}
