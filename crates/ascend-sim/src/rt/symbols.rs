//! The runtime's exported functions, each listed once. The C library and the in-process table are made from this list.

/// Calls `$each!` with every function: C name, path, parameters, result.
#[macro_export]
macro_rules! runtime_symbols {
    ($each:ident) => {
        $each! {
            aclInit = device::acl_init(config: *const c_char) -> i32;
            aclFinalize = device::acl_finalize() -> i32;
            aclGetRecentErrMsg = control::recent_err_msg() -> *const c_char;
            aclrtGetSocName = device::get_soc_name() -> *const c_char;
            aclrtGetRunMode = device::get_run_mode(mode: *mut i32) -> i32;
            aclrtGetDeviceCount = device::get_device_count(count: *mut u32) -> i32;
            aclrtSetDevice = device::set_device(device: i32) -> i32;
            aclrtGetDevice = device::get_device(device: *mut i32) -> i32;
            aclrtResetDevice = device::reset_device(device: i32) -> i32;
            aclrtResetDeviceForce = device::reset_device_force(device: i32) -> i32;
            aclrtCreateContext = device::create_context(context: *mut *mut c_void, device: i32) -> i32;
            aclrtDestroyContext = device::destroy_context(context: *mut c_void) -> i32;
            aclrtSetCurrentContext = device::set_current_context(context: *mut c_void) -> i32;
            aclrtGetCurrentContext = device::get_current_context(context: *mut *mut c_void) -> i32;
            aclrtDeviceCanAccessPeer = device::device_can_access_peer(can: *mut i32, device: i32, peer: i32) -> i32;
            aclrtDeviceEnablePeerAccess = device::device_enable_peer_access(peer: i32, flags: u32) -> i32;
            aclrtSynchronizeDevice = stream::synchronize_device() -> i32;
            aclrtSynchronizeDeviceWithTimeout = stream::synchronize_device_with_timeout(ms: i32) -> i32;
            aclrtMalloc = malloc::malloc(address: *mut *mut c_void, bytes: usize, policy: u32) -> i32;
            aclrtMallocAlign32 = malloc::malloc(address: *mut *mut c_void, bytes: usize, policy: u32) -> i32;
            aclrtMallocCached = malloc::malloc(address: *mut *mut c_void, bytes: usize, policy: u32) -> i32;
            aclrtFree = malloc::free(address: *mut c_void) -> i32;
            aclrtMallocHost = malloc::malloc_host(address: *mut *mut c_void, bytes: usize) -> i32;
            aclrtFreeHost = malloc::free_host(address: *mut c_void) -> i32;
            aclrtHostRegister = malloc::host_register(address: *mut c_void, bytes: u64, kind: u32, device: *mut *mut c_void) -> i32;
            aclrtHostUnregister = malloc::host_unregister(address: *mut c_void) -> i32;
            aclrtGetMemInfo = malloc::get_mem_info(attr: u32, free: *mut usize, total: *mut usize) -> i32;
            aclrtMemGetAllocationGranularity = vmm::granularity(prop: *const Property, option: u32, granularity: *mut usize) -> i32;
            aclrtReserveMemAddress = vmm::reserve(address: *mut *mut c_void, bytes: usize, alignment: usize, expected: *mut c_void, flags: u64) -> i32;
            aclrtReleaseMemAddress = vmm::release(address: *mut c_void) -> i32;
            aclrtMallocPhysical = vmm::malloc_physical(handle: *mut *mut c_void, bytes: usize, prop: *const Property, flags: u64) -> i32;
            aclrtFreePhysical = vmm::free_physical(handle: *mut c_void) -> i32;
            aclrtMapMem = vmm::map(address: *mut c_void, bytes: usize, offset: usize, handle: *mut c_void, flags: u64) -> i32;
            aclrtUnmapMem = vmm::unmap(address: *mut c_void) -> i32;
            aclrtMemset = copy::memset(dst: *mut c_void, max: usize, value: i32, count: usize) -> i32;
            aclrtMemsetAsync = copy::memset_async(dst: *mut c_void, max: usize, value: i32, count: usize, stream: *mut c_void) -> i32;
            aclrtMemcpy = copy::memcpy(dst: *mut c_void, max: usize, src: *const c_void, count: usize, kind: i32) -> i32;
            aclrtMemcpyAsync = copy::memcpy_async(dst: *mut c_void, max: usize, src: *const c_void, count: usize, kind: i32, stream: *mut c_void) -> i32;
            aclrtMemcpy2d = copy::memcpy_2d(dst: *mut c_void, dst_pitch: usize, src: *const c_void, src_pitch: usize, width: usize, rows: usize, kind: i32) -> i32;
            aclrtMemcpy2dAsync = copy::memcpy_2d_async(dst: *mut c_void, dst_pitch: usize, src: *const c_void, src_pitch: usize, width: usize, rows: usize, kind: i32, stream: *mut c_void) -> i32;
            aclrtCreateStream = stream::create_stream(stream: *mut *mut c_void) -> i32;
            aclrtCreateStreamWithConfig = stream::create_stream_with_config(stream: *mut *mut c_void, priority: u32, flags: u32) -> i32;
            aclrtDestroyStream = stream::destroy_stream(stream: *mut c_void) -> i32;
            aclrtDestroyStreamForce = stream::destroy_stream_force(stream: *mut c_void) -> i32;
            aclrtSynchronizeStream = stream::synchronize_stream(stream: *mut c_void) -> i32;
            aclrtSynchronizeStreamWithTimeout = stream::synchronize_stream_with_timeout(stream: *mut c_void, ms: i32) -> i32;
            aclrtStreamQuery = stream::stream_query(stream: *mut c_void, status: *mut i32) -> i32;
            aclrtSetStreamFailureMode = stream::set_stream_failure_mode(stream: *mut c_void, mode: u64) -> i32;
            aclrtStreamGetId = stream::stream_get_id(stream: *mut c_void, id: *mut i32) -> i32;
            aclrtLaunchHostFunc = stream::launch_host_func(stream: *mut c_void, func: HostFunc, args: *mut c_void) -> i32;
            aclrtCreateEvent = event::create_event(event: *mut *mut c_void) -> i32;
            aclrtCreateEventWithFlag = event::create_event_with_flag(event: *mut *mut c_void, flags: u32) -> i32;
            aclrtCreateEventExWithFlag = event::create_event_with_flag(event: *mut *mut c_void, flags: u32) -> i32;
            aclrtDestroyEvent = event::destroy_event(event: *mut c_void) -> i32;
            aclrtRecordEvent = event::record_event(event: *mut c_void, stream: *mut c_void) -> i32;
            aclrtStreamWaitEvent = event::stream_wait_event(stream: *mut c_void, event: *mut c_void) -> i32;
            aclrtResetEvent = event::reset_event(event: *mut c_void, stream: *mut c_void) -> i32;
            aclrtSynchronizeEvent = event::synchronize_event(event: *mut c_void) -> i32;
            aclrtSynchronizeEventWithTimeout = event::synchronize_event_with_timeout(event: *mut c_void, ms: i32) -> i32;
            aclrtQueryEventStatus = event::query_event_status(event: *mut c_void, status: *mut i32) -> i32;
            aclrtEventElapsedTime = event::event_elapsed_time(ms: *mut f32, start: *mut c_void, end: *mut c_void) -> i32;
            aclrtEventGetTimestamp = event::event_get_timestamp(event: *mut c_void, us: *mut u64) -> i32;
            aclmdlRICaptureBegin = capture::capture_begin(stream: *mut c_void, mode: i32) -> i32;
            aclmdlRICaptureGetInfo = capture::capture_get_info(stream: *mut c_void, state: *mut i32, graph: *mut *mut c_void) -> i32;
            aclmdlRICaptureThreadExchangeMode = capture::thread_exchange_mode(mode: *mut i32) -> i32;
            aclmdlRICaptureEnd = graph::capture_end(stream: *mut c_void, graph: *mut *mut c_void) -> i32;
            aclmdlRIExecuteAsync = graph::execute_async(graph: *mut c_void, stream: *mut c_void) -> i32;
            aclmdlRIDestroy = graph::destroy(graph: *mut c_void) -> i32;
            aclmdlRICaptureTaskGrpBegin = group::group_begin(stream: *mut c_void) -> i32;
            aclmdlRICaptureTaskGrpEnd = group::group_end(stream: *mut c_void, group: *mut *mut c_void) -> i32;
            aclmdlRICaptureTaskUpdateBegin = group::update_begin(stream: *mut c_void, group: *mut c_void) -> i32;
            aclmdlRICaptureTaskUpdateEnd = group::update_end(stream: *mut c_void) -> i32;
            aioSimControl = control::sim_control(key: *const c_char, value: *const c_char) -> i32;
            aioSimHostTime = report::sim_host_time() -> u64;
            aioSimReport = report::sim_report(buffer: *mut c_char, bytes: usize) -> usize;
            aioSimTraceText = report::sim_trace_text(buffer: *mut c_char, bytes: usize) -> usize;
            aioSimTrace = report::sim_trace(path: *const c_char) -> i32;
        }
    };
}

macro_rules! table {
    ($($name:ident = $module:ident::$path:ident($($arg:ident: $t:ty),*) -> $result:ty;)*) => {
        /// Every function of the runtime: its C name and its address, as `dlsym` would give them.
        pub fn table() -> Vec<(&'static str, usize)> {
            vec![$((stringify!($name), crate::rt::$module::$path as *const () as usize)),*]
        }
    };
}

runtime_symbols!(table);
