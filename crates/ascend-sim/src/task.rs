//! Work of the device as the runtime sees it: what an operator enqueues, what it costs, how it fails.
//!
//! The operators (`nn`) build tasks; the runtime orders, stores, replays and charges them.

use std::sync::Arc;

/// What a device task costs, by the modelled clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Name of the kernel, as reports and traces show it.
    pub name: &'static str,
    /// Bytes read from device memory.
    pub read: u64,
    /// Bytes written to device memory.
    pub write: u64,
    /// Bytes read again, or exchanged, through L2.
    pub l2: u64,
    /// Floating-point operations of the cube units.
    pub cube_flops: u64,
    /// 8-bit integer operations of the cube units.
    pub cube_int8: u64,
    /// Element operations of the vector units.
    pub vector_ops: u64,
}

/// Why a task failed on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// AscendCL status.
    pub code: i32,
    /// What happened and where.
    pub message: String,
}

/// The function of a task. It may run many times when the task belongs to a captured graph.
pub type Run = Arc<dyn Fn() -> Result<(), Fault> + Send + Sync>;

/// Work of one device task: runs when the stream reaches it.
#[derive(Clone)]
pub struct Task {
    /// Charged by the modelled clock.
    pub cost: Cost,
    /// The numerics.
    pub run: Run,
    /// Whether a task group may hold and update this task.
    pub updatable: bool,
}

/// A call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// AscendCL or aclnn status.
    pub code: i32,
    /// Text of `aclGetRecentErrMsg`.
    pub message: String,
}

/// How a task touches a range of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The task reads.
    Read,
    /// The task writes.
    Write,
}

/// Handle of a stream.
pub type Handle = usize;

/// Keeps the text of a refused call for `aclGetRecentErrMsg` of this thread.
pub fn record(error: &Error) {
    LAST.with(|last| *last.borrow_mut() = error.message.clone());
}

thread_local! {
    static LAST: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// Text of the last refused call of this thread.
pub fn last_message() -> String {
    LAST.with(|last| last.borrow().clone())
}
