//! Deterministic inputs and weights of the conformance cases, and the error measure.

use crate::{Case, CaseStep, SEED, page_table, slots};
use aio_backend::{WeightData, WeightSource};
use aio_ir::{DType, Def, Dims, Graph, Shape, TensorType, quant};
use aio_plan::{PlanFamily, WeightDesc};
use std::collections::BTreeMap;

/// A generator that depends only on the seed and a name.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        // FNV-1a over the name, so that each tensor gets different numbers.
        let hash = |h: u64, b: u8| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        Random(name.bytes().fold(SEED ^ 0xcbf2_9ce4_8422_2325, hash))
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Approximately normal: twelve uniform numbers minus their mean.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }
}

/// The weights of a graph, as a source for a device.
#[derive(Debug)]
pub struct Weights {
    tensors: BTreeMap<String, (TensorType, Vec<u8>)>,
}

impl Weights {
    /// Generates every weight that a graph declares.
    pub fn of(graph: &Graph) -> Weights {
        let declared = graph.values().filter(|(_, v)| v.def == Def::Weight);
        let tensors = declared.map(|(_, v)| (v.name.clone(), (v.ty.clone(), weight(&v.name, &v.ty)))).collect();
        Weights { tensors }
    }
}

/// Elements after which weights of [`Weights::alike`] repeat.
const ALIKE_ELEMS: u64 = 1 << 20;

impl Weights {
    /// Weights for a family's copies: each copy's are the same, and large ones repeat, since making random numbers takes
    /// longer than most kernels. Times do not depend on the values.
    pub(crate) fn alike(family: &PlanFamily) -> Weights {
        let tensor = |w: &WeightDesc| (w.name.clone(), (w.ty.clone(), repeating(&w.name, &w.ty)));
        Weights { tensors: family.weights.iter().map(tensor).collect() }
    }
}

/// The bytes of a weight whose rows beyond the first ones repeat those.
fn repeating(name: &str, ty: &TensorType) -> Vec<u8> {
    let elems = ty.shape.elems(&Dims::default()).unwrap_or(0);
    if elems <= ALIKE_ELEMS {
        return weight(name, ty);
    }
    let bytes = ty.bytes(&Dims::default()).unwrap_or(0) as usize;
    let some = TensorType::new(ty.dtype, Shape::consts(&[1, ALIKE_ELEMS]));
    let first = weight(name, &some);
    first.iter().copied().cycle().take(bytes).collect()
}

/// The name without the number of a copy.
fn copied(name: &str) -> &str {
    name.split_once(" #").map_or(name, |(name, _)| name)
}

impl WeightSource for Weights {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let (ty, bytes) = self.tensors.get(copied(name))?;
        let shape = ty.shape.dims().iter().filter_map(|d| d.known()).collect();
        Some(WeightData { dtype: ty.dtype, shape, bytes })
    }
}

/// Vectors are near 1, or between 1 and 2 if they are divisors; matrices preserve the magnitude of their input.
fn weight(name: &str, ty: &TensorType) -> Vec<u8> {
    let mut random = Random::new(name);
    let elems = ty.shape.elems(&Dims::default()).unwrap_or(0) as usize;
    let bytes = ty.bytes(&Dims::default()).unwrap_or(0) as usize;
    let (mean, scale) = match (name, ty.shape.rank()) {
        ("factors", _) => (2.0, 0.1),
        (_, 1) => (1.0, 0.2),
        _ => (0.0, 1.0 / 16.0),
    };
    let mut out = vec![0; bytes];
    if quant::has_encoder(ty.dtype) {
        let values: Vec<f32> = (0..elems).map(|_| mean + scale * random.normal()).collect();
        quant::encode(ty.dtype, &values, &mut out).expect("whole blocks of a type with an encoder");
        return out;
    }
    for block in out.chunks_exact_mut(ty.dtype.block_bytes()) {
        block.fill_with(|| random.next() as u8);
        set_scales(ty.dtype, block, random.next());
    }
    out
}

/// Sets the f16 fields of a random block to small numbers, so that its values have a standard deviation near 1 / 16.
fn set_scales(dtype: DType, block: &mut [u8], random: u64) {
    // Offset of the scale, deviation at scale 1, and offset of the minimum with the ratio that centres the values.
    let (at, deviation, min): (usize, f32, Option<(usize, f32)>) = match dtype {
        DType::Q5_0 => (0, 9.0, None),
        DType::Q5_1 => (0, 9.0, Some((2, -15.5))),
        DType::Q2K => (80, 14.0, Some((82, 1.5))),
        DType::Q3K => (108, 43.0, None),
        DType::Q4K => (0, 260.0, Some((2, 7.5))),
        DType::Q5K => (0, 530.0, Some((2, 15.5))),
        DType::Q6K => (208, 1370.0, None),
        _ => (0, 67.0, None),
    };
    let spread = 0.5 + (random % 1024) as f32 / 1024.0;
    let scale = spread / 16.0 / deviation;
    let mut put = |at: usize, v: f32| {
        quant::encode(DType::F16, &[v], &mut block[at..at + 2]).expect("one f16 takes two bytes");
    };
    put(at, scale);
    if let Some((at, ratio)) = min {
        put(at, scale * ratio);
    }
}

impl Case {
    /// An input of a step as whole words: the bytes of its type, padded with zeros to a full word.
    pub fn input(&self, name: &str, ty: &TensorType, index: usize) -> Vec<u32> {
        let (step, name): (&CaseStep, &str) = (&self.steps[index], copied(name));
        let elems = ty.shape.elems(&step.dims()).unwrap_or(0) as usize;
        let mut random = Random::new(&format!("{name} {index}"));
        // A name may start with `other`, so that tests can rename an input.
        match name.strip_prefix("other ").unwrap_or(name) {
            // A graph with constant row counts takes the first ones.
            "positions" => step.positions.iter().copied().take(elems).collect(),
            "row_seq" => step.row_seq.iter().copied().take(elems).collect(),
            "out_rows" => step.out_rows.iter().copied().take(elems).collect(),
            "page_table" => page_table(),
            "slots" => slots::slots(index),
            "slot_rows" => slots::slot_rows(self, index),
            "sampling" => step.out_rows.iter().flat_map(|_| self.sampling.map(f32::to_bits)).collect(),
            "tokens" | "recent" => (0..elems).map(|_| (random.next() % 1000) as u32).collect(),
            "noise" => (0..elems).map(|_| random.next() as u32).collect(),
            // Two sequences that share the rows: the first one's drafts, then the second one's.
            "spans" => vec![0, step.dims().rows / 2, step.dims().rows / 2, step.dims().rows.div_ceil(2) - 1],
            // Drafts for `verify`: usually the previous row's token.
            "drafts" => {
                let sampled = self.input("few", ty, index);
                (0..elems).map(|i| if i % 5 == 4 { 9 } else { sampled[i.saturating_sub(1)] }).collect()
            }
            _ => words(ty.dtype, &(0..elems).map(|_| random.element(name, ty.dtype)).collect::<Vec<_>>()),
        }
    }
}

impl Random {
    /// An element of an input. The name selects small indices (below 9), few distinct values, wide ranges, or floats
    /// that are hard to handle, frequent or rare.
    fn element(&mut self, name: &str, dtype: DType) -> f32 {
        /// Values that make up a third of a `special` input, in random order.
        const SPECIAL: [f32; 6] = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-40];
        let number = self.normal();
        match name {
            "index" => (self.next() % 9) as f32,
            "condition" => (self.next() % 2) as f32,
            "places" => (self.next() % 300) as f32,
            "wide" => 60.0 * number,
            _ if name.starts_with("few") => (self.next() % 4) as f32,
            // Rare enough that most rows of some tens of elements contain none.
            _ if name.ends_with("rare") && !self.next().is_multiple_of(150) => number,
            _ if name.ends_with("rare") => SPECIAL[(self.next() % 6) as usize],
            _ if name.ends_with("special") && self.next().is_multiple_of(3) => SPECIAL[(self.next() % 6) as usize],
            _ if name.ends_with("special") => number,
            _ if dtype.is_float() => number,
            _ => 40.0 * number,
        }
    }
}

/// Encodes numbers in a type's stored form.
fn words(dtype: DType, values: &[f32]) -> Vec<u32> {
    let mut bytes = match dtype {
        DType::I32 | DType::U32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
        DType::I8 | DType::U8 => values.iter().map(|&v| v as i32 as u8).collect(),
        DType::Bool => values.iter().map(|&v| u8::from(v > 0.5)).collect(),
        float => {
            let mut bytes = vec![0; values.len() / float.block_elems() * float.block_bytes()];
            quant::encode(float, values, &mut bytes).expect("inputs of cases have types with an encoder");
            bytes
        }
    };
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytemuck::allocation::pod_collect_to_vec(&bytes)
}

/// Normalised mean square error: the energy of the error divided by that of the reference. Infinite if a value on one
/// side is not finite and its counterpart is not the same: NaN with NaN, or infinity with infinity of the same sign.
pub fn nmse(got: &[f32], want: &[f32]) -> f64 {
    let same_kind = |g: f32, w: f32| if w.is_finite() { g.is_finite() } else { g == w || (g.is_nan() && w.is_nan()) };
    if got.len() != want.len() || got.iter().zip(want).any(|(g, w)| !same_kind(*g, *w)) {
        return f64::INFINITY;
    }
    let pairs = got.iter().zip(want).filter(|(g, _)| g.is_finite());
    let (error, energy) = pairs
        .fold((0.0, 0.0), |(e, n), (&g, &w)| (e + (f64::from(g) - f64::from(w)).powi(2), n + f64::from(w).powi(2)));
    if energy == 0.0 { error } else { error / energy }
}
