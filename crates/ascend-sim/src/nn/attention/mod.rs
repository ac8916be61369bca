//! Fused attention over contiguous or paged keys and values.

pub mod calls;
pub mod layout;
pub mod masks;
pub mod numbers;
pub mod paging;
pub mod params;
pub mod plan;
pub mod rules;
