//! Runs the plans of a changed family with arbitrary weights and inputs, several steps each. Called by `hostile_plans`.

use aio_backend::{Bindings, Data, Device, DeviceError, LoadOptions, WeightData, WeightSource};
use aio_ir::{DType, Dims, TensorType};
use aio_plan::{PlanFamily, PoolSizes};
use std::collections::BTreeMap;

/// Maximum total bytes of weights, states and arena of a family that is run.
pub(crate) const MAX_BYTES: u64 = 8 << 20;
/// Pages in the pool.
pub(crate) const PAGES: u32 = 4;
/// Pool sizes of the states.
pub(crate) const POOLS: PoolSizes = PoolSizes { pages: PAGES, slots: 5 };
/// Maximum rows of a step.
const MAX_ROWS: u32 = 40;

/// Weights for every declaration, with whatever type it has after the change.
struct Weights(BTreeMap<String, (TensorType, Vec<u8>)>);

impl WeightSource for Weights {
    fn weight(&self, name: &str) -> Option<WeightData<'_>> {
        let (ty, bytes) = self.0.get(name)?;
        let shape = ty.shape.dims().iter().filter_map(|d| d.known()).collect();
        Some(WeightData { dtype: ty.dtype, shape, bytes })
    }
}

fn weights(family: &PlanFamily) -> Weights {
    let weight = |w: &aio_plan::WeightDesc| {
        let len = w.ty.bytes(&Dims::default()).unwrap_or(0) as usize;
        (w.name.clone(), (w.ty.clone(), (0..len).map(|i| (i * 37) as u8 & 0x3b).collect()))
    };
    Weights(family.weights.iter().map(weight).collect())
}

/// Loads every plan and runs four steps: a full one, one with few rows, and two with few rows and a page table that is
/// narrower or wider than the pool.
pub(crate) fn step(family: &PlanFamily, device: &dyn Device, bytes: &[u8]) -> Result<(), DeviceError> {
    device.scratch_bytes(family, POOLS);
    let resident = device.upload(family, &weights(family), POOLS)?;
    for plan in &family.plans {
        let mut executable = device.load(family, plan, &resident, &LoadOptions::default())?;
        for (most, stride) in [(MAX_ROWS, PAGES), (2, PAGES), (2, 2), (2, 400)] {
            let bucket = plan.bucket;
            let (rows, seqs, outs) = (bucket.rows.min(most), bucket.seqs.min(most), bucket.outs.min(most));
            let (pages, slots) = (PAGES, POOLS.slots);
            let dims = Dims { rows, seqs, outs, pages, stride, recent: most.min(5), slots };
            let data: Vec<Option<Bound>> = plan.inputs.iter().map(|i| bound(&i.ty, &dims, bytes)).collect();
            let inputs: Vec<_> = data.iter().map(|d| d.as_ref().map(Bound::data)).collect();
            let words = |b: &aio_plan::Binding| b.ty.bytes(&dims).map_or(0, |bytes| bytes.div_ceil(4) as usize);
            if plan.outputs.iter().chain(&plan.inputs).map(words).sum::<usize>() as u64 > MAX_BYTES {
                continue;
            }
            let mut outputs: Vec<Vec<u32>> = plan.outputs.iter().map(|o| vec![0; words(o)]).collect();
            let mut outputs: Vec<&mut [u32]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
            let mut bindings = Bindings { dims, inputs: &inputs, outputs: &mut outputs };
            let done = executable.submit(&mut bindings).and_then(|pending| pending.wait());
            // A page table wider than the pool must be rejected; all other steps must run.
            if stride <= PAGES {
                done?;
            } else if done.is_ok() {
                return Err(DeviceError::Failed("a page table wider than the pool was taken".to_owned()));
            }
        }
    }
    device.copy_pages(&resident, &[(0, 1)])?;
    (0..family.states.len()).try_for_each(|s| device.download_state(&resident, s).map(drop))
}

/// The data bound to an input.
enum Bound {
    F32(Vec<f32>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    Bytes(DType, Vec<u8>),
}

impl Bound {
    fn data(&self) -> Data<'_> {
        match self {
            Bound::F32(v) => Data::F32(v),
            Bound::I32(v) => Data::I32(v),
            Bound::U32(v) => Data::U32(v),
            Bound::Bytes(t, v) => Data::Bytes(*t, v),
        }
    }
}

/// Small indices, so that most steps are valid.
fn bound(ty: &TensorType, dims: &Dims, bytes: &[u8]) -> Option<Bound> {
    let len = ty.bytes(dims).filter(|&len| len <= MAX_BYTES)? as usize;
    let byte = |i: usize| bytes.get(i % bytes.len().max(1)).copied().unwrap_or(0) ^ i as u8;
    Some(match ty.dtype {
        DType::F32 => Bound::F32((0..len / 4).map(|i| f32::from(byte(i)) / 64.0 - 2.0).collect()),
        DType::I32 => Bound::I32((0..len / 4).map(|i| i32::from(byte(i) % 4)).collect()),
        DType::U32 => Bound::U32((0..len / 4).map(|i| u32::from(byte(i) % 3)).collect()),
        other => Bound::Bytes(other, (0..len).map(|i| byte(i) & 0x3f).collect()),
    })
}
