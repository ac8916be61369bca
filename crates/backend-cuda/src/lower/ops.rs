//! Single ops: nodes not in any fused task, one or two launches each.

use super::locs::small;
use super::{Lowering, Region, unsupported};
use crate::args::{
    FoldArgs, GatherArgs, MapArgs, MatmulArgs, RowsArgs, SampleArgs, ScatterArgs, Tensor, TopKArgs, VerifyArgs,
};
use aio_backend::DeviceError;
use aio_ir::{DType, Op, Sym, TensorType};
use aio_plan::{Loc, Task};
use bytemuck::Zeroable;

/// Codes of `op_map`.
pub(super) const MAP_COPY: u32 = 0;
const MAP_CAST: u32 = 26;
/// Codes of `op_rows`.
pub(super) const ROWS_RMS_NORM: u32 = 0;
const ROWS_LAYER_NORM: u32 = 1;
const ROWS_SOFTMAX: u32 = 2;
const ROWS_ARGMAX: u32 = 3;
/// The code of a running sum in `op_fold`.
const FOLD_CUMSUM: u32 = 4;
/// Threads per block.
const THREADS: u64 = 256;

/// The code of an elementwise op.
fn map_code(op: Op, word: &str) -> Option<u32> {
    let compare = ["eq", "ne", "lt", "le", "gt", "ge"];
    Some(match op {
        Op::Broadcast | Op::Reshape => MAP_COPY,
        Op::Neg => 1,
        Op::Silu => 2,
        Op::Gelu => 3,
        Op::Relu => 4,
        Op::Tanh => 5,
        Op::Sigmoid => 6,
        Op::Exp => 7,
        Op::Log => 8,
        Op::Sqrt => 9,
        Op::Rsqrt => 10,
        Op::Sin => 11,
        Op::Cos => 12,
        Op::Add | Op::Commit => 13,
        Op::Sub => 14,
        Op::Mul => 15,
        Op::Div => 16,
        Op::Min => 17,
        Op::Max => 18,
        Op::Compare => 19 + compare.iter().position(|w| *w == word)? as u32,
        Op::Select => 25,
        Op::Cast => MAP_CAST,
        Op::Fill => 27,
        Op::Iota => 28,
        _ => return None,
    })
}

impl Lowering<'_> {
    /// A single-op task.
    pub(super) fn op(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        match op {
            Op::Embed => self.embed(task),
            Op::Gather => self.gather(task),
            Op::Scatter => self.scatter(task),
            Op::Matmul => self.matmul(task),
            Op::RmsNorm | Op::LayerNorm | Op::Softmax | Op::Argmax => self.along_rows(task, op),
            Op::Rope => self.rope(task),
            Op::PageWrite => self.page_write(task),
            Op::Attend => self.attend_alone(task),
            Op::Slice => self.slice(task),
            Op::Transpose => self.transpose(task),
            Op::Concat => self.concat(task),
            Op::Dequantize => self.dequantize(task),
            Op::Reduce | Op::Cumsum => self.fold(task, op),
            Op::TopK => self.top_k(task),
            Op::Sample => self.sample(task),
            Op::Verify => self.verify(task),
            Op::Quantize | Op::Conv | Op::DeltaRule => Err(unsupported(task, "it has no kernel")),
            _ => self.map(task, op),
        }
    }

    /// The grid of a kernel over the elements of the first result.
    fn element_blocks(&self, task: &Task) -> [u32; 2] {
        [self.blocks(self.elems(task, self.node(task).results[0]).div_ceil(THREADS)), 1]
    }

    fn map(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        let node = self.node(task);
        let word = if op == Op::Compare { node.word("kind") } else { "" };
        let code = map_code(op, word).ok_or_else(|| unsupported(task, "it has no kernel"))?;
        // The condition of a `select` is the kernel's third operand.
        let places = if op == Op::Select { [1, 2, 0] } else { [0, 1, 2] };
        let [a, b, c] = places.map(|place| self.input(task, place));
        let value = if op == Op::Fill { node.f32("value") } else { 0.0 };
        let (out, mut a) = (self.output(task, 0)?, a?);
        if op == Op::Reshape {
            // The same elements in the same order; the kernel would read another shape as one that broadcasts.
            a = Tensor { data: a.data, ..out };
        }
        let args = MapArgs { step: self.header(), out, a, b: b?, c: c?, code, value };
        self.call("op_map", self.element_blocks(task), 0, &args);
        Ok(())
    }

    /// Converts to f32: weights, which are stored decoded, or another plain type.
    fn dequantize(&mut self, task: &Task) -> Result<(), DeviceError> {
        let code = if self.copies_decoded(task, 0) { MAP_COPY } else { MAP_CAST };
        let (out, a) = (self.output(task, 0)?, self.input(task, 0)?);
        let args = MapArgs { step: self.header(), out, a, code, ..MapArgs::zeroed() };
        self.call("op_map", self.element_blocks(task), 0, &args);
        Ok(())
    }

    fn gather(&mut self, task: &Task) -> Result<(), DeviceError> {
        let (out, x, index) = (self.output(task, 0)?, self.input(task, 0)?, self.input(task, 1)?);
        let args = GatherArgs { step: self.header(), out, x, index };
        self.call("op_gather", self.element_blocks(task), 0, &args);
        Ok(())
    }

    /// Looks up rows of a plain f32 table.
    pub(super) fn gather_table(&mut self, task: &Task) -> Result<(), DeviceError> {
        let (out, x, index) = (self.output(task, 0)?, self.input(task, 0)?, self.input(task, 1)?);
        if x.element != out.element {
            return Err(unsupported(task, "a computed table that is not of f32"));
        }
        let args = GatherArgs { step: self.header(), out, x, index };
        self.call("op_gather", self.element_blocks(task), 0, &args);
        Ok(())
    }

    fn scatter(&mut self, task: &Task) -> Result<(), DeviceError> {
        let (out, x) = (self.output(task, 0)?, self.input(task, 0)?);
        let (index, updates) = (self.input(task, 1)?, self.input(task, 2)?);
        self.call(
            "op_scatter",
            self.element_blocks(task),
            0,
            &ScatterArgs { step: self.header(), out, x, index, updates },
        );
        Ok(())
    }

    fn matmul(&mut self, task: &Task) -> Result<(), DeviceError> {
        if self.weight(task, 1).is_some() && crate::copies::is_row_product(task) && self.is_packed(task, 1) {
            return self.row_product(task);
        }
        let node = self.node(task);
        let experts = if node.optional(2).is_some() {
            if !matches!(task.operands[2], Loc::Input(_)) {
                return Err(unsupported(task, "experts that no step binds"));
            }
            self.input(task, 2)?
        } else {
            Tensor::zeroed()
        };
        let (out, x, w) = (self.output(task, 0)?, self.input(task, 0)?, self.input(task, 1)?);
        let args = MatmulArgs { step: self.header(), out, x, w, experts };
        let results = self.elems(task, node.results[0]);
        self.call("op_matmul", [self.blocks(results.div_ceil(8)), 1], 0, &args);
        Ok(())
    }

    fn is_packed(&self, task: &Task, place: usize) -> bool {
        crate::copies::copy_of(self.model.family, task, place) == crate::copies::Copy::Packed
    }

    /// Norms, softmax and arg-max.
    fn along_rows(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        let node = self.node(task);
        let (code, eps) = match op {
            Op::RmsNorm => (ROWS_RMS_NORM, node.f32("eps")),
            Op::LayerNorm => (ROWS_LAYER_NORM, node.f32("eps")),
            Op::Softmax => (ROWS_SOFTMAX, 0.0),
            _ => (ROWS_ARGMAX, 0.0),
        };
        if !task.body.ty(node.input(0)).dtype.is_float() {
            return Err(unsupported(task, "elements that are not floats"));
        }
        let vector = |place: usize| {
            let tensor = if node.optional(place).is_some() { self.input(task, place)? } else { Tensor::zeroed() };
            if tensor.element == 0 { Ok(tensor.data) } else { Err(unsupported(task, "a vector that is not of f32")) }
        };
        let extra = |place: usize| if matches!(op, Op::RmsNorm | Op::LayerNorm) { vector(place) } else { Ok(0) };
        let (weight, bias) = (extra(1)?, if op == Op::LayerNorm { extra(2)? } else { 0 });
        let (out, x) = (self.output(task, 0)?, self.input(task, 0)?);
        let args = RowsArgs { step: self.header(), out, x, weight, bias, code, eps };
        let dims = self.bounds();
        let row = task.body.ty(node.input(0)).shape.last().resolve(&dims).max(1);
        let rows = self.elems(task, node.input(0)) / row;
        self.call("op_rows", [self.blocks(rows), 1], 0, &args);
        Ok(())
    }

    fn fold(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        let node = self.node(task);
        let ty = task.body.ty(node.input(0));
        let last = ty.shape.rank().saturating_sub(1) as u32;
        let (code, axis) = if op == Op::Cumsum {
            (FOLD_CUMSUM, last)
        } else {
            let word = node.word("kind");
            let code = ["sum", "max", "min", "mean"].iter().position(|w| *w == word).unwrap_or(0) as u32;
            (code, node.int("axis") as u32)
        };
        if op == Op::Reduce && !ty.dtype.is_float() {
            return Err(unsupported(task, format!("elements of {}", ty.dtype)));
        }
        let args = FoldArgs { step: self.header(), out: self.output(task, 0)?, x: self.input(task, 0)?, code, axis };
        self.call("op_fold", self.element_blocks(task), 0, &args);
        Ok(())
    }

    fn top_k(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        if !task.body.ty(node.input(0)).dtype.is_float() {
            return Err(unsupported(task, "elements that are not floats"));
        }
        let k = u32::try_from(node.int("k")).map_err(|_| unsupported(task, "k is not a size"))?;
        let args = TopKArgs {
            step: self.header(),
            values: self.output(task, 0)?,
            indices: self.output(task, 1)?,
            x: self.input(task, 0)?,
            k,
            spare: 0,
        };
        let rows = self.elems(task, node.results[0]) / u64::from(k.max(1));
        self.call("op_top_k", [self.blocks(rows), 1], 0, &args);
        Ok(())
    }

    /// Whether a type's first dimension is this symbol and no other dimension is symbolic except as allowed.
    fn grows_by(ty: &TensorType, first: Sym, rest: Option<Sym>) -> bool {
        let Some((head, tail)) = ty.shape.dims().split_first() else { return false };
        *head == first.into() && tail.iter().all(|d| d.known().is_some() || rest.is_some_and(|s| *d == s.into()))
    }

    fn sample(&mut self, task: &Task) -> Result<(), DeviceError> {
        const BIAS: usize = Op::Sample.place("bias");
        let node = self.node(task);
        let ty = |place: usize| task.body.ty(node.input(place));
        let recent = (0..4).all(|i| Self::grows_by(ty(i), Sym::Outs, Some(Sym::Recent).filter(|_| i == 3)));
        let whole = ty(3).shape.last() == Sym::Recent.into() && ty(0).shape.rank() == 2 && ty(0).dtype == DType::F32;
        if !recent || !whole {
            return Err(unsupported(task, "rows that are not the step's output rows"));
        }
        let vocabulary = ty(0).shape.last().known().unwrap_or(0);
        let bias = match task.operands[BIAS] {
            Loc::Input(i) if self.plan.inputs[i.index()].optional => {
                self.bias = Some(i);
                self.at(task.operands[BIAS])
            }
            Loc::Absent => 0,
            loc => return Err(unsupported(task, format!("a bias in {loc}, which is always there"))),
        };
        let outs = u64::from(self.bound(Sym::Outs));
        let at = |name: &str| self.operand(task, Op::Sample.place(name));
        let args = SampleArgs {
            step: self.header(),
            logits: at("logits"),
            params: at("params"),
            noise: at("noise"),
            recent: at("recent"),
            bias,
            keys: self.scratch.take(Region::Keys, 8 * outs * vocabulary),
            tokens: self.at(task.results[0]),
            n: small(task, vocabulary)?,
            spare: 0,
        };
        self.call("sample", [self.bound(Sym::Outs).max(1), 1], 0, &args);
        Ok(())
    }

    fn verify(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let grows = |place: usize, sym| Self::grows_by(task.body.ty(node.input(place)), sym, None);
        if !(grows(0, Sym::Outs) && grows(1, Sym::Outs) && grows(2, Sym::Seqs)) {
            return Err(unsupported(task, "rows that are not the step's output rows"));
        }
        let at = |name: &str| self.operand(task, Op::Verify.place(name));
        let args = VerifyArgs {
            step: self.header(),
            sampled: at("sampled"),
            drafts: at("drafts"),
            spans: at("spans"),
            accepted: self.at(task.results[0]),
            next: self.at(task.results[1]),
        };
        self.call("verify", [self.bound(Sym::Seqs).div_ceil(THREADS as u32).max(1), 1], 0, &args);
        Ok(())
    }
}
