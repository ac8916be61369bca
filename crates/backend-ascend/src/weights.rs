//! The forms in which operators read weights, where each lies, and how it is made.
//!
//! Lowering asks for a form by name. The first lowering of a family, before anything is uploaded, collects what it asks
//! for; so which weight has which form is written once, where it is used.

use crate::acl::{Call, DeviceMemory, Queue};
use crate::view::{Elem, View};
use aio_backend::{DeviceError, WeightSource, weights};
use aio_ir::{DType, quant};
use aio_plan::{PlanFamily, WeightId};
use half::f16;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Alignment of each form in bytes, and of what follows it.
const ALIGNMENT: usize = 512;
/// Rows and columns of a tile of the cube's layout for 2-byte elements.
const TILE: usize = 16;
/// Outputs that a product with integers takes at most (ggml-cann splits there).
const MOST_OUTPUTS: usize = 65_535;
/// Elements that share a scale in Q8_0 and Q4_0.
pub(crate) const GROUP: usize = 32;

/// A weight, or some side by side, as operators read them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// Matrices side by side as halves in the cube's layout: `[inputs, outputs of all]`.
    Tiled(SmallVec<[WeightId; 2]>),
    /// The same as 8- or 4-bit integers, with a half for each group of 32 inputs: `[inputs, outputs of all]`.
    Groups(SmallVec<[WeightId; 2]>),
    /// Halves in the file's order.
    Half(WeightId),
    /// f32 in the file's order.
    Full(WeightId),
    /// The file's elements.
    File(WeightId),
    /// f32 kept by the host.
    Host(WeightId),
}

/// What lowering asked for, and where it lies.
#[derive(Debug, Default)]
pub(crate) struct WeightsMap {
    places: Mutex<Places>,
    /// Whether new forms may be asked for.
    collecting: bool,
    /// Whether matrices of 8 and 4 bits keep their integers.
    groups: bool,
    /// Address of the first form.
    pub base: u64,
}

#[derive(Debug, Default)]
struct Places {
    forms: Vec<(Form, usize)>,
    bytes: usize,
}

/// Sizes of a weight: all dimensions but the last together, and the last.
fn sizes(family: &PlanFamily, id: WeightId) -> [usize; 2] {
    let dims = family.weights[id.index()].ty.shape.dims().iter().filter_map(|d| d.known()).map(|d| d as usize);
    let dims: SmallVec<[usize; 4]> = dims.collect();
    let last = dims.last().copied().unwrap_or(1);
    [dims.iter().product::<usize>() / last.max(1), last]
}

/// Inputs and outputs of matrices side by side.
fn joined(family: &PlanFamily, ids: &[WeightId]) -> [usize; 2] {
    let outputs = ids.iter().map(|&id| sizes(family, id)[0]).sum();
    [ids.first().map_or(0, |&id| sizes(family, id)[1]), outputs]
}

fn tiles(size: usize) -> usize {
    size.div_ceil(TILE) * TILE
}

/// The integer type of a matrix in groups.
fn integers(dtype: DType) -> Option<Elem> {
    match dtype {
        DType::Q8_0 => Some(Elem::I8),
        DType::Q4_0 => Some(Elem::I4),
        _ => None,
    }
}

impl Form {
    fn bytes(&self, family: &PlanFamily) -> usize {
        match self {
            Form::Tiled(ids) => {
                let [inputs, outputs] = joined(family, ids);
                2 * tiles(inputs) * tiles(outputs)
            }
            Form::Groups(ids) => {
                let [inputs, outputs] = joined(family, ids);
                let elem = integers(family.weights[ids[0].index()].ty.dtype).unwrap_or(Elem::I8);
                elem.bytes(inputs * outputs).next_multiple_of(ALIGNMENT) + 2 * (inputs / GROUP) * outputs
            }
            Form::Half(id) => 2 * sizes(family, *id).iter().product::<usize>(),
            Form::Full(id) => 4 * sizes(family, *id).iter().product::<usize>(),
            Form::File(id) => {
                let [rows, columns] = sizes(family, *id);
                let row = family.weights[id.index()].ty.dtype.row_bytes(columns as u64).unwrap_or(0);
                row as usize * rows
            }
            Form::Host(_) => 0,
        }
    }
}

impl WeightsMap {
    /// A map that collects forms.
    pub(crate) fn collecting(groups: bool, base: u64) -> WeightsMap {
        WeightsMap { collecting: true, groups, base, ..WeightsMap::default() }
    }

    /// Ends the collection.
    pub(crate) fn at(self, base: u64) -> WeightsMap {
        WeightsMap { base, collecting: false, ..self }
    }

    /// Total size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.places().bytes
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forms(&self) -> Vec<(Form, usize)> {
        self.places().forms.clone()
    }

    /// Address of a form.
    fn address(&self, family: &PlanFamily, form: Form) -> Result<u64, DeviceError> {
        let mut places = self.places();
        let found = places.forms.iter().find(|(known, _)| *known == form).map(|(_, at)| *at);
        let offset = match found {
            Some(offset) => offset,
            None if self.collecting => {
                let at = places.bytes;
                places.bytes = (at + form.bytes(family)).next_multiple_of(ALIGNMENT);
                places.forms.push((form, at));
                at
            }
            None => return Err(DeviceError::Failed(format!("{form:?} was not uploaded"))),
        };
        Ok(self.base + offset as u64)
    }

    /// A weight in the file's order: of floats of any type as f32 or halves, with `dtype` f32, and any other with the
    /// elements that the file has.
    pub(crate) fn plain(
        &self,
        family: &PlanFamily,
        id: WeightId,
        elem: Elem,
        dtype: DType,
    ) -> Result<View, DeviceError> {
        let form = match (dtype, elem) {
            (DType::F32, Elem::F16) => Form::Half(id),
            (DType::F32, _) => Form::Full(id),
            _ => Form::File(id),
        };
        let dims = family.weights[id.index()].ty.shape.dims().iter().filter_map(|d| d.known()).map(|d| d as i64);
        Ok(View::dense(self.address(family, form)?, elem, dims))
    }

    /// Notes that the host needs a weight's numbers.
    pub(crate) fn keep(&self, family: &PlanFamily, id: WeightId) -> Result<(), DeviceError> {
        self.address(family, Form::Host(id)).map(drop)
    }

    /// Matrices side by side for a product, and the scales of their groups if they have integers.
    pub(crate) fn matrix(&self, family: &PlanFamily, ids: &[WeightId]) -> Result<(View, Option<View>), DeviceError> {
        let [inputs, outputs] = joined(family, ids);
        let dtype = |id: &WeightId| family.weights[id.index()].ty.dtype;
        let kept = integers(dtype(&ids[0])).filter(|_| self.groups && ids.iter().all(|id| dtype(id) == dtype(&ids[0])));
        let dims = [inputs as i64, outputs as i64];
        let fits =
            inputs > GROUP && inputs.is_multiple_of(GROUP) && outputs.is_multiple_of(2) && outputs <= MOST_OUTPUTS;
        let Some(elem) = kept.filter(|_| fits) else {
            let at = self.address(family, Form::Tiled(ids.into()))?;
            return Ok((View { tiled: true, ..View::dense(at, Elem::F16, dims) }, None));
        };
        let at = self.address(family, Form::Groups(ids.into()))?;
        let scales = at + elem.bytes(inputs * outputs).next_multiple_of(ALIGNMENT) as u64;
        let groups = [(inputs / GROUP) as i64, outputs as i64];
        Ok((View::dense(at, elem, dims), Some(View::dense(scales, Elem::F16, groups))))
    }
}

/// Uploaded weights, and the vectors that the host keeps.
pub(crate) struct Weights {
    pub map: WeightsMap,
    pub vectors: HashMap<WeightId, Vec<f32>>,
    _memory: DeviceMemory,
}

/// Memory for every form with nothing in it, for steps that are only walked.
pub(crate) fn reserve(queue: &Queue, map: WeightsMap) -> Result<Weights, DeviceError> {
    let memory = DeviceMemory::new(&queue.runtime, map.bytes()).map_err(|e| e.taking("the weights"))?;
    Ok(Weights { map: map.at(memory.address()), vectors: HashMap::new(), _memory: memory })
}

/// Makes and uploads every form.
pub(crate) fn upload(
    queue: &Queue,
    family: &PlanFamily,
    source: &dyn WeightSource,
    map: WeightsMap,
) -> Result<Weights, DeviceError> {
    for desc in &family.weights {
        // Finds all missing weights before memory is allocated.
        weights::checked(source, &desc.name, &desc.ty)?;
    }
    let memory = DeviceMemory::new(&queue.runtime, map.bytes()).map_err(|e| e.taking("the weights"))?;
    let map = map.at(memory.address());
    let (maker, mut vectors) = (Maker { family, source }, HashMap::new());
    for (form, at) in map.forms() {
        match &form {
            Form::Tiled(ids) => maker.tiled(queue, &memory, at, ids)?,
            Form::Groups(ids) => memory.write(at, &maker.groups(ids)?)?,
            Form::Half(id) => memory.write(at, bytemuck::cast_slice(&maker.halves(*id)?))?,
            Form::Full(id) => memory.write(at, bytemuck::cast_slice(&maker.numbers(*id)?))?,
            Form::File(id) => memory.write(at, maker.bytes(*id)?)?,
            Form::Host(id) => drop(vectors.insert(*id, maker.numbers(*id)?)),
        }
    }
    queue.runtime.synchronize()?;
    Ok(Weights { map, vectors, _memory: memory })
}

/// Zeros on the host, which may not have the memory.
fn zeros<T: Copy + Default>(count: usize, name: &str) -> Result<Vec<T>, DeviceError> {
    let mut all = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>()) as u64;
    let what = || format!("a copy of weight `{name}` on the host");
    all.try_reserve_exact(count).map_err(|_| DeviceError::OutOfMemory { what: what(), bytes })?;
    all.resize(count, T::default());
    Ok(all)
}

/// A number as a half; `None` if it does not fit.
fn half_of(number: f32) -> Option<f16> {
    let half = f16::from_f32(number);
    (half.is_finite() || !number.is_finite()).then_some(half)
}

/// Makes forms from a model's file.
struct Maker<'a> {
    family: &'a PlanFamily,
    source: &'a dyn WeightSource,
}

impl Maker<'_> {
    fn bytes(&self, id: WeightId) -> Result<&[u8], DeviceError> {
        let desc = &self.family.weights[id.index()];
        weights::checked(self.source, &desc.name, &desc.ty)
    }

    fn numbers(&self, id: WeightId) -> Result<Vec<f32>, DeviceError> {
        let desc = &self.family.weights[id.index()];
        let mut numbers: Vec<f32> = zeros(sizes(self.family, id).iter().product(), &desc.name)?;
        let done = quant::dequantize(desc.ty.dtype, self.bytes(id)?, &mut numbers);
        done.map_err(|e| DeviceError::Failed(format!("weight `{}`: {e}", desc.name)))?;
        Ok(numbers)
    }

    /// The numbers of a weight as halves.
    fn halves(&self, id: WeightId) -> Result<Vec<f16>, DeviceError> {
        let numbers = self.numbers(id)?;
        let mut halves: Vec<f16> = zeros(numbers.len(), &self.family.weights[id.index()].name)?;
        for (half, &number) in halves.iter_mut().zip(&numbers) {
            *half = half_of(number).ok_or_else(|| self.too_large(id, number))?;
        }
        Ok(halves)
    }

    fn too_large(&self, id: WeightId, number: f32) -> DeviceError {
        let reason = format!("weight `{}` has {number}, beyond halves", self.family.weights[id.index()].name);
        DeviceError::Unsupported { device: crate::error::DEVICE.to_owned(), kind: "weight", reason }
    }

    /// Sends the transpose of matrices side by side, and lets the NPU change its layout.
    fn tiled(&self, queue: &Queue, memory: &DeviceMemory, at: usize, ids: &[WeightId]) -> Result<(), DeviceError> {
        let [inputs, outputs] = joined(self.family, ids);
        if inputs * outputs == 0 {
            return Ok(());
        }
        let (room, want) = (tiles(inputs) * tiles(outputs), queue.tiled_elements([inputs, outputs])?);
        if want > room {
            return Err(DeviceError::Failed(format!("a tiled weight needs {want} elements, more than {room}")));
        }
        let name = &self.family.weights[ids[0].index()].name;
        let (mut all, mut first): (Vec<f16>, _) = (zeros(inputs * outputs, name)?, 0);
        for &id in ids {
            let halves = self.halves(id)?;
            transpose(&halves, inputs, |input, output, v| all[input * outputs + first + output] = v);
            first += sizes(self.family, id)[0];
        }
        memory.write(at, bytemuck::cast_slice(&all))?;
        let weight = View::dense(memory.address() + at as u64, Elem::F16, [inputs as i64, outputs as i64]);
        Ok(queue.launch([&Call::Tile(weight)])?)
    }

    /// Integers `[inputs, outputs]`, padding, scales `[inputs / 32, outputs]`.
    fn groups(&self, ids: &[WeightId]) -> Result<Vec<u8>, DeviceError> {
        let [inputs, outputs] = joined(self.family, ids);
        let dtype = self.family.weights[ids[0].index()].ty.dtype;
        let elem = integers(dtype).unwrap_or(Elem::I8);
        let start = elem.bytes(inputs * outputs).next_multiple_of(ALIGNMENT);
        let name = &self.family.weights[ids[0].index()].name;
        let mut all: Vec<u8> = zeros(start + 2 * (inputs / GROUP) * outputs, name)?;
        let mut first = 0;
        for &id in ids {
            let block = dtype.block_bytes();
            for (i, block) in self.bytes(id)?.chunks_exact(block).enumerate() {
                let (output, group) = (first + i / (inputs / GROUP), i % (inputs / GROUP));
                let scale = start + 2 * (group * outputs + output);
                all[scale..scale + 2].copy_from_slice(&block[..2]);
                for j in 0..GROUP {
                    let place = (group * GROUP + j) * outputs + output;
                    put(&mut all, elem, place, &block[2..], j);
                }
            }
            first += sizes(self.family, id)[0];
        }
        Ok(all)
    }
}

/// Stores element `j` of a block's integers.
fn put(all: &mut [u8], elem: Elem, place: usize, integers: &[u8], j: usize) {
    if elem == Elem::I8 {
        all[place] = integers[j];
        return;
    }
    // Q4_0 has the first half of a block in low nibbles, the second in high ones, both offset by 8.
    let nibble = if j < GROUP / 2 { integers[j] & 15 } else { integers[j - GROUP / 2] >> 4 };
    all[place / 2] |= (nibble ^ 8) << (4 * (place % 2));
}

/// Visits a matrix of `[outputs, inputs]` in blocks, so that neither side's cache lines are lost.
fn transpose(numbers: &[f16], inputs: usize, mut put: impl FnMut(usize, usize, f16)) {
    const BLOCK: usize = 32;
    let outputs = numbers.len() / inputs.max(1);
    for o in (0..outputs).step_by(BLOCK) {
        for i in (0..inputs).step_by(BLOCK) {
            for output in o..(o + BLOCK).min(outputs) {
                for input in i..(i + BLOCK).min(inputs) {
                    put(input, output, numbers[output * inputs + input]);
                }
            }
        }
    }
}
