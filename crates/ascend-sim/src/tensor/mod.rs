//! Tensors, scalars, arrays, lists and executors of the simulated `libnnopbase.so`.

pub mod create;
pub mod dtype;
pub mod exec;
pub mod half;
pub mod handles;
pub mod init;
pub mod memory;
pub mod query;
pub mod rebind;
pub mod refuse;
pub mod symbols;
pub mod view;
