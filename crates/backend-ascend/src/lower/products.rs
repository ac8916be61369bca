//! Products: projections with their norms, biases and residuals, the feed-forward pair, the head.

use super::{Lowering, unsupported};
use crate::acl::{Binary, Call, Unary};
use crate::view::{Elem, View};
use crate::weights::GROUP;
use aio_backend::DeviceError;
use aio_ir::{DType, Op, Sym};
use aio_plan::kinds;
use aio_plan::{Activation, GateUpSpec, HeadSpec, Loc, Task, TaskKind, WeightId};
use smallvec::SmallVec;

/// The value that a task norms first, its norm and the epsilon.
fn norm_of(task: &Task) -> Option<(Loc, Loc, f32)> {
    match task.kind {
        TaskKind::Qkv(spec) => {
            let o = kinds::qkv::Operands::of(&task.operands);
            Some((o.x, o.norm, spec.norm_eps))
        }
        TaskKind::GateUp(spec) => {
            let o = kinds::gate_up::Operands::of(&task.operands);
            Some((o.x, o.norm, spec.norm_eps))
        }
        TaskKind::Linear(spec) => {
            let o = kinds::linear::Operands::of(&task.operands);
            spec.norm_eps.map(|eps| (o.x, o.norm, eps))
        }
        _ => None,
    }
}

impl Lowering<'_> {
    /// The weights at these places.
    fn weights(&self, task: &Task, places: &[usize]) -> Result<SmallVec<[WeightId; 2]>, DeviceError> {
        let weight = |&place: &usize| match task.operands[place] {
            Loc::Weight(w) => Ok(w),
            _ => Err(unsupported(task, "a matrix that is no weight")),
        };
        places.iter().map(weight).collect()
    }

    /// `x * w` of halves, for matrices side by side; of f32 for one matrix if `x` is.
    pub(super) fn product(&mut self, task: &Task, x: &View, places: &[usize], out: &View) -> Result<(), DeviceError> {
        let ids = self.weights(task, places)?;
        if let (Elem::F32, [id]) = (x.elem, &ids[..]) {
            let w = self.model.weights.plain(self.model.family, *id, Elem::F32, DType::F32)?.permuted(&[1, 0]);
            self.calls.push(Call::Products { x: x.clone(), w, out: out.clone() });
            return Ok(());
        }
        let (w, scale) = self.model.weights.matrix(self.model.family, &ids)?;
        let (x, out) = (x.clone(), out.clone());
        self.calls.push(match scale {
            Some(scale) => Call::GroupProduct { x, w, scale, group: GROUP as i32, out },
            None => Call::Product { x, w, out },
        });
        Ok(())
    }

    /// Adds a vector to each row, if there is one.
    pub(super) fn add_vector(&mut self, task: &Task, rows: &View, vector: Loc) -> Result<(), DeviceError> {
        if let Some(vector) = self.vector(task, vector)? {
            self.calls.push(Call::AddInto(rows.clone(), vector));
        }
        Ok(())
    }

    /// An operand as rows of halves, normed if there is a norm. What the last task has normed already is taken.
    pub(super) fn normed_rows(
        &mut self,
        task: &Task,
        x: Loc,
        norm: Loc,
        eps: Option<f32>,
    ) -> Result<View, DeviceError> {
        if let Some((value, weight, view)) = self.normed.take()
            && (value, weight) == (x, norm)
        {
            return Ok(view);
        }
        let rows = self.half(task, x)?.by_first();
        let (Some(weight), Some(eps)) = (self.vector(task, norm)?, eps) else { return Ok(rows) };
        let (out, factors) = (self.temp(Elem::F16, &rows.dims.clone()), self.temp(Elem::F32, &[rows.dims[0], 1]));
        self.calls.push(Call::RmsNorm { x: rows, weight, eps, out: out.clone(), factors });
        Ok(out)
    }

    /// `norm(x) * w + bias + residual`. If the next task norms the result, both are one operator.
    pub(super) fn linear(&mut self, task: &Task, eps: Option<f32>) -> Result<(), DeviceError> {
        use kinds::linear::{AT, OUT, Operands};
        let o = Operands::of(&task.operands);
        let x = self.normed_rows(task, o.x, o.norm, eps)?;
        if o.residual == Loc::Absent {
            let out = self.result(task, OUT.out, Elem::F16)?.by_first();
            self.product(task, &x, &[AT.w], &out)?;
            return self.add_vector(task, &out, o.bias);
        }
        let residual = self.half(task, o.residual)?.by_first();
        let product = self.temp(Elem::F16, &residual.dims.clone());
        self.product(task, &x, &[AT.w], &product)?;
        self.add_vector(task, &product, o.bias)?;
        let sum = self.result(task, OUT.out, Elem::F16)?.by_first();
        let Some((weight, norm, eps)) = self.next_norm(task)? else {
            self.calls.push(Call::Binary(Binary::Add, product, residual, sum));
            return Ok(());
        };
        // The start of the scratch of the whole step is kept for this.
        let out = View::dense(self.bases.scratch, Elem::F16, sum.dims.clone());
        let factors = self.temp(Elem::F32, &[sum.dims[0], 1]);
        self.normed = Some((task.results[OUT.out], norm, out.clone()));
        self.calls.push(Call::AddRmsNorm { a: product, b: residual, weight, eps, out, factors, sum });
        Ok(())
    }

    /// The norm with which the next task begins, if it norms this task's result.
    fn next_norm(&mut self, task: &Task) -> Result<Option<(View, Loc, f32)>, DeviceError> {
        let next = self.plan.tasks.get(self.task + 1).and_then(|next| Some((next, norm_of(next)?)));
        let Some((next, (x, norm, eps))) = next.filter(|(_, (x, ..))| *x == task.results[0]) else { return Ok(None) };
        debug_assert!(matches!(x, Loc::Buffer(_) | Loc::Output(_)), "a result");
        Ok(self.vector(next, norm)?.map(|weight| (weight, norm, eps)))
    }

    /// `act(norm(x) * gate) * (norm(x) * up)`.
    pub(super) fn gate_up(&mut self, task: &Task, spec: &GateUpSpec) -> Result<(), DeviceError> {
        use kinds::gate_up::{AT, OUT, Operands};
        let o = Operands::of(&task.operands);
        let x = self.normed_rows(task, o.x, o.norm, Some(spec.norm_eps))?;
        let out = self.result(task, OUT.out, Elem::F16)?.by_first();
        let (rows, width) = (out.dims[0], out.dims[1]);
        if spec.activation == Activation::Silu {
            let both = self.temp(Elem::F16, &[rows, 2 * width]);
            self.product(task, &x, &[AT.gate, AT.up], &both)?;
            self.calls.push(Call::SwiGlu(both, out));
            return Ok(());
        }
        let [gate, up] = [0, 1].map(|_| self.temp(Elem::F16, &[rows, width]));
        self.product(task, &x, &[AT.gate], &gate)?;
        self.product(task, &x, &[AT.up], &up)?;
        let active = self.temp(Elem::F16, &[rows, width]);
        self.calls.push(Call::Unary(Unary::Gelu, gate, active.clone()));
        self.calls.push(Call::Binary(Binary::Mul, active, up, out));
        Ok(())
    }

    /// The output rows, the last norm, the projection onto the vocabulary, and the best token if that is all. A head of
    /// f32 computes in f32.
    pub(super) fn head(&mut self, task: &Task, spec: &HeadSpec) -> Result<(), DeviceError> {
        use kinds::head::{AT, OUT, Operands};
        let o = Operands::of(&task.operands);
        let exact = self.ty(o.w).is_some_and(|ty| ty.dtype == DType::F32);
        let elem = if exact { Elem::F32 } else { Elem::F16 };
        let mut floats = |loc| if exact { self.full(task, loc) } else { self.half(task, loc) };
        let (x, weight) = (floats(o.x)?.by_first(), floats(o.norm)?);
        let index = self.value(task, o.out_rows)?;
        let picked = self.temp(elem, &[index.elements() as i64, x.last()]);
        self.calls.push(Call::Gather { x, index, out: picked.clone() });
        let (normed, factors) = (self.temp(elem, &picked.dims.clone()), self.temp(Elem::F32, &[picked.dims[0], 1]));
        self.calls.push(Call::RmsNorm { x: picked, weight, eps: spec.norm_eps, out: normed.clone(), factors });
        if !spec.argmax {
            let out = self.result(task, OUT.out, elem)?.by_first();
            return self.product(task, &normed, &[AT.w], &out);
        }
        let vocabulary = self.ty(o.w).and_then(|ty| ty.shape.dims().first()?.known()).unwrap_or(0) as i64;
        let logits = self.temp(elem, &[normed.dims[0], vocabulary]);
        self.product(task, &normed, &[AT.w], &logits)?;
        self.best(task.results[OUT.out], logits);
        Ok(())
    }

    /// `matmul` as a single op. Products of the step's rows with a matrix of another type than f32 are of halves, as in
    /// fused tasks; all others are of f32.
    pub(super) fn matmul(&mut self, task: &Task) -> Result<(), DeviceError> {
        const W: usize = Op::Matmul.place("w");
        let [x, w] = [task.operands[0], task.operands[W]];
        if task.operands.get(2).is_some_and(|loc| *loc != Loc::Absent) {
            return Err(unsupported(task, "a matrix for each row"));
        }
        let (tx, tw) = (self.ty(x), self.ty(w));
        let (Some(tx), Some(tw)) = (tx, tw) else { return Err(unsupported(task, "an operand that is absent")) };
        if tw.shape.rank() != 2 || tx.shape.rank() == 0 {
            return Err(unsupported(task, format!("a matrix of shape {tw}")));
        }
        let by_row = [Sym::Rows, Sym::Outs].iter().any(|&sym| tx.shape.dims().first() == Some(&sym.into()));
        let inputs = tw.shape.last().resolve(&self.dims) as i64;
        if by_row && matches!(w, Loc::Weight(_)) && tw.dtype != DType::F32 && inputs > 0 {
            let x = self.half(task, x)?.rows();
            let out = self.result(task, 0, Elem::F16)?.rows();
            return self.product(task, &x, &[W], &out);
        }
        let (x, w) = (self.full(task, x)?, self.full(task, w)?);
        let out = self.result(task, 0, Elem::F32)?;
        if inputs == 0 {
            self.calls.push(Call::Fill { to: out, value: 0.0 });
            return Ok(());
        }
        let (x, out) = (x.rows(), out.rows());
        self.calls.push(Call::Products { x, w: w.permuted(&[1, 0]), out });
        Ok(())
    }
}
