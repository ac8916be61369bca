//! Recurrent state in slots, on the oracle: every split of a text into certain, pending and draft rows gives the same
//! bits, forks share a slot, and a failed step changes nothing.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use aio_backend::{Bindings, Data, Device, DeviceError, Executable, LoadOptions, WeightSet};
use aio_compiler::{Options, compile};
use aio_conformance::Weights;
use aio_interp::InterpDevice;
use aio_ir::{Dims, text, verify};
use aio_plan::{Bucket, PlanFamily, PoolSizes, Tail};
use std::ops::Range;

const SEED: u64 = 20;
const SLOTS: u32 = 9;
const CHANNELS: usize = 6;
const TAPS: usize = 4;
const HEADS: usize = 2;
const KEY: usize = 3;
const VALUE: usize = 4;
/// Maximum pending rows of the convolution and of the delta rule.
const ROOMS: [usize; 2] = [4, 3];
/// Elements per row of each f32 input, in the graph's order: x, q, k, v, gate, beta.
const WIDTHS: [usize; 6] = [CHANNELS, KEY, KEY, HEADS * VALUE, HEADS, HEADS];

fn graph() -> String {
    let held = TAPS - 1 + ROOMS[0];
    let record = KEY * VALUE + ROOMS[1] * (KEY + VALUE + 2);
    format!(
        "aio 1\ngraph \"slots\"\n%p = input \"slots\" : u32[seqs, 2]\n%c = input \"slot_rows\" : u32[seqs, 2]\n\
         %r = input \"row_seq\" : u32[rows]\n%x = input \"x\" : f32[rows, {CHANNELS}]\n%q = input \"q\" : f32[rows, 1, {KEY}]\n\
         %k = input \"k\" : f32[rows, 1, {KEY}]\n%v = input \"v\" : f32[rows, {HEADS}, {VALUE}]\n\
         %g = input \"g\" : f32[rows, {HEADS}]\n%b = input \"b\" : f32[rows, {HEADS}]\n\
         %w = weight \"w\" : f32[{CHANNELS}, {TAPS}]\n%s = state \"conv\" : f32[slots, {held}, {CHANNELS}]\n\
         %t = state \"delta\" : f32[slots, {HEADS}, {record}]\n%sn, %y = conv %s, %x, %w, %p, %c, %r\n\
         %tn, %z = delta_rule %t, %q, %k, %v, %g, %b, %p, %c, %r\noutput \"y\" = %y\noutput \"z\" = %z\n\
         final %s = %sn\nfinal %t = %tn\n"
    )
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Element `i` of an input in the row with this id, between -1 and 1.
fn element(row: u64, input: usize, i: usize) -> f32 {
    let mut random = Random(row * 1000 + input as u64 * 100 + i as u64);
    let unit = (random.next() >> 40) as f32 / 16_777_216.0;
    // Gates are positive.
    if input == 4 { unit } else { 2.0 * unit - 1.0 }
}

/// One sequence's part of a step.
struct Part {
    slots: [u32; 2],
    accepted: usize,
    certain: usize,
    /// Ids of its rows.
    rows: Vec<u64>,
}

/// The graph loaded on the oracle.
struct Machine {
    device: InterpDevice,
    family: PlanFamily,
    weights: WeightSet,
    executable: Box<dyn Executable>,
}

impl Machine {
    fn new() -> Machine {
        let device = InterpDevice::default();
        let graph = text::parse(&graph()).unwrap().graph;
        let bucket = Bucket { rows: 64, seqs: 4, outs: 1, tail: Tail::Logits, verify: false };
        let options = Options { buckets: vec![bucket], fuse: true };
        let family = compile(verify(&graph).unwrap(), &device.target(), &options).unwrap().family;
        let weights = device.upload(&family, &Weights::of(&graph), PoolSizes { pages: 0, slots: SLOTS }).unwrap();
        let executable = device.load(&family, &family.plans[0], &weights, &LoadOptions::default()).unwrap();
        Machine { device, family, weights, executable }
    }

    /// Runs a step and returns the bits of the results, for each row of each part.
    fn step(&mut self, parts: &[Part]) -> Result<Vec<Vec<Vec<u32>>>, DeviceError> {
        let ids: Vec<u64> = parts.iter().flat_map(|p| p.rows.iter().copied()).collect();
        let floats = WIDTHS.iter().enumerate().map(|(input, &width)| -> Vec<f32> {
            ids.iter().flat_map(|&id| (0..width).map(move |i| element(id, input, i))).collect()
        });
        let floats: Vec<_> = floats.collect();
        let slots: Vec<u32> = parts.iter().flat_map(|p| p.slots).collect();
        let counts: Vec<u32> = parts.iter().flat_map(|p| [p.accepted as u32, p.certain as u32]).collect();
        let row_seq: Vec<u32> = parts.iter().enumerate().flat_map(|(s, p)| vec![s as u32; p.rows.len()]).collect();
        let words = [&slots, &counts, &row_seq].map(|w| Some(Data::U32(w)));
        let inputs: Vec<_> = words.into_iter().chain(floats.iter().map(|f| Some(Data::F32(f)))).collect();
        let (mut y, mut z) = (vec![0; ids.len() * CHANNELS], vec![0; ids.len() * HEADS * VALUE]);
        let dims = Dims { rows: ids.len() as u32, seqs: parts.len() as u32, slots: SLOTS, ..Dims::default() };
        let mut bindings = Bindings { dims, inputs: &inputs, outputs: &mut [&mut y, &mut z] };
        self.executable.submit(&mut bindings)?.wait()?;
        let mut rows = y.chunks(CHANNELS).zip(z.chunks(HEADS * VALUE)).map(|(y, z)| [y, z].concat());
        Ok(parts.iter().map(|p| rows.by_ref().take(p.rows.len()).collect()).collect())
    }

    fn states(&self) -> [Vec<u8>; 2] {
        ["conv", "delta"].map(|name| {
            let state = self.family.states.iter().position(|s| s.name == name).unwrap();
            self.device.download_state(&self.weights, state).unwrap()
        })
    }

    /// The state in a slot, without pending rows.
    fn slot(&self, slot: u32) -> Vec<u32> {
        let [conv, delta] = self.states().map(|bytes| bytemuck::pod_collect_to_vec::<u8, u32>(&bytes));
        let of = |words: &[u32], record: usize, kept: Range<usize>| words[slot as usize * record..][kept].to_vec();
        let record = KEY * VALUE + ROOMS[1] * (KEY + VALUE + 2);
        let mut all = of(&conv, (TAPS - 1 + ROOMS[0]) * CHANNELS, 0..(TAPS - 1) * CHANNELS);
        for head in 0..HEADS {
            all.extend(of(&delta, HEADS * record, head * record..head * record + KEY * VALUE));
        }
        all
    }

    /// Runs a text row by row from the empty state; returns the results of each row and the final state.
    fn plain(&mut self, rows: &[u64]) -> (Vec<Vec<u32>>, Vec<u32>) {
        let (mut results, mut read) = (Vec::new(), 0);
        for &row in rows {
            let write = if read == 1 { 2 } else { 1 };
            let part = Part { slots: [read, write], accepted: 0, certain: 1, rows: vec![row] };
            results.extend(self.step(&[part]).unwrap().remove(0));
            read = write;
        }
        (results, self.slot(read))
    }
}

/// A sequence in the random run.
#[derive(Clone)]
struct Sequence {
    /// Ids of the rows committed so far, with their results.
    text: Vec<(u64, Vec<u32>)>,
    slot: u32,
    /// The correct draft rows of the last step, with their results; the next step may accept some of them.
    right: Vec<(u64, Vec<u32>)>,
}

/// The id of the row after a text. It is the same for equal texts until `branch` tells forks apart.
fn after(text: &[(u64, Vec<u32>)], branch: u64) -> u64 {
    text.len() as u64 * 10 + branch
}

/// One step of all sequences with random chunks, drafts and accepted counts.
fn random_step(machine: &mut Machine, sequences: &mut [Sequence], random: &mut Random) {
    let mut used: Vec<u32> = sequences.iter().map(|s| s.slot).collect();
    let mut parts = Vec::new();
    let mut right_counts = Vec::new();
    for (branch, sequence) in sequences.iter_mut().enumerate() {
        let accepted = random.below(sequence.right.len() + 1);
        sequence.text.extend(sequence.right.drain(..).take(accepted));
        let free: Vec<u32> = (1..SLOTS).filter(|slot| !used.contains(slot)).collect();
        let write = free[random.below(free.len())];
        used.push(write);
        let (certain, drafts) = (random.below(5), random.below(ROOMS[1] + 1));
        let right = random.below(drafts + 1);
        let mut text = sequence.text.clone();
        let mut rows = Vec::new();
        for i in 0..certain + drafts {
            let next = after(&text, branch as u64);
            // Wrong drafts are rows that appear in no text.
            let row = if i < certain + right { next } else { 1 << 40 | next };
            text.push((row, Vec::new()));
            rows.push(row);
        }
        parts.push(Part { slots: [sequence.slot, write], accepted, certain, rows });
        right_counts.push(right);
    }
    let results = machine.step(&parts).unwrap();
    for (((sequence, part), results), right) in sequences.iter_mut().zip(&parts).zip(results).zip(right_counts) {
        let mut rows = part.rows.iter().copied().zip(results);
        sequence.text.extend(rows.by_ref().take(part.certain));
        sequence.right = rows.take(right).collect();
        sequence.slot = part.slots[1];
    }
}

#[test]
fn any_split_into_certain_pending_and_draft_rows_gives_the_same_bits() {
    println!("seed {SEED}");
    let mut random = Random(SEED);
    let (mut machine, mut oracle) = (Machine::new(), Machine::new());
    for round in 0..20 {
        let empty = Sequence { text: Vec::new(), slot: 0, right: Vec::new() };
        let mut sequences = vec![empty; 3];
        for step in 0..12 {
            if step == 6 {
                // A fork: from here on both read the same slot, and may accept different numbers of its rows.
                sequences[2] = sequences[0].clone();
            }
            random_step(&mut machine, &mut sequences, &mut random);
        }
        for sequence in &sequences {
            let rows: Vec<u64> = sequence.text.iter().map(|(row, _)| *row).collect();
            let (results, state) = oracle.plain(&rows);
            for (i, (want, (_, got))) in results.iter().zip(&sequence.text).enumerate() {
                assert_eq!(got, want, "round {round}, row {i}");
            }
            assert_eq!(machine.slot(sequence.slot), state, "round {round}");
        }
        assert!(sequences.iter().all(|s| s.text.len() > 10), "texts grow");
        assert_eq!(machine.slot(0), vec![0; machine.slot(0).len()], "slot 0 stays empty");
    }
}

#[test]
fn slots_that_a_step_cannot_use_are_refused_before_it_runs() {
    let mut machine = Machine::new();
    let part = |slots, accepted, certain, rows: Range<u64>| Part { slots, accepted, certain, rows: rows.collect() };
    machine.step(&[part([0, 1], 0, 2, 0..4)]).unwrap();
    let before = machine.states();
    let wrong = [
        // The convolution has room for four drafts, the delta rule after it only for three.
        (part([1, 2], 1, 1, 4..9), "sequence 0 has 4 drafts, but a slot has room for 3 pending rows"),
        (part([1, 2], 4, 1, 4..8), "sequence 0 accepts 4 pending rows, but a slot has room for 3"),
        (part([1, 2], 0, 5, 4..8), "sequence 0 has 4 rows, of which 5 cannot be certain"),
        (part([1, SLOTS], 0, 1, 4..8), "sequence 0 names slot 9 of 9"),
        (part([1, 0], 0, 1, 4..8), "sequence 0 writes slot 0, which is the empty state"),
        (part([1, 1], 0, 1, 4..8), "sequence 0 writes slot 1, which sequence 0 also uses"),
    ];
    for (part, want) in wrong {
        match machine.step(&[part]).unwrap_err() {
            DeviceError::Binding { name, message } => assert_eq!((&name[..], &message[..]), ("slots", want)),
            other => panic!("{other}"),
        }
        assert_eq!(machine.states(), before, "{want}");
    }
    assert_eq!(machine.family.slot_room(), Some(3), "the engine can know");
    let again = machine.step(&[part([1, 2], 1, 1, 4..8)]).unwrap();
    let mut other = Machine::new();
    other.step(&[part([0, 1], 0, 2, 0..4)]).unwrap();
    assert_eq!(other.step(&[part([1, 2], 1, 1, 4..8)]).unwrap(), again);
}
