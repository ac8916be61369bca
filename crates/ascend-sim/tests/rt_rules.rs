//! A table of the runtime's rules for devices and memory: what is refused, with which code, and what the message names.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod rt_support;

use std::ptr::{null, null_mut};

use aio_ascend_sim::rt::control::control;
use aio_ascend_sim::rt::{copy, device, malloc, stream, thread, vmm};
use rt_support::*;

const PAGE: usize = 2 << 20;

fn physical(bytes: usize) -> Ptr {
    let (mut handle, property) = (null_mut(), [0u64; 4]);
    // SAFETY: a live result; the property is large enough.
    ok(unsafe { vmm::malloc_physical(&mut handle, bytes, property.as_ptr().cast(), 0) });
    handle
}

fn reserved(bytes: usize) -> Ptr {
    let mut at = null_mut();
    // SAFETY: a live result.
    ok(unsafe { vmm::reserve(&mut at, bytes, 0, null_mut(), 0) });
    at
}

fn past(at: Ptr, bytes: usize) -> Ptr {
    (at as usize + bytes) as Ptr
}

/// A copy of two rows of 4 bytes.
fn rows(dst: Ptr, dst_pitch: usize, src: Ptr, src_pitch: usize, kind: i32) -> i32 {
    // SAFETY: tests pass memory of that size.
    unsafe { copy::memcpy_2d(dst, dst_pitch, src, src_pitch, 4, 2, kind) }
}

const DEVICES_CONTEXTS_AND_THREADS: &[Rule] = &[
    ("a second init", 100_002, "already", || device::acl_init(null())),
    ("finalize without init", 100_037, "again", || {
        ok(device::acl_finalize());
        device::acl_finalize()
    }),
    ("a call before init", 100_001, "aclInit", || {
        ok(device::acl_finalize());
        with_out!(malloc::malloc: null_mut(), 4, 0)
    }),
    ("a device that does not exist", 107_001, "device 1", || device::set_device(1)),
    ("a context on such a device", 107_001, "device -1", || with_out!(device::create_context: null_mut(), -1)),
    ("a reset of a device that is not open", 107_001, "not been set", || {
        ok(device::reset_device(0));
        device::reset_device(0)
    }),
    ("the implicit context is not destroyed by hand", 107_000, "implicit", || {
        device::destroy_context(thread::context() as Ptr)
    }),
    ("a null result", 100_000, "is null", || {
        // SAFETY: null is refused.
        unsafe { device::get_device(null_mut()) }
    }),
    ("peer access with flags", 100_000, "flags", || device::device_enable_peer_access(0, 1)),
    ("memory from a thread without a context", 107_002, "no current context", || {
        elsewhere(|| with_out!(malloc::malloc: null_mut(), 4, 0))
    }),
    ("a stream used by a thread without a context", 107_002, "no current context", || {
        let s = new_stream() as usize;
        elsewhere(move || stream::synchronize_stream(s as Ptr))
    }),
    ("a function that is not simulated", 200_001, "aclrtLaunchKernel", || {
        aio_ascend_sim::rt::refused::aclrtLaunchKernel()
    }),
];

#[test]
fn devices_contexts_and_threads() {
    check(DEVICES_CONTEXTS_AND_THREADS);
}

const MEMORY: &[Rule] = &[
    ("no bytes", 100_000, "size is 0", || with_out!(malloc::malloc: null_mut(), 0, 0)),
    ("an unknown policy", 107_018, "policy 0x9", || with_out!(malloc::malloc: null_mut(), 4, 9)),
    (
        "more than the device has",
        207_001,
        "out of device memory",
        || with_out!(malloc::malloc: null_mut(), 65 << 30, 0),
    ),
    ("a size that wraps", 207_001, "out of device memory", || with_out!(malloc::malloc: null_mut(), usize::MAX, 0)),
    ("an injected failure", 207_001, "as asked for", || {
        control("fail_malloc", "2").unwrap();
        device_memory(4);
        with_out!(malloc::malloc: null_mut(), 4, 0)
    }),
    ("a double free", 107_000, "freed already", || {
        let d = device_memory(4);
        ok(malloc::free(d));
        malloc::free(d)
    }),
    ("free inside a block", 107_000, "not the start", || malloc::free(past(device_memory(64), 8))),
    ("free of null", 100_000, "is null", || malloc::free(null_mut())),
    ("device memory freed as host memory", 107_000, "pinned host", || malloc::free_host(device_memory(4))),
    ("a double free of pinned memory", 107_000, "freed already", || {
        let h = pinned(4);
        ok(malloc::free_host(h));
        malloc::free_host(h)
    }),
    ("registering nothing", 107_000, "0 bytes", || {
        let (mut host, mut to) = (0u64, null_mut());
        // SAFETY: a live value and result.
        unsafe { malloc::host_register((&raw mut host).cast(), 0, 0, &mut to) }
    }),
    ("registering device memory", 107_000, "overlaps", || {
        let (d, mut to) = (device_memory(64), null_mut());
        // SAFETY: a live result; the memory is live.
        unsafe { malloc::host_register(d, 64, 0, &mut to) }
    }),
    ("unregistering what was not registered", 107_000, "not mapped or registered", || {
        malloc::host_unregister(pinned(4))
    }),
    ("an unknown attribute", 107_000, "attribute 99", || {
        let (mut free, mut total) = (0, 0);
        // SAFETY: live results.
        unsafe { malloc::get_mem_info(99, &mut free, &mut total) }
    }),
    ("memset past maxCount", 107_000, "maxCount", || copy::memset(device_memory(8), 4, 0, 8)),
    ("memset past the block", 107_000, "past the end", || copy::memset(device_memory(8), 16, 0, 16)),
    ("memset of host memory", 107_000, "not device memory", || copy::memset(pinned(8), 8, 0, 8)),
    ("memset of freed memory", 107_000, "use after free", || {
        let d = device_memory(8);
        ok(malloc::free(d));
        copy::memset(d, 8, 0, 8)
    }),
    ("an asynchronous memset past maxCount", 107_000, "maxCount", || {
        copy::memset_async(device_memory(8), 4, 0, 8, null_mut())
    }),
];

#[test]
fn allocation_and_filling() {
    check(MEMORY);
}

const COPIES: &[Rule] = &[
    ("more than destMax", 107_000, "destMax 4", || copy_sync(device_memory(8), 4, pinned(8), 8, 1)),
    ("no bytes", 100_000, "copy of 0 bytes", || copy_sync(device_memory(8), 8, pinned(8), 0, 1)),
    ("from null", 100_000, "copy of", || copy_sync(device_memory(8), 8, null_mut(), 8, 1)),
    ("past the source", 107_000, "past the end", || copy_sync(device_memory(16), 16, pinned(8), 16, 1)),
    ("a kind that the addresses contradict", 107_000, "says host", || {
        copy_sync(device_memory(8), 8, device_memory(8), 8, 1)
    }),
    ("an unknown kind", 100_000, "kind of copy 8", || copy_sync(device_memory(8), 8, pinned(8), 8, 8)),
    ("host to host, asynchronous", 207_000, "host to host", || copy_async(pinned(8), pinned(8), 8, 0, null_mut())),
    ("asynchronous from freed memory", 107_000, "use after free", || {
        let d = device_memory(8);
        ok(malloc::free(d));
        copy_async(pinned(8), d, 8, 2, null_mut())
    }),
    ("freed between submission and execution", 507_053, "use after free", || {
        let d = device_memory(8);
        ok(copy_async(pinned(8), d, 8, 2, null_mut()));
        ok(malloc::free(d));
        stream::synchronize_stream(null_mut())
    }),
    ("from freed pinned memory", 107_000, "use after free", || {
        let h = pinned(8);
        ok(malloc::free_host(h));
        copy_async(device_memory(8), h, 8, 1, null_mut())
    }),
    ("pinned memory freed between submission and execution", 507_053, "use after free", || {
        let h = pinned(8);
        ok(copy_async(device_memory(8), h, 8, 1, null_mut()));
        ok(malloc::free_host(h));
        stream::synchronize_stream(null_mut())
    }),
    ("rows wider than a pitch", 107_000, "pitch (2, 8)", || rows(device_memory(16), 2, pinned(16), 8, 1)),
    ("rows past the block", 107_000, "past the end", || rows(device_memory(16), 16, pinned(16), 8, 1)),
    ("rows from device to device", 207_000, "between host and device", || {
        rows(device_memory(16), 8, device_memory(16), 8, 3)
    }),
    ("rows from null", 100_000, "2 rows", || rows(device_memory(16), 8, null_mut(), 8, 1)),
];

#[test]
fn copying() {
    check(COPIES);
}

const MAPPED_MEMORY: &[Rule] = &[
    ("physical memory in parts of a granule", 100_000, "multiple of", || {
        let (mut handle, property) = (null_mut(), [0u64; 4]);
        // SAFETY: a live result; the property is large enough.
        unsafe { vmm::malloc_physical(&mut handle, PAGE + 4096, property.as_ptr().cast(), 0) }
    }),
    ("more physical memory than the device has", 207_001, "out of device memory", || {
        let (mut handle, property) = (null_mut(), [0u64; 4]);
        // SAFETY: a live result; the property is large enough.
        unsafe { vmm::malloc_physical(&mut handle, 65 << 30, property.as_ptr().cast(), 0) }
    }),
    ("a granularity that is neither minimum nor recommended", 100_000, "option 2", || {
        let (property, mut to) = ([0u64; 4], 0);
        // SAFETY: a live result; the property is large enough.
        unsafe { vmm::granularity(property.as_ptr().cast(), 2, &mut to) }
    }),
    ("a wished address", 107_000, "reserve of", || with_out!(vmm::reserve: null_mut(), PAGE, 0, 0x1000 as Ptr, 0)),
    ("mapping outside a reservation", 107_000, "not inside", || {
        let at = reserved(PAGE);
        vmm::map(past(at, PAGE), PAGE, 0, physical(PAGE), 0)
    }),
    ("mapping a part", 107_000, "once and whole", || vmm::map(reserved(2 * PAGE), PAGE, 0, physical(2 * PAGE), 0)),
    ("mapping twice", 107_000, "once and whole", || {
        let (at, handle) = (reserved(2 * PAGE), physical(PAGE));
        ok(vmm::map(at, PAGE, 0, handle, 0));
        vmm::map(past(at, PAGE), PAGE, 0, handle, 0)
    }),
    ("mapping over a mapping", 107_000, "overlaps", || {
        let at = reserved(PAGE);
        ok(vmm::map(at, PAGE, 0, physical(PAGE), 0));
        vmm::map(at, PAGE, 0, physical(PAGE), 0)
    }),
    ("mapping a dead handle", 107_017, "not live", || vmm::map(reserved(PAGE), PAGE, 0, 0x123 as Ptr, 0)),
    ("unmapping what is not mapped", 107_000, "nothing is mapped", || vmm::unmap(reserved(PAGE))),
    ("releasing what is not reserved", 107_000, "not the start", || vmm::release(0x123 as Ptr)),
    ("freeing mapped memory as a block", 107_000, "not the start", || {
        let at = reserved(PAGE);
        ok(vmm::map(at, PAGE, 0, physical(PAGE), 0));
        malloc::free(at)
    }),
];

#[test]
fn mapped_allocation_and_filling() {
    check(MAPPED_MEMORY);
}
