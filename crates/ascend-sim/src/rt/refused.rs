//! Functions of the documented interface that are exported and refused: a program that imports one still loads, and is
//! told which function it lacks.

use crate::rt::code::{API_NOT_SUPPORT, guard, refuse};

/// Calls `$each!` with the C name of every refused function.
#[macro_export]
macro_rules! refused_symbols {
    ($each:ident) => {
        $each! {
            aclGetDeviceCapability;
            aclmdlRIDebugJsonPrint;
            aclmdlRIDebugPrint;
            aclrtBinaryGetFunction;
            aclrtBinaryLoad;
            aclrtBinaryLoadFromFile;
            aclrtCmoAsync;
            aclrtCtxSetSysParamOpt;
            aclrtGetDeviceInfo;
            aclrtGetVersion;
            aclrtKernelArgsAppend;
            aclrtKernelArgsFinalize;
            aclrtKernelArgsInit;
            aclrtLaunchCallback;
            aclrtLaunchKernel;
            aclrtLaunchKernelWithConfig;
            aclrtMallocWithCfg;
            aclrtPointerGetAttributes;
            aclrtQueryEvent;
            aclrtSetSysParamOpt;
        }
    };
}

macro_rules! define {
    ($($name:ident;)*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`: refused, whatever the arguments.")]
            #[allow(non_snake_case, reason = "the C name")]
            pub extern "C" fn $name() -> i32 {
                no(stringify!($name))
            }
        )*

        /// C name and address of every refused function.
        pub fn table() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), $name as *const () as usize)),*]
        }
    };
}

fn no(name: &str) -> i32 {
    guard(|| refuse(API_NOT_SUPPORT, format!("EE1006: {name} is not implemented by the simulated device")))
}

refused_symbols!(define);
