//! Copies and memsets. An asynchronous copy is asynchronous only with pinned host memory, as on the device.

use std::ffi::c_void;
use std::sync::Arc;

use crate::rt::block::{self, Kind};
use crate::rt::code::{DEVICE_MEM_ERROR, FEATURE_NOT_SUPPORT, INVALID_PARAM, PARAM_INVALID, guard, refuse};
use crate::rt::device::current;
use crate::rt::op::Op;
use crate::rt::rule::no_unsafe;
use crate::rt::run::drain;
use crate::rt::state::enter;
use crate::rt::submit::{resolve, submit};
use crate::rt::thread;
use crate::task::{Cost, Error, Fault, Handle, Run, Task};

/// What a copy is asked to move: rows of bytes; a plain copy has one row.
#[derive(Clone, Copy)]
struct Rows {
    dst: usize,
    dst_pitch: usize,
    src: usize,
    src_pitch: usize,
    width: usize,
    rows: usize,
}

/// A copy whose arguments have been checked.
#[derive(Clone, Copy)]
struct Plan {
    area: Rows,
    dst_device: bool,
    src_device: bool,
}

impl Rows {
    /// Checks the arguments of a copy of rows.
    fn plan(self, kind: i32) -> Result<Plan, Error> {
        let Self { dst, dst_pitch, src, src_pitch, width, rows } = self;
        if dst == 0 || src == 0 || width == 0 || rows == 0 {
            return refuse(
                INVALID_PARAM,
                format!("EH0002: copy of {rows} rows of {width} bytes from {src:#x} to {dst:#x}"),
            );
        }
        if width > dst_pitch || width > src_pitch {
            return refuse(
                PARAM_INVALID,
                format!("EE1001: width {width} is greater than a pitch ({dst_pitch}, {src_pitch})"),
            );
        }
        let (dst_device, src_device) = sides(kind, dst, src)?;
        let plan = Plan { area: self, dst_device, src_device };
        plan.check()?;
        Ok(plan)
    }

    /// The same for the calls that copy several rows, which go between host and device only.
    fn plan_2d(self, kind: i32) -> Result<Plan, Error> {
        let plan = self.plan(kind)?;
        if plan.dst_device == plan.src_device {
            return refuse(FEATURE_NOT_SUPPORT, "EE1001: a copy of rows goes between host and device");
        }
        Ok(plan)
    }
}

impl Plan {
    fn bytes(&self) -> usize {
        self.area.width.saturating_mul(self.area.rows)
    }

    /// Bytes that one side spans.
    fn span(&self, pitch: usize) -> Result<usize, Error> {
        let span = pitch.checked_mul(self.area.rows - 1).and_then(|s| s.checked_add(self.area.width));
        span.map_or_else(|| refuse(PARAM_INVALID, "EE1001: the copy is too large"), Ok)
    }

    fn check_side(&self, addr: usize, pitch: usize, device: bool, name: &str) -> Result<(), Error> {
        let span = self.span(pitch)?;
        let named = |e: Error| Error { message: format!("{} ({name})", e.message), ..e };
        match block::kind_of(addr) {
            _ if device => block::check(Kind::Device, addr, span).map_err(named),
            Some((Kind::Device, _)) => {
                refuse(PARAM_INVALID, format!("EE1001: {name} is device memory, but the kind of the copy says host"))
            }
            Some((Kind::Pinned, _)) => block::check(Kind::Pinned, addr, span).map_err(named),
            None => match block::freed(addr) {
                Some(start) => refuse(
                    PARAM_INVALID,
                    format!("EE1001: {addr:#x} + {span}: use after free of the block at {start:#x} ({name})"),
                ),
                None => Ok(()),
            },
        }
    }

    fn check(&self) -> Result<(), Error> {
        self.check_side(self.area.dst, self.area.dst_pitch, self.dst_device, "dst")?;
        self.check_side(self.area.src, self.area.src_pitch, self.src_device, "src")
    }

    /// Copies; memory that exists only as addresses reads as zero.
    fn run(&self) {
        let backed = |addr| block::kind_of(addr).is_none_or(|(_, backed)| backed);
        let area = self.area;
        if !backed(area.dst) {
            return;
        }
        let source = backed(area.src);
        for row in 0..area.rows {
            let (dst, src) = (area.dst + row * area.dst_pitch, area.src + row * area.src_pitch);
            // SAFETY: device and pinned ranges have been checked against the map; the caller vouches for pageable ones.
            unsafe {
                if source {
                    std::ptr::copy(src as *const u8, dst as *mut u8, area.width);
                } else {
                    std::ptr::write_bytes(dst as *mut u8, 0, area.width);
                }
            }
        }
    }

    /// The host address of a copy between host and device.
    fn host_side(&self) -> Option<usize> {
        match (self.dst_device, self.src_device) {
            (true, false) => Some(self.area.src),
            (false, true) => Some(self.area.dst),
            _ => None,
        }
    }

    fn op(self) -> Op {
        let bytes = self.bytes();
        let bus = self.host_side().map(|_| bytes);
        let cost = Cost { name: "copy", read: bytes as u64, write: bytes as u64, ..Cost::default() };
        let run: Run = Arc::new(move || {
            self.check().map_err(|e| Fault { code: DEVICE_MEM_ERROR, message: e.message })?;
            self.run();
            Ok(())
        });
        Op::Work { task: Task { cost, run, updatable: false }, bus }
    }
}

/// Which sides of a copy are on the device.
fn sides(kind: i32, dst: usize, src: usize) -> Result<(bool, bool), Error> {
    let device = |addr| matches!(block::kind_of(addr), Some((Kind::Device, _)));
    match kind {
        0 => Ok((false, false)),
        1 | 5 => Ok((true, false)),
        2 => Ok((false, true)),
        3 | 6 | 7 => Ok((true, true)),
        4 => Ok((device(dst), device(src))),
        _ => refuse(INVALID_PARAM, format!("EH0002: unknown kind of copy {kind}")),
    }
}

fn plan(dst: *mut c_void, dest_max: usize, src: *const c_void, count: usize, kind: i32) -> Result<Plan, Error> {
    if dst.is_null() || src.is_null() || count == 0 {
        return refuse(INVALID_PARAM, format!("EH0002: copy of {count} bytes from {src:?} to {dst:?}"));
    }
    if dest_max < count {
        return refuse(PARAM_INVALID, format!("EE1001: count {count} is greater than destMax {dest_max}"));
    }
    let (dst, src) = (dst as usize, src as usize);
    Rows { dst, dst_pitch: count, src, src_pitch: count, width: count, rows: 1 }.plan(kind)
}

/// Copies at once. It does not wait for any stream.
fn copy_now(plan: &Plan, call: &str) -> Result<(), Error> {
    let mut world = enter()?;
    current(&world)?;
    no_unsafe(&mut world, call)?;
    thread::spend(world.device.copy_ns(plan.bytes()) as f64);
    world.counters.copies += 1;
    drop(world);
    plan.run();
    Ok(())
}

fn copy_async(plan: Plan, stream: Handle, call: &str) -> Result<(), Error> {
    if !plan.dst_device && !plan.src_device {
        return refuse(FEATURE_NOT_SUPPORT, format!("EE1001: {call} does not copy from host to host"));
    }
    let pageable = plan.host_side().is_some_and(|addr| block::kind_of(addr).is_none());
    let mut world = enter()?;
    let handle = resolve(&mut world, stream)?;
    if pageable {
        no_unsafe(&mut world, &format!("{call} with pageable host memory"))?;
    }
    world.counters.copies += 1;
    let captured = world.stream(handle)?.capture.is_some();
    drop(world);
    submit(handle, "a copy", |w| w.host.copy_ns, plan.op())?;
    if pageable && !captured {
        drain(handle, None, |_| false)?;
        thread::wait_until(enter()?.stream(handle)?.ready);
    }
    Ok(())
}

/// `aclrtMemcpy`.
///
/// # Safety
/// Pageable host memory among the arguments is valid for `count` bytes.
pub unsafe extern "C" fn memcpy(dst: *mut c_void, dest_max: usize, src: *const c_void, count: usize, kind: i32) -> i32 {
    guard(|| copy_now(&plan(dst, dest_max, src, count, kind)?, "aclrtMemcpy"))
}

/// `aclrtMemcpyAsync`.
///
/// # Safety
/// Pageable host memory among the arguments is valid for `count` bytes.
pub unsafe extern "C" fn memcpy_async(
    dst: *mut c_void,
    dest_max: usize,
    src: *const c_void,
    count: usize,
    kind: i32,
    stream: *mut c_void,
) -> i32 {
    guard(|| copy_async(plan(dst, dest_max, src, count, kind)?, stream as Handle, "aclrtMemcpyAsync"))
}

/// `aclrtMemcpy2d`.
///
/// # Safety
/// Pageable host memory among the arguments is valid for all rows.
pub unsafe extern "C" fn memcpy_2d(
    dst: *mut c_void,
    dst_pitch: usize,
    src: *const c_void,
    src_pitch: usize,
    width: usize,
    rows: usize,
    kind: i32,
) -> i32 {
    let area = Rows { dst: dst as usize, dst_pitch, src: src as usize, src_pitch, width, rows };
    guard(|| copy_now(&area.plan_2d(kind)?, "aclrtMemcpy2d"))
}

/// `aclrtMemcpy2dAsync`.
///
/// # Safety
/// Pageable host memory among the arguments is valid for all rows.
#[allow(clippy::too_many_arguments, reason = "the ABI")]
pub unsafe extern "C" fn memcpy_2d_async(
    dst: *mut c_void,
    dst_pitch: usize,
    src: *const c_void,
    src_pitch: usize,
    width: usize,
    rows: usize,
    kind: i32,
    stream: *mut c_void,
) -> i32 {
    let area = Rows { dst: dst as usize, dst_pitch, src: src as usize, src_pitch, width, rows };
    guard(|| copy_async(area.plan_2d(kind)?, stream as Handle, "aclrtMemcpy2dAsync"))
}

fn check_fill(dst: *mut c_void, max: usize, count: usize) -> Result<(), Error> {
    if dst.is_null() || count == 0 {
        return refuse(INVALID_PARAM, format!("EH0002: memset of {count} bytes at {dst:?}"));
    }
    if max < count {
        return refuse(PARAM_INVALID, format!("EE1001: count {count} is greater than maxCount {max}"));
    }
    block::check(Kind::Device, dst as usize, count)
}

fn fill(dst: usize, value: i32, count: usize) {
    if block::kind_of(dst).is_some_and(|(_, backed)| backed) {
        // SAFETY: the range has been checked against the map.
        unsafe { std::ptr::write_bytes(dst as *mut u8, value as u8, count) };
    }
}

/// `aclrtMemset`.
pub extern "C" fn memset(dst: *mut c_void, max: usize, value: i32, count: usize) -> i32 {
    guard(|| {
        check_fill(dst, max, count)?;
        let mut world = enter()?;
        current(&world)?;
        no_unsafe(&mut world, "aclrtMemset")?;
        thread::spend(world.device.copy_ns(0) as f64);
        world.counters.copies += 1;
        drop(world);
        fill(dst as usize, value, count);
        Ok(())
    })
}

/// `aclrtMemsetAsync`.
pub extern "C" fn memset_async(dst: *mut c_void, max: usize, value: i32, count: usize, stream: *mut c_void) -> i32 {
    guard(|| {
        check_fill(dst, max, count)?;
        let dst = dst as usize;
        let run: Run = Arc::new(move || {
            let lost = |e: Error| Fault { code: DEVICE_MEM_ERROR, message: e.message };
            block::check(Kind::Device, dst, count).map_err(lost)?;
            fill(dst, value, count);
            Ok(())
        });
        let cost = Cost { name: "memset", write: count as u64, ..Cost::default() };
        enter()?.counters.copies += 1;
        submit(
            stream as Handle,
            "a memset",
            |w| w.host.copy_ns,
            Op::Work { task: Task { cost, run, updatable: false }, bus: None },
        )
    })
}
