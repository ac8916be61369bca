//! Where a step's header, inputs, outputs and constants lie.
//!
//! Header, small inputs and small outputs are the executable's own, in one piece each, so that one copy takes them all. Large
//! ones (logits, a bias for every token) lie in memory that all executables of a model share, since one may have over a
//! hundred buckets and runs one of them at a time. Places are those of the largest step, because a captured graph has them in
//! its arguments.

use crate::args::StepHeader;
use aio_backend::DeviceError;
use aio_ir::{Dims, TensorType};
use aio_plan::Plan;

/// The most recent tokens of a row that a step can bring.
pub(crate) const MAX_RECENT: u32 = 16384;
/// Bytes up to which an input or output counts as small; also what pinned memory holds of a large input, whose actual size
/// is mostly far below its bound.
const SMALL_BYTES: usize = 64 << 10;

/// A place of an input or output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// In the executable's own memory if it is small, else in the shared memory.
    pub offset: usize,
    /// Bytes of the largest step.
    pub bytes: usize,
    pub small: bool,
    /// Where pinned memory has it, or the first bytes of a large input.
    pub pinned: usize,
}

impl Spot {
    /// Whether pinned memory takes all bytes of an input.
    pub(crate) fn pins(&self, bytes: &[u8]) -> bool {
        self.small || bytes.len() <= SMALL_BYTES
    }
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepMap {
    pub inputs: Vec<Spot>,
    pub outputs: Vec<Spot>,
    /// Bytes of pinned memory for the header and all inputs.
    pub staging_bytes: usize,
    /// Where the small outputs begin.
    pub outputs_start: usize,
    /// Bytes of pinned memory for small outputs.
    pub results_bytes: usize,
    /// Where the constants begin.
    pub constants: usize,
    /// Bytes in the memory that executables share.
    pub large_bytes: usize,
}

/// Takes room; where it begins.
fn take(end: &mut usize, bytes: usize) -> usize {
    let at = *end;
    *end = (at + bytes).next_multiple_of(16);
    at
}

/// Places of this size, the small ones first and by size: what differs between steps of a bucket comes last, so that the copy
/// of a small step ends early.
fn by_size(sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| sizes[i]);
    order
}

impl StepMap {
    /// Lays out a plan's bindings.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] for bindings of a size that no memory has.
    pub(crate) fn new(plan: &Plan, pages: u32) -> Result<StepMap, DeviceError> {
        let dims = Dims { pages, recent: MAX_RECENT, ..plan.bucket.bounds() };
        let size = |name: &str, ty: &TensorType| {
            let large = || DeviceError::OutOfMemory { what: format!("binding `{name}`"), bytes: u64::MAX };
            ty.bytes(&dims).and_then(|b| usize::try_from(b).ok()).filter(|&b| b < 1 << 46).ok_or_else(large)
        };
        let inputs = plan.inputs.iter().map(|i| size(&i.name, &i.ty)).collect::<Result<Vec<_>, _>>()?;
        let outputs = plan.outputs.iter().map(|o| size(&o.name, &o.ty)).collect::<Result<Vec<_>, _>>()?;
        let mut map = StepMap {
            inputs: vec![Spot::default(); inputs.len()],
            outputs: vec![Spot::default(); outputs.len()],
            ..StepMap::default()
        };
        let mut own = size_of::<StepHeader>();
        for i in by_size(&inputs) {
            let bytes = inputs[i];
            let small = bytes <= SMALL_BYTES;
            let offset = take(if small { &mut own } else { &mut map.large_bytes }, bytes);
            map.inputs[i] = Spot { offset, bytes, small, pinned: offset };
        }
        // Small inputs lie in pinned memory as on the device; the first bytes of large ones follow.
        map.staging_bytes = own;
        for spot in map.inputs.iter_mut().filter(|s| !s.small) {
            spot.pinned = take(&mut map.staging_bytes, SMALL_BYTES);
        }
        map.outputs_start = own.next_multiple_of(256);
        let mut end = map.outputs_start;
        for (spot, &bytes) in map.outputs.iter_mut().zip(&outputs) {
            let small = bytes <= SMALL_BYTES;
            let offset = take(if small { &mut end } else { &mut map.large_bytes }, bytes);
            *spot = Spot { offset, bytes, small, pinned: offset.saturating_sub(map.outputs_start) };
        }
        map.results_bytes = end - map.outputs_start;
        map.constants = end.next_multiple_of(256);
        Ok(map)
    }

    /// Whether a step uses memory that other executables of the model use too.
    pub(crate) fn shares(&self) -> bool {
        self.large_bytes > 0
    }
}
