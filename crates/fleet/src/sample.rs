//! Labelled requests, for training a head and for measuring probes: one JSON object a line.

use crate::FleetError;
use serde::{Deserialize, Serialize};

/// A labelled request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// The request.
    pub text: String,
    /// Its category.
    pub category: String,
    /// Where it comes from.
    #[serde(default)]
    pub source: String,
}

/// Parses samples, one a line, empty lines aside.
///
/// # Errors
/// [`FleetError::Data`] with the line.
pub fn parse_samples(text: &str) -> Result<Vec<Sample>, FleetError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(i, line): (usize, &str)| {
        let wrong =
            |message: String| FleetError::Data { what: "samples", message: format!("line {}: {message}", i + 1) };
        let sample: Sample = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        match (sample.text.trim().is_empty(), sample.category.is_empty()) {
            (true, _) => Err(wrong("the text is empty".to_owned())),
            (_, true) => Err(wrong("the category is empty".to_owned())),
            _ => Ok(sample),
        }
    };
    let samples: Vec<Sample> = lines.map(parse).collect::<Result<_, _>>()?;
    if samples.is_empty() {
        return Err(FleetError::Data { what: "samples", message: "there are none".to_owned() });
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_a_line_each() {
        let text = "{\"text\": \"1 + 1?\", \"category\": \"math\"}\n\n{\"text\": \"x\", \"category\": \"code\", \"source\": \"s\"}";
        let samples = parse_samples(text).unwrap();
        assert_eq!((samples.len(), samples[1].source.as_str()), (2, "s"));
        let message = |text: &str| parse_samples(text).unwrap_err().to_string();
        assert!(message("{}").starts_with("samples: line 1: missing field `text`"), "{}", message("{}"));
        assert_eq!(message("{\"text\": \" \", \"category\": \"a\"}"), "samples: line 1: the text is empty");
        assert_eq!(message("\n"), "samples: there are none");
    }
}
