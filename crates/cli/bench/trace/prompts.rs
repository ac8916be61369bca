//! Real prompts for the requests of a trace, by category: those of a labelled file, or of the built-in workloads.

use crate::bench::spec::workloads;
use aio::engine::Engine;
use aio::fleet::Sample;
use aio::orchestrator::trace::TraceRequest;
use anyhow::{Result, bail};

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
    categories: Vec<(String, Vec<Text>)>,
}

/// A request's prompt.
pub(super) struct Prompt<'a> {
    /// The text that it ends with, for the probe.
    pub text: &'a str,
    pub ids: Vec<u32>,
}

impl Prompts {
    /// The prompts of `samples`, or of the workloads if there are none. Each category of the trace must have one.
    pub(super) fn new(engine: &Engine, samples: &[Sample], trace: &[TraceRequest]) -> Result<Prompts> {
        let labelled = if samples.is_empty() { built_in()? } else { by_category(samples) };
        if let Some(r) = trace.iter().find(|r| labelled.iter().all(|(name, _)| *name != r.category)) {
            let known: Vec<&str> = labelled.iter().map(|(name, _)| name.as_str()).collect();
            bail!("no prompts of category `{}`; there are {}", r.category, known.join(", "));
        }
        let text = |text: String| Ok(Text { ids: engine.model().tokenizer.encode(&text, true)?, text });
        let texts = |texts: Vec<String>| texts.into_iter().map(text).collect::<Result<_>>();
        let categories = labelled.into_iter().map(|(category, of)| Ok((category, texts(of)?)));
        Ok(Prompts { categories: categories.collect::<Result<_>>()? })
    }

    /// The prompt of a request: one of its category's, after as many others as its length has room for, as in a
    /// conversation, several times if it is long. The first may lack its beginning.
    pub(super) fn of(&self, at: usize, request: &TraceRequest) -> Prompt<'_> {
        let own = self.categories.iter().find(|(name, _)| *name == request.category);
        let texts = own.map_or(&[][..], |(_, texts)| texts.as_slice());
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

/// Prompts of the workloads, by the category that each stands for.
fn built_in() -> Result<Vec<(String, Vec<String>)>> {
    let texts = |(category, workload): (&str, &str)| {
        let prompts = workloads::load(&[workload.into()], None)?.into_iter().flat_map(|w| w.prompts);
        Ok((category.to_owned(), prompts.map(|p| p.prompt).collect()))
    };
    TEXTS.into_iter().map(texts).collect()
}

fn by_category(samples: &[Sample]) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for sample in samples {
        match all.iter_mut().find(|(category, _)| *category == sample.category) {
            Some((_, texts)) => texts.push(sample.text.clone()),
            None => all.push((sample.category.clone(), vec![sample.text.clone()])),
        }
    }
    all
}
