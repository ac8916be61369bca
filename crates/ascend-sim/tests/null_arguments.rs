//! Every function survives zeros for all its arguments: it succeeds where zeros make sense, else it refuses with a message.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use rt_support::*;

/// Functions for which zeros are good arguments: device 0, the default stream, an empty array.
const SUCCEED: &[&str] = &[
    "aclFinalize",
    "aclnnFinalize",
    "aclnnInit",
    "aclrtDeviceEnablePeerAccess",
    "aclrtResetDevice",
    "aclrtResetDeviceForce",
    "aclrtSetDevice",
    "aclrtSetStreamFailureMode",
    "aclrtSynchronizeDevice",
    "aclrtSynchronizeStream",
];

/// Functions that give a pointer or a size and no status.
const NO_STATUS: &[&str] = &[
    "aclCreateBoolArray",
    "aclCreateFloatArray",
    "aclCreateIntArray",
    "aclCreateScalar",
    "aclCreateScalarList",
    "aclCreateTensor",
    "aclCreateTensorList",
    "aclGetRecentErrMsg",
    "aclrtGetSocName",
    "aioSimReport",
    "aioSimHostTime",
    "aioSimTraceText",
];

macro_rules! many {
    ($t:ty: $($_n:literal)*) => { unsafe extern "C" fn($(many!(@ $_n $t)),*) -> i32 };
    (@ $_n:literal $t:ty) => { $t };
}

/// More parameters than any function has.
type Any = many!(usize: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37
    38 39 40 41 42 43 44 45 46 47 48 49);

fn with_zeros(address: usize) -> i32 {
    // SAFETY: in the C calling convention the caller removes the arguments, so a function ignores those that it does not
    // have; zeros are valid values of all parameter types.
    unsafe {
        let call: Any = std::mem::transmute::<*const (), Any>(address as *const ());
        call(
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        )
    }
}

#[test]
fn every_function_takes_zeros_without_harm() {
    let _one = fresh();
    for (name, address) in aio_ascend_sim::symbols::all() {
        reopen();
        aio_ascend_sim::task::record(&aio_ascend_sim::task::Error { code: 0, message: String::new() });
        let status = with_zeros(address);
        if NO_STATUS.contains(&name) {
            continue;
        }
        // These are the codes of a panic that was caught.
        assert!(status != 500_000 && status != 561_000, "{name}: {}", last_text());
        if SUCCEED.contains(&name) {
            assert_eq!(status, 0, "{name}: {}", last_text());
        } else {
            assert_ne!(status, 0, "{name} accepts zeros");
            assert!(!last_text().is_empty(), "{name} gives no message for {status}");
        }
    }
}

fn last_text() -> String {
    aio_ascend_sim::task::last_message()
}
