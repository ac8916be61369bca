//! What a launch may ask for beyond grid and shared memory. Used by the driver in `cuda.rs`.

use cudarc::driver::sys;

fn attribute(id: sys::CUlaunchAttributeID, value: sys::CUlaunchAttributeValue) -> sys::CUlaunchAttribute {
    sys::CUlaunchAttribute { id, pad: [0; 4], value }
}

/// A kernel need not wait for the end of the one before it, which its own code does.
pub(super) fn overlapping() -> sys::CUlaunchAttribute {
    let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
    attribute(id, sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 })
}

/// Blocks are all there at once; the driver refuses a grid for which that cannot be.
pub(super) fn together() -> sys::CUlaunchAttribute {
    let id = sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_COOPERATIVE;
    attribute(id, sys::CUlaunchAttributeValue { cooperative: 1 })
}
