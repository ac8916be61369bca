//! The text of the graph that a command works on, from a file or from a model's template.

use crate::args::{GraphArgs, ModelArgs};
use crate::{input, models};
use aio::compiler::CompileError;
use aio::interp::EvalError;
use aio::ir::text::{Parsed, parse};
use aio::ir::verify::{Entity, VerifyError};
use aio::ir::{Verified, verify};
use aio::plan::artefact::is_artefact;
use anyhow::{Context, Result, anyhow, bail};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Maximum number of faults shown.
const MAX_FAULTS: usize = 20;

/// Whether a path is of a model, by its first bytes: a GGUF file, or a folder in Hugging Face's form. A pipe is a text,
/// since its bytes can be read only once.
fn is_model(path: &Path) -> bool {
    let mut magic = [0; 4];
    let mut read = || File::open(path)?.read_exact(&mut magic);
    path.is_dir() || (path.is_file() && read().is_ok() && &magic == b"GGUF")
}

/// A graph's text, and its name in messages.
pub(crate) struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub(crate) fn of(args: &GraphArgs) -> Result<Source> {
        match &args.file {
            None => Source::rendered(&args.model),
            Some(path) if is_model(path) => {
                Source::rendered(&ModelArgs { model: Some(path.clone()), ..args.model.clone() })
            }
            Some(path) if args.model.template.is_some() => {
                bail!("--template is for models, and {} is none", path.display())
            }
            Some(path) => Source::file(path),
        }
    }

    /// The graph of a model's template.
    fn rendered(args: &ModelArgs) -> Result<Source> {
        let model = models::open(args)?;
        let text = models::graph_text(&model, args)?;
        // A text that does not parse is shown with its error. If it parses, check that the model has no unused tensors.
        if let Ok(parsed) = parse(&text) {
            model.check_tensors(&parsed.graph).with_context(|| models::name(&model))?;
        }
        Ok(Source { name: format!("{} (rendered)", model.hyper.architecture), text })
    }

    /// Reads a text file.
    pub(crate) fn file(path: &Path) -> Result<Source> {
        let name = path.display().to_string();
        if is_artefact(path) {
            bail!("{name} is a compiled model; its graph is that of the original model file");
        }
        if is_model(path) {
            bail!("{name} is a model; `aio graph print -m {name}` prints its graph");
        }
        let text = input::text(path, input::TEXT)?;
        Ok(Source { name, text })
    }

    /// Parses the graph; the error is the first fault, with its position.
    pub(crate) fn parse(&self) -> Result<Parsed> {
        parse(&self.text).map_err(|e| anyhow!("{}:{e}", self.name))
    }

    /// Verifies the graph; the error shows all faults with their positions.
    pub(crate) fn verify<'g>(&self, parsed: &'g Parsed) -> Result<Verified<'g>> {
        verify(&parsed.graph).map_err(|e| anyhow!("{}", self.places(parsed, &e.0)))
    }

    /// Adds the line of the failing node, if there is one, and uses the text's name for the value.
    pub(crate) fn placed(&self, parsed: &Parsed, mut error: EvalError) -> anyhow::Error {
        let Some(at) = error.at() else { return error.into() };
        at.name = format!("%{}", parsed.value_names[at.value.index()]);
        let line = parsed.line_of(Entity::Value(at.value));
        anyhow!("{}:{line}: {error}", self.name)
    }

    /// Formats the verifier's faults like parse errors: place, code, message, line, caret.
    pub(crate) fn places(&self, parsed: &Parsed, errors: &[VerifyError]) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let shown = errors.iter().take(MAX_FAULTS).map(|e| {
            let line = parsed.line_of(e.entity);
            let text = lines.get(line - 1).copied().unwrap_or("");
            let indent: String = text.chars().take_while(|c| c.is_whitespace()).collect();
            let column = indent.chars().count() + 1;
            format!("{}:{line}:{column}: {}: {}\n  {text}\n  {indent}^", self.name, e.code, e.message)
        });
        let more = errors.len().saturating_sub(MAX_FAULTS);
        let more = (more > 0).then(|| format!("and {more} more"));
        shown.chain(more).collect::<Vec<_>>().join("\n")
    }
}

/// Adds the flag that would help to a compile error.
pub(crate) fn explained(error: CompileError) -> anyhow::Error {
    match error {
        CompileError::NoOutput(_) => anyhow!("{error}; --tail logits compiles the graph as it is"),
        other => other.into(),
    }
}
