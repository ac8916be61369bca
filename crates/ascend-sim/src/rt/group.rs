//! Task groups: tasks of a captured graph whose arguments later calls may replace.

use std::ffi::c_void;

use crate::rt::code::{
    INVALID_HANDLE, MODEL_UPDATE_FAILED, STREAM_CAPTURED, STREAM_NOT_CAPTURED, TASK_GROUP_STATUS, guard, out, put,
    refuse,
};
use crate::rt::op::Op;
use crate::rt::state::{Capture, Update, World, enter};
use crate::rt::submit::{push, resolve};
use crate::rt::thread;
use crate::task::{Error, Handle, Task};

fn capture_of(world: &mut World, stream: Handle) -> Result<&mut Capture, Error> {
    let handle = world.stream(stream)?.capture;
    let none = || refuse(STREAM_NOT_CAPTURED, "EE1016: the stream is not being captured");
    handle.and_then(|h| world.captures.get_mut(&h)).map_or_else(none, Ok)
}

/// `aclmdlRICaptureTaskGrpBegin`.
pub extern "C" fn group_begin(stream: *mut c_void) -> i32 {
    guard(|| {
        let mut world = enter()?;
        let stream = resolve(&mut world, stream as Handle)?;
        let capture = capture_of(&mut world, stream)?;
        if capture.group.is_some() {
            return refuse(TASK_GROUP_STATUS, "EE1016: a task group is open already");
        }
        capture.group = Some((stream, capture.nodes.len()));
        Ok(())
    })
}

/// `aclmdlRICaptureTaskGrpEnd`.
///
/// # Safety
/// `group` is null or writable.
pub unsafe extern "C" fn group_end(stream: *mut c_void, group: *mut *mut c_void) -> i32 {
    guard(|| {
        out(group, "handle")?;
        let mut world = enter()?;
        let stream = resolve(&mut world, stream as Handle)?;
        let handle = world.handle();
        let capture = capture_of(&mut world, stream)?;
        let Some((_, start)) = capture.group.filter(|(lane, _)| *lane == stream) else {
            return refuse(TASK_GROUP_STATUS, "EE1016: no task group is open on the stream");
        };
        let len = capture.nodes.len() - start;
        if len == 0 || capture.nodes[start..].iter().any(|n| n.lane != stream) {
            return refuse(TASK_GROUP_STATUS, "EE1016: a task group needs tasks, all of one stream");
        }
        capture.group = None;
        capture.groups.insert(handle, (start, len));
        // SAFETY: as this function's.
        unsafe { put(group, handle as *mut c_void, "handle") }
    })
}

/// `aclmdlRICaptureTaskUpdateBegin`: the operators that follow on this stream replace those of the group.
pub extern "C" fn update_begin(stream: *mut c_void, group: *mut c_void) -> i32 {
    guard(|| {
        let (mut world, group) = (enter()?, group as Handle);
        let stream = resolve(&mut world, stream as Handle)?;
        if world.stream(stream)?.capture.is_some() {
            return refuse(STREAM_CAPTURED, "EE1016: a captured stream cannot update a task group");
        }
        if !world.groups.contains_key(&group) {
            let early = world.captures.values().any(|c| c.groups.contains_key(&group));
            let (code, why) =
                if early { (TASK_GROUP_STATUS, "is still being captured") } else { (INVALID_HANDLE, "is not live") };
            return refuse(code, format!("EE1016: the task group {group:#x} {why}"));
        }
        if world.streams.values().any(|s| s.update.as_ref().is_some_and(|u| u.group == group)) {
            return refuse(TASK_GROUP_STATUS, "EE1016: the task group is being updated already");
        }
        let found = world.stream(stream)?;
        if found.update.is_some() {
            return refuse(TASK_GROUP_STATUS, "EE1016: an update is open on the stream already");
        }
        found.update = Some(Update { group, tasks: Vec::new() });
        Ok(())
    })
}

fn check_update(world: &World, update: &Update) -> Result<Op, Error> {
    let Some(group) = world.groups.get(&update.group) else {
        return refuse(INVALID_HANDLE, "EE1016: the graph of the task group was destroyed during the update");
    };
    let names = |tasks: &[Task]| tasks.iter().map(|t| t.cost.name).collect::<Vec<_>>();
    let nodes = group.graph.nodes();
    let old = nodes[group.start..group.start + group.len].iter().map(|n| n.op.name()).collect::<Vec<_>>();
    let new = names(&update.tasks);
    if old != new {
        return refuse(MODEL_UPDATE_FAILED, format!("EE1016: the update has the tasks {new:?}, the group has {old:?}"));
    }
    drop(nodes);
    Ok(Op::Update { graph: group.graph.clone(), at: group.start, tasks: update.tasks.clone() })
}

/// `aclmdlRICaptureTaskUpdateEnd`: the update itself is a task of the stream.
pub extern "C" fn update_end(stream: *mut c_void) -> i32 {
    guard(|| {
        let mut world = enter()?;
        let stream = resolve(&mut world, stream as Handle)?;
        let Some(update) = world.stream(stream)?.update.take() else {
            return refuse(TASK_GROUP_STATUS, "EE1016: no update is open on the stream");
        };
        let op = check_update(&world, &update)?;
        let begin = thread::now();
        thread::spend(world.host.update_ns);
        world.counters.updates += 1;
        world.span(-1 - thread::id() as i64, "task update", begin, thread::now() - begin);
        drop(world);
        push(stream, op)
    })
}
