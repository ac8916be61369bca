//! The default model on the simulated Ascend: the golden rule, speculation, dispatch, and both ways of lengths.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

