//! Slots: where operands and results of tasks are stored.

use aio_ir::entity_id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The largest index of an id.
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
#[serde(into = "WireSlot", try_from = "WireSlot")]
pub enum Slot {
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

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Buffer(id) => write!(f, "{id}"),
            Slot::Input(id) => write!(f, "{id}"),
            Slot::Output(id) => write!(f, "{id}"),
            Slot::Weight(id) => write!(f, "{id}"),
            Slot::State(id) => write!(f, "{id}"),
            Slot::Absent => f.write_str("_"),
        }
    }
}

/// The serialised form of a [`Slot`]: its kind and its index.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum WireSlot {
    Buffer(u32),
    Input(u32),
    Output(u32),
    Weight(u32),
    State(u32),
    Absent,
}

impl From<Slot> for WireSlot {
    fn from(slot: Slot) -> WireSlot {
        match slot {
            Slot::Buffer(id) => WireSlot::Buffer(id.index() as u32),
            Slot::Input(id) => WireSlot::Input(id.index() as u32),
            Slot::Output(id) => WireSlot::Output(id.index() as u32),
            Slot::Weight(id) => WireSlot::Weight(id.index() as u32),
            Slot::State(id) => WireSlot::State(id.index() as u32),
            Slot::Absent => WireSlot::Absent,
        }
    }
}

impl TryFrom<WireSlot> for Slot {
    type Error = &'static str;

    fn try_from(slot: WireSlot) -> Result<Slot, &'static str> {
        let index = |i: u32| if i < MAX_INDEX { Ok(i as usize) } else { Err("an index out of range") };
        Ok(match slot {
            WireSlot::Buffer(i) => Slot::Buffer(BufferId::new(index(i)?)),
            WireSlot::Input(i) => Slot::Input(InputId::new(index(i)?)),
            WireSlot::Output(i) => Slot::Output(OutputId::new(index(i)?)),
            WireSlot::Weight(i) => Slot::Weight(WeightId::new(index(i)?)),
            WireSlot::State(i) => Slot::State(StateId::new(index(i)?)),
            WireSlot::Absent => Slot::Absent,
        })
    }
}
