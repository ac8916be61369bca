//! Real prompts for the requests of a trace: those of the built-in workloads, by category.

use crate::bench::spec::workloads;
use aio::engine::Engine;
use aio::orchestrator::trace::TraceRequest;
use anyhow::Result;

/// Categories, and the workload whose prompts they get.
const TEXTS: [(&str, &str); 4] = [("code", "code"), ("math", "lists"), ("knowledge", "prose"), ("chat", "chat")];
/// Tokens that a prompt may have beyond those that the trace says.
pub(super) const SLACK: u32 = 64;

/// A prompt of a workload.
struct Text {
    text: String,
    ids: Vec<u32>,
}

/// See the module docs.
pub(super) struct Prompts {
    categories: Vec<(&'static str, Vec<Text>)>,
}

/// A request's prompt.
pub(super) struct Prompt<'a> {
    /// The text that it ends with, for the probe.
    pub text: &'a str,
    pub ids: Vec<u32>,
}

impl Prompts {
    pub(super) fn new(engine: &Engine) -> Result<Prompts> {
        let texts = |workload: &str| -> Result<Vec<Text>> {
            let prompts = workloads::load(&[workload.into()], None)?.into_iter().flat_map(|w| w.prompts);
            let text = |prompt: String| Ok(Text { ids: engine.model().tokenizer.encode(&prompt, true)?, text: prompt });
            prompts.map(|p| text(p.prompt)).collect()
        };
        let categories = TEXTS.into_iter().map(|(category, workload)| Ok((category, texts(workload)?)));
        Ok(Prompts { categories: categories.collect::<Result<_>>()? })
    }

    /// The prompt of a request: one of its category's, after as many others as its length has room for, as in a
    /// conversation, several times if it is long. The first may lack its beginning. A category that no workload has gets the first one's.
    pub(super) fn of(&self, at: usize, request: &TraceRequest) -> Prompt<'_> {
        let own = self.categories.iter().find(|(name, _)| *name == request.category);
        let texts = own.or(self.categories.first()).map_or(&[][..], |(_, texts)| texts.as_slice());
        let Some(last) = texts.get(at % texts.len().max(1)) else { return Prompt { text: "", ids: Vec::new() } };
        let wanted = request.prompt as usize;
        let mut ids = last.ids.clone();
        for back in 1.. {
            if ids.len() >= wanted {
                break;
            }
            let before = &texts[(at + texts.len() - back % texts.len()) % texts.len()].ids;
            if before.is_empty() {
                break;
            }
            let room = (wanted - ids.len()).min(before.len());
            ids.splice(..0, before[before.len() - room..].iter().copied());
        }
        let start = ids.len().saturating_sub(wanted + SLACK as usize);
        ids.drain(..start);
        Prompt { text: &last.text, ids }
    }
}
