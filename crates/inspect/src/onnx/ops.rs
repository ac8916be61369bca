//! Each op as ops of ONNX.

use super::proto::{FLOAT, INT64, Message, Node, OWN, Value, element, integer, integers, scalar};
use aio_ir::attr::Attr;
use aio_ir::{DType, Graph, NodeId, Op, Shape, ValueId};

/// Collects nodes and constants.
pub(super) struct Exporter<'g> {
    graph: &'g Graph,
    /// Names of values.
    names: &'g [String],
    pub nodes: Vec<Message>,
    pub constants: Vec<Message>,
    /// The node that is exported.
    at: Option<NodeId>,
    made: usize,
}

impl<'g> Exporter<'g> {
    pub(super) fn new(graph: &'g Graph, names: &'g [String]) -> Exporter<'g> {
        Exporter { graph, names, nodes: Vec::new(), constants: Vec::new(), at: None, made: 0 }
    }

    /// Gives a value a second name.
    pub(super) fn identity(&mut self, from: &str, to: &str) {
        self.at = None;
        self.push("Identity", &[from], &[to], Vec::new());
    }

    /// Adds a node as standard ops, or as its own.
    pub(super) fn node(&mut self, id: NodeId) {
        self.at = Some(id);
        if self.standard(id).is_none() {
            self.own(id);
        }
    }

    fn push_in(
        &mut self,
        domain: &'static str,
        op: &'static str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<(&'static str, Value)>,
    ) {
        let names = |all: &[&str]| all.iter().map(|name| (*name).to_owned()).collect();
        let node = Node { op, domain, inputs: names(inputs), outputs: names(outputs), attributes };
        let doc = self.at.map_or_else(String::new, |id| aio_ir::text::print_node(self.graph, id));
        let name =
            format!("{}{}", outputs.first().copied().unwrap_or_default(), if self.at.is_some() { "" } else { "=" });
        self.nodes.push(node.message(&name, &doc));
    }

    fn push(&mut self, op: &'static str, inputs: &[&str], outputs: &[&str], attributes: Vec<(&'static str, Value)>) {
        self.push_in("", op, inputs, outputs, attributes);
    }

    /// A new name for a value between two nodes.
    fn fresh(&mut self) -> String {
        self.made += 1;
        format!("/{}", self.made)
    }

    /// The result of an op, under a new name.
    fn made(&mut self, op: &'static str, inputs: &[&str], attributes: Vec<(&'static str, Value)>) -> String {
        let name = self.fresh();
        self.push(op, inputs, &[&name], attributes);
        name
    }

    fn ints(&mut self, values: &[i64]) -> String {
        let name = self.fresh();
        self.constants.push(integers(&name, values));
        name
    }

    /// An integer without dimensions.
    fn place(&mut self, value: i64) -> String {
        let name = self.fresh();
        self.constants.push(integer(&name, value));
        name
    }

    fn number(&mut self, value: f32) -> String {
        let name = self.fresh();
        self.constants.push(scalar(&name, value));
        name
    }

    fn cast(&mut self, from: &str, to: i64) -> String {
        self.made("Cast", &[from], vec![("to", Value::Int(to))])
    }

    fn name(&self, value: ValueId) -> String {
        self.names[value.index()].clone()
    }

    /// A float value as f32; values in block formats already are.
    fn as_f32(&mut self, value: ValueId) -> String {
        let name = self.name(value);
        let dtype = self.graph.ty(value).dtype;
        if element(dtype) == FLOAT { name } else { self.cast(&name, FLOAT) }
    }

    /// The node as ops of the standard domain; `None` if it has no equal there.
    fn standard(&mut self, id: NodeId) -> Option<()> {
        let node = self.graph.node(id);
        let out = self.name(node.results[0]);
        let operands: Vec<String> = node.used().map(|v| self.name(v)).collect();
        let all: Vec<&str> = operands.iter().map(String::as_str).collect();
        if let Some(op) = same(node.op) {
            let unsigned = matches!(self.graph.ty(node.input(0)).dtype, DType::U32 | DType::U8);
            if node.op == Op::Neg && unsigned {
                return None;
            }
            self.push(op, &all, &[&out], Vec::new());
            return Some(());
        }
        match node.op {
            Op::Silu => {
                let s = self.made("Sigmoid", &all, Vec::new());
                self.push("Mul", &[all[0], &s], &[&out], Vec::new());
            }
            Op::Gelu => self.push("Gelu", &all, &[&out], vec![("approximate", Value::Text("tanh".to_owned()))]),
            Op::Rsqrt => {
                let root = self.made("Sqrt", &all, Vec::new());
                self.push("Reciprocal", &[&root], &[&out], Vec::new());
            }
            Op::Softmax => self.push("Softmax", &all, &[&out], vec![("axis", Value::Int(-1))]),
            Op::Compare => self.compare(id, &all, &out)?,
            Op::RmsNorm => self.rms_norm(id, &out),
            Op::LayerNorm => self.layer_norm(id, &out),
            Op::Matmul => self.matmul(id, &out)?,
            Op::Embed | Op::Gather => self.gather(id, &out),
            Op::Scatter => self.scatter(id, &out),
            Op::Fill | Op::Iota => self.constant(id, &out)?,
            Op::Slice | Op::Concat | Op::Reshape | Op::Transpose | Op::Broadcast => self.layout(id, &all, &out)?,
            Op::Cast => {
                let Attr::DType(to) = *node.attr("to") else { return None };
                self.push("Cast", &all, &[&out], vec![("to", Value::Int(element(to)))]);
            }
            Op::Dequantize => {
                let plain = self.as_f32(node.input(0));
                self.push("Identity", &[&plain], &[&out], Vec::new());
            }
            Op::Reduce | Op::Cumsum | Op::Argmax | Op::TopK => self.fold(id, &all, &out)?,
            _ => return None,
        }
        Some(())
    }

    /// The node under its own name, with its attributes.
    fn own(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let operands: Vec<String> = node.inputs.iter().map(|v| v.map_or_else(String::new, |v| self.name(v))).collect();
        let results: Vec<String> = node.results.iter().map(|&v| self.name(v)).collect();
        let value = |attr: &Attr| match attr {
            Attr::Int(v) => Value::Int(*v),
            Attr::F32(v) => Value::Float(*v),
            Attr::Ints(all) => Value::Ints(all.clone()),
            other => Value::Text(other.to_string()),
        };
        let attributes = node.op.spec().attrs.iter().zip(&node.attrs).map(|(spec, v)| (spec.name, value(v))).collect();
        let strs = |all: &[String]| all.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
        let (operands, results) = (strs(&operands), strs(&results));
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let results: Vec<&str> = results.iter().map(String::as_str).collect();
        self.push_in(OWN, node.op.mnemonic(), &operands, &results, attributes);
    }

    fn compare(&mut self, id: NodeId, all: &[&str], out: &str) -> Option<()> {
        let op = match self.graph.node(id).word("kind") {
            "eq" => "Equal",
            "lt" => "Less",
            "le" => "LessOrEqual",
            "gt" => "Greater",
            "ge" => "GreaterOrEqual",
            "ne" => {
                let equal = self.made("Equal", all, Vec::new());
                self.push("Not", &[&equal], &[out], Vec::new());
                return Some(());
            }
            _ => return None,
        };
        self.push(op, all, &[out], Vec::new());
        Some(())
    }

    fn rms_norm(&mut self, id: NodeId, out: &str) {
        let node = self.graph.node(id);
        let x = self.name(node.input(0));
        let (last, eps) = (self.ints(&[-1]), self.number(node.f32("eps")));
        let square = self.made("Mul", &[&x, &x], Vec::new());
        let mean = self.made("ReduceMean", &[&square, &last], vec![("keepdims", Value::Int(1))]);
        let sum = self.made("Add", &[&mean, &eps], Vec::new());
        let root = self.made("Sqrt", &[&sum], Vec::new());
        match node.optional(1).map(|w| self.as_f32(w)) {
            None => self.push("Div", &[&x, &root], &[out], Vec::new()),
            Some(weight) => {
                let scaled = self.made("Div", &[&x, &root], Vec::new());
                self.push("Mul", &[&scaled, &weight], &[out], Vec::new());
            }
        }
    }

    fn layer_norm(&mut self, id: NodeId, out: &str) {
        let node = self.graph.node(id);
        let x = self.name(node.input(0));
        let (last, eps) = (self.ints(&[-1]), self.number(node.f32("eps")));
        let kept = || vec![("keepdims", Value::Int(1))];
        let mean = self.made("ReduceMean", &[&x, &last], kept());
        let centred = self.made("Sub", &[&x, &mean], Vec::new());
        let square = self.made("Mul", &[&centred, &centred], Vec::new());
        let variance = self.made("ReduceMean", &[&square, &last], kept());
        let sum = self.made("Add", &[&variance, &eps], Vec::new());
        let root = self.made("Sqrt", &[&sum], Vec::new());
        let mut at = self.made("Div", &[&centred, &root], Vec::new());
        for (place, op) in [(1, "Mul"), (2, "Add")] {
            if let Some(operand) = node.optional(place).map(|v| self.as_f32(v)) {
                at = self.made(op, &[&at, &operand], Vec::new());
            }
        }
        self.push("Identity", &[&at], &[out], Vec::new());
    }

    /// Rows of the weight are outputs, so it is transposed.
    fn matmul(&mut self, id: NodeId, out: &str) -> Option<()> {
        let node = self.graph.node(id);
        let (x, w) = (node.input(0), node.input(1));
        if node.optional(2).is_some() || self.graph.ty(w).shape.rank() != 2 {
            return None;
        }
        let weight = self.as_f32(w);
        let turned = self.made("Transpose", &[&weight], vec![("perm", Value::Ints(vec![1, 0]))]);
        let x = self.name(x);
        self.push("MatMul", &[&x, &turned], &[out], Vec::new());
        Some(())
    }

    fn gather(&mut self, id: NodeId, out: &str) {
        let node = self.graph.node(id);
        let index = self.name(node.input(1));
        let index = self.cast(&index, INT64);
        let table = if node.op == Op::Embed { self.as_f32(node.input(0)) } else { self.name(node.input(0)) };
        self.push("Gather", &[&table, &index], &[out], vec![("axis", Value::Int(0))]);
    }

    fn scatter(&mut self, id: NodeId, out: &str) {
        let node = self.graph.node(id);
        let [x, index, updates] = [0, 1, 2].map(|i| self.name(node.input(i)));
        let (index, last) = (self.cast(&index, INT64), self.ints(&[-1]));
        let places = self.made("Unsqueeze", &[&index, &last], Vec::new());
        self.push("ScatterND", &[&x, &places, &updates], &[out], Vec::new());
    }

    /// Tensors of constants whose shape is constant.
    fn constant(&mut self, id: NodeId, out: &str) -> Option<()> {
        let node = self.graph.node(id);
        let ty = self.graph.ty(node.results[0]).clone();
        let dims = known(&ty.shape)?;
        let shape = self.ints(&dims);
        let to = vec![("to", Value::Int(element(ty.dtype)))];
        let flat = match node.op {
            Op::Fill => self.number(node.f32("value")),
            _ => {
                let count = *dims.last()?;
                self.ints(&(0..count).collect::<Vec<_>>())
            }
        };
        let typed = self.made("Cast", &[&flat], to);
        self.push("Expand", &[&typed, &shape], &[out], Vec::new());
        Some(())
    }

    fn layout(&mut self, id: NodeId, all: &[&str], out: &str) -> Option<()> {
        let node = self.graph.node(id);
        match node.op {
            Op::Slice => {
                let [axis, start, len] = ["axis", "start", "len"].map(|name| node.int(name));
                let constants = [self.ints(&[start]), self.ints(&[start + len]), self.ints(&[axis])];
                self.push("Slice", &[all[0], &constants[0], &constants[1], &constants[2]], &[out], Vec::new());
            }
            Op::Concat => self.push("Concat", all, &[out], vec![("axis", Value::Int(node.int("axis")))]),
            Op::Transpose => {
                let Attr::Ints(perm) = node.attr("perm").clone() else { return None };
                self.push("Transpose", all, &[out], vec![("perm", Value::Ints(perm))]);
            }
            _ => {
                let (from, to) = (self.graph.ty(node.input(0)), self.graph.ty(node.results[0]));
                let (op, dims) = if node.op == Op::Reshape {
                    ("Reshape", reshaped(&to.shape)?)
                } else {
                    ("Expand", expanded(&from.shape, &to.shape)?)
                };
                let shape = self.ints(&dims);
                self.push(op, &[all[0], &shape], &[out], Vec::new());
            }
        }
        Some(())
    }

    fn fold(&mut self, id: NodeId, all: &[&str], out: &str) -> Option<()> {
        let node = self.graph.node(id);
        match node.op {
            Op::Reduce => {
                let op = match node.word("kind") {
                    "sum" => "ReduceSum",
                    "min" => "ReduceMin",
                    "max" => "ReduceMax",
                    "mean" => "ReduceMean",
                    _ => return None,
                };
                let axis = self.ints(&[node.int("axis")]);
                self.push(op, &[all[0], &axis], &[out], vec![("keepdims", Value::Int(1))]);
            }
            Op::Cumsum => {
                let rank = self.graph.ty(node.input(0)).shape.rank() as i64;
                let axis = self.place(rank - 1);
                self.push("CumSum", &[all[0], &axis], &[out], Vec::new());
            }
            Op::Argmax => {
                let attributes = vec![("axis", Value::Int(-1)), ("keepdims", Value::Int(0))];
                let index = self.made("ArgMax", all, attributes);
                self.push("Cast", &[&index], &[out], vec![("to", Value::Int(element(DType::U32)))]);
            }
            _ => {
                let (k, index) = (self.ints(&[node.int("k")]), self.fresh());
                self.push("TopK", &[all[0], &k], &[out, &index], vec![("axis", Value::Int(-1))]);
                let indices = self.name(node.results[1]);
                self.push("Cast", &[&index], &[&indices], vec![("to", Value::Int(element(DType::U32)))]);
            }
        }
        Some(())
    }
}

/// Ops with the same operands, no attributes and the same meaning.
fn same(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Add => "Add",
        Op::Sub => "Sub",
        Op::Mul => "Mul",
        Op::Div => "Div",
        Op::Min => "Min",
        Op::Max => "Max",
        Op::Select => "Where",
        Op::Neg => "Neg",
        Op::Relu => "Relu",
        Op::Tanh => "Tanh",
        Op::Sigmoid => "Sigmoid",
        Op::Exp => "Exp",
        Op::Log => "Log",
        Op::Sqrt => "Sqrt",
        Op::Sin => "Sin",
        Op::Cos => "Cos",
        _ => return None,
    })
}

fn known(shape: &Shape) -> Option<Vec<i64>> {
    shape.dims().iter().map(|d| d.known().map(|n| n as i64)).collect()
}

/// The shape as a constant: a single symbol is -1.
fn reshaped(shape: &Shape) -> Option<Vec<i64>> {
    let dims: Vec<i64> = shape.dims().iter().map(|d| d.known().map_or(-1, |n| n as i64)).collect();
    // With a dimension of 0, the size of -1 would be unknown.
    let unknown = dims.iter().filter(|d| **d == -1).count();
    (unknown == 0 || unknown == 1 && !dims.contains(&0)).then_some(dims)
}

/// The shape to expand to: dimensions that stay are 1.
fn expanded(from: &Shape, to: &Shape) -> Option<Vec<i64>> {
    let skip = to.rank().checked_sub(from.rank())?;
    let dim = |(i, d): (usize, &aio_ir::Dim)| match d.known() {
        Some(n) => Some(n as i64),
        None => (i >= skip && from.dims()[i - skip] == *d).then_some(1),
    };
    to.dims().iter().enumerate().map(dim).collect()
}
