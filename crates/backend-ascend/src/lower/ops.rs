//! Single ops: nodes that are not in any fused task. Each keeps the float type of its first operand.

use super::host::is_count;
use super::{Lowering, unsupported};
use crate::acl::{Binary, Call, Unary};
use crate::view::{Elem, View};
use aio_backend::DeviceError;
use aio_ir::{Attr, DType, Node, Op};
use aio_plan::{Loc, Task, TaskKind};

/// Whole numbers up to this are exact as f32, in which operators take scalars.
const EXACT: f32 = (1 << 24) as f32;

/// The operator of an elementwise op of one operand.
fn unary(op: Op) -> Option<Unary> {
    Some(match op {
        Op::Neg => Unary::Neg,
        Op::Silu => Unary::Silu,
        Op::Gelu => Unary::Gelu,
        Op::Relu => Unary::Relu,
        Op::Tanh => Unary::Tanh,
        Op::Sigmoid => Unary::Sigmoid,
        Op::Exp => Unary::Exp,
        Op::Log => Unary::Log,
        Op::Sqrt => Unary::Sqrt,
        Op::Sin => Unary::Sin,
        Op::Cos => Unary::Cos,
        _ => return None,
    })
}

/// The operator of an elementwise op of two operands.
fn binary(op: Op) -> Option<Binary> {
    Some(match op {
        Op::Add => Binary::Add,
        Op::Sub => Binary::Sub,
        Op::Mul => Binary::Mul,
        Op::Div => Binary::Div,
        _ => return None,
    })
}

/// Whether an op is elementwise with one operand.
pub(super) fn is_unary(op: Op) -> bool {
    unary(op).is_some()
}

/// Ops that have an operator here, or a task of the host.
pub(crate) fn has_operator(op: Op) -> bool {
    let other = [
        Op::Fill,
        Op::Iota,
        Op::Scatter,
        Op::Cast,
        Op::Embed,
        Op::Gather,
        Op::Matmul,
        Op::RmsNorm,
        Op::LayerNorm,
        Op::Softmax,
        Op::Rope,
        Op::PageWrite,
        Op::Attend,
        Op::Commit,
        Op::Slice,
        Op::Concat,
        Op::Reshape,
        Op::Transpose,
        Op::Broadcast,
        Op::Dequantize,
        Op::Reduce,
        Op::Cumsum,
        Op::Argmax,
        Op::Sample,
        Op::Verify,
    ];
    unary(op).is_some() || binary(op).is_some() || other.contains(&op)
}

fn node(task: &Task) -> Result<&Node, DeviceError> {
    task.body.nodes().next().map(|(_, node)| node).ok_or_else(|| unsupported(task, "an empty body"))
}

/// The order of dimensions of a `transpose`.
fn order(node: &Node) -> Vec<usize> {
    match node.attr("perm") {
        Attr::Ints(order) => order.iter().map(|&d| d as usize).collect(),
        _ => Vec::new(),
    }
}

impl Lowering<'_> {
    /// A task of one op.
    pub(super) fn op(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        debug_assert_eq!(task.kind, TaskKind::Op(op));
        if let Some(op) = unary(op) {
            let x = self.floats(task, 0)?;
            let out = self.result(task, 0, x.elem)?;
            self.calls.push(Call::Unary(op, x, out));
            return Ok(());
        }
        let counts = || task.body.values().all(|(_, v)| is_count(&v.ty));
        if matches!(op, Op::Sample | Op::Verify | Op::Commit) || op == Op::Add && (self.is_hosted(task) || counts()) {
            return self.on_host(task, op);
        }
        if let Some(op) = binary(op) {
            return self.binary(task, op);
        }
        match op {
            Op::Embed => self.embed(task),
            Op::Gather => self.gather(task),
            Op::Matmul => self.matmul(task),
            Op::Rope => self.rope(task),
            Op::PageWrite => self.page_write(task),
            Op::Attend => self.attend_alone(task),
            Op::RmsNorm => self.rms_norm(task),
            Op::LayerNorm => self.layer_norm(task),
            Op::Softmax => {
                let x = self.floats(task, 0)?;
                let out = self.result(task, 0, x.elem)?;
                self.calls.push(Call::Softmax(x, out));
                Ok(())
            }
            Op::Argmax => {
                let x = self.floats(task, 0)?;
                self.best(task.results[0], x);
                Ok(())
            }
            Op::Reduce => self.reduce(task),
            Op::Cumsum => {
                let x = self.floats(task, 0)?;
                let out = self.result(task, 0, x.elem)?;
                self.calls.push(Call::RunningSum(x, out));
                Ok(())
            }
            Op::Fill => self.fill(task),
            Op::Iota => self.iota(task),
            Op::Scatter => self.scatter(task),
            Op::Cast => self.cast(task),
            Op::Concat => self.concat(task),
            Op::Reshape | Op::Slice | Op::Transpose | Op::Broadcast | Op::Dequantize => self.moved(task, op),
            _ => Err(unsupported(task, "it has no operator")),
        }
    }

    /// An operand of floats, in the type that it has on the device.
    fn floats(&mut self, task: &Task, place: usize) -> Result<View, DeviceError> {
        let loc = task.operands[place];
        let ty = self.ty(loc).ok_or_else(|| unsupported(task, "an operand that is absent"))?;
        match self.value(task, loc)? {
            view if view.elem.is_float() && matches!(ty.dtype, DType::F32) => Ok(view),
            _ => Err(unsupported(task, format!("elements of {}", ty.dtype))),
        }
    }

    fn binary(&mut self, task: &Task, op: Binary) -> Result<(), DeviceError> {
        let whole = |dtype: DType| matches!(dtype, DType::I32 | DType::U32);
        let dtype = self.ty(task.operands[0]).map(|ty| ty.dtype);
        let (mut a, mut b) = (self.value(task, task.operands[0])?, self.value(task, task.operands[1])?);
        match dtype {
            // Signed and unsigned sums, differences and products have the same bits; quotients do not.
            Some(dtype) if whole(dtype) && op != Binary::Div => {}
            Some(DType::F32) => {
                let elem = if a.elem == b.elem { a.elem } else { Elem::F32 };
                (a, b) = (self.converted(a, elem)?, self.converted(b, elem)?);
            }
            other => return Err(unsupported(task, format!("elements of {}", other.map_or("no type", DType::name)))),
        }
        let out = self.result(task, 0, a.elem)?;
        self.calls.push(Call::Binary(op, a, b, out));
        Ok(())
    }

    /// Rows of a table of any float type.
    fn embed(&mut self, task: &Task) -> Result<(), DeviceError> {
        let [table, ids] = [task.operands[0], task.operands[1]];
        let exact = self.ty(table).is_some_and(|ty| ty.dtype == DType::F32);
        let x = if exact { self.full(task, table)? } else { self.half(task, table)? };
        let index = self.value(task, ids)?;
        let out = self.result(task, 0, x.elem)?;
        self.calls.push(Call::Gather { x, index, out });
        Ok(())
    }

    fn gather(&mut self, task: &Task) -> Result<(), DeviceError> {
        let (x, index) = (self.value(task, task.operands[0])?, self.value(task, task.operands[1])?);
        if index.elem != Elem::I32 {
            return Err(unsupported(task, "indices of this type"));
        }
        let out = self.result(task, 0, x.elem)?;
        self.calls.push(Call::Gather { x, index, out });
        Ok(())
    }

    fn rms_norm(&mut self, task: &Task) -> Result<(), DeviceError> {
        let eps = node(task)?.f32("eps");
        let x = self.floats(task, 0)?;
        let weight = self.norm_weight(task, 1, &x)?;
        let out = self.result(task, 0, x.elem)?;
        let factors = self.temp(Elem::F32, &[x.rows().dims[0], 1]);
        self.calls.push(Call::RmsNorm { x: x.rows(), weight, eps, out: out.rows(), factors });
        Ok(())
    }

    /// The weight of a norm in the type of what it norms; ones if there is none.
    fn norm_weight(&mut self, task: &Task, place: usize, x: &View) -> Result<View, DeviceError> {
        let loc = task.operands.get(place).copied().unwrap_or(Loc::Absent);
        if loc == Loc::Absent {
            let ones = self.temp(x.elem, &[x.last()]);
            self.calls.push(Call::Fill { to: ones.clone(), value: 1.0 });
            return Ok(ones);
        }
        if x.elem == Elem::F16 { self.half(task, loc) } else { self.full(task, loc) }
    }

    fn layer_norm(&mut self, task: &Task) -> Result<(), DeviceError> {
        let eps = node(task)?.f32("eps");
        let x = self.floats(task, 0)?;
        let mut part = |place: usize| match task.operands.get(place) {
            None | Some(Loc::Absent) => Ok(None),
            Some(_) => self.norm_weight(task, place, &x).map(Some),
        };
        let (weight, bias) = (part(1)?, part(2)?);
        let out = self.result(task, 0, x.elem)?;
        self.calls.push(Call::LayerNorm { x: x.rows(), weight, bias, eps, out: out.rows() });
        Ok(())
    }

    fn reduce(&mut self, task: &Task) -> Result<(), DeviceError> {
        let (axis, kind) = (node(task)?.int("axis"), node(task)?.word("kind"));
        let x = self.floats(task, 0)?;
        let out = self.result(task, 0, x.elem)?;
        if x.elements() == 0 {
            self.calls.push(Call::Fill { to: out, value: 0.0 });
            return Ok(());
        }
        self.calls.push(match kind {
            "sum" => Call::Sum { x, axis, out },
            "mean" => Call::Mean { x, axis, out },
            other => return Err(unsupported(task, format!("a {other} along an axis"))),
        });
        Ok(())
    }

    fn fill(&mut self, task: &Task) -> Result<(), DeviceError> {
        let value = node(task)?.f32("value");
        let elem = self.plain_result(task)?;
        if !matches!(elem, Elem::F32 | Elem::F16 | Elem::Bf16) && value.abs() > EXACT {
            return Err(unsupported(task, format!("{value} as a whole number")));
        }
        let to = self.result(task, 0, elem)?;
        self.calls.push(Call::Fill { to, value });
        Ok(())
    }

    /// The type of a result that has the graph's own.
    fn plain_result(&self, task: &Task) -> Result<Elem, DeviceError> {
        let dtype = self.ty(task.results[0]).map(|ty| ty.dtype);
        dtype.and_then(Elem::of).ok_or_else(|| unsupported(task, "elements of this type"))
    }

    fn iota(&mut self, task: &Task) -> Result<(), DeviceError> {
        let elem = self.plain_result(task)?;
        let to = self.result(task, 0, elem)?;
        if !matches!(elem, Elem::F32 | Elem::I32) || to.last() as f32 > EXACT {
            return Err(unsupported(task, "numbers of this type"));
        }
        let one = self.temp(elem, &[to.last()]);
        self.calls.push(Call::Count { to: one.clone() });
        self.calls.push(Call::Copy { from: one, to });
        Ok(())
    }

    /// Rows replaced by index. On the NPU, the order of writes to one row is not defined.
    fn scatter(&mut self, task: &Task) -> Result<(), DeviceError> {
        let [x, index, from] = [0, 1, 2].map(|place| task.operands[place]);
        let (x, index, from) = (self.value(task, x)?, self.value(task, index)?, self.value(task, from)?);
        let from = self.converted(from, x.elem)?;
        if index.elem != Elem::I32 {
            return Err(unsupported(task, "indices of this type"));
        }
        let to = self.result(task, 0, x.elem)?;
        if x.at != to.at {
            self.calls.push(Call::Copy { from: x, to: to.clone() });
        }
        let index = index.shaped([index.elements() as i64]);
        self.calls.push(Call::Scatter { to, index, from });
        Ok(())
    }

    /// Another type: between floats, and from whole numbers to floats.
    fn cast(&mut self, task: &Task) -> Result<(), DeviceError> {
        let x = self.value(task, task.operands[0])?;
        let elem = self.plain_result(task)?;
        let float = |elem| matches!(elem, Elem::F32 | Elem::F16 | Elem::Bf16);
        let whole = self.ty(task.operands[0]).is_some_and(|ty| matches!(ty.dtype, DType::I32 | DType::I8 | DType::U8));
        if !float(elem) || !(float(x.elem) || whole) {
            return Err(unsupported(task, "a conversion that may not fit"));
        }
        let to = self.result(task, 0, elem)?;
        self.calls.push(if x.elem == elem { Call::Copy { from: x, to } } else { Call::Cast { from: x, to } });
        Ok(())
    }

    fn concat(&mut self, task: &Task) -> Result<(), DeviceError> {
        let axis = node(task)?.int("axis");
        let (mut a, mut b) = (self.value(task, task.operands[0])?, self.value(task, task.operands[1])?);
        if a.elem != b.elem {
            (a, b) = (self.converted(a, Elem::F32)?, self.converted(b, Elem::F32)?);
        }
        let out = self.result(task, 0, a.elem)?;
        let parts = [a, b].into_iter().filter(|part| part.elements() > 0).collect();
        self.calls.push(Call::Concat { parts, axis, out });
        Ok(())
    }

    /// Elements in another order, shape or number.
    fn moved(&mut self, task: &Task, op: Op) -> Result<(), DeviceError> {
        let node = node(task)?;
        let x = match op {
            Op::Dequantize => self.full(task, task.operands[0])?,
            _ => self.value(task, task.operands[0])?,
        };
        let out = self.result(task, 0, x.elem)?;
        let from = match op {
            Op::Slice => x.sliced(node.int("axis") as usize, node.int("start"), out.dims[node.int("axis") as usize]),
            Op::Transpose => x.permuted(&order(node)),
            Op::Reshape => x.shaped(out.dims.iter().copied()),
            _ => x,
        };
        self.calls.push(Call::Copy { from, to: out });
        Ok(())
    }
}
