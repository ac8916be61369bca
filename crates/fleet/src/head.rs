//! The linear head: a classifier on the smallest variant's last hidden states.
//!
//! The features of a request are the mean hidden state of its last tokens and that of its last token, both after the
//! model's last norm. `aio route train` makes a head from labelled requests; a JSON file keeps it.

use crate::FleetError;
use crate::logistic::{Example, Logistic};
use crate::probe::{Answer, Probe, READ, run, tail};
use aio_engine::{Engine, OutputBuffer, Sequence, StepWants};
use serde::{Deserialize, Serialize};

/// Rows whose hidden states are averaged.
const ROWS: usize = 16;
/// Version of the file's form.
const VERSION: u32 = 1;

/// See the module docs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearHead {
    version: u32,
    /// The model that it was trained on.
    model: String,
    categories: Vec<String>,
    mean: Vec<f64>,
    scale: Vec<f64>,
    weights: Vec<Vec<f64>>,
}

fn bad(message: impl Into<String>) -> FleetError {
    FleetError::Data { what: "head", message: message.into() }
}

/// Features of a text, and the number of its tokens that were read. The engine must have plans for hidden states.
///
/// # Errors
/// [`aio_engine::EngineError::NoHidden`]; those of a step.
pub(crate) fn features(engine: &Engine, text: &str) -> Result<(Vec<f32>, usize), FleetError> {
    let ids = tail(engine, text, READ)?;
    let ids = if ids.is_empty() { engine.model().tokenizer.framed(ids) } else { ids };
    if ids.is_empty() {
        return Err(bad("the request has no tokens"));
    }
    let mut out = OutputBuffer::new();
    let outs = ids.len().min(ROWS);
    let states = run(engine, &mut Sequence::new(), &ids, (StepWants::Hidden, outs), &mut out)?;
    let states = states.hidden().unwrap_or_default();
    let width = states.len() / outs;
    let mean = (0..width).map(|i| states.chunks(width.max(1)).map(|row| row[i]).sum::<f32>() / outs as f32);
    let last = states[(outs - 1) * width..].iter().copied();
    Ok((mean.chain(last).collect(), ids.len()))
}

impl LinearHead {
    /// Trains on labelled requests. `penalty` keeps weights small. `each` is called after each request was read.
    ///
    /// # Errors
    /// [`FleetError::Data`] if there are fewer than two categories; those of a step.
    pub fn train(
        engine: &Engine,
        samples: &[(String, String)],
        penalty: f64,
        each: &mut dyn FnMut(),
    ) -> Result<LinearHead, FleetError> {
        let mut categories: Vec<String> = samples.iter().map(|s| s.1.clone()).collect();
        categories.sort_unstable();
        categories.dedup();
        if categories.len() < 2 {
            return Err(FleetError::Data { what: "samples", message: "they are all of one category".to_owned() });
        }
        let mut examples = Vec::new();
        for (text, category) in samples {
            let class = categories.iter().position(|c| c == category).unwrap_or(0);
            examples.push(Example { features: features(engine, text)?.0, class });
            each();
        }
        let Logistic { mean, scale, weights } = Logistic::train(&examples, categories.len(), penalty);
        Ok(LinearHead { version: VERSION, model: engine.model().hyper.name.clone(), categories, mean, scale, weights })
    }

    /// Its categories.
    pub fn categories(&self) -> &[String] {
        &self.categories
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("numbers and texts have a JSON form") + "\n"
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// [`FleetError::Data`].
    pub fn from_json(text: &str) -> Result<LinearHead, FleetError> {
        let head: LinearHead = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if head.version != VERSION {
            return Err(bad(format!("version {}, this program reads version {VERSION}; train again", head.version)));
        }
        let width = head.mean.len();
        let fits = head.scale.len() == width
            && head.categories.len() >= 2
            && head.weights.len() == head.categories.len()
            && head.weights.iter().all(|w| w.len() == width + 1);
        let finite = head.mean.iter().chain(&head.scale).chain(head.weights.iter().flatten()).all(|x| x.is_finite());
        if fits && finite { Ok(head) } else { Err(bad("its numbers do not fit together; train again")) }
    }

    fn logistic(&self) -> Logistic {
        Logistic { mean: self.mean.clone(), scale: self.scale.clone(), weights: self.weights.clone() }
    }
}

impl Probe for LinearHead {
    fn name(&self) -> &'static str {
        "head"
    }

    fn probe(&mut self, engine: &Engine, text: &str) -> Result<Answer, FleetError> {
        let (features, tokens) = features(engine, text)?;
        if features.len() != self.mean.len() {
            let (model, have) = (&self.model, &engine.model().hyper.name);
            return Err(bad(format!("it was trained on {model} and does not fit {have}; train again")));
        }
        let logs = self.logistic().logs(&features);
        Ok(Answer::of(self.categories.iter().cloned().zip(logs).collect(), tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_checked() {
        let head = LinearHead {
            version: VERSION,
            model: "m".to_owned(),
            categories: vec!["a".to_owned(), "b".to_owned()],
            mean: vec![0.0; 2],
            scale: vec![1.0; 2],
            weights: vec![vec![0.5; 3]; 2],
        };
        assert_eq!(LinearHead::from_json(&head.to_json()).unwrap(), head);
        let message = |head: LinearHead| LinearHead::from_json(&head.to_json()).unwrap_err().to_string();
        let old = LinearHead { version: 9, ..head.clone() };
        assert_eq!(message(old), "head: version 9, this program reads version 1; train again");
        let short = LinearHead { weights: vec![vec![0.5; 3]], ..head.clone() };
        assert_eq!(message(short), "head: its numbers do not fit together; train again");
        let one = LinearHead { mean: vec![0.0], ..head };
        assert!(message(one).contains("do not fit"));
        assert!(LinearHead::from_json("{").unwrap_err().to_string().starts_with("head: EOF"));
    }
}
