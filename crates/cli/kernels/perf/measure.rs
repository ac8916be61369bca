//! Rounds of a kernel's runs, interleaved with measurements of the machine's limits. Each pass loads a kernel anew, since its
//! time depends on where its memory happens to lie.

use crate::args::CacheArg;
use crate::doctor::machine::Machine;
use aio::backend::{Device, DeviceError};
use aio::conformance::{Case, Copies, copy_bytes, copy_cost};
use aio::devices::{Hardware, Macs, Meter, Opened};
use aio::ir::Cost;
use aio::plan::{Ceilings, Clock, PlanFamily};
use std::path::Path;
use std::sync::Arc;

/// How many times the last-level cache all cold copies have.
const TIMES_CACHE: u64 = 4;
/// Bytes of a last-level cache that is not known, also that of a GPU.
const USUAL_CACHE: u64 = 64 << 20;
/// Bytes of second-level caches that are not known.
const USUAL_SECOND: u64 = 2 << 20;
/// Most copies, and their most bytes.
const MOST_COPIES: u64 = 2048;
const MOST_BYTES: u64 = 3 << 29;
/// Copies that are added to one on a modelled clock, so that what a submission takes cancels out.
const MODELLED_COPIES: usize = 4;
/// Most bytes of a buffer that is read.
const MOST_READ: u64 = 2 << 30;
/// Fewest bytes of a buffer that is read: a smaller one would measure the submission.
const FEWEST_READ: u64 = 64 << 10;

/// The state of the caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cache {
    /// What kernels stream lies in memory.
    Cold,
    /// It lies in caches, as far as they hold it.
    Warm,
    /// The clock is a model's, which has no caches.
    Modelled,
}

impl Cache {
    /// Its name in rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Cache::Cold => "cold",
            Cache::Warm => "warm",
            Cache::Modelled => "modelled",
        }
    }
}

/// The rounds of a kernel in one state of the caches.
pub(super) struct Timed {
    pub cache: Cache,
    pub clock: Clock,
    pub copies: usize,
    /// Whether the copies are at least four times the last-level cache.
    pub rotates: bool,
    /// Seconds of a copy, by pass and round.
    pub seconds: Vec<f64>,
    /// Bytes a second of streaming reads right after; empty if the device does not measure them.
    pub reads: Vec<f64>,
}

/// What was measured of a kernel so far.
pub(super) struct Measured {
    /// By the state of the caches.
    pub timed: Vec<Timed>,
    /// Cost of a copy.
    pub cost: Cost,
    /// Multiply-adds a second, by pass.
    pub macs: Vec<Macs>,
    pub copy_bytes: u64,
}

impl Measured {
    pub(super) fn new(case: &Case, family: &PlanFamily) -> Measured {
        let (cost, copy_bytes) = (copy_cost(case, family), copy_bytes(case, family));
        Measured { timed: Vec::new(), cost, macs: Vec::new(), copy_bytes }
    }

    /// Bytes that a copy streams. A look-up reads little of its table, and attention few of the pool's pages.
    fn streamed(&self) -> u64 {
        self.cost.bytes_read.min(self.copy_bytes).max(1)
    }

    /// The rounds in one state, to which more are added.
    fn of(&mut self, runner: &Runner) -> &mut Timed {
        let known = self.timed.iter().position(|t| t.cache == runner.cache);
        let at = known.unwrap_or_else(|| {
            let (copies, rotates) = (runner.copies.count(), runner.rotates);
            let (seconds, reads) = (Vec::new(), Vec::new());
            self.timed.push(Timed { cache: runner.cache, clock: Clock::Measured, copies, rotates, seconds, reads });
            self.timed.len() - 1
        });
        &mut self.timed[at]
    }
}

/// A device, and the sizes of the caches that it runs from.
pub(super) struct Bench {
    device: Arc<dyn Device>,
    hardware: Option<Arc<dyn Hardware>>,
    ceilings: Option<Ceilings>,
    /// Streams as many bytes as cold copies have, which also evicts what else is in the caches.
    memory: Option<Box<dyn Meter>>,
    cold_bytes: u64,
    warm_bytes: u64,
    rounds: u32,
    warmup: u32,
}

/// Loaded copies with what measures reads of as many bytes.
struct Runner {
    copies: Copies,
    cache: Cache,
    rotates: bool,
    meter: Option<Box<dyn Meter>>,
}

impl Bench {
    pub(super) fn new(opened: &Opened, rounds: u32, warmup: u32) -> Result<Bench, DeviceError> {
        let (second, last) = Machine::read(Path::new("/")).cache_bytes();
        let own_memory = opened.device.available_bytes().is_some();
        let last = if own_memory { USUAL_CACHE } else { last.unwrap_or(USUAL_CACHE) };
        let cold_bytes = (TIMES_CACHE * last).min(MOST_READ);
        let hardware = opened.hardware.clone();
        let memory = hardware.as_ref().map(|h| h.meter(cold_bytes)).transpose()?;
        let (device, ceilings) = (Arc::clone(&opened.device), opened.device.ceilings());
        let warm_bytes = second.unwrap_or(USUAL_SECOND) / 2;
        Ok(Bench { device, hardware, ceilings, memory, cold_bytes, warm_bytes, rounds, warmup })
    }

    /// Loads a kernel, the first plan of a family in the case's first step, and adds some rounds to what was measured.
    pub(super) fn pass(
        &self,
        case: &Case,
        family: &PlanFamily,
        caches: &[CacheArg],
        measured: &mut Measured,
    ) -> Result<(), DeviceError> {
        if measured.timed.iter().any(|t| t.clock == Clock::Modelled) {
            return Ok(());
        }
        let streamed = measured.streamed();
        let mut one = Copies::load(case, family, &*self.device, 1)?;
        let first = one.run()?;
        if first.clock() == Clock::Modelled {
            let more = Copies::load(case, family, &*self.device, 1 + MODELLED_COPIES)?.run()?.seconds();
            self.modelled((more - first.seconds()) / MODELLED_COPIES as f64, measured);
            return Ok(());
        }
        let mut runners = Vec::new();
        // Without streaming reads, small kernels could not be evicted.
        if caches.contains(&CacheArg::Cold) && self.memory.is_some() {
            runners.push(self.cold(case, family, streamed, measured.copy_bytes)?);
        }
        if caches.contains(&CacheArg::Warm) {
            runners.push(self.warm(case, family, streamed, one)?);
        }
        for round in 0..self.warmup + self.rounds {
            for runner in &mut runners {
                let (seconds, read) = self.round(runner)?;
                if round >= self.warmup {
                    let timed = measured.of(runner);
                    timed.seconds.push(seconds);
                    timed.reads.extend(read);
                }
            }
        }
        if let Some(meter) = &self.memory {
            measured.macs.push(meter.macs()?);
        }
        Ok(())
    }

    /// Seconds of a copy, and bytes a second of the reads after it.
    fn round(&self, runner: &mut Runner) -> Result<(f64, Option<f64>), DeviceError> {
        if runner.cache == Cache::Warm {
            // The reads of the last round have evicted them.
            runner.copies.run()?;
        }
        let seconds = runner.copies.run()?.seconds() / runner.copies.count() as f64;
        let meter = if runner.cache == Cache::Warm { &runner.meter } else { &self.memory };
        let Some(meter) = meter else { return Ok((seconds, None)) };
        if runner.cache == Cache::Warm {
            meter.read_seconds()?;
        }
        Ok((seconds, Some(meter.bytes() as f64 / meter.read_seconds()?)))
    }

    fn cold(&self, case: &Case, family: &PlanFamily, streamed: u64, own: u64) -> Result<Runner, DeviceError> {
        let fit = (MOST_BYTES / own.max(1)).min(MOST_COPIES);
        let count = self.cold_bytes.div_ceil(streamed).min(fit).max(1);
        let copies = Copies::load(case, family, &*self.device, count as usize)?;
        Ok(Runner { copies, cache: Cache::Cold, rotates: count * streamed >= self.cold_bytes, meter: None })
    }

    fn warm(&self, case: &Case, family: &PlanFamily, streamed: u64, one: Copies) -> Result<Runner, DeviceError> {
        let few = (self.warm_bytes / streamed).clamp(1, 64);
        let copies = if few == 1 { one } else { Copies::load(case, family, &*self.device, few as usize)? };
        let bytes = (few * streamed).clamp(FEWEST_READ, MOST_READ);
        let meter = self.hardware.as_ref().map(|h| h.meter(bytes)).transpose()?;
        Ok(Runner { copies, cache: Cache::Warm, rotates: false, meter })
    }

    fn modelled(&self, seconds: f64, measured: &mut Measured) {
        measured.timed.push(Timed {
            cache: Cache::Modelled,
            clock: Clock::Modelled,
            copies: MODELLED_COPIES,
            rotates: false,
            seconds: vec![seconds.max(0.0)],
            reads: self.ceilings.map(|c| c.bandwidth).into_iter().collect(),
        });
        measured.macs = self.ceilings.map(|c| Macs { int8: c.peak, plain: c.peak }).into_iter().collect();
    }
}
