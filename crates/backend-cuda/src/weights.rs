//! A family's weights on the device: which copies, their layout, and their upload.
//!
//! All are in one allocation. Each copy is made on the host, matrix by matrix, and sent; the host keeps nothing.

use crate::copies::{Copy, copy_of};
use crate::driver::{Driver, Memory};
use crate::error::CudaError;
use crate::format::Form;
use crate::pack::{Matrix, pack};
use aio_backend::{DeviceError, WeightSource, weights};
use aio_ir::{DType, quant};
use aio_plan::{Loc, PlanFamily, WeightDesc};
use std::sync::Arc;

/// Alignment of each copy.
const ALIGNMENT: usize = 256;

/// A weight and the byte offsets of its copies among all weights.
#[derive(Clone, Debug)]
pub(crate) struct WeightMap {
    pub dtype: DType,
    /// Rows of a matrix: all dimensions but the last.
    pub rows: usize,
    /// The last dimension.
    pub cols: usize,
    pub packed: Option<usize>,
    pub decoded: Option<usize>,
    pub file: Option<usize>,
}

/// The layout of all weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct WeightsMap {
    pub weights: Vec<WeightMap>,
    pub bytes: usize,
}

impl WeightMap {
    /// The form in which it is packed.
    pub(crate) fn form(&self) -> Option<Form> {
        Form::of(self.dtype)
    }

    fn offset(&mut self, copy: Copy) -> &mut Option<usize> {
        match copy {
            Copy::Packed => &mut self.packed,
            Copy::Decoded => &mut self.decoded,
            Copy::File => &mut self.file,
        }
    }

    /// Size of a copy in bytes; `None` if this type has no such copy.
    fn bytes(&self, copy: Copy) -> Option<usize> {
        let elems = self.rows.checked_mul(self.cols)?;
        match copy {
            Copy::Packed => Some(self.form()?.bytes(self.rows, self.cols)),
            Copy::Decoded => self.dtype.is_float().then(|| elems.checked_mul(4)).flatten(),
            Copy::File => usize::try_from(self.dtype.row_bytes(self.cols as u64)?).ok()?.checked_mul(self.rows),
        }
    }
}

impl WeightsMap {
    /// Lays out the copies that a family's tasks need.
    ///
    /// # Errors
    /// [`DeviceError::Failed`] for weights without such a copy, which the target rules out.
    pub(crate) fn new(family: &PlanFamily) -> Result<WeightsMap, DeviceError> {
        let blank = |desc: &WeightDesc| {
            let dims: Vec<usize> = desc.ty.shape.dims().iter().filter_map(|d| d.known()).map(|d| d as usize).collect();
            let cols = dims.last().copied().unwrap_or(1);
            let rows = dims.iter().product::<usize>() / cols.max(1);
            WeightMap { dtype: desc.ty.dtype, rows, cols, packed: None, decoded: None, file: None }
        };
        let mut map = WeightsMap { weights: family.weights.iter().map(blank).collect(), bytes: 0 };
        for task in family.plans.iter().flat_map(|p| &p.tasks) {
            for (place, loc) in task.operands.iter().enumerate() {
                if let Loc::Weight(w) = loc {
                    map.want(w.index(), copy_of(family, task, place), &family.weights[w.index()])?;
                }
            }
        }
        Ok(map)
    }

    fn want(&mut self, weight: usize, copy: Copy, desc: &WeightDesc) -> Result<(), DeviceError> {
        let map = &mut self.weights[weight];
        if map.offset(copy).is_some() {
            return Ok(());
        }
        let bytes =
            map.bytes(copy).and_then(|b| Some((b, self.bytes.checked_add(b)?.checked_next_multiple_of(ALIGNMENT)?)));
        let fail = || DeviceError::Failed(format!("weight `{}` : {} has no {copy:?} copy", desc.name, desc.ty));
        let (_, end) = bytes.ok_or_else(fail)?;
        *map.offset(copy) = Some(self.bytes);
        self.bytes = end;
        Ok(())
    }

    /// Makes and uploads all copies.
    ///
    /// # Errors
    /// [`DeviceError::Weight`], [`DeviceError::OutOfMemory`].
    pub(crate) fn upload(
        &self,
        driver: &Arc<dyn Driver>,
        family: &PlanFamily,
        source: &dyn WeightSource,
    ) -> Result<Memory, DeviceError> {
        for desc in &family.weights {
            // Finds all missing weights before memory is allocated.
            weights::checked(source, &desc.name, &desc.ty)?;
        }
        let memory = Memory::new(driver, self.bytes).map_err(|e| e.taking("the weights"))?;
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        for (desc, map) in family.weights.iter().zip(&self.weights) {
            let bytes = weights::checked(source, &desc.name, &desc.ty)?;
            map.send(bytes, threads, &memory)?;
        }
        driver.synchronize()?;
        Ok(memory)
    }
}

impl WeightMap {
    /// A vector of its size, where values do not matter.
    pub(crate) fn ones(&self) -> Vec<f32> {
        vec![1.0; self.rows * self.cols]
    }

    fn send(&self, bytes: &[u8], threads: usize, memory: &Memory) -> Result<(), CudaError> {
        if let Some(at) = self.file {
            memory.write(at, bytes)?;
        }
        if let Some(at) = self.decoded {
            let mut values = vec![0f32; self.rows * self.cols];
            quant::dequantize(self.dtype, bytes, &mut values).expect("`bytes` asked for a float type");
            memory.write(at, bytemuck::cast_slice(&values))?;
        }
        if let (Some(at), Some(form)) = (self.packed, self.form()) {
            let mut out = vec![0; form.bytes(self.rows, self.cols)];
            let matrix = Matrix { dtype: self.dtype, rows: self.rows, cols: self.cols, bytes };
            pack(matrix, form, threads, &mut out);
            memory.write(at, &out)?;
        }
        Ok(())
    }
}
