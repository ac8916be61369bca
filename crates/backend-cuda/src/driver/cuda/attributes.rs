//! Launch attributes beyond grid and shared memory. Used by the driver in `cuda.rs`.

use cudarc::driver::sys;

fn attribute(id: sys::CUlaunchAttributeID, value: sys::CUlaunchAttributeValue) -> sys::CUlaunchAttribute {
    sys::CUlaunchAttribute { id, pad: [0; 4], value }
}

/// The kernel need not wait for the end of the previous one; its own code waits.
pub(super) fn overlapping() -> sys::CUlaunchAttribute {
    let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute(id, sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 })
}

/// All blocks are resident at once. The driver rejects a grid for which this is impossible.
pub(super) fn together() -> sys::CUlaunchAttribute {
    let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attribute(id, sys::CUlaunchAttributeValue { cooperative: 1 })
}
