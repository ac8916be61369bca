//! Bursts: the host side of `kernels/cuda/burst.cu`.
//!
//! A plan that verifies drafts is lowered twice, for steps of few rows and for longer ones, each with separate inputs
//! and outputs; their launches become task lists in device memory. A burst is one copy of the text and one launch with
//! as many blocks as the device can hold at once. While it runs, the host reads a mailbox in host memory.

mod program;
mod refused;

use crate::args::{BurstArgs, BurstMail, end};
use crate::driver::{Driver, Launch, Mapped, Memory, Pinned, Properties};
use crate::error::CudaError;
use crate::lower::{Bases, MAX_RECENT, Model, Program as Lowered};
use crate::resident::Resident;
use crate::states::StatesMap;
use crate::weights::WeightsMap;
use aio_backend::{Burst, BurstEnd, BurstReport, BurstRequest, BurstStep, DeviceError, Tally};
use aio_ir::PAGE_POSITIONS;
use aio_plan::{Plan, PlanFamily, PoolSizes, StepInput, StepLoad, Traffic};
use program::TaskList;
use refused::refused;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

/// Maximum rows for the plan with fused norms, and maximum rows of a step. Two for the former, because four normed rows
/// of a 16-bit model take so much memory that only one block fits a multiprocessor instead of two, and the largest task
/// determines the grid.
const FEW_ROWS: u32 = 2;
const MOST_ROWS: u32 = 16;
/// Drafts tried by the very first step.
const FIRST_DRAFTS: u32 = 3;
/// Maximum tokens of a burst.
const MAX_BUDGET: u32 = 1024;
/// Maximum stop tokens.
const MAX_STOPS: usize = 64;
/// Minimum and maximum entries of an index table.
const ENTRIES: (u32, u32) = (1 << 10, 1 << 18);
/// Words before the text in its memory: the barrier's counter, the step's program, then the stop tokens.
const HISTORY: usize = 2 + MAX_STOPS;
/// Words before the tokens in the mail.
const MAIL: usize = size_of::<BurstMail>() / 4;
/// Polls of the mailbox between checks with the driver that the burst is still running.
const TURNS: u32 = 256;

/// Inputs common to all steps, as already sent to the programs. A page is added every few bursts; the rest stays the
/// same for a request.
#[derive(Default)]
struct Common {
    pages: Vec<u32>,
    params: Option<Params>,
}

type Params = [f32; aio_ir::SAMPLE_PARAMS as usize];

/// Pinned staging memory, which the device reads while the host continues: counter to text, then pages, then each row's
/// sampling parameters.
struct Staging {
    memory: Pinned,
    /// Byte offsets of the pages and the parameters.
    pages: usize,
    params: usize,
}

impl Staging {
    fn new(driver: &Arc<dyn Driver>, text_words: usize, pages: u32) -> Result<Staging, CudaError> {
        let (pages, params) = (4 * text_words, 4 * (text_words + pages as usize));
        let memory = Pinned::new(driver, params + MOST_ROWS as usize * size_of::<Params>())?;
        Ok(Staging { memory, pages, params })
    }

    /// Writes words at an offset and returns their size in bytes.
    fn put(&mut self, at: usize, words: &[u8]) -> usize {
        self.memory.bytes_mut()[at..][..words.len()].copy_from_slice(words);
        words.len()
    }
}

/// A burst on a GPU. See the module docs.
pub(crate) struct CudaBurst {
    driver: Arc<dyn Driver>,
    tally: Arc<Tally>,
    resident: Arc<Resident>,
    few: TaskList,
    many: TaskList,
    /// The launch, without arguments.
    launch: Launch,
    /// Counter, program, stop tokens, text.
    text: Memory,
    /// The same, followed by the inputs common to all steps.
    staging: Staging,
    index: Memory,
    mail: Mapped,
    common: Common,
    /// Drafts that the next step tries, as left by the last burst.
    tries: u32,
    traffic: Traffic,
}

impl CudaBurst {
    pub(crate) fn new(
        driver: Arc<dyn Driver>,
        tally: Arc<Tally>,
        resident: Arc<Resident>,
        family: &PlanFamily,
        plan: &Plan,
    ) -> Result<CudaBurst, DeviceError> {
        if !plan.bucket.verify {
            return Err(refused("the plan verifies no drafts".to_owned()));
        }
        let mut few = TaskList::new(&driver, &resident, family, plan, FEW_ROWS)?;
        let mut many = TaskList::new(&driver, &resident, family, plan, MOST_ROWS)?;
        let names = sorted([few.kernels(), many.kernels()].concat());
        let shared_bytes = few.shared_bytes().max(many.shared_bytes());
        let kernel = driver.burst_kernel(&names, shared_bytes).map_err(|e| match e {
            CudaError::OutOfMemory { .. } | CudaError::Call { .. } => e.into(),
            other => refused(other.to_string()),
        })?;
        for program in [&mut few, &mut many] {
            program.upload(&driver, &names, &kernel.numbers)?;
        }
        let positions = resident.states.pages as usize * PAGE_POSITIONS as usize;
        let words = HISTORY + positions + 1 + MOST_ROWS as usize;
        let entries = entries(positions as u32) as usize;
        let memory = |words: usize| Memory::new(&driver, 4 * words).map_err(|e| e.taking("a burst's text"));
        let (text, index) = (memory(words)?, memory(2 * entries)?);
        let staging = Staging::new(&driver, words, resident.states.pages)?;
        let mail = Mapped::new(&driver, MAIL + 2 * MAX_BUDGET as usize)?;
        let launch = Launch { kernel: kernel.kernel, grid: [kernel.blocks, 1], shared_bytes, args: Box::default() };
        let (traffic, tries) = (Traffic::of(family, plan), FIRST_DRAFTS);
        driver.synchronize()?;
        Ok(CudaBurst {
            driver,
            tally,
            resident,
            few,
            many,
            launch,
            text,
            staging,
            index,
            mail,
            common: Common::default(),
            tries,
            traffic,
        })
    }

    /// Checks values that kernels use unchecked.
    fn check(&self, request: &BurstRequest<'_>) -> Result<(), DeviceError> {
        let bad = |name: &str, message: String| Err(DeviceError::Binding { name: name.to_owned(), message });
        let (len, budget) = (request.history.len(), request.budget.min(MAX_BUDGET) as usize);
        let positions = request.pages.len() * PAGE_POSITIONS as usize;
        let pages = self.resident.states.pages;
        if len == 0 || budget == 0 {
            return bad("budget", format!("{budget} tokens after {len}"));
        }
        if len + budget - 1 > positions {
            return bad("pages", format!("{positions} positions for {len} tokens and {budget} more"));
        }
        if request.pages.len() > pages as usize || request.pages.iter().any(|&p| p >= pages) {
            return bad("pages", format!("some are outside the pool of {pages}"));
        }
        if let Some(end) = self.few.positions.filter(|&end| (len + budget) as u64 - 1 > end) {
            return bad("positions", format!("{} are more than {end}", len + budget - 1));
        }
        if let Some(token) = request.history.iter().find(|&&t| self.few.tokens.is_some_and(|n| u64::from(t) >= n)) {
            return bad("history", format!("token {token} is none"));
        }
        if request.stops.len() > MAX_STOPS {
            return bad("stops", format!("{} tokens are more than {MAX_STOPS}", request.stops.len()));
        }
        if self.few.samples() && recent(request) > MAX_RECENT {
            return bad("recent", format!("{} tokens are more than {MAX_RECENT}", recent(request)));
        }
        Ok(())
    }

    /// Starts copying the changed part of the common inputs, and the text. Does not wait.
    fn send(&mut self, request: &BurstRequest<'_>) -> Result<(), CudaError> {
        // Recent tokens are in memory shared with other executables.
        self.resident.take_large();
        let programs = [&self.few, &self.many];
        if self.common.pages != request.pages {
            let len = self.staging.put(self.staging.pages, bytemuck::cast_slice(request.pages));
            for program in programs {
                program.write(StepInput::PageTable, &self.staging.memory, self.staging.pages, len)?;
            }
            self.common.pages.clear();
            self.common.pages.extend_from_slice(request.pages);
        }
        let params = request.sampling.params.to_row();
        if self.common.params != Some(params) {
            let rows = [params; MOST_ROWS as usize];
            let len = self.staging.put(self.staging.params, bytemuck::cast_slice(&rows));
            for program in programs {
                program.write(StepInput::Sampling, &self.staging.memory, self.staging.params, len)?;
            }
            self.common.params = Some(params);
        }
        let words: &mut [u32] = bytemuck::cast_slice_mut(&mut self.staging.memory.bytes_mut()[..self.staging.pages]);
        words[..HISTORY].fill(0);
        words[2..][..request.stops.len()].copy_from_slice(request.stops);
        words[HISTORY..][..request.history.len()].copy_from_slice(request.history);
        self.text.write_pinned(0, &self.staging.memory, 0, 4 * (HISTORY + request.history.len()))
    }

    fn args(&self, request: &BurstRequest<'_>) -> BurstArgs {
        let (text, mail) = (self.text.at(), self.mail.at());
        let words = |count: usize| 4 * count as u64;
        let length = request.history.len() as u32;
        let reserved = request.pages.len() as u32 * PAGE_POSITIONS as u32;
        let most = request.drafts.min(self.most_drafts());
        BurstArgs {
            few: self.few.args(),
            many: self.many.args(),
            history: text + words(HISTORY),
            index: self.index.at(),
            stops: text + words(2),
            barrier: text,
            program: text + words(1),
            mail,
            out: mail + words(MAIL),
            taken: mail + words(MAIL + MAX_BUDGET as usize),
            entries: entries(reserved).min((self.index.bytes() / 8) as u32),
            length,
            reserved,
            budget: request.budget.min(MAX_BUDGET),
            most,
            first: self.tries.min(most),
            stop_count: request.stops.len() as u32,
            pages: self.resident.states.pages,
            recent: recent(request),
            seed_low: request.sampling.seed as u32,
            seed_high: (request.sampling.seed >> 32) as u32,
            choice: request.sampling.choice,
        }
    }

    fn mail(&self, offset: usize) -> &AtomicU32 {
        &self.mail.words()[offset / 4]
    }

    fn begin(&mut self, request: &BurstRequest<'_>) -> Result<(), CudaError> {
        self.mail.words()[..MAIL].iter().for_each(|w| w.store(0, Ordering::Relaxed));
        self.send(request)?;
        self.launch.args = bytemuck::bytes_of(&self.args(request)).into();
        // SAFETY: lowering filled in the kernels' own structs (a test compares them), with addresses in memory that
        // `self` and the resident model hold; `check` validated the indices; the driver reported that the grid fits at
        // once.
        unsafe { self.driver.launch_together(&self.launch) }
    }

    /// Passes tokens to `show` as they arrive, until the burst is over. Returns the seconds from `started` to the first
    /// tokens, and their number.
    fn follow(&self, show: &mut dyn FnMut(&[u32]) -> bool, started: Instant) -> Result<(f64, usize), CudaError> {
        let _running = Running(self);
        let (mut shown, mut wanted, mut last, mut first) = (0, true, false, (0.0, 0));
        let mut tokens = Vec::with_capacity(MOST_ROWS as usize);
        for turn in 1u32.. {
            let count = self.mail(offset_of!(BurstMail, count)).load(Ordering::Acquire) as usize;
            if count > 0 && shown == 0 {
                first = (started.elapsed().as_secs_f64(), count);
            }
            if count > shown && wanted {
                let new = &self.mail.words()[MAIL..][shown..count];
                tokens.clear();
                tokens.extend(new.iter().map(|t| t.load(Ordering::Relaxed)));
                wanted = show(&tokens);
                self.mail(offset_of!(BurstMail, stop)).store(u32::from(!wanted), Ordering::Relaxed);
            }
            shown = count;
            if last {
                break;
            }
            // One more read, for tokens written between the count and the end.
            last = self.mail(offset_of!(BurstMail, end)).load(Ordering::Acquire) != 0;
            if !last && turn.is_multiple_of(TURNS) {
                last = self.driver.is_idle();
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        self.driver.synchronize()?;
        Ok(first)
    }

    /// Collects the records of the steps and counts their traffic.
    fn count(&mut self, request: &BurstRequest<'_>, steps: &mut Vec<BurstStep>) {
        let number = self.mail(offset_of!(BurstMail, steps)).load(Ordering::Acquire) as usize;
        self.tries = self.mail(offset_of!(BurstMail, drafts)).load(Ordering::Relaxed).max(1);
        let taken = &self.mail.words()[MAIL + MAX_BUDGET as usize..][..number.min(MAX_BUDGET as usize)];
        steps.clear();
        steps.extend(
            taken
                .iter()
                .map(|t| t.load(Ordering::Relaxed))
                .map(|t| BurstStep { drafted: t & 0xFFFF, accepted: t >> 16 }),
        );
        let (mut len, mut read, mut written) = (request.history.len() as u64, 0, 0);
        for step in steps.iter() {
            let drafted = u64::from(step.drafted);
            let load = StepLoad { rows: 1 + drafted, positions: len + drafted, sequences: 1 };
            read += self.traffic.bytes_read(load);
            written += self.traffic.bytes_written(load);
            len += 1 + u64::from(step.accepted);
        }
        self.tally.update(|counters| {
            counters.bytes_read += read;
            counters.bytes_written += written;
            counters.submissions += 1;
            counters.launches += 1;
            counters.syncs += 1;
        });
    }
}

/// Ends a burst that a panic of its receiver leaves running: its memory must not be used again before.
struct Running<'a>(&'a CudaBurst);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.mail(offset_of!(BurstMail, stop)).store(1, Ordering::Relaxed);
            // The panic is what the caller hears of.
            let _ = self.0.driver.synchronize();
        }
    }
}

impl Burst for CudaBurst {
    fn most_drafts(&self) -> u32 {
        self.many.rows() - 1
    }

    fn run(
        &mut self,
        request: &BurstRequest<'_>,
        show: &mut dyn FnMut(&[u32]) -> bool,
        steps: &mut Vec<BurstStep>,
    ) -> Result<BurstReport, DeviceError> {
        self.check(request)?;
        let started = Instant::now();
        let ran = self.begin(request).and_then(|()| self.follow(show, started));
        let first = match ran {
            Ok(first) => first,
            Err(e) => {
                // Started work must finish before its memory is reused. The first error is the one reported.
                let _ = self.driver.synchronize();
                self.common = Common::default();
                return Err(e.into());
            }
        };
        let seconds = started.elapsed().as_secs_f64();
        self.count(request, steps);
        let end = match self.mail(offset_of!(BurstMail, end)).load(Ordering::Acquire) {
            end::BUDGET => BurstEnd::Budget,
            end::TOKEN => BurstEnd::Stop,
            end::STOPPED => BurstEnd::Cancelled,
            other => return Err(DeviceError::Failed(format!("a burst ended with {other}"))),
        };
        Ok(BurstReport::measured(end, seconds, first, steps))
    }
}

/// Names of the kernels that bursts of a plan run, as requested by [`CudaBurst::new`]. Loads nothing.
pub(crate) fn kernels(limits: &Properties, family: &PlanFamily, plan: &Plan) -> Result<Vec<String>, DeviceError> {
    let (weights, states) = (WeightsMap::new(family)?, StatesMap::new(family, PoolSizes::pages(1))?);
    let vector = |w: usize| Ok(weights.weights[w].ones());
    let model = Model { family, weights: &weights, states: &states, limits: &limits.of_bursts(), vector: &vector };
    let mut names = Vec::new();
    for rows in [FEW_ROWS, MOST_ROWS] {
        let program = Lowered::new(&model, &program::of_rows(plan, rows), Bases::NOWHERE)?;
        names.extend(program.calls.into_iter().map(|c| c.kernel));
    }
    Ok(sorted(names))
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

/// Number of tokens that penalties apply to; 0 without penalties.
fn recent(request: &BurstRequest<'_>) -> u32 {
    if request.sampling.params.penalizes() { request.sampling.look_back } else { 0 }
}

/// Entries of a table for texts of this many tokens.
fn entries(tokens: u32) -> u32 {
    tokens.saturating_mul(2).checked_next_power_of_two().unwrap_or(ENTRIES.1).clamp(ENTRIES.0, ENTRIES.1)
}
