//! Masks over the vocabulary: grammars, schemas, banned words.

use std::fmt::Debug;

/// Says for every place of the output which tokens may stand there.
///
/// It is asked for the rows of drafts too, each with the drafts before it as part of the output, so a mask has to be a
/// function of the output alone. It is applied before sampling, on the device, and so composes with speculation: a draft
/// that the mask bars is never accepted. A row after a barred draft is computed all the same: `output` may be what the mask
/// itself would not allow, and then the answer does not matter.
///
/// Where all tokens are barred, token 0 comes: a grammar that is complete should allow an end-of-generation token.
pub trait LogitMask: Debug + Send + Sync {
    /// Fills in what is added to the logits of the token after `output`, the tokens generated so far: one number a token
    /// of the vocabulary, all 0 when called; negative infinity bars one.
    fn bias(&self, output: &[u32], bias: &mut [f32]);
}
