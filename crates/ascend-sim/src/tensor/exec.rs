//! Executors: what the first phase of an aclnn call leaves for the second.
//!
//! An executor serves one second phase, unless the caller made it repeatable.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::memory::{Memory, Operand, Slot};
use super::refuse::{ACL_INVALID_PARAM, INNER, INNER_NULLPTR, guard, invalid, null};
use super::view::View;
use crate::rt::block::check_range;
use crate::rt::submit::enqueue;
use crate::task::{Access, Cost, Error, Fault, Run, Task};

/// Numerics of an operator over checked operands.
pub type Kernel = Arc<dyn Fn(&Memory) -> Result<(), Fault> + Send + Sync>;

/// A call that passed the first phase.
#[derive(Clone)]
pub struct Plan {
    /// Tensors, in the order of their slots.
    pub operands: Vec<Operand>,
    /// Charged by the modelled clock.
    pub cost: Cost,
    /// Bytes of device memory that the second phase needs.
    pub workspace: u64,
    kernel: Option<Kernel>,
    inputs: usize,
    outputs: usize,
}

impl Plan {
    /// A plan of the kernel `name`, without operands.
    pub fn new(name: &'static str) -> Self {
        let cost = Cost { name, ..Cost::default() };
        Self { operands: Vec::new(), cost, workspace: 0, kernel: None, inputs: 0, outputs: 0 }
    }

    fn push(&mut self, view: &View, access: Access, name: &'static str, position: (usize, usize)) -> Slot {
        self.operands.push(Operand { view: view.clone(), access, name, position });
        Slot(self.operands.len() - 1)
    }

    /// Adds a tensor that is read.
    pub fn input(&mut self, name: &'static str, view: &View) -> Slot {
        self.inputs += 1;
        self.push(view, Access::Read, name, (self.inputs - 1, 0))
    }

    /// Adds a tensor that is read, if given.
    pub fn maybe(&mut self, name: &'static str, view: Option<&View>) -> Option<Slot> {
        self.inputs += 1;
        view.map(|view| self.push(view, Access::Read, name, (self.inputs - 1, 0)))
    }

    /// Adds the tensors of a list, all read.
    pub fn list(&mut self, name: &'static str, views: &[Arc<View>]) -> Vec<Slot> {
        self.inputs += 1;
        let at = self.inputs - 1;
        views.iter().enumerate().map(|(i, view)| self.push(view, Access::Read, name, (at, i))).collect()
    }

    /// Adds a tensor that is written.
    pub fn output(&mut self, name: &'static str, view: &View) -> Slot {
        self.outputs += 1;
        self.push(view, Access::Write, name, (self.outputs - 1, 0))
    }

    /// Adds a tensor that is written, if given.
    pub fn maybe_output(&mut self, name: &'static str, view: Option<&View>) -> Option<Slot> {
        self.outputs += 1;
        view.map(|view| self.push(view, Access::Write, name, (self.outputs - 1, 0)))
    }

    /// Sets the kernel, and charges all operands once plus `ops` vector operations for each element written.
    pub fn run(mut self, ops: u64, kernel: impl Fn(&Memory) -> Result<(), Fault> + Send + Sync + 'static) -> Self {
        for operand in &self.operands {
            match operand.access {
                Access::Read => self.cost.read += operand.view.bytes(),
                Access::Write => {
                    self.cost.write += operand.view.bytes();
                    self.cost.vector_ops += ops * operand.view.numel() as u64;
                }
            }
        }
        self.kernel = Some(Arc::new(kernel));
        self
    }

    /// The device task of the plan; `workspace` is where the caller put it.
    pub fn task(&self, workspace: usize) -> Task {
        let (operands, kernel, bytes) = (self.operands.clone(), self.kernel.clone(), self.workspace as usize);
        let run: Run = Arc::new(move || {
            if bytes > 0 {
                let lost = |e: Error| Fault { code: super::refuse::AICORE_EXCEPTION, message: e.message };
                check_range(workspace, bytes, Access::Write).map_err(lost)?;
            }
            let memory = Memory::open(&operands)?;
            kernel.as_ref().map_or(Ok(()), |kernel| kernel(&memory))
        });
        // A task group may hold any operator.
        Task { cost: self.cost.clone(), run, updatable: true }
    }
}

struct Executor {
    op: &'static str,
    plan: Plan,
    repeatable: bool,
}

struct Table {
    next: usize,
    live: HashMap<usize, Executor>,
}

const FIRST: usize = 0x7e00_0000;

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(|| Mutex::new(Table { next: FIRST, live: HashMap::new() }));

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of live executors, for the check that nothing leaks.
pub fn live() -> usize {
    table().live.len()
}

fn unknown(table: &Table, handle: usize) -> Error {
    let message = if handle > FIRST && handle <= table.next {
        "EZ9999: the executor was used already or destroyed (it serves one call unless aclSetAclOpExecutorRepeatable)"
    } else {
        "EZ9999: the executor is not one of a first phase"
    };
    Error { code: INNER_NULLPTR, message: message.into() }
}

/// Runs the checks of a first phase and hands out the executor.
///
/// # Safety
/// `workspace` and `executor` are null or writable.
pub unsafe fn first_phase(
    op: &'static str,
    workspace: *mut u64,
    executor: *mut *mut c_void,
    plan: impl FnOnce() -> Result<Plan, Error>,
) -> i32 {
    guard(INNER, || {
        if workspace.is_null() || executor.is_null() {
            return Err(null(if workspace.is_null() { "workspaceSize" } else { "executor" }));
        }
        let plan = plan().map_err(|e| Error { code: e.code, message: format!("{} [{op}]", e.message) })?;
        let bytes = plan.workspace;
        let mut table = table();
        table.next += 16;
        let handle = table.next;
        table.live.insert(handle, Executor { op, plan, repeatable: false });
        drop(table);
        // SAFETY: not null, and the caller vouches that both can be written.
        unsafe {
            workspace.write_unaligned(bytes);
            executor.write_unaligned(handle as *mut c_void);
        }
        Ok(())
    })
}

/// Takes the plan of an executor for a second phase of `op`.
pub fn take(op: &'static str, executor: *const c_void) -> Result<Plan, Error> {
    if executor.is_null() {
        return Err(null("executor"));
    }
    let handle = executor as usize;
    let mut table = table();
    let Some(found) = table.live.get(&handle) else { return Err(unknown(&table, handle)) };
    if found.op != op {
        return Err(invalid(format!("the executor belongs to {}, not to {op}", found.op)));
    }
    let (plan, repeatable) = (found.plan.clone(), found.repeatable);
    if !repeatable {
        table.live.remove(&handle);
    }
    Ok(plan)
}

/// The second phase: checks the workspace and enqueues the task.
pub fn second_phase(
    op: &'static str,
    workspace: *mut c_void,
    bytes: u64,
    executor: *mut c_void,
    stream: *mut c_void,
) -> i32 {
    guard(INNER, || {
        let plan = take(op, executor)?;
        if plan.workspace > 0 && workspace.is_null() {
            return Err(null("workspace"));
        }
        if bytes < plan.workspace {
            return Err(invalid(format!("{op} needs a workspace of {} bytes, got {bytes}", plan.workspace)));
        }
        enqueue(stream as usize, vec![plan.task(workspace as usize)])
    })
}

/// Changes an executor in place.
pub(super) fn update(executor: *mut c_void, change: impl FnOnce(&mut Plan) -> Result<(), Error>) -> i32 {
    guard(ACL_INVALID_PARAM, || {
        if executor.is_null() {
            return Err(null("executor"));
        }
        let mut table = table();
        match table.live.get_mut(&(executor as usize)) {
            Some(found) => change(&mut found.plan),
            None => Err(unknown(&table, executor as usize)),
        }
    })
}

/// `aclSetAclOpExecutorRepeatable`: the executor lives until it is destroyed by hand.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclSetAclOpExecutorRepeatable(executor: *mut c_void) -> i32 {
    guard(ACL_INVALID_PARAM, || {
        if executor.is_null() {
            return Err(null("executor"));
        }
        let mut table = table();
        match table.live.get_mut(&(executor as usize)) {
            Some(found) => {
                found.repeatable = true;
                Ok(())
            }
            None => Err(unknown(&table, executor as usize)),
        }
    })
}

/// `aclDestroyAclOpExecutor`.
#[allow(non_snake_case, reason = "the C name")]
pub extern "C" fn aclDestroyAclOpExecutor(executor: *mut c_void) -> i32 {
    guard(ACL_INVALID_PARAM, || {
        if executor.is_null() {
            return Err(null("executor"));
        }
        let mut table = table();
        match table.live.remove(&(executor as usize)) {
            Some(_) => Ok(()),
            None => Err(unknown(&table, executor as usize)),
        }
    })
}
