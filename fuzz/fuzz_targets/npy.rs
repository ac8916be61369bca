//! Arbitrary bytes as a .npy file: a tensor or a typed error; what is read is written and read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The command line is a binary, so its file is compiled here once more.
#[path = "../../crates/cli/npy/format.rs"]
#[allow(dead_code, reason = "the command line uses the rest")]
mod format;

fuzz_target!(|data: &[u8]| {
    let Ok(npy) = format::parse(data.to_vec()) else { return };
    let written = format::to_bytes(&npy).expect("what was read can be written");
    assert_eq!(format::parse(written), Ok(npy));
});
