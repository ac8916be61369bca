//! Keeps the example of a custom back end working: what it supports agrees with the oracle, and so do its tokens.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "the example's own `main` prints what the test looks at")]
#[path = "../examples/custom_backend.rs"]
mod custom_backend;

#[test]
fn the_toy_back_end_passes_what_it_supports_and_generates_the_oracles_tokens() {
    let (summary, [toy, oracle]) = custom_backend::show().unwrap();
    assert!(summary.failed.is_empty(), "{summary}");
    let unsupported: usize = summary.unsupported.values().sum();
    assert_eq!(summary.passed + unsupported, aio::conformance::cases().len());
    assert!(summary.passed > 200, "{summary}");
    assert_eq!(toy, oracle);
    assert_eq!(toy.len(), 16);
}

#[test]
fn the_example_is_short_enough_to_read() {
    let text = include_str!("../examples/custom_backend.rs");
    assert!(text.lines().count() <= 300, "{} lines", text.lines().count());
}
