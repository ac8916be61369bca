//! Chooses forms on simulated devices: the faster one is found whatever the devices' rates, and changes are followed.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::{FormChooser, FormReason};
use aio_plan::StepForm;
use noise::Noise;

/// A device whose host replaces tasks while the device reads.
#[derive(Clone, Copy)]
struct Machine {
    base: f64,
    per_byte: f64,
    per_update: f64,
    per_task: f64,
    /// Seconds of replacing that are hidden.
    hidden: f64,
    noise: f64,
}

impl Machine {
    fn time(&self, form: &StepForm) -> f64 {
        let updates = (self.per_update * form.updates as f64 - self.hidden).max(0.0);
        self.base + self.per_byte * form.kv_bytes as f64 + self.per_task * form.tasks as f64 + updates
    }
}

/// Forms of a step of 26 layers and 100 kB a position, for sequences of these lengths.
fn forms(lengths: &[u32]) -> [StepForm; 2] {
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let bucket = 1.2f64.powf(f64::from(longest).log(1.2).ceil()) as u64 * lengths.len() as u64;
    let exact: u64 = lengths.iter().map(|&len| u64::from(len)).sum();
    let form = |name, positions: u64, [updates, tasks]: [u64; 2]| StepForm {
        name,
        kv_bytes: positions * 100_000,
        updates,
        tasks,
    };
    [form("bucket", bucket, [0, 2]), form("patch", exact, [26, 0])]
}

/// What a run came to.
#[derive(Debug)]
struct Outcome {
    /// Time lost against the best form of each step, relative to all.
    lost: f64,
    /// The share of patched steps.
    patched: f64,
}

/// Runs steps of sequences with these lengths. Every fiftieth is disturbed, as by another program.
fn run(machine: Machine, steps: u32, lengths: impl Fn(u32) -> Vec<u32>, seed: u64) -> Outcome {
    let size = |step: u32| lengths(step).len() as u64;
    run_sizes(machine, steps, &lengths, size, seed)
}

/// The same, with sizes of steps that do not follow from their lengths, such as rows of drafts.
fn run_sizes(
    machine: Machine,
    steps: u32,
    lengths: impl Fn(u32) -> Vec<u32>,
    size: impl Fn(u32) -> u64,
    seed: u64,
) -> Outcome {
    let (mut chooser, mut random) = (FormChooser::new(1.6e12), Noise::new(seed));
    let (mut spent, mut best, mut patched) = (0.0, 0.0, 0);
    for step in 0..steps {
        let forms = forms(&lengths(step));
        let choice = chooser.choose(&forms);
        // More rows take longer in each form.
        let more = 1e-4 * size(step) as f64;
        let true_seconds = machine.time(&forms[choice.form]) + more;
        let wild = if step % 50 == 49 { 8.0 } else { 1.0 };
        let seconds = true_seconds * wild * (1.0 + machine.noise * (2.0 * random.unit() - 1.0));
        spent += true_seconds;
        best += forms.iter().map(|f| machine.time(f) + more).fold(f64::INFINITY, f64::min);
        patched += u32::from(choice.form == 1);
        chooser.observe(&forms, &choice, size(step), seconds);
    }
    Outcome { lost: spent / best - 1.0, patched: f64::from(patched) / f64::from(steps) }
}

const MACHINE: Machine =
    Machine { base: 3e-3, per_byte: 1.0 / 1.25e12, per_update: 20e-6, per_task: 3e-6, hidden: 0.0, noise: 0.02 };

#[test]
fn the_faster_form_is_found_whatever_replacing_costs() {
    println!("seed 7");
    for per_update in [0.0, 5e-6, 20e-6, 60e-6, 184e-6, 1e-3] {
        for hidden in [0.0, 1e-3] {
            let machine = Machine { per_update, hidden, ..MACHINE };
            let single = run(machine, 2000, |step| vec![256 + 16 * step], 7).lost;
            assert!(single < 0.02, "one sequence, {per_update} a task, {hidden} hidden: lost {single}");
            let batch = |step: u32| vec![30_000, 300 + step, 1000 + step, 4000 + step];
            let Outcome { lost: mixed, patched, .. } = run(machine, 2000, batch, 7);
            assert!(mixed < 0.02, "a batch, {per_update} a task, {hidden} hidden: lost {mixed}");
            if per_update < 1e-4 {
                assert!(patched > 0.9, "a mixed batch is patched, {per_update} a task: {patched}");
            }
        }
    }
}

#[test]
fn short_contexts_are_never_patched() {
    let machine = Machine { base: 10e-3, per_update: 184e-6, ..MACHINE };
    let outcome = run(machine, 1000, |step| vec![100 + step / 8], 7);
    assert_eq!(outcome.patched, 0.0, "nothing can be gained there");
}

#[test]
fn a_short_run_is_not_spent_on_measurements() {
    // The bucket reads 4400 positions in excess, 360 us of a step of 3 ms; replacing takes 5 ms, or 500 us as expected.
    let machine = Machine { base: 1e-3, per_update: 184e-6, ..MACHINE };
    for steps in [16, 64] {
        let outcome = run(machine, steps, |step| vec![22_700 + step], 7);
        assert!(outcome.lost < 0.03, "{steps} steps: {outcome:?}");
    }
    // What may gain more than it costs is measured at once.
    let free = Machine { per_update: 0.0, ..MACHINE };
    let outcome = run(free, 16, |step| vec![30_000, 300 + step, 1000 + step, 4000 + step], 7);
    assert!(outcome.patched > 0.8, "{outcome:?}");
}

/// With several rows of a sequence, buckets turn queries and results in each layer.
#[test]
fn tasks_of_its_own_speak_against_a_form() {
    let machine = Machine { per_update: 20e-6, per_task: 5e-6, hidden: 1e-3, ..MACHINE };
    let (mut chooser, mut random, mut patched) = (FormChooser::new(1.6e12), Noise::new(7), 0);
    for step in 0..400u64 {
        let mut forms = forms(&[100]);
        let rows = 1 + step % 2;
        forms[0].tasks += 52 * (rows - 1);
        let choice = chooser.choose(&forms);
        patched += u32::from(rows == 2 && choice.form == 1);
        let seconds = machine.time(&forms[choice.form]) * (1.0 + 0.01 * random.unit());
        chooser.observe(&forms, &choice, rows, seconds);
    }
    assert!(patched > 150, "patched {patched} of 200");
}

#[test]
fn a_form_that_is_a_little_better_is_found_and_kept() {
    // Patched lengths are a little better than expected, so their first measurement wins.
    let machine = Machine { per_update: 1e-6, noise: 0.0, ..MACHINE };
    let outcome = run(machine, 2000, |step| vec![20_000 + step % 400], 7);
    assert!(outcome.patched > 0.9 && outcome.lost < 0.01, "{outcome:?}");
}

#[test]
fn steps_whose_size_changes_each_time_teach_as_well() {
    // The drafts of a step come and go, so that no two neighbours have equally many rows.
    let machine = Machine { per_update: 1e-3, ..MACHINE };
    let batch = |step: u32| vec![30_000, 300 + step, 1000 + step, 4000 + step];
    let outcome = run_sizes(machine, 1000, batch, |step| u64::from(1 + step % 5), 7);
    assert!(outcome.lost < 0.03, "{outcome:?}");
}

#[test]
fn a_first_step_that_takes_long_is_no_change_of_the_device() {
    let mut chooser = FormChooser::new(1.6e12);
    let mut measured = 0;
    for step in 0..400u32 {
        let forms = forms(&[30_000, 300, 4000]);
        let choice = chooser.choose(&forms);
        // Each hundredth step begins a new size, and its first step loads code and pages.
        let wild = if step % 100 == 0 { 20.0 } else { 1.0 };
        measured += u32::from(choice.reason == FormReason::Measure);
        let seconds = wild * Machine { noise: 0.0, ..MACHINE }.time(&forms[choice.form]);
        chooser.observe(&forms, &choice, u64::from(step / 100), seconds);
    }
    assert!(measured <= 2, "the device is as it was: measured {measured} times");
}

#[test]
fn a_host_that_becomes_slow_is_noticed() {
    println!("seed 9");
    let lengths = |step: u32| vec![30_000, 300 + step % 100, 4000];
    let (mut chooser, mut random) = (FormChooser::new(1.6e12), Noise::new(9));
    let mut patched = [0; 2];
    for step in 0..4000u32 {
        let late = step >= 1000;
        let machine = Machine { per_update: if late { 1e-3 } else { 10e-6 }, ..MACHINE };
        let forms = forms(&lengths(step));
        let choice = chooser.choose(&forms);
        let seconds = machine.time(&forms[choice.form]) * (1.0 + 0.02 * random.unit());
        patched[usize::from(late)] += u32::from(choice.form == 1);
        chooser.observe(&forms, &choice, 3, seconds);
    }
    assert!(patched[0] > 900 && patched[1] < 200, "{patched:?}");
}

#[test]
fn nonsense_teaches_nothing() {
    let mut chooser = FormChooser::new(f64::NAN);
    let forms = forms(&[1000]);
    let choice = chooser.choose(&forms);
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        chooser.observe(&forms, &choice, 1, seconds);
    }
    assert!(chooser.choose(&forms).seconds.iter().all(|s| s.is_finite()));
    assert_eq!(chooser.choose(&[]).reason, FormReason::Only);
    assert_eq!(chooser.choose(&forms[..1]).form, 0);
}
