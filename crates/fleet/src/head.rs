//! The linear head: a classifier on the smallest variant's last hidden states.
//!
//! The request stands in the zero-shot probe's question, and its features are the hidden state, after the model's last norm,
//! where the label would follow: what the model makes of the request with the categories in view. `aio route train` makes
//! a head from labelled requests; a JSON file keeps it.

use crate::FleetError;
use crate::logistic::{Example, Logistic};
use crate::probe::{Answer, Probe};
use crate::question::Question;
use aio_engine::{Engine, Flow, StepWants};
use serde::{Deserialize, Serialize};

/// Version of the file's form.
const VERSION: u32 = 1;

/// See the module docs.
#[derive(Debug)]
pub struct LinearHead {
    file: HeadFile,
    classifier: Logistic,
    /// Prefilled with the first request.
    question: Option<Question>,
}

/// What the file keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadFile {
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

/// Features of a text, and the number of its tokens that were read.
fn features(engine: &Engine, question: &mut Question, text: &str) -> Result<(Vec<f32>, usize), FleetError> {
    let (outputs, read) = question.ask(engine, text, StepWants::Hidden)?;
    Ok((outputs.hidden().unwrap_or_default().to_vec(), read))
}

fn question(engine: &Engine, categories: &[String]) -> Result<Question, FleetError> {
    Question::new(engine, categories, Question::ending(engine)?)
}

impl LinearHead {
    /// Trains on labelled requests. `penalty` keeps weights small. `each` is called after each request was read, and says whether to go on.
    ///
    /// # Errors
    /// [`FleetError::Data`] if there are fewer than two categories, or no finite weights were found; [`FleetError::Stopped`];
    /// those of a step.
    pub fn train(
        engine: &Engine,
        samples: &[(String, String)],
        penalty: f64,
        each: &mut dyn FnMut() -> Flow,
    ) -> Result<LinearHead, FleetError> {
        let mut categories: Vec<String> = samples.iter().map(|s| s.1.clone()).collect();
        categories.sort_unstable();
        categories.dedup();
        if categories.len() < 2 {
            return Err(FleetError::Data { what: "samples", message: "they are all of one category".to_owned() });
        }
        let mut question = question(engine, &categories)?;
        let mut examples = Vec::new();
        for (text, category) in samples {
            let class = categories.iter().position(|c| c == category).unwrap_or(0);
            examples.push(Example { features: features(engine, &mut question, text)?.0, class });
            if each() == Flow::Stop {
                return Err(FleetError::Stopped);
            }
        }
        let Logistic { mean, scale, weights } = Logistic::train(&examples, categories.len(), penalty);
        if !examples.iter().flat_map(|e| &e.features).all(|x| x.is_finite()) {
            return Err(bad("the model's hidden states are not all finite numbers"));
        }
        if !weights.iter().flatten().all(|w| w.is_finite()) {
            return Err(bad("the training found no finite weights; use another penalty"));
        }
        let model = engine.model().hyper.name.clone();
        Ok(LinearHead::of(HeadFile { version: VERSION, model, categories, mean, scale, weights }))
    }

    fn of(file: HeadFile) -> LinearHead {
        let HeadFile { mean, scale, weights, .. } = file.clone();
        LinearHead { file, classifier: Logistic { mean, scale, weights }, question: None }
    }

    /// Its categories.
    pub fn categories(&self) -> &[String] {
        &self.file.categories
    }

    /// The file's text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(&self.file).expect("numbers and texts have a JSON form") + "\n"
    }

    /// Parses a file's text.
    ///
    /// # Errors
    /// [`FleetError::Data`].
    pub fn from_json(text: &str) -> Result<LinearHead, FleetError> {
        let head: HeadFile = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if head.version != VERSION {
            return Err(bad(format!("version {}, this program reads version {VERSION}; train again", head.version)));
        }
        let width = head.mean.len();
        let fits = head.scale.len() == width
            && head.categories.len() >= 2
            && head.weights.len() == head.categories.len()
            && head.weights.iter().all(|w| w.len() == width + 1);
        let finite = head.mean.iter().chain(&head.scale).chain(head.weights.iter().flatten()).all(|x| x.is_finite());
        if fits && finite { Ok(LinearHead::of(head)) } else { Err(bad("its numbers do not fit together; train again")) }
    }
}

impl Probe for LinearHead {
    fn name(&self) -> &'static str {
        "head"
    }

    fn probe(&mut self, engine: &Engine, text: &str) -> Result<Answer, FleetError> {
        let question = match &mut self.question {
            Some(question) => question,
            none => none.insert(question(engine, &self.file.categories)?),
        };
        let (features, tokens) = features(engine, question, text)?;
        if features.len() != self.file.mean.len() || self.file.model != engine.model().hyper.name {
            let (model, have) = (&self.file.model, &engine.model().hyper.name);
            return Err(bad(format!("it was trained on {model} and does not fit {have}; train again")));
        }
        let logs = self.classifier.logs(&features);
        Ok(Answer::of(self.file.categories.iter().cloned().zip(logs).collect(), tokens))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(head: &HeadFile) -> String {
        LinearHead::of(head.clone()).to_json()
    }

    #[test]
    fn files_are_checked() {
        let head = HeadFile {
            version: VERSION,
            model: "m".to_owned(),
            categories: vec!["a".to_owned(), "b".to_owned()],
            mean: vec![0.0; 2],
            scale: vec![1.0; 2],
            weights: vec![vec![0.5; 3]; 2],
        };
        assert_eq!(LinearHead::from_json(&text(&head)).unwrap().file, head);
        let message = |head: HeadFile| LinearHead::from_json(&text(&head)).unwrap_err().to_string();
        let old = HeadFile { version: 9, ..head.clone() };
        assert_eq!(message(old), "head: version 9, this program reads version 1; train again");
        let short = HeadFile { weights: vec![vec![0.5; 3]], ..head.clone() };
        assert_eq!(message(short), "head: its numbers do not fit together; train again");
        let one = HeadFile { mean: vec![0.0], ..head };
        assert!(message(one).contains("do not fit"));
        assert!(LinearHead::from_json("{").unwrap_err().to_string().starts_with("head: EOF"));
    }
}
