//! Where a step's header, inputs, outputs and constants lie in an executable's own memory.
//!
//! Header and small inputs stand first, so that one copy takes them all; large inputs (a bias for every token) follow with
//! copies of their own. Places are those of the largest step, because a captured graph has them in its arguments.

use crate::args::StepHeader;
use aio_backend::DeviceError;
use aio_ir::{Dims, TensorType};
use aio_plan::Plan;

/// The most recent tokens of a row that a step can bring.
pub(crate) const MAX_RECENT: u32 = 16384;
/// Bytes up to which an input counts as small.
const SMALL_BYTES: usize = 64 << 10;
/// Outputs up to this size pass through pinned memory.
const SMALL_OUTPUT_BYTES: usize = 1 << 20;

/// A place in the step's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spot {
    pub offset: usize,
    /// Bytes of the largest step.
    pub bytes: usize,
    /// Whether it goes with the others in one copy.
    pub small: bool,
}

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct StepMap {
    pub inputs: Vec<Spot>,
    pub outputs: Vec<Spot>,
    /// Where the small inputs end.
    pub small_end: usize,
    /// Where the outputs begin.
    pub outputs_start: usize,
    /// Where the small outputs end; they come first.
    pub outputs_end: usize,
    /// Where the constants begin.
    pub constants: usize,
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
        let sizes = plan.inputs.iter().map(|i| size(&i.name, &i.ty)).collect::<Result<Vec<_>, _>>()?;
        let mut map = StepMap { inputs: vec![Spot::default(); sizes.len()], ..StepMap::default() };
        let mut end = size_of::<StepHeader>();
        for small in [true, false] {
            for (spot, &bytes) in map.inputs.iter_mut().zip(&sizes).filter(|(_, b)| (**b <= SMALL_BYTES) == small) {
                *spot = Spot { offset: end, bytes, small };
                end = (end + bytes).next_multiple_of(16);
            }
            if small {
                map.small_end = end;
            }
        }
        let sizes = plan.outputs.iter().map(|o| size(&o.name, &o.ty)).collect::<Result<Vec<_>, _>>()?;
        map.outputs = vec![Spot::default(); sizes.len()];
        map.outputs_start = end.next_multiple_of(256);
        end = map.outputs_start;
        for small in [true, false] {
            let of_size = |b: &usize| (*b <= SMALL_OUTPUT_BYTES) == small;
            for (spot, &bytes) in map.outputs.iter_mut().zip(&sizes).filter(|(_, b)| of_size(b)) {
                *spot = Spot { offset: end, bytes, small };
                end = (end + bytes).next_multiple_of(16);
            }
            if small {
                map.outputs_end = end;
            }
        }
        map.constants = end.next_multiple_of(256);
        Ok(map)
    }
}
