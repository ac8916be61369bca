//! Masks over the vocabulary: grammars, schemas, banned words.

use std::fmt::Debug;

/// Decides which tokens may come next at each position of the output.
///
/// It is called for the rows of drafts too, each with the preceding drafts as part of the output, so a mask must be a
/// function of the output alone. It is applied before sampling, on the device, and therefore works with speculation: a
/// draft that the mask bars is never accepted. Rows after a barred draft are still computed. Their `output` may be one
/// that the mask would not allow; the answer is then ignored.
///
/// If all tokens are barred, token 0 is chosen. A grammar that is complete should therefore allow an end-of-generation
/// token.
pub trait LogitMask: Debug + Send + Sync {
    /// Writes the values to add to the logits of the token after `output`, the tokens generated so far: one per token
    /// of the vocabulary. They are all 0 when called; negative infinity bars a token.
    fn bias(&self, output: &[u32], bias: &mut [f32]);
}
