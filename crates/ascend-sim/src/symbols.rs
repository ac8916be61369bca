//! Every exported function of the simulator by its C name, for use in the same process without a dynamic library.

use std::collections::BTreeMap;

/// C name and address of every function.
pub fn all() -> BTreeMap<&'static str, usize> {
    let mut all: BTreeMap<_, _> = crate::rt::symbols::table().into_iter().collect();
    all.extend(crate::rt::refused::table());
    all.extend(crate::tensor::symbols::table());
    all.extend(crate::nn::symbols::functions());
    let size_of_weights = crate::nn::symbols::aclnnCalculateMatmulWeightSizeV2 as *const () as usize;
    all.insert("aclnnCalculateMatmulWeightSizeV2", size_of_weights);
    all
}
