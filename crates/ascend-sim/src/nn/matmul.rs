//! Matrix products of float tensors: fp16 or fp32 operands, fp32 accumulation.

use super::arg::{Num, Tensor};
use super::panel::{Brain, Full, Grid, Half, Layout, multiply};
use super::shape::{same_type, want_dims, want_float, want_rank, want_tiled};
use crate::task::Error;
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16, round_hf32};
use crate::tensor::memory::{Memory, Slot};
use crate::tensor::refuse::invalid;
use crate::tensor::view::{FRACTAL_NZ, View, broadcast_dims, nz_size};

/// What the cube units do to fp32 operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    Keep,
    Half,
    Hf32,
}

impl Operands {
    fn of(cube_math_type: i8) -> Result<Self, Error> {
        match cube_math_type {
            0 => Ok(Self::Keep),
            1 | 3 => Ok(Self::Hf32),
            2 => Ok(Self::Half),
            other => Err(invalid(format!("cubeMathType is {other}, supported: 0, 1, 2, 3"))),
        }
    }

    fn round(self, values: &mut [f32]) {
        match self {
            Self::Keep => {}
            Self::Half => values.iter_mut().for_each(|x| *x = f16_to_f32(f32_to_f16(*x))),
            Self::Hf32 => values.iter_mut().for_each(|x| *x = round_hf32(*x)),
        }
    }
}

/// Rounds a value as a tensor of this type stores it.
pub fn stored(dtype: DType, x: f32) -> f32 {
    match dtype {
        DType::F16 => f16_to_f32(f32_to_f16(x)),
        DType::Bf16 => bf16_to_f32(f32_to_bf16(x)),
        _ => x,
    }
}

/// Matrix number `b` of a stack of matrices.
pub fn matrix(view: &View, b: usize) -> View {
    let lead = view.rank() - 2;
    if view.format == FRACTAL_NZ {
        let (rows, cols, _) = view.nz_matrix();
        let addr = view.addr + view.dtype.bytes(b * nz_size(rows, cols, view.dtype));
        let (dims, strides) = (view.dims[lead..].to_vec(), view.strides[lead..].to_vec());
        return View { addr, dims, strides, ..view.clone() };
    }
    let mut index = vec![0; lead];
    let mut rest = b;
    for d in (0..lead).rev() {
        index[d] = rest % view.dims[d];
        rest /= view.dims[d];
    }
    view.at(&index)
}

/// `x` (m, k) dense times a weight matrix of floats.
fn times(memory: &Memory, x: &[f32], m: usize, weights: &View, operands: Operands) -> Vec<f32> {
    let (k, n) = (weights.dims[0], weights.dims[1]);
    let layout = Layout::of(weights);
    match weights.dtype {
        DType::F16 => multiply(x, m, k, n, &Grid { elements: Half(memory.raw16_of(weights)), layout, n }),
        DType::Bf16 => multiply(x, m, k, n, &Grid { elements: Brain(memory.raw16_of(weights)), layout, n }),
        _ => {
            let mut values = memory.floats_of(weights);
            operands.round(&mut values);
            multiply(x, m, k, n, &Grid { elements: Full(&values), layout: Layout::dense(n), n })
        }
    }
}

/// Shapes of a stack of products.
struct Shapes {
    x: View,
    w: View,
    dims: Vec<usize>,
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
}

/// Brings both operands to stacks of matrices; a vector gets a dimension that `out` does not have.
fn shapes(x: &View, w: &View) -> Result<Shapes, Error> {
    let (mut x, mut w) = (x.clone(), w.clone());
    let (vector_x, vector_w) = (x.rank() == 1, w.rank() == 1);
    if x.rank() == 0 || w.rank() == 0 {
        return Err(invalid("a product needs tensors of at least one dimension"));
    }
    if vector_x {
        x.dims.insert(0, 1);
        x.strides.insert(0, 0);
    }
    if vector_w {
        w.dims.push(1);
        w.strides.push(1);
    }
    let (rx, rw) = (x.rank(), w.rank());
    let (m, k, n) = (x.dims[rx - 2], x.dims[rx - 1], w.dims[rw - 1]);
    if w.dims[rw - 2] != k {
        return Err(invalid(format!("the inner sizes differ: self {:?}, mat2 {:?}", x.dims, w.dims)));
    }
    let lead = broadcast_dims(&x.dims[..rx - 2], &w.dims[..rw - 2])?;
    let batch = lead.iter().product();
    let wide = |view: &View, rows: usize, cols: usize| {
        let dims: Vec<usize> = lead.iter().copied().chain([rows, cols]).collect();
        view.broadcast(&dims)
    };
    let (x, w) = (wide(&x, m, k)?, if w.format == FRACTAL_NZ { nz_stack(w, batch)? } else { wide(&w, k, n)? });
    let mut dims = lead;
    dims.extend((!vector_x).then_some(m));
    dims.extend((!vector_w).then_some(n));
    Ok(Shapes { x, w, dims, batch, m, k, n })
}

/// A stack in NZ is not broadcast: one matrix serves all, or there is one for each.
fn nz_stack(w: View, batch: usize) -> Result<View, Error> {
    let own: usize = w.dims[..w.rank() - 2].iter().product();
    if own == batch || own == 1 { Ok(w) } else { Err(invalid("a weight in FRACTAL_NZ is not broadcast partly")) }
}

/// Charges the cube units.
fn charge(mut plan: Plan, flops: usize) -> Plan {
    plan.cost.cube_flops = 2 * flops as u64;
    plan
}

/// The view with the address that the operand has now.
fn here(memory: &Memory, slot: Slot, view: &View) -> View {
    View { addr: memory.view(slot).addr, ..view.clone() }
}

fn product(name: &'static str, x: &View, w: &View, out: &View, cube_math_type: i8) -> Result<Plan, Error> {
    let operands = Operands::of(cube_math_type)?;
    for (name, view) in [("self", x), ("mat2", w), ("out", out)] {
        want_float(name, view)?;
    }
    if x.dtype != w.dtype && (x.dtype == DType::Bf16 || w.dtype == DType::Bf16) {
        same_type(("self", x), ("mat2", w))?;
    }
    let s = shapes(x, w)?;
    want_dims("out", out, &s.dims)?;
    let mut plan = Plan::new(name);
    let (i, j, o) = (plan.input("self", x), plan.input("mat2", w), plan.output("out", out));
    let flops = s.batch * s.m * s.k * s.n;
    let narrow = x.dtype == DType::F32;
    let plan = plan.run(0, move |memory| {
        let (x, w) = (here(memory, i, &s.x), here(memory, j, &s.w));
        let own = w.dims[..w.rank() - 2].iter().product::<usize>();
        let mut all = Vec::with_capacity(s.batch * s.m * s.n);
        for b in 0..s.batch {
            let mut rows = memory.floats_of(&matrix(&x, b));
            if narrow {
                operands.round(&mut rows);
            }
            all.extend(times(memory, &rows, s.m, &matrix(&w, if own == 1 { 0 } else { b }), operands));
        }
        memory.put(o, &all);
        Ok(())
    });
    Ok(charge(plan, flops))
}

/// Product of two matrices.
pub fn mm(this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8) -> Result<Plan, Error> {
    want_rank("self", &this, 2, 2)?;
    want_rank("mat2", &mat2, 2, 2)?;
    product("mm", &this, &mat2, &out, cube_math_type)
}

/// Product with broadcasting of the leading dimensions.
pub fn matmul(this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8) -> Result<Plan, Error> {
    want_rank("self", &this, 1, 6)?;
    want_rank("mat2", &mat2, 1, 6)?;
    product("matmul", &this, &mat2, &out, cube_math_type)
}

/// Product with a weight that must be in FRACTAL_NZ.
pub fn matmul_weight_nz(this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8) -> Result<Plan, Error> {
    want_tiled("mat2", &mat2)?;
    matmul(this, mat2, out, cube_math_type)
}

/// Products of two stacks of matrices.
pub fn batch_matmul(this: Tensor, mat2: Tensor, out: Tensor, cube_math_type: i8) -> Result<Plan, Error> {
    want_rank("self", &this, 3, 3)?;
    want_rank("mat2", &mat2, 3, 3)?;
    product("batch_matmul", &this, &mat2, &out, cube_math_type)
}

/// Product of a matrix and a vector.
pub fn mv(this: Tensor, vector: Tensor, out: Tensor, cube_math_type: i8) -> Result<Plan, Error> {
    want_rank("self", &this, 2, 2)?;
    want_rank("vec", &vector, 1, 1)?;
    product("mv", &this, &vector, &out, cube_math_type)
}

/// `beta * self + alpha * (mat1 @ mat2)`.
pub fn addmm(
    this: Tensor,
    mat1: Tensor,
    mat2: Tensor,
    beta: Num,
    alpha: Num,
    out: Tensor,
    cube_math_type: i8,
) -> Result<Plan, Error> {
    let operands = Operands::of(cube_math_type)?;
    for (name, view) in [("mat1", &mat1), ("mat2", &mat2)] {
        want_rank(name, view, 2, 2)?;
        want_float(name, view)?;
    }
    same_type(("mat1", &mat1), ("mat2", &mat2))?;
    let s = shapes(&mat1, &mat2)?;
    want_dims("out", &out, &s.dims)?;
    let wide = this.broadcast(&s.dims)?;
    let mut plan = Plan::new("addmm");
    let (c, i, j) = (plan.input("self", &this), plan.input("mat1", &mat1), plan.input("mat2", &mat2));
    let o = plan.output("out", &out);
    let flops = s.m * s.k * s.n;
    let plan = plan.run(2, move |memory| {
        let mut rows = memory.floats(i);
        if memory.view(i).dtype == DType::F32 {
            operands.round(&mut rows);
        }
        let product = times(memory, &rows, s.m, memory.view(j), operands);
        let base = memory.floats_of(&here(memory, c, &wide));
        let sum = base.iter().zip(&product).map(|(c, p)| beta.float as f32 * c + alpha.float as f32 * p);
        memory.put(o, &sum.collect::<Vec<_>>());
        Ok(())
    });
    Ok(charge(plan, flops))
}
