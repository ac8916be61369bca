//! Cost rules: bytes and flops of a node, from the op table.
//!
//! Pure arithmetic on resolved shapes. The compiler sums costs per task, the orchestrator per plan.

use crate::shape::{Dims, TensorType};

/// Step sizes that the cost depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The step's dimensions.
    pub dims: Dims,
    /// Average number of positions that a row attends to.
    pub context: u32,
}

/// Minimum bytes moved and floating-point operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Floating-point operations (a multiply-add is two).
    pub flops: u64,
}

impl std::ops::Add for Cost {
    type Output = Cost;
    fn add(self, other: Cost) -> Cost {
        Cost {
            bytes_read: self.bytes_read.saturating_add(other.bytes_read),
            bytes_written: self.bytes_written.saturating_add(other.bytes_written),
            flops: self.flops.saturating_add(other.flops),
        }
    }
}

impl std::ops::Sub for Cost {
    type Output = Cost;
    fn sub(self, other: Cost) -> Cost {
        Cost {
            bytes_read: self.bytes_read.saturating_sub(other.bytes_read),
            bytes_written: self.bytes_written.saturating_sub(other.bytes_written),
            flops: self.flops.saturating_sub(other.flops),
        }
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Cost>>(iter: I) -> Cost {
        iter.fold(Cost::default(), |a, b| a + b)
    }
}

/// The arguments of a cost rule.
pub struct CostArgs<'a> {
    /// Operand types; `None` for an absent optional operand.
    pub inputs: &'a [Option<&'a TensorType>],
    /// Result types.
    pub results: &'a [&'a TensorType],
    /// The step's load.
    pub load: Load,
}

/// A cost rule.
pub type CostRule = fn(&CostArgs<'_>) -> Cost;

impl CostArgs<'_> {
    fn bytes(&self, t: &TensorType) -> u64 {
        t.bytes(&self.load.dims).unwrap_or(u64::MAX)
    }

    fn elems(&self, t: &TensorType) -> u64 {
        t.shape.elems(&self.load.dims).unwrap_or(u64::MAX)
    }

    fn read(&self) -> u64 {
        self.inputs.iter().flatten().fold(0, |n, t| n.saturating_add(self.bytes(t)))
    }

    fn written(&self) -> u64 {
        self.results.iter().fold(0, |n, t| n.saturating_add(self.bytes(t)))
    }

    fn input(&self, i: usize) -> &TensorType {
        self.inputs[i].expect("required operand")
    }
}

/// Nothing moves: the result is another view of the same bytes.
pub(crate) fn free(_: &CostArgs<'_>) -> Cost {
    Cost::default()
}

/// Everything is read and written once; nothing is computed.
pub(crate) fn moved(a: &CostArgs<'_>) -> Cost {
    Cost { bytes_read: a.read(), bytes_written: a.written(), flops: 0 }
}

/// One operation per element of the largest tensor.
pub(crate) fn per_element(a: &CostArgs<'_>) -> Cost {
    let inputs = a.inputs.iter().flatten().map(|t| a.elems(t));
    let flops = inputs.chain(a.results.iter().map(|t| a.elems(t))).max().unwrap_or(0);
    Cost { flops, ..moved(a) }
}

/// Reads only the selected part of the first operand.
pub(crate) fn picked(a: &CostArgs<'_>) -> Cost {
    let out = a.results[0];
    let source = TensorType::new(a.input(0).dtype, out.shape.clone());
    let index = a.inputs.get(1).copied().flatten().map_or(0, |t| a.bytes(t));
    Cost { bytes_read: a.bytes(&source).saturating_add(index), bytes_written: a.written(), flops: 0 }
}

/// One multiply-add per weight and row. With experts, only the matrices that some row selects are read.
pub(crate) fn matmul(a: &CostArgs<'_>) -> Cost {
    let (x, w) = (a.input(0), a.input(1));
    let k = x.shape.last().resolve(&a.load.dims);
    let flops = a.elems(a.results[0]).saturating_mul(2).saturating_mul(k);
    Cost { flops, bytes_read: a.bytes(x).saturating_add(weight_bytes(a, w)), bytes_written: a.written() }
}

fn weight_bytes(a: &CostArgs<'_>, w: &TensorType) -> u64 {
    let all = a.bytes(w);
    match a.inputs.get(2).copied().flatten() {
        None => all,
        Some(experts) => {
            let total = w.shape.dims()[0].resolve(&a.load.dims).max(1);
            // One dimension is one expert for each row.
            let inner = experts.shape.dims().iter().skip(1);
            let picked = inner.map(|d| d.resolve(&a.load.dims)).product::<u64>().max(1);
            (all as f64 / total as f64 * distinct_experts(total, picked, a.elems(experts) / picked)) as u64
        }
    }
}

/// Expected number of distinct experts among `total` when each of `rows` rows picks `picked` different ones at random:
/// a row leaves out an expert with probability `1 - picked / total`.
pub fn distinct_experts(total: u64, picked: u64, rows: u64) -> f64 {
    let left_out = 1.0 - picked.min(total) as f64 / total.max(1) as f64;
    total as f64 * (1.0 - left_out.powf(rows as f64))
}

/// Moves only the keys and values of the rows.
pub(crate) fn page_write(a: &CostArgs<'_>) -> Cost {
    let (k, v) = (a.input(1), a.input(2));
    let halves = a.elems(k).saturating_add(a.elems(v));
    Cost { bytes_read: a.bytes(k).saturating_add(a.bytes(v)), bytes_written: halves.saturating_mul(2), flops: 0 }
}

/// Reads and writes each sequence's slot once, whatever the rows, besides the rows themselves.
fn slots(a: &CostArgs<'_>, flops: u64) -> Cost {
    let state = a.input(0);
    let record = state.bytes(&Dims { slots: 1, ..a.load.dims }).unwrap_or(u64::MAX);
    let records = record.saturating_mul(a.load.dims.seqs.into());
    let rows = a.inputs[1..].iter().flatten().fold(0u64, |n, t| n.saturating_add(a.bytes(t)));
    let bytes_written = records.saturating_add(a.bytes(a.results[1]));
    Cost { bytes_read: records.saturating_add(rows), bytes_written, flops }
}

/// One multiply-add per tap and element.
pub(crate) fn conv(a: &CostArgs<'_>) -> Cost {
    let taps = a.input(2).shape.last().resolve(&a.load.dims);
    slots(a, a.elems(a.input(1)).saturating_mul(taps).saturating_mul(2))
}

/// Seven operations per element of the matrix and row: the gate, and a multiply-add for each of the three products.
pub(crate) fn delta_rule(a: &CostArgs<'_>) -> Cost {
    let key = a.input(1).shape.last().resolve(&a.load.dims);
    slots(a, a.elems(a.input(3)).saturating_mul(key).saturating_mul(7))
}

/// Reads each sequence's keys and values once; two multiply-adds per element, head and row.
pub(crate) fn attend(a: &CostArgs<'_>) -> Cost {
    let (q, kv) = (a.input(0), a.input(1));
    let dims = kv.shape.resolve(&a.load.dims);
    let context = u64::from(a.load.context);
    let position = dims[2].saturating_mul(dims[4]).saturating_mul(4);
    let kv_bytes = u64::from(a.load.dims.seqs).saturating_mul(context).saturating_mul(position);
    let flops = a.elems(q).saturating_mul(context).saturating_mul(4);
    Cost { bytes_read: a.bytes(q).saturating_add(kv_bytes), bytes_written: a.written(), flops }
}
