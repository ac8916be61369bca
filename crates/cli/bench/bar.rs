//! The progress bar of a benchmark.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `tests` tests.
pub(crate) fn bar(tests: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    ProgressBar::new(tests).with_style(style.expect("the template is well formed"))
}
