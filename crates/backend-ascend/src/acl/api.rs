//! The C functions of AscendCL that the back end calls: one list, from which the table of addresses comes.
//!
//! Names, argument order and values are public facts; nothing is copied from vendor headers. [`super::library`] fills
//! the table, from a real library or from the simulator in the same process.

use crate::error::AscendError;
use std::ffi::{c_char, c_void};

/// A handle or an address.
pub(crate) type Ptr = *mut c_void;
/// The second phase of every operator: workspace, its bytes, executor, stream.
pub(crate) type Launch = unsafe extern "C" fn(Ptr, u64, Ptr, Ptr) -> i32;

macro_rules! functions {
    (plain { $($name:ident($($arg:ty),*) -> $result:ty;)* }
     optional { $($extra:ident($($extra_arg:ty),*) -> $extra_result:ty;)* }
     operators { $($first:ident $second:ident($($op_arg:ty),*);)* }) => {
        /// Addresses of the functions.
        #[allow(non_snake_case, reason = "the C names")]
        pub(crate) struct Api {
            $(pub $name: unsafe extern "C" fn($($arg),*) -> $result,)*
            $(pub $extra: Option<unsafe extern "C" fn($($extra_arg),*) -> $extra_result>,)*
            $(pub $first: unsafe extern "C" fn($($op_arg,)* *mut u64, *mut Ptr) -> i32, pub $second: Launch,)*
        }

        impl Api {
            /// Fills the table.
            ///
            /// # Errors
            /// [`AscendError::Symbol`] for the first function that is missing.
            pub(crate) fn of(resolve: &dyn Fn(&'static str) -> Option<usize>) -> Result<Api, AscendError> {
                let find = |name: &'static str| resolve(name).filter(|at| *at != 0).ok_or(AscendError::Symbol { name });
                Ok(Api {
                    // SAFETY: the address is that of the C function of this name, whose parameters are those of the list.
                    $($name: unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($arg),*) -> $result>(find(stringify!($name))?) },)*
                    $($extra: match find(stringify!($extra)) {
                        // SAFETY: as above.
                        Ok(at) => Some(unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($extra_arg),*) -> $extra_result>(at) }),
                        Err(_) => None,
                    },)*
                    $(
                        // SAFETY: as above, with the two results that every first phase has.
                        $first: unsafe { std::mem::transmute::<usize, unsafe extern "C" fn($($op_arg,)* *mut u64, *mut Ptr) -> i32>(find(stringify!($first))?) },
                        // SAFETY: every second phase has these parameters.
                        $second: unsafe { std::mem::transmute::<usize, Launch>(find(stringify!($second))?) },
                    )*
                })
            }
        }
    };
}

functions! {
    plain {
        aclInit(*const c_char) -> i32;
        aclGetRecentErrMsg() -> *const c_char;
        aclrtGetSocName() -> *const c_char;
        aclrtGetDeviceCount(*mut u32) -> i32;
        aclrtSetDevice(i32) -> i32;
        aclrtResetDevice(i32) -> i32;
        aclrtCreateContext(*mut Ptr, i32) -> i32;
        aclrtDestroyContext(Ptr) -> i32;
        aclrtSetCurrentContext(Ptr) -> i32;
        aclrtMalloc(*mut Ptr, usize, u32) -> i32;
        aclrtFree(Ptr) -> i32;
        aclrtMallocHost(*mut Ptr, usize) -> i32;
        aclrtFreeHost(Ptr) -> i32;
        aclrtGetMemInfo(u32, *mut usize, *mut usize) -> i32;
        aclrtMemset(Ptr, usize, i32, usize) -> i32;
        aclrtMemcpy(Ptr, usize, *const c_void, usize, i32) -> i32;
        aclrtMemcpyAsync(Ptr, usize, *const c_void, usize, i32, Ptr) -> i32;
        aclrtCreateStream(*mut Ptr) -> i32;
        aclrtDestroyStream(Ptr) -> i32;
        aclrtSynchronizeStream(Ptr) -> i32;
        aclrtCreateEventExWithFlag(*mut Ptr, u32) -> i32;
        aclrtDestroyEvent(Ptr) -> i32;
        aclrtRecordEvent(Ptr, Ptr) -> i32;
        aclrtStreamWaitEvent(Ptr, Ptr) -> i32;
        aclrtResetEvent(Ptr, Ptr) -> i32;
        aclmdlRICaptureBegin(Ptr, i32) -> i32;
        aclmdlRICaptureEnd(Ptr, *mut Ptr) -> i32;
        aclmdlRIExecuteAsync(Ptr, Ptr) -> i32;
        aclmdlRIDestroy(Ptr) -> i32;
        aclmdlRICaptureTaskGrpBegin(Ptr) -> i32;
        aclmdlRICaptureTaskGrpEnd(Ptr, *mut Ptr) -> i32;
        aclmdlRICaptureTaskUpdateBegin(Ptr, Ptr) -> i32;
        aclmdlRICaptureTaskUpdateEnd(Ptr) -> i32;
        aclCreateTensor(*const i64, u64, i32, *const i64, i64, i32, *const i64, u64, Ptr) -> Ptr;
        aclDestroyTensor(*const c_void) -> i32;
        aclCreateScalar(Ptr, i32) -> Ptr;
        aclDestroyScalar(*const c_void) -> i32;
        aclCreateIntArray(*const i64, u64) -> Ptr;
        aclDestroyIntArray(*const c_void) -> i32;
        aclCreateTensorList(*const Ptr, u64) -> Ptr;
        aclDestroyTensorList(*const c_void) -> i32;
        aclDestroyAclOpExecutor(Ptr) -> i32;
        aclnnCalculateMatmulWeightSizeV2(Ptr, i32, *mut u64) -> i32;
    }
    optional {
        aioSimControl(*const c_char, *const c_char) -> i32;
        aioSimHostTime() -> u64;
        aioSimReport(*mut c_char, usize) -> usize;
        aioSimTraceText(*mut c_char, usize) -> usize;
        aclnnApplyRotaryPosEmbV2GetWorkspaceSize(Ptr, Ptr, Ptr, Ptr, i64, *const c_char, *mut u64, *mut Ptr) -> i32;
        aclnnApplyRotaryPosEmbV2(Ptr, u64, Ptr, Ptr) -> i32;
    }
    operators {
        aclnnAbsGetWorkspaceSize aclnnAbs(Ptr, Ptr);
        aclnnAddGetWorkspaceSize aclnnAdd(Ptr, Ptr, Ptr, Ptr);
        aclnnAddRmsNormGetWorkspaceSize aclnnAddRmsNorm(Ptr, Ptr, Ptr, f64, Ptr, Ptr, Ptr);
        aclnnArangeGetWorkspaceSize aclnnArange(Ptr, Ptr, Ptr, Ptr);
        aclnnCastGetWorkspaceSize aclnnCast(Ptr, i32, Ptr);
        aclnnCatGetWorkspaceSize aclnnCat(Ptr, i64, Ptr);
        aclnnCosGetWorkspaceSize aclnnCos(Ptr, Ptr);
        aclnnCumsumGetWorkspaceSize aclnnCumsum(Ptr, i64, i32, Ptr);
        aclnnDivGetWorkspaceSize aclnnDiv(Ptr, Ptr, Ptr);
        aclnnExpGetWorkspaceSize aclnnExp(Ptr, Ptr);
        aclnnFusedInferAttentionScoreV2GetWorkspaceSize aclnnFusedInferAttentionScoreV2(Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, i64, f64, i64, i64, *const c_char, i64, i64, i64, i64, i64, bool, i64, i64, Ptr, Ptr);
        aclnnGatherV2GetWorkspaceSize aclnnGatherV2(Ptr, i64, Ptr, Ptr);
        aclnnGeluV2GetWorkspaceSize aclnnGeluV2(Ptr, i64, Ptr);
        aclnnGtScalarGetWorkspaceSize aclnnGtScalar(Ptr, Ptr, Ptr);
        aclnnInplaceAddGetWorkspaceSize aclnnInplaceAdd(Ptr, Ptr, Ptr);
        aclnnInplaceCopyGetWorkspaceSize aclnnInplaceCopy(Ptr, Ptr);
        aclnnInplaceFillScalarGetWorkspaceSize aclnnInplaceFillScalar(Ptr, Ptr);
        aclnnInplaceIndexCopyGetWorkspaceSize aclnnInplaceIndexCopy(Ptr, i64, Ptr, Ptr);
        aclnnLayerNormGetWorkspaceSize aclnnLayerNorm(Ptr, Ptr, Ptr, Ptr, f64, Ptr, Ptr, Ptr);
        aclnnLogGetWorkspaceSize aclnnLog(Ptr, Ptr);
        aclnnMatmulGetWorkspaceSize aclnnMatmul(Ptr, Ptr, Ptr, i8);
        aclnnMaxDimGetWorkspaceSize aclnnMaxDim(Ptr, i64, bool, Ptr, Ptr);
        aclnnMeanGetWorkspaceSize aclnnMean(Ptr, Ptr, bool, i32, Ptr);
        aclnnMmGetWorkspaceSize aclnnMm(Ptr, Ptr, Ptr, i8);
        aclnnMulGetWorkspaceSize aclnnMul(Ptr, Ptr, Ptr);
        aclnnNegGetWorkspaceSize aclnnNeg(Ptr, Ptr);
        aclnnReduceSumGetWorkspaceSize aclnnReduceSum(Ptr, Ptr, bool, i32, Ptr);
        aclnnReluGetWorkspaceSize aclnnRelu(Ptr, Ptr);
        aclnnRmsNormGetWorkspaceSize aclnnRmsNorm(Ptr, Ptr, f64, Ptr, Ptr);
        aclnnSigmoidGetWorkspaceSize aclnnSigmoid(Ptr, Ptr);
        aclnnSiluGetWorkspaceSize aclnnSilu(Ptr, Ptr);
        aclnnSinGetWorkspaceSize aclnnSin(Ptr, Ptr);
        aclnnSoftmaxGetWorkspaceSize aclnnSoftmax(Ptr, i64, Ptr);
        aclnnSqrtGetWorkspaceSize aclnnSqrt(Ptr, Ptr);
        aclnnSubGetWorkspaceSize aclnnSub(Ptr, Ptr, Ptr, Ptr);
        aclnnSwiGluGetWorkspaceSize aclnnSwiGlu(Ptr, i64, Ptr);
        aclnnTanhGetWorkspaceSize aclnnTanh(Ptr, Ptr);
        aclnnTransMatmulWeightGetWorkspaceSize aclnnTransMatmulWeight(Ptr);
        aclnnWeightQuantBatchMatmulV2GetWorkspaceSize aclnnWeightQuantBatchMatmulV2(Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, Ptr, i32, Ptr);
    }
}
