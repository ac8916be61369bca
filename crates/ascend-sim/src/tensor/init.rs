//! Start and end of the operator library: optional calls that need nothing here, since operators are always there.

use std::ffi::c_char;

/// `aclnnInit`: the configuration file is ignored.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclnnInit(_config: *const c_char) -> i32 {
    0
}

/// `aclnnFinalize`.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclnnFinalize() -> i32 {
    0
}
