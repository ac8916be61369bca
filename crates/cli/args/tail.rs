//! The tail of a step, as a flag of `aio graph`.

use aio::plan::Tail;
use clap::ValueEnum;

/// What to return for the output rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TailArg {
    /// The most likely token.
    Argmax,
    /// A sampled token.
    Sample,
    /// The logits themselves.
    Logits,
    /// The last hidden state after its norm.
    Hidden,
}

impl TailArg {
    /// The compiler's value for it.
    pub(crate) fn tail(self) -> Tail {
        match self {
            TailArg::Argmax => Tail::Argmax,
            TailArg::Sample => Tail::Sample,
            TailArg::Logits => Tail::Logits,
            TailArg::Hidden => Tail::Hidden,
        }
    }
}
