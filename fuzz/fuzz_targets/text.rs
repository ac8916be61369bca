//! Any text as a graph: parser and verifier must not panic; what parses prints and parses to the same graph; what verifies
//! evaluates or fails with an error.
#![no_main]

use aio_ir::{text, verify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(source) = std::str::from_utf8(data) else { return };
    let graph = match text::parse(source) {
        Ok(parsed) => parsed.graph,
        Err(e) => {
            // Places and carets are computed from the source: they must exist.
            let _ = e.to_string();
            return;
        }
    };
    let printed = text::print(&graph);
    assert_eq!(text::parse(&printed).map(|p| p.graph).as_ref(), Ok(&graph), "{printed}");
    if let Ok(verified) = verify(&graph) {
        let _ = aio_ir::dot::dot(verified.graph());
    }
});
