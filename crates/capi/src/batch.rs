//! Requests: prompts that are decoded together, with their text as it comes.
//!
//! Requests are submitted, read and cancelled from any thread at any time; one thread at a time runs steps. What waits for room in
//! the batch waits in a queue.

use crate::call::call;
use crate::engine;
use crate::raw;
use crate::request::{Job, RequestParams, Usage, receive};
use crate::status::{Error, Outcome};
use crate::types::{BatchHandle, EngineHandle, Handle, RequestHandle, hold};
use aio::engine::{Batch, Engine, EngineError, MemberId, Request, Sequence};
use std::collections::VecDeque;
use std::ffi::c_char;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What runs.
struct Running {
    batch: Batch,
    /// Who they are, and the positions that each may fill.
    jobs: Vec<(MemberId, Arc<Job>, usize)>,
}

struct BatchObject {
    engine: Arc<Engine>,
    running: Mutex<Running>,
    /// What was submitted and has not joined yet.
    queue: Mutex<VecDeque<(Request, Arc<Job>)>>,
}

impl BatchObject {
    fn queue(&self) -> MutexGuard<'_, VecDeque<(Request, Arc<Job>)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Outcome<MutexGuard<'_, Running>> {
        hold(&self.running, BatchHandle::KIND)
    }

    /// Positions that a request may fill, in whole pages.
    fn need(&self, prompt: usize, most: Option<usize>) -> usize {
        let all = most.map_or(self.engine.context(), |n| self.engine.context().min(prompt.saturating_add(n)));
        self.engine.page_positions().map_or(self.engine.context(), |page| all.next_multiple_of(page))
    }

    /// Moves from the queue into the batch what there is room for: no request begins that could fill the KV cache.
    fn admit(&self, running: &mut Running) {
        let mut queue = self.queue();
        while let Some((request, job)) = queue.pop_front() {
            if job.is_cancelled() {
                job.end(None);
                continue;
            }
            let need = self.need(request.prompt.len(), request.max_tokens);
            let taken: usize = running.jobs.iter().map(|(.., need)| need).sum();
            if !running.jobs.is_empty() && taken + need > self.engine.positions() {
                queue.push_front((request, job));
                return;
            }
            match running.batch.join(&self.engine, request.clone(), Sequence::new(), None) {
                Ok(id) => running.jobs.push((id, job, need)),
                Err((EngineError::BatchFull { .. }, _)) if !running.batch.is_empty() => {
                    queue.push_front((request, job));
                    return;
                }
                Err((error, _)) => job.end(Some(Err(error))),
            }
        }
    }

    /// Runs one step. Returns how many requests are not finished.
    fn step(&self) -> Outcome<usize> {
        let mut running = self.running()?;
        self.admit(&mut running);
        let Running { batch, jobs } = &mut *running;
        let job = |id: MemberId| jobs.iter().find(|(i, ..)| *i == id).map(|(_, job, _)| job);
        let stepped = batch.step(&self.engine, &mut |id, text| receive(job(id), text));
        for (id, job, _) in jobs.iter() {
            job.note_tokens(batch.generated(*id).unwrap_or_default());
        }
        while let Some(id) = batch.ended() {
            let left = batch.leave(&self.engine, id).map(|(done, _)| done);
            if let Some(at) = jobs.iter().position(|(i, ..)| *i == id) {
                jobs.swap_remove(at).1.end(left);
            }
        }
        stepped?;
        Ok(running.jobs.len() + self.queue().len())
    }
}

/// Makes a batch.
pub(crate) unsafe extern "C" fn create(engine: EngineHandle, batch: *mut BatchHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let engine = engine::get(engine)?;
            let running = Mutex::new(Running { batch: Batch::new(), jobs: Vec::new() });
            BatchHandle::give(batch, || Ok(BatchObject { engine, running, queue: Mutex::default() }))
        })
    }
}

/// Frees a batch. Its requests end as cancelled.
pub(crate) unsafe extern "C" fn free(batch: BatchHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let object = batch.get::<BatchObject>()?;
            let running = object.running()?;
            batch.take::<BatchObject>()?;
            let waiting = object.queue();
            let all = running.jobs.iter().map(|(_, job, _)| job).chain(waiting.iter().map(|(_, job)| job));
            all.for_each(|job| job.end(None));
            Ok(())
        })
    }
}

/// Adds a request.
pub(crate) unsafe extern "C" fn submit(
    batch: BatchHandle,
    params: *const RequestParams,
    request: *mut RequestHandle,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let (object, params) = (batch.get::<BatchObject>()?, raw::read(params)?);
            let wanted = params.request(&object.engine)?;
            object.engine.check(&wanted)?;
            raw::place(request, RequestHandle::KIND)?;
            let job = Arc::new(Job::new(&params, wanted.prompt.len()));
            RequestHandle::give(request, || Ok(Submitted(Arc::clone(&job))))?;
            job.named(request.read());
            object.queue().push_back((wanted, job));
            Ok(())
        })
    }
}

/// Runs one step of all requests.
pub(crate) unsafe extern "C" fn step(batch: BatchHandle, unfinished: *mut u64, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            let object = batch.get::<BatchObject>()?;
            if !unfinished.is_null() {
                raw::place(unfinished, "the number of requests")?;
            }
            let left = object.step()?;
            if unfinished.is_null() { Ok(()) } else { raw::put(unfinished, left as u64, "the number of requests") }
        })
    }
}

/// What a request's handle stands for: the batch has the job too, and keeps it when the handle is freed.
struct Submitted(Arc<Job>);

fn job(request: RequestHandle) -> Outcome<Arc<Job>> {
    Ok(Arc::clone(&request.get::<Submitted>()?.0))
}

/// Ends a request after the step that runs.
pub(crate) unsafe extern "C" fn cancel(request: RequestHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || job(request).map(|job| job.cancel())) }
}

/// Reads the text that a request has so far.
pub(crate) unsafe extern "C" fn text(
    request: RequestHandle,
    text: *mut c_char,
    capacity: u64,
    size: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || job(request)?.with_text(|so_far| raw::fill_text(text, capacity, size, so_far))) }
}

/// Reads the tokens that a request has so far.
pub(crate) unsafe extern "C" fn tokens(
    request: RequestHandle,
    tokens: *mut u32,
    capacity: u64,
    count: *mut u64,
    error: *mut Error,
) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || job(request)?.with_tokens(|so_far| raw::fill(tokens, capacity, count, so_far))) }
}

/// Says how far a request is and what it took.
pub(crate) unsafe extern "C" fn usage(request: RequestHandle, usage: *mut Usage, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe { call(error, || raw::write(usage, job(request)?.usage()?)) }
}

/// Frees a request, which is cancelled if it has not ended.
pub(crate) unsafe extern "C" fn free_request(request: RequestHandle, error: *mut Error) -> i32 {
    // SAFETY: the header's promises of the caller.
    unsafe {
        call(error, || {
            job(request)?.abandon()?;
            request.take::<Submitted>().map(drop)
        })
    }
}
