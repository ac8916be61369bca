//! A task's view of the current step: sizes, addresses, rows, scratch.
//!
//! All threads share one `StepView`. Tasks write through raw pointers, each thread only its own part; the pool's barrier
//! between tasks makes the writes of one task visible to the next.

use crate::kernels::Kernels;
use crate::kernels::attend::KvLayer;
use crate::resident::Resident;
use crate::tensor_loc::TensorLoc;
use crate::weights::Weight;
use aio_backend::{Data, DeviceError};
use aio_ir::{Dims, Op};
use aio_plan::{Loc, Plan};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Consecutive rows of a step that belong to one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SequenceRows {
    /// The sequence.
    pub seq: usize,
    /// Its rows.
    pub rows: Range<usize>,
}

/// The first out-of-range index found by a thread during the step; it makes the step fail.
#[derive(Debug, Default)]
pub(crate) struct Fault(Mutex<Option<DeviceError>>);

impl Fault {
    /// Returns an op's index if it is below `len`; otherwise records the fault and returns `None`.
    pub(crate) fn check(&self, op: Op, what: &str, index: i64, len: usize) -> Option<usize> {
        let found = usize::try_from(index).ok().filter(|i| *i < len);
        if found.is_none() {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| DeviceError::Failed(outside(op, what, index, len as i64)));
        }
        found
    }

    /// The recorded fault, if any.
    pub(crate) fn into_result(self) -> Result<(), DeviceError> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}

fn outside(op: Op, what: &str, index: i64, len: i64) -> String {
    format!("{}: {what} {index} is not below {len}", op.mnemonic())
}

/// The current step.
pub(crate) struct StepView<'a> {
    pub dims: Dims,
    pub kernels: &'a Kernels,
    pub resident: &'a Resident,
    pub plan: &'a Plan,
    pub inputs: &'a [Option<Data<'a>>],
    pub outputs: &'a [*mut u32],
    pub states: &'a [*mut u8],
    /// Bytes between consecutive pages of a layer's keys and values.
    pub kv_page_stride: usize,
    pub arena: *mut u8,
    pub scratch: *mut u8,
    /// Bytes of each thread's private scratch; thread `t`'s starts at `t` times this.
    pub private_bytes: usize,
    /// Byte offset of the scratch shared by all threads.
    pub shared_offset: usize,
    /// Byte offset of the prelude's tables.
    pub prelude_offset: usize,
    /// Byte offset of values that never leave their task.
    pub held_offset: usize,
    pub fault: &'a Fault,
    pub runs: &'a [SequenceRows],
}

// SAFETY: the pointers refer to memory that the executable holds exclusively during the step; within a task each thread
// writes only its own part, and a barrier separates a write from the next task's read.
unsafe impl Sync for StepView<'_> {}

impl<'a> StepView<'a> {
    /// Rows of the step.
    pub(crate) fn rows(&self) -> usize {
        self.dims.rows as usize
    }

    /// The weight at a location.
    pub(crate) fn weight(&self, loc: Loc) -> &'a Weight {
        match loc {
            Loc::Weight(w) => &self.resident.weights[w.index()],
            other => unreachable!("L005: {other} should be a weight"),
        }
    }

    /// The plain f32 vector at a location; `None` if absent.
    pub(crate) fn vector(&self, loc: Loc) -> Option<&'a [f32]> {
        match loc {
            Loc::Absent => None,
            loc => Some(self.weight(loc).f32s()),
        }
    }

    /// An input of 32-bit words.
    pub(crate) fn words(&self, loc: Loc) -> &'a [u32] {
        match self.input(loc) {
            Some(Data::U32(words)) => words,
            _ => unreachable!("Bindings::check: {loc} is bound to u32"),
        }
    }

    /// An input's data; `None` if it is optional and not bound, or absent.
    pub(crate) fn input(&self, loc: Loc) -> Option<Data<'a>> {
        match loc {
            Loc::Input(i) => self.inputs[i.index()],
            Loc::Absent => None,
            other => unreachable!("L005: {other} should be an input"),
        }
    }

    /// `len` floats that an earlier task or the caller wrote.
    ///
    /// # Safety
    /// The location holds at least `len` floats in this step, and nothing writes to them while the slice lives.
    pub(crate) unsafe fn floats(&self, loc: Loc, len: usize) -> &'a [f32] {
        if let Loc::Input(_) = loc {
            return match self.input(loc) {
                Some(Data::F32(values)) => &values[..len],
                _ => unreachable!("Bindings::check: {loc} is bound to f32"),
            };
        }
        // SAFETY: guaranteed by the caller; the address is aligned to 64 bytes, or to 4 in an output.
        unsafe { std::slice::from_raw_parts(self.address(loc).cast(), len) }
    }

    /// Address of a location, for writing.
    pub(crate) fn address(&self, loc: Loc) -> *mut u8 {
        match loc {
            Loc::Buffer(b) => self.arena.wrapping_add(self.plan.buffers[b.index()].offset as usize),
            Loc::Output(o) => self.outputs[o.index()].cast(),
            Loc::State(s) => self.states[s.index()],
            other => unreachable!("L008: {other} is not written"),
        }
    }

    /// Address of a tensor, for writing.
    pub(crate) fn place(&self, place: TensorLoc) -> *mut u8 {
        match place {
            TensorLoc::Planned(loc) => self.address(loc),
            TensorLoc::Held(offset) => self.scratch.wrapping_add(self.held_offset + offset),
        }
    }

    /// Symbol values for a tensor at this location.
    pub(crate) fn dims_at(&self, place: TensorLoc) -> Dims {
        place.dims(self.dims, self.resident.pages)
    }

    /// A layer's keys and values, starting at `start`.
    pub(crate) fn kv_layer(&self, start: *mut u8, kv_heads: usize, head_dim: usize) -> KvLayer {
        let page_stride = self.kv_page_stride / size_of::<half::f16>();
        KvLayer { start: start.cast(), page_stride, kv_heads, head_dim }
    }

    /// A thread's private scratch memory.
    pub(crate) fn private(&self, tid: usize) -> *mut u8 {
        self.scratch.wrapping_add(tid * self.private_bytes)
    }

    /// Scratch memory shared by all threads.
    pub(crate) fn shared(&self) -> *mut u8 {
        self.scratch.wrapping_add(self.shared_offset)
    }
}
