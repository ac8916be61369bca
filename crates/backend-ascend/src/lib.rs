//! The Ascend back end: AscendCL through addresses that are found at run time, so that nothing of CANN is needed to
//! build. A step is one captured ACL graph: the copy of its inputs, all operators, the copy of its results. It takes one
//! submission and one synchronisation.
//!
//! The library is a real one ([`AclLibrary::open`]) or the simulated Ascend in the same process
//! ([`AclLibrary::simulated`], with the feature `simulator`). No NPU has ever run this crate.
//!
//! - **Numbers.** Matrices are halves in the cube's own layout, or 8- and 4-bit integers with a scale for each group of
//!   32; a head of f32, and single products with f32, compute in f32. Values between fused tasks are halves. Keys and
//!   values are halves, as everywhere.
//! - **Lengths.** Fused attention takes the lengths of sequences from the host when it is captured. [`Lengths`] says how
//!   steps get theirs in; `shape.rs` has the buckets. A step offers both ways as forms, unless the options fix one.
//! - **Tokens.** The best token is found on the device. Other sampling, the verification of drafts and committed lengths
//!   are computed by the host from what the step's own submission brings back (`lower/host.rs`).
//!
//! - **Times.** A step's time ends when its results are on the host. What the host computes from them is not part of it.
//!
//! Keys and values past a row's position are hidden by weight 0, so they must be finite. What may not be is set to zero
//! before a step would read it (`tails.rs`). Later rows of the same step are not: in a model whose values overflow halves, a
//! broken row of a sequence also breaks the rows before it in that step. Patched lengths need rows of a sequence at
//! consecutive positions.
//!
//! An unfused plan (`--dispatch op`) rounds in other places than the fused one, so it may choose the other of two nearly
//! equal tokens.
//!
//! Bit equality of rows in different shapes holds on the simulator. On real hardware it is not promised: tiling follows
//! the shape.

mod acl;
mod budget;
mod chips;
mod device;
mod error;
mod executable;
mod lower;
mod options;
mod resident;
mod shape;
mod stage;
mod states;
mod tails;
mod view;
mod walk;
mod weights;

pub use acl::AclLibrary;
pub use device::AscendDevice;
pub use error::AscendError;
pub use options::AscendOptions;
pub use shape::{Lengths, rounded_pages};
