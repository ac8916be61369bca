//! The zero-shot probe: the label that the smallest variant finds most likely after the request.
//!
//! Each label's probability is divided by what it has after a request without content, since small models prefer some labels
//! whatever is asked (Zhao et al., "Calibrate before use", 2021).

use crate::FleetError;
use crate::probe::{Answer, Probe};
use crate::question::Question;
use aio_engine::{Engine, StepWants};

/// A request without content.
const NOTHING: &str = "N/A";

/// See the module docs.
#[derive(Debug)]
pub struct ZeroShot {
    /// Labels, their first token, and the logarithm of their probability after a request without content.
    labels: Vec<(String, u32, f64)>,
    question: Question,
}

impl ZeroShot {
    /// A probe for these categories on `engine`, which needs room for two sequences.
    ///
    /// # Errors
    /// [`FleetError::Labels`] if two labels begin with the same token; those of a step.
    pub fn new(engine: &Engine, categories: &[String]) -> Result<ZeroShot, FleetError> {
        let tokenizer = &engine.model().tokenizer;
        let encoded: Vec<Vec<u32>> =
            categories.iter().map(|name| tokenizer.encode(&format!(" {name}"), false)).collect::<Result<_, _>>()?;
        // A separate space, for example, belongs to the question.
        let common = shared(&encoded);
        let mut labels: Vec<(String, u32, f64)> = Vec::new();
        for (name, ids) in categories.iter().zip(&encoded) {
            let token = ids.get(common).copied().unwrap_or(u32::MAX);
            if let Some((first, ..)) = labels.iter().find(|l| l.1 == token || token == u32::MAX) {
                return Err(FleetError::Labels { first: first.clone(), other: name.clone() });
            }
            labels.push((name.clone(), token, 0.0));
        }
        let mut after = Question::ending(engine)?;
        after.extend(encoded.first().into_iter().flat_map(|ids| &ids[..common]));
        let mut probe = ZeroShot { labels, question: Question::new(engine, categories, after)? };
        let (calibrated, _) = probe.logs(engine, NOTHING)?;
        probe.labels.iter_mut().zip(calibrated).for_each(|(label, log)| label.2 = log);
        Ok(probe)
    }

    /// Logarithms of the labels' probabilities after a request, up to a constant, and the tokens of it that were read.
    fn logs(&mut self, engine: &Engine, text: &str) -> Result<(Vec<f64>, usize), FleetError> {
        let (outputs, read) = self.question.ask(engine, text, StepWants::Logits)?;
        let logits = outputs.logits().unwrap_or_default();
        let of = |token: u32| logits.get(token as usize).map_or(f64::NEG_INFINITY, |l| f64::from(*l));
        Ok((self.labels.iter().map(|(_, token, _)| of(*token)).collect(), read))
    }
}

/// The number of tokens with which all texts begin.
fn shared(texts: &[Vec<u32>]) -> usize {
    let Some((first, others)) = texts.split_first() else { return 0 };
    (0..first.len().saturating_sub(1)).take_while(|&i| others.iter().all(|ids| ids.get(i) == first.get(i))).count()
}

impl Probe for ZeroShot {
    fn name(&self) -> &'static str {
        "zero-shot"
    }

    fn probe(&mut self, engine: &Engine, text: &str) -> Result<Answer, FleetError> {
        let (logs, read) = self.logs(engine, text)?;
        let scores = self.labels.iter().zip(logs).map(|((name, _, prior), log)| (name.clone(), log - prior));
        Ok(Answer::of(scores.collect(), read))
    }
}
