//! Drivers and helpers of aio's tests; not published.
#![forbid(unsafe_code)]

pub mod needs;
