//! Flags of speculation.

use aio::engine::{MAX_DRAFTS, Speculation};
use clap::{Args as ClapArgs, ValueEnum};
use std::path::PathBuf;

/// Where drafts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DrafterArg {
    /// The longest suffix of the text, up to a few tokens, that occurs earlier.
    Lookup,
    /// The longest suffix of the text, of any length, that occurs earlier.
    Suffix,
    /// A smaller model; see --draft-model.
    Model,
}

/// How tokens are drafted.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct SpeculateArgs {
    /// Drafts per step: the number that pays best, none, or always K. Only the speed changes, never the text [default: auto,
    /// or what the policy says].
    #[arg(long, value_name = "off|auto|K", value_parser = speculation)]
    pub spec: Option<Speculation>,
    /// Source of drafts [default: suffix, or model with --draft-model].
    #[arg(long, value_enum, value_name = "DRAFTER")]
    pub drafter: Option<DrafterArg>,
    /// Smaller model with the same tokens, for --drafter model.
    #[arg(long, value_name = "FILE")]
    pub draft_model: Option<PathBuf>,
}

impl SpeculateArgs {
    /// Drafts per step.
    pub(crate) fn speculation(&self) -> Speculation {
        self.spec.unwrap_or(Speculation::Auto)
    }
}

pub(super) fn speculation(text: &str) -> Result<Speculation, String> {
    match text {
        "off" => Ok(Speculation::Off),
        "auto" => Ok(Speculation::Auto),
        _ => match text.parse() {
            Ok(k) if k <= MAX_DRAFTS => Ok(Speculation::Fixed(k)),
            _ => Err(format!("expected off, auto, or a number of drafts up to {MAX_DRAFTS}")),
        },
    }
}

impl DrafterArg {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DrafterArg::Lookup => "lookup",
            DrafterArg::Suffix => "suffix",
            DrafterArg::Model => "model",
        }
    }
}

/// Its spelling on the command line.
pub(crate) fn speculation_name(speculation: Speculation) -> String {
    match speculation {
        Speculation::Off => "off".to_owned(),
        Speculation::Auto => "auto".to_owned(),
        Speculation::Fixed(k) => k.to_string(),
    }
}
