//! Locations: where operands and results of tasks are stored.

use aio_ir::entity_id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Indices of ids are below this.
const MAX_INDEX: u32 = u32::MAX - 1;

entity_id! {
    /// A buffer of a plan's arena.
    BufferId, "b"
}
entity_id! {
    /// A weight of a family.
    WeightId, "w"
}
entity_id! {
    /// A state of a family.
    StateId, "s"
}
entity_id! {
    /// An input that a step binds.
    InputId, "in"
}
entity_id! {
    /// An output that a step binds.
    OutputId, "out"
}

/// Where an operand or result is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "WireLoc", try_from = "WireLoc")]
pub enum Loc {
    /// A buffer of the arena.
    Buffer(BufferId),
    /// An input bound by the step.
    Input(InputId),
    /// An output bound by the step.
    Output(OutputId),
    /// A weight.
    Weight(WeightId),
    /// A state, read or updated in place.
    State(StateId),
    /// Nowhere: an optional operand that the model does not have.
    Absent,
}

impl fmt::Display for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loc::Buffer(id) => write!(f, "{id}"),
            Loc::Input(id) => write!(f, "{id}"),
            Loc::Output(id) => write!(f, "{id}"),
            Loc::Weight(id) => write!(f, "{id}"),
            Loc::State(id) => write!(f, "{id}"),
            Loc::Absent => f.write_str("_"),
        }
    }
}

/// The serialised form of a [`Loc`]: its kind and its index.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum WireLoc {
    Buffer(u32),
    Input(u32),
    Output(u32),
    Weight(u32),
    State(u32),
    Absent,
}

impl From<Loc> for WireLoc {
    fn from(loc: Loc) -> WireLoc {
        match loc {
            Loc::Buffer(id) => WireLoc::Buffer(id.index() as u32),
            Loc::Input(id) => WireLoc::Input(id.index() as u32),
            Loc::Output(id) => WireLoc::Output(id.index() as u32),
            Loc::Weight(id) => WireLoc::Weight(id.index() as u32),
            Loc::State(id) => WireLoc::State(id.index() as u32),
            Loc::Absent => WireLoc::Absent,
        }
    }
}

impl TryFrom<WireLoc> for Loc {
    type Error = &'static str;

    fn try_from(loc: WireLoc) -> Result<Loc, &'static str> {
        let index = |i: u32| if i < MAX_INDEX { Ok(i as usize) } else { Err("an index out of range") };
        Ok(match loc {
            WireLoc::Buffer(i) => Loc::Buffer(BufferId::new(index(i)?)),
            WireLoc::Input(i) => Loc::Input(InputId::new(index(i)?)),
            WireLoc::Output(i) => Loc::Output(OutputId::new(index(i)?)),
            WireLoc::Weight(i) => Loc::Weight(WeightId::new(index(i)?)),
            WireLoc::State(i) => Loc::State(StateId::new(index(i)?)),
            WireLoc::Absent => Loc::Absent,
        })
    }
}
