//! Whether generation continues, as decided by the receiver of the text.

/// The sink's answer after each piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue.
    Continue,
    /// End after this step.
    Stop,
}
