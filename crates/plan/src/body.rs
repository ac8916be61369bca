//! Builds the body of a task from its kind's numbers and the types of its operands.
//!
//! A kind has exactly one body for given operands, so the compiler never writes one by hand and the verifier never has
//! to recognise one: it builds the body again and compares. The numbers a kernel takes from the kind are therefore
//! those of the body. Called by `aio-compiler` when it fuses and by [`crate::verify`].

use crate::kinds::{KindSpec, OperandSpec, TaskKind, experts, gate_up, head, linear, qkv};
use crate::numbers::{Activation, AttendSpec, ExpertsSpec, GateUpSpec, HeadSpec, LinearSpec, QkvSpec, Routing};
use aio_ir::graph::BuildError;
use aio_ir::{Attr, Builder, Def, Dim, Graph, Op, Shape, TensorType, ValueId};
use smallvec::SmallVec;

/// An operand as the body declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its source: [`Def::State`] for a state that the task replaces, [`Def::Weight`] for a weight in its own shape,
    /// [`Def::Input`] for everything else.
    pub def: Def,
    /// Its type. The shape may differ from that in the location.
    pub ty: TensorType,
}

/// Why a kind has no body for given operands.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// Wrong number of operands.
    #[error("{got} operands, not the {expected} of the kind")]
    Count {
        /// The number the kind has.
        expected: usize,
        /// The number given.
        got: usize,
    },
    /// A required operand is missing, or one that another operand needs.
    #[error("operand `{operand}` is missing")]
    Missing {
        /// The operand.
        operand: &'static str,
    },
    /// The kind does not take this operand.
    #[error("operand `{operand}` is {got}, expected {expected}")]
    Operand {
        /// The operand.
        operand: &'static str,
        /// What the kind takes.
        expected: String,
        /// The type given.
        got: TensorType,
    },
    /// A number of the kind contradicts the operands.
    #[error("`{name}` is {got}, which does not fit the operands")]
    Number {
        /// The number's name.
        name: &'static str,
        /// Its value.
        got: String,
    },
    /// An op rejects the operands.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Builds the body of a fused task.
///
/// # Errors
/// [`BodyError`] if operands and numbers do not fit the kind or each other. [`TaskKind::Op`] is rejected: its body
/// comes from [`single`].
pub fn fused(kind: &TaskKind, operands: &[Option<Declared>]) -> Result<Graph, BodyError> {
    let name = kind.name();
    let Some(spec) = name.spec() else {
        return Err(BodyError::Number { name: "op", got: name.name().to_owned() });
    };
    check(spec, operands)?;
    let mut body = Body::new(name.name(), operands);
    let out = match kind {
        TaskKind::Qkv(numbers) => body.qkv(qkv::Operands::of(&body.values), numbers),
        TaskKind::Attend(numbers) => body.attend(numbers),
        TaskKind::Linear(numbers) => body.linear(linear::Operands::of(&body.values), numbers),
        TaskKind::GateUp(numbers) => body.gate_up(gate_up::Operands::of(&body.values), numbers),
        TaskKind::Experts(numbers) => body.experts(experts::Operands::of(&body.values), numbers),
        TaskKind::Head(numbers) => body.head(head::Operands::of(&body.values), numbers),
        TaskKind::Op(_) => unreachable!("a task of one op has no declaration in the table of kinds"),
    }?;
    body.b.output("r0", out);
    Ok(body.b.finish())
}

/// Builds the body of a single-op task, with attributes in table order.
///
/// # Errors
/// [`BodyError::Build`] if the op rejects operands or attributes.
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

/// Checks presence and class of each operand.
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

/// Checks an operand's class. No dimension may be 0, since kernels of fused kinds expect at least one tile of rows and
/// columns.
fn check_class(operand: &OperandSpec, Declared { def, ty }: &Declared) -> Result<(), BodyError> {
    let expected = match operand.class.admits(*def, ty) {
        true if !ty.shape.is_empty() => return Ok(()),
        true => "no dimension of 0",
        false => operand.class.expected(),
    };
    Err(BodyError::Operand { operand: operand.name, expected: expected.to_owned(), got: ty.clone() })
}

/// A body under construction.
struct Body {
    b: Builder,
    /// Operands by index.
    values: SmallVec<[Value; 16]>,
}

/// An operand. `check` guarantees the required ones.
type Value = Option<ValueId>;
/// An operand that may be absent, with its name.
type Optional = (&'static str, Value);

/// A required operand, which `check` has found.
fn need(value: Value) -> ValueId {
    value.expect("a required operand")
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

    fn ty(&self, value: ValueId) -> &TensorType {
        self.b.graph().ty(value)
    }

    fn op(&mut self, op: Op, inputs: &[ValueId], attrs: &[(&str, Attr)]) -> Result<ValueId, BodyError> {
        Ok(self.b.op(op, inputs, attrs)?)
    }

    fn norm(&mut self, x: ValueId, weight: ValueId, eps: f32) -> Result<ValueId, BodyError> {
        self.op(Op::RmsNorm, &[x, weight], &[("eps", Attr::F32(eps))])
    }

    /// Applies a norm whose weight and epsilon are either both present or both absent.
    fn optional_norm(
        &mut self,
        x: ValueId,
        (operand, weight): Optional,
        (name, eps): (&'static str, Option<f32>),
    ) -> Result<ValueId, BodyError> {
        match (weight, eps) {
            (Some(weight), Some(eps)) => self.norm(x, weight, eps),
            (None, None) => Ok(x),
            (None, Some(_)) => Err(BodyError::Missing { operand }),
            (Some(_), None) => Err(BodyError::Number { name, got: "missing".to_owned() }),
        }
    }

    /// `x * w + bias`. The bias must have the product's width.
    fn projection(&mut self, x: ValueId, w: ValueId, (operand, bias): Optional) -> Result<ValueId, BodyError> {
        let product = self.op(Op::Matmul, &[x, w], &[])?;
        let Some(vector) = bias else { return Ok(product) };
        let width = self.ty(product).shape.last();
        if self.ty(vector).shape.last() != width {
            let got = self.ty(vector).clone();
            return Err(BodyError::Operand { operand, expected: format!("{width} elements"), got });
        }
        self.op(Op::Add, &[product, vector], &[])
    }

    fn qkv(&mut self, o: qkv::Operands<Value>, n: &QkvSpec) -> Result<ValueId, BodyError> {
        if n.kv_heads == 0 || !n.heads.is_multiple_of(n.kv_heads) {
            return Err(BodyError::Number { name: "kv_heads", got: n.kv_heads.to_string() });
        }
        let eps = ("qk_norm_eps", n.qk_norm_eps);
        let h = self.norm(need(o.x), need(o.norm), n.norm_eps)?;
        let q = self.projection(h, need(o.wq), ("bq", o.bq))?;
        let q = self.heads(q, n.heads, n.head_dim)?;
        let q = self.optional_norm(q, ("q_norm", o.q_norm), eps)?;
        let q = self.rotated(q, n, need(o.positions), o.freq_factors)?;
        let k = self.projection(h, need(o.wk), ("bk", o.bk))?;
        let k = self.heads(k, n.kv_heads, n.head_dim)?;
        let k = self.optional_norm(k, ("k_norm", o.k_norm), eps)?;
        let k = self.rotated(k, n, need(o.positions), o.freq_factors)?;
        let v = self.projection(h, need(o.wv), ("bv", o.bv))?;
        let v = self.heads(v, n.kv_heads, n.head_dim)?;
        let written =
            self.op(Op::PageWrite, &[need(o.kv), k, v, need(o.page_table), need(o.row_seq), need(o.positions)], &[])?;
        self.b.final_state(need(o.kv), written);
        Ok(q)
    }

    /// Splits the rows of a projection into heads.
    fn heads(&mut self, x: ValueId, heads: u32, size: u32) -> Result<ValueId, BodyError> {
        let rows = self.ty(x).shape.dims()[0];
        let shape = Shape::new([rows, u64::from(heads).into(), u64::from(size).into()]);
        self.op(Op::Reshape, &[x], &[("shape", Attr::Shape(shape))])
    }

    fn rotated(&mut self, x: ValueId, n: &QkvSpec, positions: ValueId, factors: Value) -> Result<ValueId, BodyError> {
        let node = self.b.apply(Op::Rope, &[Some(x), Some(positions), factors], &n.rope.attrs())?;
        Ok(self.b.graph().node(node).results[0])
    }

    fn attend(&mut self, n: &AttendSpec) -> Result<ValueId, BodyError> {
        let attrs = [
            ("scale", Attr::F32(n.scale)),
            ("window", Attr::Int(n.window.into())),
            ("soft_cap", Attr::F32(n.soft_cap)),
        ];
        let node = self.b.apply(Op::Attend, &self.values, &attrs)?;
        let node = self.b.graph().node(node);
        let wrong = |name, number: u32| BodyError::Number { name, got: number.to_string() };
        let found = AttendSpec::from_node(self.b.graph(), node).ok_or_else(|| wrong("heads", n.heads))?;
        let numbers = [
            ("heads", n.heads, found.heads),
            ("head_dim", n.head_dim, found.head_dim),
            ("kv_heads", n.kv_heads, found.kv_heads),
        ];
        match numbers.into_iter().find(|(_, number, size)| number != size) {
            Some((name, number, _)) => Err(wrong(name, number)),
            None => Ok(node.results[0]),
        }
    }

    fn linear(&mut self, o: linear::Operands<Value>, n: &LinearSpec) -> Result<ValueId, BodyError> {
        let x = self.optional_norm(need(o.x), ("norm", o.norm), ("norm_eps", n.norm_eps))?;
        let product = self.projection(x, need(o.w), ("bias", o.bias))?;
        let Some(residual) = o.residual else { return Ok(product) };
        if self.ty(residual) != self.ty(product) {
            let (expected, got) = (self.ty(product).to_string(), self.ty(residual).clone());
            return Err(BodyError::Operand { operand: "residual", expected, got });
        }
        self.op(Op::Add, &[product, residual], &[])
    }

    fn gate_up(&mut self, o: gate_up::Operands<Value>, n: &GateUpSpec) -> Result<ValueId, BodyError> {
        let h = self.norm(need(o.x), need(o.norm), n.norm_eps)?;
        self.gated(&[h], [need(o.gate), need(o.up)], n.activation)
    }

    /// `act(x * gate) * (x * up)`. `rows` is x, with the index of each row's matrices if they are experts.
    fn gated(&mut self, rows: &[ValueId], [gate, up]: [ValueId; 2], act: Activation) -> Result<ValueId, BodyError> {
        if self.ty(gate).shape != self.ty(up).shape {
            let (expected, got) = (self.ty(gate).to_string(), self.ty(up).clone());
            return Err(BodyError::Operand { operand: "up", expected, got });
        }
        let gate = self.product(rows, gate)?;
        let up = self.product(rows, up)?;
        let activation = match act {
            Activation::Silu => Op::Silu,
            Activation::Gelu => Op::Gelu,
        };
        let active = self.op(activation, &[gate], &[])?;
        self.op(Op::Mul, &[active, up], &[])
    }

    /// `x * w`, with the index of each row's matrix if there is one.
    fn product(&mut self, rows: &[ValueId], w: ValueId) -> Result<ValueId, BodyError> {
        let operands: SmallVec<[ValueId; 3]> =
            rows[..1].iter().copied().chain([w]).chain(rows[1..].iter().copied()).collect();
        self.op(Op::Matmul, &operands, &[])
    }

    fn shaped(&mut self, op: Op, x: ValueId, dims: [Dim; 3]) -> Result<ValueId, BodyError> {
        self.op(op, &[x], &[("shape", Attr::Shape(Shape::new(dims)))])
    }

    fn experts(&mut self, o: experts::Operands<Value>, n: &ExpertsSpec) -> Result<ValueId, BodyError> {
        let h = self.norm(need(o.x), need(o.norm), n.norm_eps)?;
        let (weights, index) = self.route(h, need(o.router), n)?;
        let &[rows, width] = self.ty(h).shape.dims() else {
            return Err(BodyError::Operand {
                operand: "x",
                expected: "rows of one dimension".to_owned(),
                got: self.ty(h).clone(),
            });
        };
        let picked = Dim::Const(n.picked.into());
        let each = self.shaped(Op::Reshape, h, [rows, Dim::Const(1), width])?;
        let spread = self.shaped(Op::Broadcast, each, [rows, picked, width])?;
        let gated = self.gated(&[spread, index], [need(o.gate), need(o.up)], n.activation)?;
        let down = self.product(&[gated, index], need(o.down))?;
        let weights = self.shaped(Op::Reshape, weights, [rows, picked, Dim::Const(1)])?;
        let weighted = self.op(Op::Mul, &[down, weights], &[])?;
        let sum = self.op(Op::Reduce, &[weighted], &[("kind", Attr::Word("sum")), ("axis", Attr::Int(1))])?;
        let out = self.ty(down).shape.last();
        let mut sum = self.op(Op::Reshape, &[sum], &[("shape", Attr::Shape(Shape::new([rows, out])))])?;
        if let Some(shared) = self.shared(h, &o, n)? {
            sum = self.op(Op::Add, &[sum, shared], &[])?;
        }
        let residual = need(o.residual);
        if self.ty(residual) != self.ty(sum) {
            let (expected, got) = (self.ty(sum).to_string(), self.ty(residual).clone());
            return Err(BodyError::Operand { operand: "residual", expected, got });
        }
        self.op(Op::Add, &[sum, residual], &[])
    }

    /// The weights and indices of the experts that the router picks for each row.
    fn route(&mut self, h: ValueId, router: ValueId, n: &ExpertsSpec) -> Result<(ValueId, ValueId), BodyError> {
        let mut scores = self.op(Op::Matmul, &[h, router], &[])?;
        if n.routing != Routing::SoftmaxOfPicked {
            scores = self.op(Op::Softmax, &[scores], &[])?;
        }
        let top = self.b.apply(Op::TopK, &[Some(scores)], &[("k", Attr::Int(n.picked.into()))])?;
        let &[values, index] = &self.b.graph().node(top).results[..] else { unreachable!("`top_k` has two results") };
        let weights = match n.routing {
            Routing::Softmax => values,
            Routing::SoftmaxOfPicked => self.op(Op::Softmax, &[values], &[])?,
            Routing::Normalised => {
                let sum = self.op(Op::Reduce, &[values], &[("kind", Attr::Word("sum")), ("axis", Attr::Int(1))])?;
                self.op(Op::Div, &[values, sum], &[])?
            }
        };
        Ok((weights, index))
    }

    /// The shared expert's result, if there is one.
    fn shared(
        &mut self,
        h: ValueId,
        o: &experts::Operands<Value>,
        n: &ExpertsSpec,
    ) -> Result<Option<ValueId>, BodyError> {
        let (gate, up, down) = match (o.shared_gate, o.shared_up, o.shared_down) {
            (Some(gate), Some(up), Some(down)) => (gate, up, down),
            (None, None, None) if o.shared_scale.is_none() => return Ok(None),
            (None, ..) => return Err(BodyError::Missing { operand: "shared_gate" }),
            (_, None, _) => return Err(BodyError::Missing { operand: "shared_up" }),
            (.., None) => return Err(BodyError::Missing { operand: "shared_down" }),
        };
        let gated = self.gated(&[h], [gate, up], n.activation)?;
        let out = self.op(Op::Matmul, &[gated, down], &[])?;
        let Some(scale) = o.shared_scale else { return Ok(Some(out)) };
        let scale = self.op(Op::Matmul, &[h, scale], &[])?;
        let scale = self.op(Op::Sigmoid, &[scale], &[])?;
        Ok(Some(self.op(Op::Mul, &[out, scale], &[])?))
    }

    fn head(&mut self, o: head::Operands<Value>, n: &HeadSpec) -> Result<ValueId, BodyError> {
        let rows = self.op(Op::Gather, &[need(o.x), need(o.out_rows)], &[])?;
        let h = self.norm(rows, need(o.norm), n.norm_eps)?;
        let logits = self.op(Op::Matmul, &[h, need(o.w)], &[])?;
        if n.argmax { self.op(Op::Argmax, &[logits], &[]) } else { Ok(logits) }
    }
}
