//! The aclnn operators of the simulated `libopapi.so`: checks in the first phase, numerics in the second.
//!
//! `symbols` lists every operator once; each is a function from its parameters to a plan.

pub mod arange;
pub mod arg;
pub mod attention;
pub mod binary;
pub mod copy;
pub mod gather;
pub mod glu;
pub mod layernorm;
pub mod matmul;
pub mod mode;
pub mod norm;
pub mod nz;
pub mod panel;
pub mod parallel;
pub mod qmatmul;
pub mod quant;
pub mod reduce;
pub mod rotary;
pub mod scatter;
pub mod shape;
pub mod sort;
pub mod symbols;
pub mod triangle;
pub mod unary;
pub mod wqmatmul;
