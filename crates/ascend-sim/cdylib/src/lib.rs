//! The C symbols of the simulated Ascend. Every function forwards to the simulator; the lists of names are there.
//!
//! One library has all symbols. `cargo build --release -p aio-ascend-sim-abi` makes it as `libascendcl.so`; for a program
//! that wants `libnnopbase.so` and `libopapi.so` as well, make links of these names to it. They must be links: a copy
//! would be a second device with its own handles.
#![allow(unused_unsafe, reason = "some functions of the simulator are safe to call")]
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "the names and rules of the C interface"
)]

macro_rules! export {
    ($($name:ident = $module:ident::$path:ident($($arg:ident: $t:ty),*) -> $result:ty;)*) => {$(
        #[doc = concat!("`", stringify!($name), "`.")]
        // SAFETY: the name is exported by this library alone.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($arg: $t),*) -> $result {
            // SAFETY: passed on from the caller.
            unsafe { $module::$path($($arg),*) }
        }
    )*};
}

/// Devices, memory, streams, events, graphs, and control of the simulator.
pub mod runtime {
    use std::ffi::{c_char, c_void};

    use aio_ascend_sim::rt::stream::HostFunc;
    use aio_ascend_sim::rt::vmm::Property;
    use aio_ascend_sim::rt::{capture, control, copy, device, event, graph, group, malloc, report, stream, vmm};

    aio_ascend_sim::runtime_symbols!(export);

    macro_rules! refuse {
        ($($name:ident;)*) => {$(
            #[doc = concat!("`", stringify!($name), "`: refused.")]
            // SAFETY: the name is exported by this library alone.
            #[unsafe(no_mangle)]
            pub extern "C" fn $name() -> i32 {
                aio_ascend_sim::rt::refused::$name()
            }
        )*};
    }

    aio_ascend_sim::refused_symbols!(refuse);
}

/// Tensors and executors.
pub mod tensors {
    use std::ffi::{c_char, c_void};

    use aio_ascend_sim::tensor::{create, exec, init, query, rebind};

    aio_ascend_sim::tensor_symbols!(export);
}

/// Operators.
pub mod operators {
    use std::ffi::c_void;

    use aio_ascend_sim::nn::arg::{Arg, Ints, MaybeInts, MaybeNum, MaybeTensor, MaybeText, Num, Tensor, Tensors, Text};
    use aio_ascend_sim::nn::symbols;

    macro_rules! forward {
        (
            operators { $($first:ident, $second:ident, ($($arg:ident: $kind:ty),*), $op:path;)* }
            unsupported { $($no_first:ident, $no_second:ident;)* }
        ) => {
            $(
                #[doc = concat!("First phase of `", stringify!($second), "`.")]
                // SAFETY: the name is exported by this library alone.
                #[unsafe(no_mangle)]
                pub unsafe extern "C" fn $first(
                    $($arg: <$kind as Arg>::C,)* workspace: *mut u64, executor: *mut *mut c_void,
                ) -> i32 {
                    // SAFETY: passed on from the caller.
                    unsafe { symbols::$first($($arg,)* workspace, executor) }
                }
                second!($second);
            )*
            $(
                #[doc = concat!("First phase of `", stringify!($no_second), "`: refused.")]
                // SAFETY: the name is exported by this library alone.
                #[unsafe(no_mangle)]
                pub extern "C" fn $no_first() -> i32 {
                    symbols::$no_first()
                }
                second!($no_second);
            )*
        };
    }

    macro_rules! second {
        ($second:ident) => {
            #[doc = concat!("Second phase of `", stringify!($second), "`.")]
            // SAFETY: the name is exported by this library alone.
            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn $second(
                workspace: *mut c_void,
                bytes: u64,
                executor: *mut c_void,
                stream: *mut c_void,
            ) -> i32 {
                symbols::$second(workspace, bytes, executor, stream)
            }
        };
    }

    aio_ascend_sim::nn_operators!(forward);

    export! {
        aclnnCalculateMatmulWeightSizeV2 = symbols::aclnnCalculateMatmulWeightSizeV2(shape: *const c_void, dtype: i32, size: *mut u64) -> i32;
    }
}
