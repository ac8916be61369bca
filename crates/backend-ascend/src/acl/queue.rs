//! The NPU's work: operators launched one by one, and steps recorded into graphs.
//!
//! All work goes through one stream, in order, so operators share one workspace. Steps of a model take turns
//! (`resident.rs`), since what they launch would mix on the stream.

use super::call::Call;
use super::graph::{Graph, Recorded};
use super::memory::{DeviceMemory, Pinned};
use super::objects::{Objects, Prepared};
use super::runtime::Runtime;
use crate::error::AscendError;
use crate::view::Elem;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module docs.
pub(crate) struct Queue {
    pub runtime: Arc<Runtime>,
    /// A larger one replaces it; graphs that were captured with the old one keep it.
    workspace: Mutex<Arc<DeviceMemory>>,
    /// Held while a graph is captured or updated, since both use one stream.
    side: Mutex<()>,
}

impl Queue {
    pub(crate) fn new(runtime: Arc<Runtime>) -> Result<Queue, AscendError> {
        let workspace = Mutex::new(Arc::new(DeviceMemory::new(&runtime, 0)?));
        Ok(Queue { runtime, workspace, side: Mutex::default() })
    }

    /// A workspace of at least `bytes` bytes. Operators that wait in the stream use the old one, so a larger one comes
    /// after them.
    fn workspace(&self, bytes: u64) -> Result<Arc<DeviceMemory>, AscendError> {
        let mut kept = self.workspace.lock().unwrap_or_else(PoisonError::into_inner);
        if (kept.bytes() as u64) < bytes {
            if kept.bytes() > 0 {
                self.runtime.synchronize()?;
            }
            *kept = Arc::new(DeviceMemory::new(&self.runtime, bytes as usize)?);
        }
        Ok(Arc::clone(&kept))
    }

    /// First phases: checks operators and learns the workspace that they share.
    fn prepare<'q, 'c>(
        &'q self,
        calls: impl IntoIterator<Item = &'c Call>,
    ) -> Result<(Vec<Prepared<'q>>, Arc<DeviceMemory>), AscendError> {
        self.runtime.enter()?;
        let calls = calls.into_iter().map(|call| call.prepare(Objects::new(&self.runtime)));
        let prepared = calls.collect::<Result<Vec<_>, _>>()?;
        let workspace = self.workspace(prepared.iter().map(Prepared::workspace).max().unwrap_or(0))?;
        Ok((prepared, workspace))
    }

    /// The size in elements of a half matrix in the cube's own layout.
    pub(crate) fn tiled_elements(&self, dims: [usize; 2]) -> Result<usize, AscendError> {
        self.runtime.enter()?;
        let mut objects = Objects::new(&self.runtime);
        let shape = objects.ints(&dims.map(|n| n as i64))?;
        let (mut elements, half) = (0, Elem::F16.code());
        // SAFETY: a live array and a live result.
        let code = unsafe { (self.runtime.api().aclnnCalculateMatmulWeightSizeV2)(shape, half, &mut elements) };
        self.runtime.check("aclnnCalculateMatmulWeightSizeV2", code)?;
        Ok(elements as usize)
    }

    /// Launches operators, one after the other.
    pub(crate) fn launch<'c>(&self, calls: impl IntoIterator<Item = &'c Call>) -> Result<(), AscendError> {
        let (prepared, workspace) = self.prepare(calls)?;
        let stream = self.runtime.stream();
        prepared.into_iter().try_for_each(|call| call.launch(&workspace, stream))
    }

    /// Runs a step without a graph: after each of `ends`, counted in calls, it waits. Returns how often it waited. Nothing
    /// of the step is left in the stream, also after an error.
    pub(crate) fn run(
        &self,
        calls: &[Call],
        ends: &[usize],
        inputs: &Pinned,
        results: &Pinned,
    ) -> Result<u64, AscendError> {
        self.runtime.enter()?;
        let stream = self.runtime.stream();
        let (mut start, mut waits) = (0, 0);
        let mut all = || {
            inputs.send(stream)?;
            for (i, &end) in ends.iter().enumerate() {
                self.launch(&calls[start..end])?;
                if i + 1 == ends.len() {
                    results.fetch(stream)?;
                }
                self.runtime.synchronize()?;
                (start, waits) = (end, waits + 1);
            }
            Ok(())
        };
        let done = all();
        if done.is_err() {
            // The stream's own error, if there is one, is the same or a consequence.
            let _ = self.runtime.synchronize();
        }
        done.map(|()| waits)
    }

    /// Captures a step.
    pub(crate) fn record(&self, recorded: &Recorded<'_>) -> Result<Graph, AscendError> {
        let (prepared, workspace) = self.prepare(recorded.calls.iter().copied())?;
        let _side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        Graph::capture(&self.runtime, prepared, workspace, recorded)
    }

    /// Replays a graph with these calls in place of those that each replay updates, in their order, and waits.
    pub(crate) fn replay(&self, graph: &Graph, updates: &[Call]) -> Result<(), AscendError> {
        // Checked first: a replay waits for all of its updates.
        let (prepared, workspace) = self.prepare(updates)?;
        graph.replay()?;
        let updated = if prepared.is_empty() { Ok(()) } else { self.update(graph, prepared, &workspace) };
        let waited = self.runtime.synchronize();
        updated.and(waited)
    }

    fn update(&self, graph: &Graph, calls: Vec<Prepared<'_>>, workspace: &DeviceMemory) -> Result<(), AscendError> {
        let _side = self.side.lock().unwrap_or_else(PoisonError::into_inner);
        let mut updated = Ok(());
        for (slot, call) in calls.into_iter().enumerate() {
            if updated.is_ok() {
                updated = graph.update(slot, call, workspace);
            }
            // After an error too, or the replay would wait for ever.
            let released = graph.release(slot);
            updated = updated.and(released);
        }
        updated
    }
}
