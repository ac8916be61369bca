//! A simulated Ascend NPU that speaks the AscendCL ABI: right numbers, strict rules, a modelled clock.

pub mod nn;
pub mod rt;
pub mod symbols;
pub mod task;
pub mod tensor;
