//! The layout of a step's header, inputs, outputs and constants.
//!
//! Header and small inputs, and small outputs, belong to the executable and are each contiguous, so that one copy moves
//! all of them. Large ones (logits, a bias for every token) are in memory that all executables of a model share, since
//! a model may have over a hundred buckets but runs one at a time. Offsets are for the largest step, because a captured
//! graph contains them in its arguments.

use crate::args::StepHeader;
use aio_backend::DeviceError;
use aio_ir::{Dims, TensorType};
use aio_plan::Plan;

/// Maximum recent tokens per row in a step.
pub(crate) const MAX_RECENT: u32 = 16384;
/// Maximum size of a small input or output. Also the pinned memory for a large input, whose actual size is usually far
/// below its bound.
const SMALL_BYTES: usize = 64 << 10;

/// The position of an input or output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Offset in the executable's own memory if it is small, otherwise in the shared memory.
    pub offset: usize,
    /// Size in bytes for the largest step.
    pub bytes: usize,
    pub small: bool,
    /// Its offset in pinned memory; for a large input, that of its first bytes.
    pub pinned: usize,
}

impl Spot {
    /// Whether all bytes of an input fit its pinned memory.
    pub(crate) fn pins(&self, bytes: &[u8]) -> bool {
        self.small || bytes.len() <= SMALL_BYTES
    }
}

/// The layout. See the module docs.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepMap {
    pub inputs: Vec<Spot>,
    pub outputs: Vec<Spot>,
    /// Size in bytes of pinned memory for the header and all inputs.
    pub staging_bytes: usize,
    /// Offset of the small outputs.
    pub outputs_start: usize,
    /// Size in bytes of pinned memory for small outputs.
    pub results_bytes: usize,
    /// Offset of the constants.
    pub constants: usize,
    /// Size in bytes in the memory that executables share.
    pub large_bytes: usize,
}

/// Reserves space and returns its offset.
fn take(end: &mut usize, bytes: usize) -> usize {
    let at = *end;
    *end = (at + bytes).next_multiple_of(16);
    at
}

/// Indices ordered by size, smallest first: inputs that vary between steps of a bucket come last, so that the copy for
/// a small step ends early.
fn by_size(sizes: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by_key(|&i| sizes[i]);
    order
}

impl StepMap {
    /// Lays out a plan's bindings.
    ///
    /// # Errors
    /// [`DeviceError::OutOfMemory`] for impossibly large bindings.
    pub(crate) fn new(plan: &Plan, pages: u32) -> Result<StepMap, DeviceError> {
        let dims = Dims { pages, stride: pages, recent: MAX_RECENT, ..plan.bucket.bounds() };
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
        // Small inputs have the same layout in pinned memory as on the device, followed by the first bytes of large
        // ones.
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

    /// Whether a step uses memory that other executables of the model also use.
    pub(crate) fn shares(&self) -> bool {
        self.large_bytes > 0
    }
}
