//! Deterministic inputs and weights of the conformance cases, and the error measure.

use super::{Case, SEED, Step, page_table};
use crate::{WeightData, WeightSource};
use aio_ir::{DType, Def, Dims, Graph, TensorType, quant};
use std::collections::BTreeMap;

/// Numbers that depend on the seed and a name alone.
struct Random(u64);

impl Random {
    fn new(name: &str) -> Random {
        // FNV-1a over the name, so that each tensor has numbers of its own.
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

    /// About normal: twelve uniform numbers less their mean.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| (self.next() >> 40) as f32 / 16_777_216.0).sum::<f32>() - 6.0
    }
}

/// The weights of a graph, as a device takes them.
#[derive(Debug)]
pub struct Weights {
    tensors: BTreeMap<String, (TensorType, Vec<u8>)>,
}

impl Weights {
    /// Weights for every weight that a graph declares.
    pub fn of(graph: &Graph) -> Weights {
        let declared = graph.values().filter(|(_, v)| v.def == Def::Weight);
        let tensors = declared.map(|(_, v)| (v.name.clone(), (v.ty.clone(), weight(&v.name, &v.ty)))).collect();
        Weights { tensors }
    }
}

impl WeightSource for Weights {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let (ty, bytes) = self.tensors.get(name)?;
        let shape = ty.shape.dims().iter().filter_map(|d| d.known()).collect();
        Some(WeightData { dtype: ty.dtype, shape, bytes })
    }
}

/// Vectors are near 1, or between 1 and 2 for what divides; matrices keep the size of what they multiply.
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

/// Replaces the f16 fields of a random block by small numbers, so that its values have a deviation near 1 / 16.
fn set_scales(dtype: DType, block: &mut [u8], random: u64) {
    // Place of the scale, deviation at scale 1, place of the minimum and its ratio that centres the values.
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
    /// The words of an input of a step.
    pub fn input(&self, name: &str, ty: &TensorType, index: usize) -> Vec<u32> {
        let step: &Step = &self.steps[index];
        let elems = ty.shape.elems(&step.dims()).unwrap_or(0) as usize;
        let mut random = Random::new(&format!("{name} {index}"));
        match name {
            "positions" => step.positions.clone(),
            "row_seq" => step.row_seq.clone(),
            "out_rows" => step.out_rows.clone(),
            "page_table" => page_table(),
            "sampling" => step.out_rows.iter().flat_map(|_| self.sampling.map(f32::to_bits)).collect(),
            "tokens" | "recent" => (0..elems).map(|_| (random.next() % 1000) as u32).collect(),
            "noise" => (0..elems).map(|_| random.next() as u32).collect(),
            _ => (0..elems).map(|_| random.normal().to_bits()).collect(),
        }
    }
}

/// Normalised mean square error: the error's energy by the reference's. Infinite where only one side is finite.
pub fn nmse(got: &[f32], want: &[f32]) -> f64 {
    if got.len() != want.len() || got.iter().zip(want).any(|(g, w)| g.is_finite() != w.is_finite()) {
        return f64::INFINITY;
    }
    let pairs = got.iter().zip(want).filter(|(g, _)| g.is_finite());
    let (error, energy) = pairs
        .fold((0.0, 0.0), |(e, n), (&g, &w)| (e + (f64::from(g) - f64::from(w)).powi(2), n + f64::from(w).powi(2)));
    if energy == 0.0 { error } else { error / energy }
}
