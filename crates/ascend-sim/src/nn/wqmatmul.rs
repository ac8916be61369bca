//! Products of float rows with int8 or int4 weights, which are restored to the type of the rows first.
//!
//! On the hardware the vector units restore the weights and pass them to the cube units through L2, so the gain over
//! fp16 weights is far less than the ratio of the bytes; the cost says so.

use super::arg::{MaybeTensor, Tensor};
use super::matmul::stored;
use super::panel::{Byte, Elements, Grid, Layout, Nibble, Row, Unpack, WIDTH, multiply};
use super::shape::{want_dims, want_float, want_rank, want_type};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::memory::{Memory, Slot};
use crate::tensor::refuse::{invalid, no_kernel};
use crate::tensor::view::{FRACTAL_NZ, View};

/// `(weight + offset) * scale`, rounded to the type of the rows.
struct Restored<E> {
    grid: Grid<E>,
    scale: Vec<f32>,
    offset: Option<Vec<f32>>,
    /// Rows of the weight that share a scale.
    group: usize,
    /// Columns of the scale: 1 or as many as the weight.
    width: usize,
    dtype: DType,
}

impl<E: Elements> Unpack for Restored<E> {
    #[inline(always)]
    fn unpack(&self, k: usize, n: usize, panel: &mut [Row]) {
        self.grid.unpack(k, n, panel);
        for (i, row) in panel.iter_mut().enumerate() {
            let group = (k + i) / self.group * self.width;
            for (l, x) in row.iter_mut().enumerate().take(WIDTH.min(self.grid.n - n)) {
                let at = group + if self.width == 1 { 0 } else { n + l };
                let shifted = *x + self.offset.as_ref().map_or(0.0, |offset| offset[at]);
                *x = stored(self.dtype, shifted * self.scale[at]);
            }
        }
    }
}

/// The scale as (groups, columns): per tensor, per column or per group.
fn scale_shape(scale: &View, k: usize, n: usize, group: usize) -> Result<(usize, usize), Error> {
    let groups = if group == 0 { 1 } else { k.div_ceil(group) };
    let fits = match scale.dims[..] {
        [one] => groups == 1 && (one == n || one == 1),
        [g, c] => g == groups && (c == n || (c == 1 && groups == 1)),
        _ => false,
    };
    if !fits {
        return Err(invalid(format!(
            "antiquantScale {:?} fits neither (1), ({n}), (1, {n}) nor ({groups}, {n})",
            scale.dims
        )));
    }
    Ok((groups, scale.last()))
}

/// The weight seen as (k, n): an INT32 weight packs eight INT4 in a word along its dense dimension.
fn unpacked(weight: &View, k: usize) -> Result<View, Error> {
    if weight.dtype != DType::I32 {
        return Ok(weight.clone());
    }
    let mut wide = View { dtype: DType::I4, offset: weight.offset * 8, ..weight.clone() };
    let dense = if weight.strides[1] == 1 { 1 } else { 0 };
    if weight.strides[dense] != 1 || weight.format == FRACTAL_NZ {
        return Err(no_kernel("a packed INT32 weight must be ND with one dense dimension"));
    }
    // Either the columns are packed, or, transposed, the rows.
    if dense == 0 && weight.dims[0] * 8 != k {
        return Err(invalid(format!("weight {:?} does not pack {k} rows", weight.dims)));
    }
    wide.dims[dense] *= 8;
    wide.strides[1 - dense] *= 8;
    Ok(wide)
}

struct Call {
    x: Slot,
    w: Slot,
    scale: Slot,
    offset: Option<Slot>,
    bias: Option<Slot>,
    out: Slot,
    seen: View,
    group: usize,
    width: usize,
    sizes: (usize, usize, usize),
}

impl Call {
    fn restored<E: Elements>(&self, memory: &Memory, elements: E) -> Restored<E> {
        let (_, k, n) = self.sizes;
        let grid = Grid { elements, layout: Layout::of(&self.seen), n };
        let scale = memory.floats(self.scale);
        let offset = self.offset.map(|slot| memory.floats(slot));
        let group = if self.group == 0 { k.max(1) } else { self.group };
        Restored { grid, scale, offset, group, width: self.width, dtype: memory.view(self.x).dtype }
    }

    fn run(&self, memory: &Memory) {
        let (m, k, n) = self.sizes;
        let x = memory.floats(self.x);
        let raw = memory.raw(self.w);
        let mut out = match self.seen.dtype {
            DType::I8 => multiply(&x, m, k, n, &self.restored(memory, Byte(raw))),
            _ => {
                // A packed word's bytes start at the view's first word, INT4 bytes at the storage's address.
                let start = if memory.view(self.w).dtype == DType::I32 { 0 } else { self.seen.span().0 };
                multiply(&x, m, k, n, &self.restored(memory, Nibble { bytes: raw, start }))
            }
        };
        if let Some(bias) = self.bias.map(|slot| memory.floats(slot)) {
            out.chunks_mut(n.max(1)).for_each(|row| row.iter_mut().zip(&bias).for_each(|(o, b)| *o += b));
        }
        memory.put(self.out, &out);
    }
}

/// `aclnnWeightQuantBatchMatmulV2`.
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn weight_quant(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    offset: MaybeTensor,
    quant_scale: MaybeTensor,
    quant_offset: MaybeTensor,
    bias: MaybeTensor,
    group: i32,
    out: Tensor,
) -> Result<Plan, Error> {
    want_type("x", &x, &[DType::F16, DType::Bf16])?;
    want_type("weight", &weight, &[DType::I8, DType::I4, DType::I32])?;
    want_type("y", &out, &[x.dtype])?;
    want_float("antiquantScale", &scale)?;
    if quant_scale.is_some() || quant_offset.is_some() {
        return Err(no_kernel("quantScale and quantOffset are not implemented by the simulated device"));
    }
    want_rank("x", &x, 2, 2)?;
    want_rank("weight", &weight, 2, 2)?;
    let (m, k) = (x.dims[0], x.dims[1]);
    let seen = unpacked(&weight, k)?;
    let n = seen.dims[1];
    if seen.dims[0] != k {
        return Err(invalid(format!("the inner sizes differ: x {:?}, weight {:?}", x.dims, weight.dims)));
    }
    want_dims("y", &out, &[m, n])?;
    let inner = if seen.strides[1] == 1 { n } else { k };
    if seen.dtype == DType::I4 && !inner.is_multiple_of(2) {
        return Err(invalid(format!("the dense dimension of an INT4 weight must be even, got {inner}")));
    }
    let good = group == 0 || (group >= 32 && group % 32 == 0 && (group as usize) < k);
    if !good {
        return Err(invalid(format!(
            "antiquantGroupSize is {group}, must be 0 or a multiple of 32 from 32 to k - 1 ({})",
            k.max(1) - 1
        )));
    }
    if weight.format == FRACTAL_NZ && group != 0 && group != 64 && group != 128 {
        return Err(invalid(format!("antiquantGroupSize is {group}, must be 64 or 128 for a weight in FRACTAL_NZ")));
    }
    let group = group as usize;
    let (_, width) = scale_shape(&scale, k, n, group)?;
    if let Some(offset) = &offset {
        want_dims("antiquantOffset", offset, &scale.dims)?;
    }
    if let Some(bias) = &bias {
        super::shape::want_numel("bias", bias, n)?;
    }
    let mut plan = Plan::new("weight_quant_batch_matmul");
    let (i, w, s) = (plan.input("x", &x), plan.input("weight", &weight), plan.input("antiquantScale", &scale));
    let z = plan.maybe("antiquantOffset", offset.as_deref());
    let _ = (plan.maybe("quantScale", None), plan.maybe("quantOffset", None));
    let b = plan.maybe("bias", bias.as_deref());
    let o = plan.output("y", &out);
    let call = Call { x: i, w, scale: s, offset: z, bias: b, out: o, seen, group, width, sizes: (m, k, n) };
    let mut plan = plan.run(0, move |memory| {
        call.run(memory);
        Ok(())
    });
    let restored = (k * n * 2) as u64;
    plan.cost.cube_flops = 2 * (m * k * n) as u64;
    plan.cost.vector_ops = (k * n) as u64;
    plan.cost.l2 = 2 * restored;
    plan.workspace = restored;
    Ok(plan)
}

/// `aclnnWeightQuantBatchMatmulV3`: the same with a choice of inner precision (0 or 1).
#[allow(clippy::too_many_arguments, reason = "the argument list of the C function")]
pub fn weight_quant_v3(
    x: Tensor,
    weight: Tensor,
    scale: Tensor,
    offset: MaybeTensor,
    quant_scale: MaybeTensor,
    quant_offset: MaybeTensor,
    bias: MaybeTensor,
    group: i32,
    inner: i32,
    out: Tensor,
) -> Result<Plan, Error> {
    if !(0..=1).contains(&inner) {
        return Err(invalid(format!("innerPrecise is {inner}, supported: 0, 1")));
    }
    weight_quant(x, weight, scale, offset, quant_scale, quant_offset, bias, group, out)
}
