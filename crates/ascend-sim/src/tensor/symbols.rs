//! The exported functions of tensors and executors, each listed once. The C library is made from this list.

/// Calls `$each!` with every function: C name, path, parameters, result.
#[macro_export]
macro_rules! tensor_symbols {
    ($each:ident) => {
        $each! {
            aclCreateTensor = create::aclCreateTensor(dims: *const i64, rank: u64, dtype: i32, strides: *const i64, offset: i64, format: i32, storage: *const i64, storage_rank: u64, data: *mut c_void) -> *mut c_void;
            aclInitTensor = create::aclInitTensor(handle: *mut c_void, dims: *const i64, rank: u64, dtype: i32, strides: *const i64, offset: i64, format: i32, storage: *const i64, storage_rank: u64, data: *mut c_void) -> i32;
            aclCreateScalar = create::aclCreateScalar(value: *mut c_void, dtype: i32) -> *mut c_void;
            aclCreateIntArray = create::aclCreateIntArray(value: *const i64, size: u64) -> *mut c_void;
            aclCreateFloatArray = create::aclCreateFloatArray(value: *const f32, size: u64) -> *mut c_void;
            aclCreateBoolArray = create::aclCreateBoolArray(value: *const u8, size: u64) -> *mut c_void;
            aclCreateTensorList = create::aclCreateTensorList(value: *const *const c_void, size: u64) -> *mut c_void;
            aclCreateScalarList = create::aclCreateScalarList(value: *const *const c_void, size: u64) -> *mut c_void;
            aclDestroyTensor = create::aclDestroyTensor(handle: *const c_void) -> i32;
            aclDestroyScalar = create::aclDestroyScalar(handle: *const c_void) -> i32;
            aclDestroyIntArray = create::aclDestroyIntArray(handle: *const c_void) -> i32;
            aclDestroyFloatArray = create::aclDestroyFloatArray(handle: *const c_void) -> i32;
            aclDestroyBoolArray = create::aclDestroyBoolArray(handle: *const c_void) -> i32;
            aclDestroyTensorList = create::aclDestroyTensorList(handle: *const c_void) -> i32;
            aclDestroyScalarList = create::aclDestroyScalarList(handle: *const c_void) -> i32;
            aclGetViewShape = query::aclGetViewShape(handle: *const c_void, dims: *mut *mut i64, count: *mut u64) -> i32;
            aclGetStorageShape = query::aclGetStorageShape(handle: *const c_void, dims: *mut *mut i64, count: *mut u64) -> i32;
            aclGetViewStrides = query::aclGetViewStrides(handle: *const c_void, dims: *mut *mut i64, count: *mut u64) -> i32;
            aclGetViewOffset = query::aclGetViewOffset(handle: *const c_void, to: *mut i64) -> i32;
            aclGetFormat = query::aclGetFormat(handle: *const c_void, to: *mut i32) -> i32;
            aclGetDataType = query::aclGetDataType(handle: *const c_void, to: *mut i32) -> i32;
            aclGetRawTensorAddr = query::aclGetRawTensorAddr(handle: *const c_void, to: *mut *mut c_void) -> i32;
            aclSetRawTensorAddr = query::aclSetRawTensorAddr(handle: *mut c_void, addr: *mut c_void) -> i32;
            aclnnInit = init::aclnnInit(config: *const c_char) -> i32;
            aclnnFinalize = init::aclnnFinalize() -> i32;
            aclSetAclOpExecutorRepeatable = exec::aclSetAclOpExecutorRepeatable(executor: *mut c_void) -> i32;
            aclDestroyAclOpExecutor = exec::aclDestroyAclOpExecutor(executor: *mut c_void) -> i32;
            aclSetInputTensorAddr = rebind::aclSetInputTensorAddr(executor: *mut c_void, index: usize, tensor: *mut c_void, addr: *mut c_void) -> i32;
            aclSetOutputTensorAddr = rebind::aclSetOutputTensorAddr(executor: *mut c_void, index: usize, tensor: *mut c_void, addr: *mut c_void) -> i32;
            aclSetTensorAddr = rebind::aclSetTensorAddr(executor: *mut c_void, index: usize, tensor: *mut c_void, addr: *mut c_void) -> i32;
            aclSetDynamicInputTensorAddr = rebind::aclSetDynamicInputTensorAddr(executor: *mut c_void, index: usize, relative: usize, list: *mut c_void, addr: *mut c_void) -> i32;
            aclSetDynamicOutputTensorAddr = rebind::aclSetDynamicOutputTensorAddr(executor: *mut c_void, index: usize, relative: usize, list: *mut c_void, addr: *mut c_void) -> i32;
        }
    };
}

macro_rules! table {
    ($($name:ident = $module:ident::$path:ident($($arg:ident: $t:ty),*) -> $result:ty;)*) => {
        /// Every function of tensors and executors: its C name and its address.
        pub fn table() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), super::$module::$path as *const () as usize)),*]
        }
    };
}

tensor_symbols!(table);
