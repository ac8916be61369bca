//! Chooses forms on simulated devices: the faster one is found whatever the devices' rates, and changes are followed.
#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

mod noise;

use aio_orchestrator::{FormChooser, FormObserved, FormReason};
use aio_plan::StepForm;
use noise::Noise;

/// A device whose host replaces tasks while the device reads.
#[derive(Clone, Copy)]
struct Machine {
    base: f64,
    per_byte: f64,
    per_update: f64,
    /// Seconds of replacing that are hidden.
    hidden: f64,
    noise: f64,
}

impl Machine {
    fn time(&self, form: &StepForm) -> f64 {
        let updates = (self.per_update * form.updates as f64 - self.hidden).max(0.0);
        self.base + self.per_byte * form.kv_bytes as f64 + updates
    }
}

/// Forms of a step of 26 layers and 100 kB a position, for sequences of these lengths.
fn forms(lengths: &[u32]) -> [StepForm; 2] {
    let longest = lengths.iter().copied().max().unwrap_or(1);
    let bucket = 1.2f64.powf(f64::from(longest).log(1.2).ceil()) as u64 * lengths.len() as u64;
    let exact: u64 = lengths.iter().map(|&len| u64::from(len)).sum();
    let form = |name, positions: u64, updates| StepForm { name, kv_bytes: positions * 100_000, updates };
    [form("bucket", bucket, 0), form("patch", exact, 26)]
}

/// Time lost against the best form of each step, relative to all, and the share of patched steps.
fn run(machine: Machine, steps: u32, lengths: impl Fn(u32) -> Vec<u32>, seed: u64) -> (f64, f64) {
    let (mut chooser, mut random) = (FormChooser::new(1.6e12), Noise::new(seed));
    let (mut spent, mut best, mut patched) = (0.0, 0.0, 0);
    for step in 0..steps {
        let forms = forms(&lengths(step));
        let choice = chooser.choose(&forms);
        let form = forms[choice.form];
        let true_seconds = machine.time(&form);
        let wild = if step % 50 == 49 { 8.0 } else { 1.0 };
        let seconds = true_seconds * wild * (1.0 + machine.noise * (2.0 * random.unit() - 1.0));
        spent += true_seconds;
        best += forms.iter().map(|f| machine.time(f)).fold(f64::INFINITY, f64::min);
        patched += u32::from(choice.form == 1);
        chooser.observe(&choice, FormObserved { size: lengths(step).len() as u64, form, seconds });
    }
    (spent / best - 1.0, f64::from(patched) / f64::from(steps))
}

const MACHINE: Machine = Machine { base: 3e-3, per_byte: 1.0 / 1.25e12, per_update: 20e-6, hidden: 0.0, noise: 0.02 };

#[test]
fn the_faster_form_is_found_whatever_replacing_costs() {
    println!("seed 7");
    for per_update in [0.0, 5e-6, 20e-6, 60e-6, 184e-6, 1e-3] {
        for hidden in [0.0, 1e-3] {
            let machine = Machine { per_update, hidden, ..MACHINE };
            let (single, _) = run(machine, 2000, |step| vec![256 + 16 * step], 7);
            assert!(single < 0.02, "one sequence, {per_update} a task, {hidden} hidden: lost {single}");
            let batch = |step: u32| vec![30_000, 300 + step, 1000 + step, 4000 + step];
            let (mixed, patched) = run(machine, 2000, batch, 7);
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
    let (_, patched) = run(machine, 1000, |step| vec![100 + step / 8], 7);
    assert_eq!(patched, 0.0, "nothing can be gained there");
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
        chooser.observe(&choice, FormObserved { size: 3, form: forms[choice.form], seconds });
    }
    assert!(patched[0] > 900 && patched[1] < 200, "{patched:?}");
}

#[test]
fn nonsense_teaches_nothing() {
    let mut chooser = FormChooser::new(f64::NAN);
    let forms = forms(&[1000]);
    let choice = chooser.choose(&forms);
    for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        chooser.observe(&choice, FormObserved { size: 1, form: forms[0], seconds });
    }
    assert!(chooser.choose(&forms).seconds.iter().all(|s| s.is_finite()));
    assert_eq!(chooser.choose(&[]).reason, FormReason::Only);
    assert_eq!(chooser.choose(&forms[..1]).form, 0);
}
