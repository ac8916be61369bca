//! The meaning of a task, built from its kind's numbers and the types of its operands.
//!
//! A kind has one body for given operands, so the compiler never writes one by hand and the verifier never has to
//! recognise one: it builds the body again and compares. What a kernel takes from the kind's numbers is therefore what
//! the body says. Called by `aio-compiler` when it fuses and by [`crate::verify`].

use crate::kind::{Activation, AttendSpec, GateUpSpec, HeadSpec, LinearSpec, QkvSpec, TaskKind};
use crate::kinds::{Class, KindSpec, OperandSpec};
use aio_ir::graph::BuildError;
use aio_ir::{Attr, Builder, DType, Def, Graph, Op, Shape, Sym, TensorType, ValueId};
use smallvec::SmallVec;

/// An operand as a body declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Where it comes from: [`Def::State`] for a state that the task replaces, [`Def::Weight`] for a weight in its own
    /// shape, [`Def::Input`] for all else.
    pub def: Def,
    /// Its type, which may be another shape of what its slot holds.
    pub ty: TensorType,
}

/// Why a kind has no body for some operands.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// The wrong number of operands.
    #[error("{got} operands, not the {expected} of the kind")]
    Count {
        /// How many the kind has.
        expected: usize,
        /// How many there are.
        got: usize,
    },
    /// A required operand is missing, or one without which the other has no meaning.
    #[error("operand `{operand}` is missing")]
    Missing {
        /// The operand.
        operand: &'static str,
    },
    /// An operand that the kind does not take.
    #[error("operand `{operand}` is {got}, expected {expected}")]
    Operand {
        /// The operand.
        operand: &'static str,
        /// What the kind takes there.
        expected: String,
        /// What is there.
        got: TensorType,
    },
    /// A number of the kind that is not that of its operands.
    #[error("`{name}` is {got}, which does not fit the operands")]
    Number {
        /// The number's name.
        name: &'static str,
        /// Its value.
        got: String,
    },
    /// An op refuses the operands.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// The body of a fused task.
///
/// # Errors
/// [`BodyError`] if operands and numbers do not fit the kind, or each other. A [`TaskKind::Op`] has its body from
/// [`single`]; here it is refused.
pub fn fused(kind: &TaskKind, operands: &[Option<Declared>]) -> Result<Graph, BodyError> {
    let name = kind.name();
    let Some(spec) = name.spec() else {
        return Err(BodyError::Number { name: "op", got: name.name().to_owned() });
    };
    check(spec, operands)?;
    check_rows(kind, spec, operands)?;
    let mut body = Body::new(name.name(), operands);
    let out = match kind {
        TaskKind::Qkv(numbers) => body.qkv(spec, numbers),
        TaskKind::Attend(numbers) => body.attend(operands, numbers),
        TaskKind::Linear(numbers) => body.linear(spec, numbers),
        TaskKind::GateUp(numbers) => body.gate_up(numbers),
        TaskKind::Head(numbers) => body.head(numbers),
        TaskKind::Op(_) => unreachable!("a task of one op has no declaration in the table of kinds"),
    }?;
    body.b.output("r0", out);
    Ok(body.b.finish())
}

/// The body of a task of one op, with its attributes in table order.
///
/// # Errors
/// [`BodyError::Build`] if the op does not take them.
pub fn single(op: Op, operands: &[Option<Declared>], attrs: &[Attr]) -> Result<Graph, BodyError> {
    let mut body = Body::new(op.mnemonic(), operands);
    let node = body.b.apply_filled(op, &body.values, attrs)?;
    let results = body.b.graph().node(node).results.clone();
    let updated = op.spec().updates.and_then(|operand| body.values[operand]);
    for (i, &result) in results.iter().enumerate() {
        match updated.filter(|_| i == 0) {
            Some(state) => body.b.final_state(state, result),
            None => body.b.output(&format!("r{i}"), result),
        }
    }
    Ok(body.b.finish())
}

/// Checks operands one by one: presence, element type, rank and origin.
fn check(spec: &KindSpec, operands: &[Option<Declared>]) -> Result<(), BodyError> {
    if operands.len() != spec.operands.len() {
        return Err(BodyError::Count { expected: spec.operands.len(), got: operands.len() });
    }
    for (operand, declared) in spec.operands.iter().zip(operands) {
        match declared {
            Some(declared) => check_class(operand, declared)?,
            None if operand.optional => {}
            None => return Err(BodyError::Missing { operand: operand.name }),
        }
    }
    Ok(())
}

/// Kernels of fused kinds go over the step's rows; products also over the rows that ask for an output.
fn check_rows(kind: &TaskKind, spec: &KindSpec, operands: &[Option<Declared>]) -> Result<(), BodyError> {
    let rows: &[(usize, &[Sym])] = match kind {
        TaskKind::Linear(_) => &[(0, &[Sym::Rows, Sym::Outs])],
        TaskKind::Head(_) => &[(0, &[Sym::Rows]), (crate::kinds::head::INDEX, &[Sym::Outs])],
        _ => &[(0, &[Sym::Rows])],
    };
    for (place, syms) in rows {
        let Some(Declared { ty, .. }) = &operands[*place] else { continue };
        let first = ty.shape.dims().first();
        if !syms.iter().any(|&sym| first == Some(&sym.into())) {
            let expected =
                format!("a first dimension of {}", syms.iter().map(|s| s.name()).collect::<Vec<_>>().join(" or "));
            return Err(BodyError::Operand { operand: spec.operands[*place].name, expected, got: ty.clone() });
        }
    }
    Ok(())
}

fn check_class(operand: &OperandSpec, Declared { def, ty }: &Declared) -> Result<(), BodyError> {
    let rank = ty.shape.rank();
    let (fits, expected) = match operand.class {
        Class::Values => (ty.dtype == DType::F32, "f32 elements"),
        Class::Vector => (*def == Def::Weight && ty.dtype == DType::F32 && rank == 1, "a weight vector of f32"),
        Class::Matrix => (*def == Def::Weight && ty.dtype.is_float() && rank == 2, "a weight matrix"),
        Class::Index => (ty.dtype == DType::U32, "u32 elements"),
        Class::Pages => (ty.dtype == DType::F16 && rank == 5, "pages of keys and values"),
    };
    // Kernels of fused kinds cut rows and columns into tiles, of which there is at least one.
    let (fits, expected) = if ty.shape.is_empty() { (false, "no dimension of 0") } else { (fits, expected) };
    if fits {
        Ok(())
    } else {
        Err(BodyError::Operand { operand: operand.name, expected: expected.into(), got: ty.clone() })
    }
}

/// A body under construction.
struct Body {
    b: Builder,
    /// Operands by place.
    values: SmallVec<[Option<ValueId>; 16]>,
}

impl Body {
    fn new(name: &str, operands: &[Option<Declared>]) -> Body {
        let mut b = Builder::new(name);
        let declare = |(i, o): (usize, &Option<Declared>)| {
            o.as_ref().map(|Declared { def, ty }| b.declare(*def, &format!("a{i}"), ty.clone()))
        };
        let values = operands.iter().enumerate().map(declare).collect();
        Body { b, values }
    }

    fn value(&self, place: usize) -> ValueId {
        self.values[place].expect("`check` found the required operands")
    }

    fn ty(&self, value: ValueId) -> &TensorType {
        self.b.graph().ty(value)
    }

    fn op(&mut self, op: Op, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> Result<ValueId, BodyError> {
        Ok(self.b.op(op, inputs, attrs)?)
    }

    fn norm(&mut self, x: ValueId, weight: ValueId, eps: f32) -> Result<ValueId, BodyError> {
        self.op(Op::RmsNorm, &[x, weight], &[("eps", Attr::F32(eps))])
    }

    /// `x * w + bias`, with a bias of the product's width.
    fn projection(&mut self, spec: &KindSpec, x: ValueId, w: usize, bias: usize) -> Result<ValueId, BodyError> {
        let product = self.op(Op::Matmul, &[x, self.value(w)], &[])?;
        let Some(vector) = self.values[bias] else { return Ok(product) };
        let width = self.ty(product).shape.last();
        if self.ty(vector).shape.last() != width {
            let (operand, got) = (spec.operands[bias].name, self.ty(vector).clone());
            return Err(BodyError::Operand { operand, expected: format!("{width} elements"), got });
        }
        self.op(Op::Add, &[product, vector], &[])
    }

    fn qkv(&mut self, spec: &KindSpec, n: &QkvSpec) -> Result<ValueId, BodyError> {
        use crate::kinds::qkv::*;
        if n.kv_heads == 0 || !n.heads.is_multiple_of(n.kv_heads) {
            return Err(BodyError::Number { name: "kv_heads", got: n.kv_heads.to_string() });
        }
        let h = self.norm(self.value(X), self.value(NORM), n.norm_eps)?;
        let q = self.projection(spec, h, WQ, BQ)?;
        let q = self.heads(q, n.heads, n.head_dim)?;
        let q = self.head_norm(spec, q, Q_NORM, n.qk_norm_eps)?;
        let q = self.rotated(q, n, POSITIONS, FREQ_FACTORS)?;
        let k = self.projection(spec, h, WK, BK)?;
        let k = self.heads(k, n.kv_heads, n.head_dim)?;
        let k = self.head_norm(spec, k, K_NORM, n.qk_norm_eps)?;
        let k = self.rotated(k, n, POSITIONS, FREQ_FACTORS)?;
        let v = self.projection(spec, h, WV, BV)?;
        let v = self.heads(v, n.kv_heads, n.head_dim)?;
        let [kv, table, row_seq, positions] = [KV, TABLE, ROW_SEQ, POSITIONS].map(|place| self.value(place));
        let written = self.op(Op::PageWrite, &[kv, k, v, table, row_seq, positions], &[])?;
        self.b.final_state(kv, written);
        Ok(q)
    }

    /// Rows of a projection as heads.
    fn heads(&mut self, x: ValueId, heads: u32, size: u32) -> Result<ValueId, BodyError> {
        let rows = self.ty(x).shape.dims()[0];
        let shape = Shape::new([rows, u64::from(heads).into(), u64::from(size).into()]);
        self.op(Op::Reshape, &[x], &[("shape", Attr::Shape(shape))])
    }

    fn head_norm(&mut self, spec: &KindSpec, x: ValueId, place: usize, eps: Option<f32>) -> Result<ValueId, BodyError> {
        match (self.values[place], eps) {
            (Some(weight), Some(eps)) => self.norm(x, weight, eps),
            (None, None) => Ok(x),
            (None, Some(_)) => Err(BodyError::Missing { operand: spec.operands[place].name }),
            (Some(_), None) => Err(BodyError::Number { name: "qk_norm_eps", got: "missing".to_owned() }),
        }
    }

    fn rotated(&mut self, x: ValueId, n: &QkvSpec, positions: usize, factors: usize) -> Result<ValueId, BodyError> {
        let inputs = [Some(x), self.values[positions], self.values[factors]];
        let node = self.b.apply(Op::Rope, &inputs, &n.rope.attrs())?;
        Ok(self.b.graph().node(node).results[0])
    }

    fn attend(&mut self, operands: &[Option<Declared>], n: &AttendSpec) -> Result<ValueId, BodyError> {
        let attrs = [
            ("scale", Attr::F32(n.scale)),
            ("window", Attr::Int(n.window.into())),
            ("soft_cap", Attr::F32(n.soft_cap)),
        ];
        let node = self.b.apply(Op::Attend, &self.values, &attrs)?;
        let known = |place: usize, axis: usize| {
            operands[place].as_ref().and_then(|o| o.ty.shape.dims().get(axis)).and_then(|d| d.known())
        };
        let numbers = [
            ("heads", n.heads, known(0, 1)),
            ("head_dim", n.head_dim, known(0, 2)),
            ("kv_heads", n.kv_heads, known(1, 2)),
        ];
        for (name, number, size) in numbers {
            if size != Some(number.into()) {
                return Err(BodyError::Number { name, got: number.to_string() });
            }
        }
        Ok(self.b.graph().node(node).results[0])
    }

    fn linear(&mut self, spec: &KindSpec, n: &LinearSpec) -> Result<ValueId, BodyError> {
        use crate::kinds::linear::{BIAS, NORM, RESIDUAL, W, X};
        let x = match (self.values[NORM], n.norm_eps) {
            (Some(weight), Some(eps)) => self.norm(self.value(X), weight, eps)?,
            (None, None) => self.value(X),
            (None, Some(_)) => return Err(BodyError::Missing { operand: spec.operands[NORM].name }),
            (Some(_), None) => return Err(BodyError::Number { name: "norm_eps", got: "missing".to_owned() }),
        };
        let product = self.projection(spec, x, W, BIAS)?;
        let Some(residual) = self.values[RESIDUAL] else { return Ok(product) };
        if self.ty(residual) != self.ty(product) {
            let (operand, got) = (spec.operands[RESIDUAL].name, self.ty(residual).clone());
            return Err(BodyError::Operand { operand, expected: self.ty(product).to_string(), got });
        }
        self.op(Op::Add, &[product, residual], &[])
    }

    fn gate_up(&mut self, n: &GateUpSpec) -> Result<ValueId, BodyError> {
        use crate::kinds::gate_up::{GATE, NORM, UP, X};
        let h = self.norm(self.value(X), self.value(NORM), n.norm_eps)?;
        let gate = self.op(Op::Matmul, &[h, self.value(GATE)], &[])?;
        let up = self.op(Op::Matmul, &[h, self.value(UP)], &[])?;
        if self.ty(gate) != self.ty(up) {
            let got = self.ty(self.value(UP)).clone();
            return Err(BodyError::Operand { operand: "up", expected: self.ty(self.value(GATE)).to_string(), got });
        }
        let activation = match n.activation {
            Activation::Silu => Op::Silu,
            Activation::Gelu => Op::Gelu,
        };
        let active = self.op(activation, &[gate], &[])?;
        self.op(Op::Mul, &[active, up], &[])
    }

    fn head(&mut self, n: &HeadSpec) -> Result<ValueId, BodyError> {
        use crate::kinds::head::{INDEX, NORM, W, X};
        let rows = self.op(Op::Gather, &[self.value(X), self.value(INDEX)], &[])?;
        let h = self.norm(rows, self.value(NORM), n.norm_eps)?;
        let logits = self.op(Op::Matmul, &[h, self.value(W)], &[])?;
        if n.argmax { self.op(Op::Argmax, &[logits], &[]) } else { Ok(logits) }
    }
}
