//! A timeline in the JSON form of Chrome and Perfetto: a track per thread with its tasks and named idle stretches, a track
//! of steps, counters, and arrows from a submission to the first task of each thread.
//!
//! Each event is on a line of its own. `otherData` has the sums of idle time per cause.

use crate::memory::memory;
use crate::report::TaskRow;
use crate::subject::{Machine, StepSize, Subject};
use crate::task::rows;
use aio_backend::Timeline;
use aio_backend::timeline::{Activity, Cause, StepRecord, Stretch};
use aio_plan::{Ceilings, PlanFamily};
use serde_json::{Value, json};

/// The track of steps; threads follow.
const STEPS: usize = 0;

/// The trace as text.
pub fn chrome(timeline: &Timeline, family: &PlanFamily) -> String {
    let mut out = Events::default();
    out.push(json!({"ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": format!("aio on {}", family.target)}}));
    out.name_track(STEPS, "steps");
    for (thread, name) in timeline.threads.iter().enumerate() {
        out.name_track(thread + 1, name);
    }
    for (number, step) in timeline.steps.iter().enumerate() {
        out.step(number, step, &Known::of(family, step));
    }
    let between = out.between(timeline);
    let idle = idle(timeline);
    let other = json!({
        "kind": "measured",
        "idle_seconds": idle.iter().map(|(cause, s)| (cause.name().to_owned(), Value::from(*s))).collect::<serde_json::Map<_, _>>(),
        "between_steps_seconds": between,
        "steps": timeline.steps.len(),
        "dropped_steps": timeline.dropped,
        "target": family.target,
    });
    format!("{{\"displayTimeUnit\":\"ns\",\"otherData\":{other},\"traceEvents\":[\n{}\n]}}\n", out.lines.join(",\n"))
}

/// Idle seconds of all threads and steps, by cause.
pub fn idle(timeline: &Timeline) -> Vec<(Cause, f64)> {
    let mut sums = Cause::ALL.map(|cause| (cause, 0.0));
    for step in &timeline.steps {
        for (sum, (_, seconds)) in sums.iter_mut().zip(step.idle_seconds()) {
            sum.1 += seconds;
        }
    }
    sums.to_vec()
}

/// What is known of a step's plan; nothing if the family lacks it.
#[derive(Default)]
struct Known {
    /// Names and bytes of its tasks.
    tasks: Vec<TaskRow>,
    /// Live bytes of the arena while each task runs.
    live: Vec<u64>,
}

impl Known {
    fn of(family: &PlanFamily, step: &StepRecord) -> Known {
        let Some(plan) = family.plans.iter().position(|p| p.bucket == step.bucket) else { return Known::default() };
        // Sequences read their positions once, so together they are as one.
        let context = u32::try_from(step.positions).unwrap_or(u32::MAX);
        let size = StepSize { rows: step.rows, seqs: 1, outs: 1, context };
        let subject = Subject { family, plan, step: size, missed: &[], offsets: &[] };
        // Only names and bytes are used, so any machine will do.
        let machine = Machine::of_ceilings("", Ceilings { bandwidth: 1.0, peak: 1.0 });
        Known { tasks: rows(&subject, &machine), live: memory(subject.plan()).live }
    }
}

/// Events as lines.
#[derive(Default)]
struct Events {
    lines: Vec<String>,
}

/// Microseconds, the unit of the format, with three decimals.
fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

impl Events {
    fn push(&mut self, event: Value) {
        self.lines.push(event.to_string());
    }

    fn name_track(&mut self, tid: usize, name: &str) {
        self.push(json!({"ph": "M", "name": "thread_name", "pid": 1, "tid": tid, "args": {"name": name}}));
        self.push(json!({"ph": "M", "name": "thread_sort_index", "pid": 1, "tid": tid, "args": {"sort_index": tid}}));
    }

    fn span(&mut self, tid: usize, (start, end): (u64, u64), name: &str, cat: &str, args: Value) {
        self.push(json!({
            "ph": "X", "pid": 1, "tid": tid, "ts": us(start), "dur": us(end - start), "name": name, "cat": cat, "args": args,
        }));
    }

    fn step(&mut self, number: usize, step: &StepRecord, known: &Known) {
        let args =
            json!({"rows": step.rows, "positions": step.positions, "bytes_read": step.bytes_read, "step": number});
        self.span(STEPS, (step.start_ns, step.end_ns), &step.bucket.to_string(), "step", args);
        let stretches = step.stretches();
        let mut seen = vec![false; step.marks.len()];
        for stretch in &stretches {
            let first =
                matches!(stretch.what, Activity::Work { .. }) && !std::mem::replace(&mut seen[stretch.thread], true);
            if first {
                self.flow(number, step.start_ns, stretch);
            }
            self.stretch(number, stretch, &known.tasks);
        }
        self.counters(step, known);
    }

    /// What all threads wait for from one step to the next: the host. Returns the seconds of one thread.
    fn between(&mut self, timeline: &Timeline) -> f64 {
        let gaps = timeline.steps.windows(2).map(|w| (w[0].end_ns, w[1].start_ns)).filter(|(end, start)| start >= end);
        let mut all = 0.0;
        for gap in gaps {
            all += (gap.1 - gap.0) as f64 * 1e-9;
            for thread in 0..timeline.threads.len() {
                self.span(thread + 1, gap, "between steps", "between", json!({"cause": Cause::Host.name()}));
            }
        }
        all
    }

    /// An arrow from the submission to a thread's first task.
    fn flow(&mut self, number: usize, from: u64, to: &Stretch) {
        let id = format!("{number}.{}", to.thread);
        self.push(
            json!({"ph": "s", "pid": 1, "tid": STEPS, "ts": us(from), "name": "submit", "cat": "flow", "id": id}),
        );
        let tid = to.thread + 1;
        self.push(json!({
            "ph": "f", "bp": "e", "pid": 1, "tid": tid, "ts": us(to.start_ns), "name": "submit", "cat": "flow", "id": id,
        }));
    }

    fn stretch(&mut self, number: usize, stretch: &Stretch, tasks: &[TaskRow]) {
        let (tid, span) = (stretch.thread + 1, (stretch.start_ns, stretch.end_ns));
        match stretch.what {
            Activity::Work { task } => {
                let row = tasks.get(task as usize);
                let name = row.map_or_else(|| format!("t{task}"), |t| format!("{} {}", t.kind, t.name));
                let block = row.map(|t| t.block.to_string());
                let args = json!({"task": task, "step": number, "block": block, "layer": row.and_then(|t| t.layer)});
                self.span(tid, span, &name, "task", args);
            }
            Activity::Idle { cause, after } => {
                let args = json!({"cause": cause.name(), "after": after, "step": number});
                self.span(tid, span, cause.name(), "idle", args);
            }
        }
    }

    /// The rate at which each task read memory, and the arena's live bytes.
    fn counters(&mut self, step: &StepRecord, known: &Known) {
        let mut at = step.start_ns;
        for ((row, live), seconds) in known.tasks.iter().zip(&known.live).zip(step.task_seconds()) {
            let bytes = (row.work.weight_bytes + row.work.kv_bytes) as f64;
            if seconds > 0.0 {
                self.counter(at, "GB/s read", bytes / seconds / 1e9);
                self.counter(at, "arena live bytes", *live as f64);
            }
            at += (seconds * 1e9) as u64;
        }
        self.counter(at, "GB/s read", 0.0);
    }

    fn counter(&mut self, at: u64, name: &str, value: f64) {
        self.push(json!({"ph": "C", "pid": 1, "tid": 0, "ts": us(at), "name": name, "args": {"value": value}}));
    }
}
