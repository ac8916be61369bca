//! A kernel in the driver, and its attributes set before the first launch. Used by the driver in `cuda.rs`.

use super::failed::failed;
use crate::driver::must_ask;
use crate::error::CudaError;
use cudarc::driver::result::function;
use cudarc::driver::sys::{self, CUfunction_attribute as Attribute};

/// A kernel, its declared shared memory, and the dynamic shared memory that it is allowed.
pub(super) struct Function {
    pub function: sys::CUfunction,
    pub declared: u32,
    allowed: u32,
}

impl Function {
    /// Wraps a kernel of a loaded module. Querying an attribute also loads its code, which must not happen during graph
    /// capture. `carveout` is the share of a multiprocessor's L1 memory used as shared memory, in percent; `None`
    /// leaves it to the driver.
    pub(super) fn new(function: sys::CUfunction, carveout: Option<u32>) -> Result<Function, CudaError> {
        // SAFETY: the function is of a loaded module.
        let declared =
            unsafe { function::get_function_attribute(function, Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES) };
        let declared = declared.map_err(failed("cuFuncGetAttribute"))?.max(0) as u32;
        let made = Function { function, declared, allowed: 0 };
        if let Some(percent) = carveout {
            made.set(Attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, percent)?;
        }
        Ok(made)
    }

    /// Allows this much dynamic shared memory.
    pub(super) fn allow(&mut self, shared_bytes: u32) -> Result<(), CudaError> {
        if shared_bytes > self.allowed && must_ask(shared_bytes, self.declared) {
            self.set(Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes)?;
            self.allowed = shared_bytes;
        }
        Ok(())
    }

    fn set(&self, attribute: Attribute, value: u32) -> Result<(), CudaError> {
        // SAFETY: `new` was given a function of a loaded module.
        unsafe { function::set_function_attribute(self.function, attribute, value as i32) }
            .map_err(failed("cuFuncSetAttribute"))
    }
}
