//! A captured step: one submission for the copies to the device, all operators, and the copies back.

use super::api::Ptr;
use super::call::Call;
use super::memory::{DeviceMemory, Pinned};
use super::objects::Prepared;
use super::runtime::Runtime;
use crate::error::AscendError;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// `ACL_MODEL_RI_CAPTURE_MODE_THREAD_LOCAL`: other threads may allocate and copy meanwhile.
const THREAD_LOCAL: i32 = 1;
/// `ACL_EVENT_EXTERNAL`: recorded outside the graph that waits for it.
const EXTERNAL: u32 = 0x20;

/// What a capture records.
pub(crate) struct Recorded<'c> {
    /// Sent to the device first.
    pub inputs: &'c Pinned,
    /// Operators in order.
    pub calls: Vec<&'c Call>,
    /// Places among `calls` of those that each replay updates.
    pub updated: Vec<usize>,
    /// Fetched from the device last.
    pub results: &'c Pinned,
}

/// A call that can be replaced, and the event that tells the graph that it was.
struct Slot {
    place: usize,
    group: Ptr,
    event: Ptr,
}

/// See the module docs.
pub(crate) struct Graph {
    runtime: Arc<Runtime>,
    graph: Ptr,
    slots: Vec<Slot>,
    /// Whether it was ever replayed.
    used: AtomicBool,
    /// Captured operators use it.
    _workspace: Arc<DeviceMemory>,
}

// SAFETY: handles that any thread may use with the NPU's context.
unsafe impl Send for Graph {}

impl Graph {
    pub(super) fn capture(
        runtime: &Arc<Runtime>,
        prepared: Vec<Prepared<'_>>,
        workspace: Arc<DeviceMemory>,
        recorded: &Recorded<'_>,
    ) -> Result<Graph, AscendError> {
        let mut graph = Graph {
            runtime: Arc::clone(runtime),
            graph: null_mut(),
            slots: Vec::new(),
            used: AtomicBool::new(false),
            _workspace: workspace,
        };
        for &place in &recorded.updated {
            let mut event = null_mut();
            // SAFETY: a live result.
            let code = unsafe { (runtime.api().aclrtCreateEventExWithFlag)(&mut event, EXTERNAL) };
            runtime.check("aclrtCreateEventExWithFlag", code)?;
            graph.slots.push(Slot { place, group: null_mut(), event });
        }
        let side = runtime.side();
        // SAFETY: a live stream that nothing else uses: its owner captures and updates one graph at a time.
        runtime.check("aclmdlRICaptureBegin", unsafe { (runtime.api().aclmdlRICaptureBegin)(side, THREAD_LOCAL) })?;
        let stored = graph.store(prepared, recorded, side);
        // SAFETY: a live stream and a live result. A failed capture must end too.
        let code = unsafe { (runtime.api().aclmdlRICaptureEnd)(side, &mut graph.graph) };
        stored.and(runtime.check("aclmdlRICaptureEnd", code)).map(|()| graph)
    }

    fn store(&mut self, prepared: Vec<Prepared<'_>>, recorded: &Recorded<'_>, side: Ptr) -> Result<(), AscendError> {
        let workspace = Arc::clone(&self._workspace);
        recorded.inputs.send(side)?;
        let (runtime, mut slots) = (Arc::clone(&self.runtime), self.slots.iter_mut().peekable());
        let (api, check) = (runtime.api(), |call, code| runtime.check(call, code));
        for (place, call) in prepared.into_iter().enumerate() {
            let Some(slot) = slots.next_if(|slot| slot.place == place) else {
                call.launch(&workspace, side)?;
                continue;
            };
            // SAFETY: live handles, on the stream that is captured.
            unsafe {
                check("aclrtStreamWaitEvent", (api.aclrtStreamWaitEvent)(side, slot.event))?;
                check("aclrtResetEvent", (api.aclrtResetEvent)(slot.event, side))?;
                check("aclmdlRICaptureTaskGrpBegin", (api.aclmdlRICaptureTaskGrpBegin)(side))?;
            }
            call.launch(&workspace, side)?;
            // SAFETY: as above, and a live result.
            let code = unsafe { (api.aclmdlRICaptureTaskGrpEnd)(side, &mut slot.group) };
            check("aclmdlRICaptureTaskGrpEnd", code)?;
        }
        recorded.results.fetch(side)
    }

    /// Starts a replay.
    pub(super) fn replay(&self) -> Result<(), AscendError> {
        self.runtime.enter()?;
        self.used.store(true, Ordering::Relaxed);
        // SAFETY: a live graph and stream.
        let code = unsafe { (self.runtime.api().aclmdlRIExecuteAsync)(self.graph, self.runtime.stream()) };
        self.runtime.check("aclmdlRIExecuteAsync", code)
    }

    /// Replaces the captured call of a slot.
    pub(super) fn update(&self, slot: usize, call: Prepared<'_>, workspace: &DeviceMemory) -> Result<(), AscendError> {
        let (api, side, slot) = (self.runtime.api(), self.runtime.side(), &self.slots[slot]);
        let check = |name, code| self.runtime.check(name, code);
        // SAFETY: live handles, on the stream of updates.
        check("aclmdlRICaptureTaskUpdateBegin", unsafe { (api.aclmdlRICaptureTaskUpdateBegin)(side, slot.group) })?;
        let launched = call.launch(workspace, side);
        // SAFETY: as above. A failed update must end too.
        let ended = check("aclmdlRICaptureTaskUpdateEnd", unsafe { (api.aclmdlRICaptureTaskUpdateEnd)(side) });
        launched.and(ended)
    }

    /// Lets the replay that waits for a slot go on.
    pub(super) fn release(&self, slot: usize) -> Result<(), AscendError> {
        let (api, side, slot) = (self.runtime.api(), self.runtime.side(), &self.slots[slot]);
        // SAFETY: live handles, on the stream of updates.
        self.runtime.check("aclrtRecordEvent", unsafe { (api.aclrtRecordEvent)(slot.event, side) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.runtime.enter_to_release();
        let api = self.runtime.api();
        // SAFETY: live handles, used for the last time; a graph that runs must end first. Failures have no one to tell.
        unsafe {
            if self.used.load(Ordering::Relaxed) {
                (api.aclrtSynchronizeStream)(self.runtime.stream());
            }
            if !self.graph.is_null() {
                (api.aclmdlRIDestroy)(self.graph);
            }
            self.slots.iter().for_each(|slot| {
                (api.aclrtDestroyEvent)(slot.event);
            });
        }
    }
}
