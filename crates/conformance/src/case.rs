//! A conformance case: its steps and its error bounds.

use aio_ir::{DType, Dims, Op, PAGE_POSITIONS};
use aio_plan::{Bucket, KindName, Tail, Target};

/// Seed of the inputs and weights of every case.
pub const SEED: u64 = 0x5eed_0001;
/// Row counts of the steps: one, a few, a full tile, one more than a tile, several tiles with a remainder.
pub const ROWS: [u32; 6] = [1, 2, 5, 16, 17, 33];
/// Slots of the pool of recurrent state: the empty one, and two for each of two sequences.
pub const POOL_SLOTS: u32 = 5;
/// Pages of the KV pool.
pub const POOL_PAGES: u32 = 48;
/// Weight matrix types that a model file may have.
pub const WEIGHT_TYPES: [DType; 14] = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::Q4_0,
    DType::Q4_1,
    DType::Q5_0,
    DType::Q5_1,
    DType::Q8_0,
    DType::Q2K,
    DType::Q3K,
    DType::Q4K,
    DType::Q5K,
    DType::Q6K,
    DType::IQ4NL,
];

/// How a result is compared with the oracle's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// By normalised mean square error.
    Numbers,
    /// Tokens, but one may differ from the oracle's arg-max if its logit is nearly as large.
    BestToken,
    /// Tokens, which must be equal.
    Tokens,
}

/// One step of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseStep {
    /// Position of each row.
    pub positions: Vec<u32>,
    /// Sequence of each row.
    pub row_seq: Vec<u32>,
    /// Rows that produce an output.
    pub out_rows: Vec<u32>,
}

impl CaseStep {
    /// A step of some rows of sequence 0 after `depth` positions; each row has an output.
    pub fn at(rows: u32, depth: u32) -> CaseStep {
        let positions = (depth..depth.saturating_add(rows)).collect();
        CaseStep { positions, row_seq: vec![0; rows as usize], out_rows: (0..rows).collect() }
    }

    /// The step's dimensions.
    pub fn dims(&self) -> Dims {
        let (rows, outs) = (self.positions.len() as u32, self.out_rows.len() as u32);
        let (pages, stride, slots) = (POOL_PAGES, POOL_PAGES, POOL_SLOTS);
        Dims { rows, seqs: 2, pages, stride, outs, recent: 4, slots }
    }
}

/// A conformance case.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Unique name, which filters match.
    pub name: String,
    /// The task kind under test.
    pub kind: KindName,
    /// Type of the weight matrices.
    pub weights: DType,
    /// The graph in the text form.
    pub text: String,
    /// Whether nodes are fused; otherwise each node is a task.
    pub fuse: bool,
    /// What is computed from the logits, for graphs that have them.
    pub tail: Tail,
    /// How results are compared.
    pub compare: Compare,
    /// Largest allowed normalised mean square error.
    pub max_nmse: f64,
    /// Sampling parameters of each output row.
    pub sampling: [f32; 7],
    /// Steps, run in order on the same states.
    pub steps: Vec<CaseStep>,
}

/// Error bound where the values between tasks are halves: each is rounded by up to 2^-11 of itself, some ten times.
const HALF_BOUND: f64 = 5e-6;

impl Case {
    /// The case as a device runs it: with the KV pages that suit it, and error bounds for its activations. A reference
    /// for it must come from this case too.
    pub fn on(&self, target: &Target) -> Case {
        let mut case = self.clone();
        let pages = target.page_positions();
        if pages != PAGE_POSITIONS {
            case.text = case.text.lines().map(|line| paged(line, pages) + "\n").collect();
        }
        let halves =
            self.fuse || self.weights != DType::F32 || matches!(self.kind, KindName::Op(Op::Attend | Op::PageWrite));
        if target.activations != DType::F32 && halves {
            case.max_nmse = case.max_nmse.max(HALF_BOUND);
        }
        case
    }

    /// A bucket large enough for every step.
    pub fn bucket(&self) -> Bucket {
        let most = self.steps.iter().map(|s| s.positions.len() as u32).max().unwrap_or(0);
        let rows = most.max(ROWS[ROWS.len() - 1]);
        Bucket { rows, seqs: 2, outs: rows, tail: self.tail, verify: false }
    }

    /// A bucket exactly as large as one step, so that its task costs are the step's.
    pub fn bucket_of(&self, step: usize) -> Bucket {
        let dims = self.steps[step].dims();
        Bucket { rows: dims.rows, seqs: dims.seqs, outs: dims.outs, tail: self.tail, verify: false }
    }
}

/// Error bound of one product.
///
/// Plain weights are multiplied with f32 activations, so only the order of summation differs. Block formats are
/// multiplied with activations of 8 bits in blocks of 32, whose rounding error is uniform with step `amax / 127`. For
/// normal numbers `amax` is near 2.2 standard deviations, which gives `(2.2 / 127)^2 / 12 = 2.5e-5`. The bound leaves a
/// factor of four for short sums.
pub(super) fn product_bound(weights: DType) -> f64 {
    if weights.is_quantized() { 1e-4 } else { 1e-10 }
}

/// Steps of one sequence from position 0, one per row count. Every second row produces an output, in descending order.
pub(super) fn plain_steps() -> Vec<CaseStep> {
    let step = |rows: u32| CaseStep {
        positions: (0..rows).collect(),
        row_seq: vec![0; rows as usize],
        out_rows: (0..rows).rev().step_by(2).collect(),
    };
    ROWS.iter().map(|&rows| step(rows)).collect()
}

/// Steps that continue where the previous one ended. `rows` are the row counts of sequences 0 and 1.
pub(super) fn growing_steps(rows: &[(u32, u32)]) -> Vec<CaseStep> {
    let mut ends = [0u32; 2];
    let mut steps = Vec::new();
    for &(a, b) in rows {
        let mut step = CaseStep { positions: Vec::new(), row_seq: Vec::new(), out_rows: Vec::new() };
        for (seq, count) in [(0, a), (1, b)] {
            step.positions.extend(ends[seq]..ends[seq] + count);
            step.row_seq.extend(std::iter::repeat_n(seq as u32, count as usize));
            ends[seq] += count;
        }
        steps.push(step);
    }
    steps
}

/// Steps over two sequences that cross page boundaries.
pub(super) fn mixed_steps() -> Vec<CaseStep> {
    growing_steps(&[(33, 0), (10, 7), (0, 1), (1, 1), (16, 0), (3, 2), (16, 17), (1, 0), (0, 33), (2, 3)])
}

/// Steps that fill positions up to `context`, followed by steps of one or a few rows.
pub(super) fn long_steps(context: u32) -> Vec<CaseStep> {
    let mut rows = vec![(33, 0); context.div_ceil(33) as usize];
    rows.extend([(1, 2), (1, 0), (5, 0), (17, 1)]);
    growing_steps(&rows)
}

/// A line of a graph with pages of a given number of positions in place of the usual ones.
fn paged(line: &str, positions: u64) -> String {
    let state = |(before, shape): (&str, &str)| {
        let (heads, rest) = shape.split_once(", ")?;
        let (size, rest) = rest.split_once(", ")?;
        let usual = size.parse() == Ok(PAGE_POSITIONS);
        usual.then(|| format!("{before}f16[pages, 2, {heads}, {positions}, {rest}"))
    };
    line.split_once("f16[pages, 2, ").and_then(state).unwrap_or_else(|| line.to_owned())
}

/// A page of sequence `seq`. All pages are distinct and unordered.
pub fn page(seq: u32, index: u32) -> u32 {
    ((2 * index + seq) * 5 + 1) % POOL_PAGES
}

/// The page table of both sequences.
pub fn page_table() -> Vec<u32> {
    (0..2).flat_map(|seq| (0..POOL_PAGES).map(move |index| page(seq, index))).collect()
}

/// Positions available to each sequence.
pub fn positions_per_sequence() -> u32 {
    POOL_PAGES / 2 * PAGE_POSITIONS as u32
}

/// A case with the defaults for one product.
pub(super) fn base(name: String, kind: KindName, weights: DType, text: String) -> Case {
    Case {
        name,
        kind,
        weights,
        text,
        fuse: true,
        tail: Tail::Logits,
        compare: Compare::Numbers,
        max_nmse: product_bound(weights),
        sampling: [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0],
        steps: plain_steps(),
    }
}
