//! The inputs and outputs of a step, by meaning.
//!
//! Graphs name these inputs and outputs. Passes, the engine and back ends use the enums, so each name is written once.

macro_rules! step_names {
    ($(#[$doc:meta])* $kind:ident { $($(#[$about:meta])* $variant:ident $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind { $($(#[$about])* $variant,)* }

        impl $kind {
            /// All variants.
            pub const ALL: &'static [$kind] = &[$($kind::$variant,)*];

            /// Its name in graphs.
            pub const fn name(self) -> &'static str {
                match self { $($kind::$variant => $name,)* }
            }

            /// The variant with this name.
            pub fn from_name(name: &str) -> Option<$kind> {
                $kind::ALL.iter().copied().find(|s| s.name() == name)
            }
        }
    };
}

step_names! {
    /// An input that the engine binds.
    StepInput {
        /// u32\[rows\]: the token of each row.
        Tokens "tokens",
        /// u32\[rows\]: the position of each row in its sequence.
        Positions "positions",
        /// u32\[rows\]: the sequence of each row, by index in the step. Rows of a sequence are adjacent.
        RowSeq "row_seq",
        /// u32\[seqs, stride\]: the pages of each sequence, in order of position.
        PageTable "page_table",
        /// u32\[seqs, 2\]: the slot that each sequence reads, 0 for an empty one, and the slot that it writes, which no
        /// other sequence of the step uses and which is not yet its own: it becomes so when the step has succeeded.
        Slots "slots",
        /// u32\[seqs, 2\]: for each sequence, how many pending rows of the slot that it reads are accepted, and how many
        /// of its rows in the step are certain; the others are drafts. The accepted count may be lower than what a step
        /// verified, for example after a stop string. In a burst it would lie on the device, where the steps before
        /// verified it.
        SlotRows "slot_rows",
        /// u32\[outs\]: the rows that produce an output.
        OutRows "out_rows",
        /// f32\[outs, 7\]: sampling parameters of each output row, as the op `sample` takes them.
        Sampling "sampling",
        /// u32\[outs, 4\]: seed low, seed high, choice and position of each output row.
        Noise "noise",
        /// i32\[outs, recent\]: recent tokens that penalties apply to; -1 is padding.
        Recent "recent",
        /// f32\[outs, vocabulary\]: added to the logits. Optional.
        LogitBias "logit_bias",
        /// u32\[seqs, 2\]: index among the output rows of the sequence's last token, and the number of drafts after it.
        Spans "spans",
        /// u32\[seqs\]: positions committed regardless of the drafts.
        Lens "lens",
    }
}

step_names! {
    /// An output that the engine reads.
    StepOutput {
        /// f32\[outs, vocabulary\].
        Logits "logits",
        /// f32\[outs, width\]: the last hidden state of each output row, after its norm.
        Hidden "hidden",
        /// u32\[outs\]: the token that follows each output row, or `NO_TOKEN`.
        Token "token",
        /// u32\[seqs\]: number of accepted drafts, those that plain decoding would have produced.
        Accepted "accepted",
        /// u32\[seqs\]: the token after the accepted drafts, or `NO_TOKEN`.
        Next "next",
        /// u32\[seqs\]: committed positions, including accepted drafts.
        Lens "lens",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for &input in StepInput::ALL {
            assert_eq!(StepInput::from_name(input.name()), Some(input));
        }
        for &output in StepOutput::ALL {
            assert_eq!(StepOutput::from_name(output.name()), Some(output));
        }
    }
}
