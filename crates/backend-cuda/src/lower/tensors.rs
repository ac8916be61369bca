//! Tensors of op kernels: an address, an element type, and dimensions as multiples of the header's counts.

use super::locs::{small, symbol_of};
use super::{Lowering, unsupported};
use crate::args::{Dim as ArgDim, MAX_RANK, Tensor, symbol};
use crate::copies::{Copy, copy_of};
use aio_backend::DeviceError;
use aio_ir::{DType, Dim, Node, Sym, TensorType, ValueId};
use aio_plan::{Loc, Task};
use bytemuck::Zeroable;

/// `Element` of args.h; `None` for block formats.
fn element(dtype: DType) -> Option<u32> {
    Some(match dtype {
        DType::F32 => 0,
        DType::F16 => 1,
        DType::BF16 => 2,
        DType::I32 => 3,
        DType::U32 => 4,
        DType::I8 => 5,
        DType::U8 => 6,
        DType::Bool => 7,
        _ => return None,
    })
}

impl Lowering<'_> {
    /// The node of a single-op task.
    pub(super) fn node<'t>(&self, task: &'t Task) -> &'t Node {
        task.body.nodes().next().expect("L005: a task of one op has one node").1
    }

    /// A dimension. The pages of states are the pool's; other symbols are the step's.
    pub(super) fn dim(&self, task: &Task, loc: Loc, dim: Dim) -> Result<ArgDim, DeviceError> {
        match dim {
            Dim::Const(n) => Ok(ArgDim { value: small(task, n)?, symbol: symbol::ONE }),
            Dim::Sym(Sym::Pages) if matches!(loc, Loc::State(_)) => {
                Ok(ArgDim { value: self.model.states.pages, symbol: symbol::ONE })
            }
            Dim::Sym(sym) => Ok(ArgDim { value: 1, symbol: symbol_of(sym) }),
        }
    }

    /// A tensor of a given type at an address.
    fn tensor_at(&self, task: &Task, loc: Loc, ty: &TensorType, data: u64) -> Result<Tensor, DeviceError> {
        let element = element(ty.dtype).ok_or_else(|| unsupported(task, format!("a plain tensor of {}", ty.dtype)))?;
        let dims = ty.shape.dims();
        if dims.len() > MAX_RANK {
            return Err(unsupported(task, format!("a value of {ty}, of more than {MAX_RANK} dimensions")));
        }
        let mut tensor = Tensor { data, element, rank: dims.len() as u32, ..Tensor::zeroed() };
        for (place, &dim) in tensor.dims.iter_mut().zip(dims) {
            *place = self.dim(task, loc, dim)?;
        }
        Ok(tensor)
    }

    /// An f32 tensor of the step in scratch memory.
    pub(super) fn f32_tensor(
        &self,
        task: &Task,
        at: u64,
        dims: impl Iterator<Item = Dim>,
    ) -> Result<Tensor, DeviceError> {
        self.tensor_at(task, Loc::Absent, &TensorType::f32(aio_ir::Shape::new(dims)), at)
    }

    /// The operand at a place, with the shape that the node sees.
    pub(super) fn input(&self, task: &Task, place: usize) -> Result<Tensor, DeviceError> {
        let node = self.node(task);
        let Some(value) = node.inputs.get(place).copied().flatten() else { return Ok(Tensor::zeroed()) };
        let loc = task.operands[place];
        let mut ty = task.body.ty(value).clone();
        if self.copies_decoded(task, place) {
            ty.dtype = DType::F32;
        }
        if self.is_layer(loc) {
            return Err(unsupported(task, format!("keys and values in {loc} as a plain tensor")));
        }
        self.tensor_at(task, loc, &ty, self.operand(task, place))
    }

    /// A result of the node.
    pub(super) fn output(&self, task: &Task, index: usize) -> Result<Tensor, DeviceError> {
        let (value, loc): (ValueId, Loc) = (self.node(task).results[index], task.results[index]);
        let ty = task.body.ty(value);
        let unbounded = ty.shape.dims().iter().any(|d| matches!(d, Dim::Sym(sym) if !sym.has_bound()));
        if self.is_layer(loc) || unbounded && matches!(loc, Loc::Buffer(_)) {
            return Err(unsupported(task, format!("a computed value of {ty}, whose size no bucket bounds")));
        }
        self.tensor_at(task, loc, ty, self.at(loc))
    }

    fn is_layer(&self, loc: Loc) -> bool {
        matches!(loc, Loc::State(s)
            if matches!(self.model.states.places[s.index()], crate::states::Residence::Layer { .. }))
    }

    /// Whether the operand at a place is a weight stored decoded.
    pub(super) fn copies_decoded(&self, task: &Task, place: usize) -> bool {
        let weight = matches!(task.operands.get(place), Some(Loc::Weight(_)));
        weight && copy_of(self.model.family, task, place) == Copy::Decoded
    }

    /// Maximum number of elements of a value in any step.
    pub(super) fn elems(&self, task: &Task, value: ValueId) -> u64 {
        task.body.ty(value).shape.elems(&self.bounds()).unwrap_or(u64::MAX)
    }
}
