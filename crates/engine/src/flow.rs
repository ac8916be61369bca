//! Whether generation goes on, said by whoever takes the text.

/// What a caller's sink says after each piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// End after this step.
    Stop,
}
