//! What the threads of a device did in its steps, as plain data: when each worked on which task and when it waited.
//!
//! A device that keeps such a record returns it from [`Device::take_trace`](crate::Device::take_trace). Causes of idle
//! time are not recorded but follow from all threads' times together: [`StepRecord::stretches`] divides each thread's
//! step into work and named idle stretches without a gap. Used by traces and by reports on measured tasks.

use aio_plan::Bucket;
use std::fmt;

/// A device's record of its steps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Names of the threads, by index.
    pub threads: Vec<String>,
    /// Steps in order.
    pub steps: Vec<StepRecord>,
    /// Steps that were not recorded, because the record was full.
    pub dropped: u64,
}

/// A step. Times are nanoseconds from the start of the record.
#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    /// The plan's bucket.
    pub bucket: Bucket,
    /// Rows of the step.
    pub rows: u32,
    /// Positions that its sequences have together.
    pub positions: u64,
    /// Bytes of weights, keys and values read.
    pub bytes_read: u64,
    /// Number of tasks of the plan.
    pub tasks: u32,
    /// When it was submitted.
    pub start_ns: u64,
    /// When its results were there.
    pub end_ns: u64,
    /// What each thread did, by index: marks in order of time.
    pub marks: Vec<Vec<Mark>>,
}

/// Something that a thread did at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// When, in nanoseconds from the start of the record.
    pub at_ns: u64,
    /// What.
    pub event: Event,
}

/// What a thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It began to work on a task, at the start of a run or when it joined one.
    Enter {
        /// The task.
        task: u32,
    },
    /// It arrived at a barrier.
    Arrive {
        /// The barrier's number, the same for all threads.
        barrier: u32,
    },
    /// It went on from the barrier to a task: the same one from a barrier within a task.
    Resume {
        /// The task.
        task: u32,
    },
    /// It left the run: finished, or released because it had lost its processor.
    Leave,
}

/// A part of a thread's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The thread.
    pub thread: usize,
    /// When it began, in nanoseconds from the start of the record.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
    /// What it was.
    pub what: Activity,
}

/// What a thread did in a stretch of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It worked on a task.
    Work {
        /// The task.
        task: u32,
    },
    /// It was idle.
    Idle {
        /// Why.
        cause: Cause,
        /// The task that it had worked on; `None` before the first.
        after: Option<u32>,
    },
}

/// Why a thread was idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It was not running yet: the submission had not reached it.
    Launch,
    /// It waited, at a barrier or at the end, for a thread that still worked.
    LateThread,
    /// All had arrived, and it had not gone on yet.
    Barrier,
    /// It was not in the team: it had lost its processor, or never came.
    Away,
    /// The host checked the step's bindings before, or collected results after.
    Host,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 5] = [Cause::Launch, Cause::LateThread, Cause::Barrier, Cause::Away, Cause::Host];

    /// The name in traces and reports.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Launch => "launch",
            Cause::LateThread => "late thread",
            Cause::Barrier => "barrier",
            Cause::Away => "away",
            Cause::Host => "host",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl StepRecord {
    /// When the last thread arrived at each barrier, as pairs of number and time.
    fn last_arrivals(&self) -> Vec<(u32, u64)> {
        let mut last: Vec<(u32, u64)> = Vec::new();
        for mark in self.marks.iter().flatten() {
            let Event::Arrive { barrier } = mark.event else { continue };
            match last.binary_search_by_key(&barrier, |(b, _)| *b) {
                Ok(place) => last[place].1 = last[place].1.max(mark.at_ns),
                Err(place) => last.insert(place, (barrier, mark.at_ns)),
            }
        }
        last
    }

    /// Divides each thread's step into stretches, in order, that leave no gap between the step's start and end.
    pub fn stretches(&self) -> Vec<Stretch> {
        let last = self.last_arrivals();
        // The run of all threads: before its first mark and after its last one, only the host works.
        let times = || self.marks.iter().flatten().map(|m| m.at_ns);
        let run = (times().min().unwrap_or(self.end_ns), times().max().unwrap_or(self.end_ns));
        let mut all = Vec::new();
        for (thread, marks) in self.marks.iter().enumerate() {
            let mut cut = Cutter { thread, at: self.start_ns, end: self.end_ns, after: None, out: &mut all };
            cut.idle(run.0, Cause::Host);
            let finished = cut.thread(marks, &last);
            cut.idle(run.1, if finished { Cause::LateThread } else { Cause::Away });
            cut.idle(self.end_ns, Cause::Host);
        }
        all
    }

    /// Seconds of each task: from the end of the task before it, on all threads, to its own end on all threads. The first
    /// includes what comes before it. Their sum is the time to the end of the last task.
    pub fn task_seconds(&self) -> Vec<f64> {
        let mut ends = vec![self.start_ns; self.tasks as usize];
        for stretch in self.stretches() {
            if let Activity::Work { task } = stretch.what
                && let Some(end) = ends.get_mut(task as usize)
            {
                *end = (*end).max(stretch.end_ns);
            }
        }
        let mut before = self.start_ns;
        let mut seconds = Vec::with_capacity(ends.len());
        for end in ends {
            seconds.push(end.saturating_sub(before) as f64 * 1e-9);
            before = before.max(end);
        }
        seconds
    }

    /// Seconds of the step.
    pub fn seconds(&self) -> f64 {
        self.end_ns.saturating_sub(self.start_ns) as f64 * 1e-9
    }

    /// Idle seconds of all threads, by cause.
    pub fn idle_seconds(&self) -> [(Cause, f64); 5] {
        let mut sums = Cause::ALL.map(|cause| (cause, 0.0));
        for stretch in self.stretches() {
            if let Activity::Idle { cause, .. } = stretch.what {
                let place = Cause::ALL.iter().position(|c| *c == cause).unwrap_or(0);
                sums[place].1 += (stretch.end_ns - stretch.start_ns) as f64 * 1e-9;
            }
        }
        sums
    }
}

/// Cuts a thread's step into stretches.
struct Cutter<'a> {
    thread: usize,
    /// Where the next stretch begins.
    at: u64,
    /// Where the step ends.
    end: u64,
    after: Option<u32>,
    out: &'a mut Vec<Stretch>,
}

impl Cutter<'_> {
    /// Ends a stretch; empty ones are left out.
    fn to(&mut self, end_ns: u64, what: Activity) {
        let end_ns = end_ns.min(self.end);
        if end_ns > self.at {
            self.out.push(Stretch { thread: self.thread, start_ns: self.at, end_ns, what });
            self.at = end_ns;
        }
    }

    fn idle(&mut self, end_ns: u64, cause: Cause) {
        let after = self.after;
        self.to(end_ns, Activity::Idle { cause, after });
    }

    /// Returns whether the thread finished its part of the run.
    fn thread(&mut self, marks: &[Mark], last: &[(u32, u64)]) -> bool {
        let mut finished = false;
        let mut task = 0;
        let mut barrier = None;
        for mark in marks {
            match mark.event {
                Event::Enter { task: first } => {
                    self.idle(mark.at_ns, if self.after.is_none() { Cause::Launch } else { Cause::Away });
                    task = first;
                }
                Event::Arrive { barrier: number } => {
                    self.to(mark.at_ns, Activity::Work { task });
                    self.after = Some(task);
                    barrier = Some(number);
                }
                Event::Resume { task: next } => {
                    self.wait(mark.at_ns, barrier.take(), last);
                    task = next;
                }
                Event::Leave if barrier.is_some() => self.wait(mark.at_ns, barrier.take(), last),
                Event::Leave => {
                    self.to(mark.at_ns, Activity::Work { task });
                    self.after = Some(task);
                    finished = true;
                }
            }
        }
        finished
    }

    /// A wait at a barrier: for the last thread to arrive, then for the barrier to open.
    fn wait(&mut self, end_ns: u64, barrier: Option<u32>, last: &[(u32, u64)]) {
        let found = barrier.and_then(|b| last.binary_search_by_key(&b, |(n, _)| *n).ok());
        let arrival = found.map_or(self.at, |place| last[place].1);
        self.idle(arrival.min(end_ns), Cause::LateThread);
        self.idle(end_ns, Cause::Barrier);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_plan::Tail;

    fn mark(at_ns: u64, event: Event) -> Mark {
        Mark { at_ns, event }
    }

    /// Two threads and two tasks. The second thread starts late, is late at the barrier, and ends early.
    fn step() -> StepRecord {
        let first = vec![
            mark(110, Event::Enter { task: 0 }),
            mark(150, Event::Arrive { barrier: 7 }),
            mark(205, Event::Resume { task: 1 }),
            mark(300, Event::Leave),
        ];
        let second = vec![
            mark(130, Event::Enter { task: 0 }),
            mark(200, Event::Arrive { barrier: 7 }),
            mark(203, Event::Resume { task: 1 }),
            mark(280, Event::Leave),
        ];
        StepRecord {
            bucket: Bucket::new(1, 1, Tail::Argmax),
            rows: 1,
            positions: 1,
            bytes_read: 0,
            tasks: 2,
            start_ns: 100,
            end_ns: 310,
            marks: vec![first, second],
        }
    }

    #[test]
    fn each_threads_step_is_divided_without_a_gap() {
        for thread in 0..2 {
            let stretches: Vec<_> = step().stretches().into_iter().filter(|s| s.thread == thread).collect();
            assert!(stretches.windows(2).all(|w| w[0].end_ns == w[1].start_ns));
            assert_eq!((stretches[0].start_ns, stretches[stretches.len() - 1].end_ns), (100, 310));
        }
    }

    #[test]
    fn idle_stretches_have_the_cause_that_all_threads_times_show() {
        let named = |thread: usize| -> Vec<(u64, &str)> {
            let own = step().stretches().into_iter().filter(move |s| s.thread == thread);
            own.map(|s| match s.what {
                Activity::Work { .. } => (s.end_ns - s.start_ns, "work"),
                Activity::Idle { cause, .. } => (s.end_ns - s.start_ns, cause.name()),
            })
            .collect()
        };
        let first = [(10, "host"), (40, "work"), (50, "late thread"), (5, "barrier"), (95, "work"), (10, "host")];
        assert_eq!(named(0), first);
        let second = [
            (10, "host"),
            (20, "launch"),
            (70, "work"),
            (3, "barrier"),
            (77, "work"),
            (20, "late thread"),
            (10, "host"),
        ];
        assert_eq!(named(1), second);
        let sum: f64 = step().idle_seconds().iter().map(|(_, s)| s).sum();
        assert!((sum - 138e-9).abs() < 1e-15, "{sum}");
    }

    #[test]
    fn tasks_last_from_the_end_of_the_one_before_on_all_threads() {
        let seconds = step().task_seconds();
        assert!((seconds[0] - 100e-9).abs() < 1e-15 && (seconds[1] - 100e-9).abs() < 1e-15, "{seconds:?}");
    }

    #[test]
    fn a_thread_that_was_released_is_away_until_it_joins_again() {
        let mut step = step();
        step.marks[1] = vec![
            mark(130, Event::Enter { task: 0 }),
            mark(140, Event::Arrive { barrier: 7 }),
            mark(150, Event::Leave),
            mark(250, Event::Enter { task: 1 }),
            mark(290, Event::Leave),
        ];
        let away: Vec<u64> = step
            .stretches()
            .iter()
            .filter(|s| s.thread == 1 && matches!(s.what, Activity::Idle { cause: Cause::Away, .. }))
            .map(|s| s.end_ns - s.start_ns)
            .collect();
        assert_eq!(away, [100]);
    }
}
