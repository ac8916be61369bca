//! Random valid graphs from a list of words, for property tests of this crate and of the oracle.
//!
//! Each word makes one choice, and missing words read as 0, so that a failing list shrinks well. Operand types are
//! chosen per op. An operand is an older value of that type if there is one, or a new declaration.

use aio_ir::{Attr, Builder, DType, Dim, Graph, Group, Op, SAMPLE_PARAMS, Shape, Sym, TensorType, ValueId};

/// Names that the text form must escape or that resemble something else.
const NAMES: [&str; 8] =
    ["x", "two words", "quote\"", "tab\t", "é\u{301}", "back\\slash", "new\nline", "\u{202e}\u{7f}%0"];
const PLAIN: [DType; 8] =
    [DType::F32, DType::F16, DType::BF16, DType::I32, DType::U32, DType::I8, DType::U8, DType::Bool];
const ENCODED: [DType; 3] = [DType::Q4_0, DType::Q4_1, DType::Q8_0];
const WEIGHTS: [DType; 6] = [DType::F32, DType::F16, DType::BF16, DType::Q4_0, DType::Q5K, DType::Q8_0];

/// A graph of at most `words.len()` nodes.
pub fn graph(words: &[u32]) -> Graph {
    let mut g = Generator { words, at: 0, b: Builder::new(""), names: 0, pool: Vec::new() };
    let name = g.name();
    g.b = Builder::new(&name);
    while g.at < words.len() && g.b.graph().nodes().len() < 40 {
        let op = Op::ALL[g.below(Op::ALL.len())];
        g.apply(op);
    }
    g.outputs();
    g.b.finish()
}

/// A graph with at least one node of this op.
pub fn graph_with(op: Op, words: &[u32]) -> Graph {
    let mut g = Generator { words, at: 0, b: Builder::new("one"), names: 0, pool: Vec::new() };
    g.apply(op);
    g.outputs();
    g.b.finish()
}

struct Generator<'w> {
    words: &'w [u32],
    at: usize,
    b: Builder,
    names: usize,
    /// Values that any op may use: no states, no optional inputs.
    pool: Vec<ValueId>,
}

type Attrs<'a> = &'a [(&'a str, Attr)];

impl Generator<'_> {
    fn word(&mut self) -> u32 {
        self.at += 1;
        self.words.get(self.at - 1).copied().unwrap_or(0)
    }

    fn below(&mut self, n: usize) -> usize {
        self.word() as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn name(&mut self) -> String {
        self.names += 1;
        format!("{}{}", self.pick(&NAMES), self.names)
    }

    /// Any finite number, mostly unusual ones.
    fn number(&mut self) -> f32 {
        let v = f32::from_bits(self.word());
        if v.is_finite() { v } else { 1.5 }
    }

    fn small(&mut self) -> u64 {
        self.below(4) as u64 + 1
    }

    /// A small size; one in five is 0.
    fn size(&mut self) -> u64 {
        self.below(5) as u64
    }

    /// A row size of whole blocks, or 0.
    fn columns(&mut self) -> u64 {
        self.pick(&[256, 256, 0])
    }

    /// Rank 1 to 3 with at most one symbol, so that no product overflows.
    fn shape(&mut self) -> Shape {
        let rank = self.below(3) + 1;
        let symbol = self.below(2 * rank);
        // Only states of slots have this symbol.
        let sym = self.pick(&Sym::ALL.map(|sym| if sym == Sym::Slots { Sym::Rows } else { sym }));
        Shape::new((0..rank).map(|i| if i == symbol { Dim::Sym(sym) } else { Dim::Const(self.size()) }))
    }

    /// A shape with elements along an axis.
    fn full_along(&mut self, axis: impl Fn(&Shape) -> usize) -> Shape {
        let mut shape = self.shape();
        let axis = axis(&shape);
        if shape.dims()[axis] == Dim::Const(0) {
            shape.0[axis] = Dim::Const(self.small());
        }
        shape
    }

    /// A shape whose last dimension has elements.
    fn full_rows(&mut self) -> Shape {
        self.full_along(|shape| shape.rank() - 1)
    }

    fn fresh(&mut self, ty: TensorType) -> ValueId {
        let name = self.name();
        if self.below(2) == 0 { self.b.weight(&name, ty) } else { self.b.input(&name, ty) }
    }

    /// A value of this type.
    fn value(&mut self, dtype: DType, shape: Shape) -> ValueId {
        let ty = TensorType::new(dtype, shape);
        let same: Vec<_> = self.pool.iter().copied().filter(|&v| *self.b.graph().ty(v) == ty).collect();
        if !same.is_empty() && self.below(3) > 0 {
            return self.pick(&same);
        }
        let value = self.fresh(ty);
        self.pool.push(value);
        value
    }

    fn f32(&mut self, shape: Shape) -> ValueId {
        self.value(DType::F32, shape)
    }

    fn u32(&mut self, dims: &[Dim]) -> ValueId {
        self.value(DType::U32, Shape::new(dims.iter().copied()))
    }

    /// An optional operand: absent, an optional input or a value.
    fn maybe(&mut self, dtype: DType, shape: Shape) -> Option<ValueId> {
        match self.below(3) {
            0 => None,
            1 => {
                let name = self.name();
                Some(self.b.optional_input(&name, TensorType::new(dtype, shape)))
            }
            _ => Some(self.value(dtype, shape)),
        }
    }

    fn push(&mut self, op: Op, inputs: &[Option<ValueId>], attrs: Attrs<'_>) -> ValueId {
        let node = self.b.apply(op, inputs, attrs).unwrap_or_else(|e| panic!("the generator made a bad node: {e}"));
        let results = self.b.graph().node(node).results.clone();
        if op.spec().updates.is_none() {
            self.pool.extend(&results);
        }
        results[0]
    }

    fn plain(&mut self, op: Op, inputs: &[ValueId], attrs: Attrs<'_>) {
        let inputs: Vec<_> = inputs.iter().map(|&v| Some(v)).collect();
        self.push(op, &inputs, attrs);
    }

    fn apply(&mut self, op: Op) {
        match op.spec().group {
            Group::Source => self.source(op),
            Group::Lookup => self.lookup(op),
            Group::Linear => self.linear(op),
            Group::Elementwise => self.elementwise(op),
            Group::Norm => self.norm(op),
            Group::Position => self.position(op),
            Group::Cache => self.cache(op),
            Group::Slots => self.slots(op),
            Group::Layout => self.layout(op),
            Group::Convert => self.convert(op),
            Group::Reduce => self.reduce(op),
            Group::Choose => self.choose(op),
        }
    }

    fn source(&mut self, op: Op) {
        let (shape, dtype) = (Attr::Shape(self.shape()), Attr::DType(self.pick(&PLAIN)));
        let value = Attr::F32(self.number());
        match op {
            Op::Fill => {
                // A value that every type can hold, or for f32 any value.
                let whole = Attr::F32((self.below(2)) as f32);
                let value = if dtype == Attr::DType(DType::F32) { value } else { whole };
                self.plain(op, &[], &[("shape", shape), ("value", value), ("dtype", dtype)])
            }
            _ => self.plain(op, &[], &[("shape", shape), ("dtype", dtype)]),
        }
    }

    fn lookup(&mut self, op: Op) {
        let count = self.pick(&[Dim::Const(2), Dim::Const(0), Dim::Sym(Sym::Outs), Dim::Sym(Sym::Rows)]);
        let index = self.u32(&[count]);
        if op == Op::Embed {
            let dtype = self.pick(&WEIGHTS);
            let columns = self.columns();
            let table = self.value(dtype, Shape::consts(&[4, columns]));
            return self.plain(op, &[table, index], &[]);
        }
        let (dtype, rest) = (self.pick(&PLAIN), self.size());
        let x = self.value(dtype, Shape::consts(&[5, rest]));
        match op {
            Op::Scatter => {
                let updates = self.value(dtype, Shape::new([count, rest.into()]));
                self.plain(op, &[x, index, updates], &[]);
            }
            _ => self.plain(op, &[x, index], &[]),
        }
    }

    fn linear(&mut self, op: Op) {
        let (dtype, n, k) = (self.pick(&WEIGHTS), self.size(), self.columns());
        let x = self.f32(Shape::new([Sym::Rows.into(), k.into()]));
        if self.below(3) == 0 {
            let experts = self.u32(&[Sym::Rows.into()]);
            let w = self.value(dtype, Shape::consts(&[2, n, k]));
            return self.plain(op, &[x, w, experts], &[]);
        }
        let w = self.value(dtype, Shape::consts(&[n, k]));
        self.plain(op, &[x, w], &[]);
    }

    /// The shape with some dimensions set to 1 and possibly without leading ones.
    fn broadcasting(&mut self, shape: &Shape) -> Shape {
        let skip = self.below(shape.rank() + 1);
        Shape::new(shape.dims()[skip..].iter().map(|&d| if self.below(3) == 0 { Dim::Const(1) } else { d }))
    }

    fn elementwise(&mut self, op: Op) {
        let shape = self.shape();
        match op.spec().operands.len() {
            1 => {
                let dtype = if op == Op::Neg { self.pick(&PLAIN) } else { DType::F32 };
                let x = self.value(dtype, shape);
                self.plain(op, &[x], &[]);
            }
            2 => {
                let (dtype, other) = (self.pick(&PLAIN), self.broadcasting(&shape));
                let (a, b) = (self.value(dtype, shape), self.value(dtype, other));
                let kind = Attr::Word(self.pick(&["eq", "ne", "lt", "le", "gt", "ge"]));
                let attrs = [("kind", kind)];
                let (a, b) = if self.below(2) == 0 { (a, b) } else { (b, a) };
                self.plain(op, &[a, b], if op == Op::Compare { &attrs } else { &[] });
            }
            _ => {
                let (dtype, other, third) = (self.pick(&PLAIN), self.broadcasting(&shape), self.broadcasting(&shape));
                let condition = self.value(DType::Bool, third);
                let (a, b) = (self.value(dtype, shape), self.value(dtype, other));
                self.plain(op, &[condition, a, b], &[]);
            }
        }
    }

    fn norm(&mut self, op: Op) {
        let shape = self.full_rows();
        let last = Shape::new([shape.last()]);
        let x = self.f32(shape);
        let eps = [("eps", Attr::F32(self.number()))];
        let weight = self.maybe(DType::F32, last.clone());
        match op {
            Op::Softmax => self.push(op, &[Some(x)], &[]),
            Op::RmsNorm => self.push(op, &[Some(x), weight], &eps),
            _ => {
                let bias = self.maybe(DType::F32, last);
                self.push(op, &[Some(x), weight, bias], &eps)
            }
        };
    }

    fn position(&mut self, op: Op) {
        let rows = Dim::Sym(Sym::Rows);
        let x = self.f32(Shape::new([rows, 2.into(), 8.into()]));
        let positions = self.u32(&[rows]);
        let dims = 2 * self.small();
        let factors = self.maybe(DType::F32, Shape::consts(&[dims / 2]));
        let attrs = [
            ("pairs", Attr::Word(self.pick(&["adjacent", "halves"]))),
            ("dims", Attr::Int(dims as i64)),
            ("base", Attr::F32(self.number())),
            ("scaling", Attr::Word(self.pick(&["none", "linear", "yarn"]))),
            ("factor", Attr::F32(self.number())),
            ("original_context", Attr::Int(i64::from(self.word()))),
            ("beta_slow", Attr::F32(self.number())),
        ];
        let given = self.below(attrs.len() - 1) + 2;
        self.push(op, &[Some(x), Some(positions), factors], &attrs[..given]);
    }

    fn cache(&mut self, op: Op) {
        let (rows, seqs) = (Dim::Sym(Sym::Rows), Dim::Sym(Sym::Seqs));
        let (pages, stride) = (Dim::Sym(Sym::Pages), Dim::Sym(Sym::Stride));
        let name = self.name();
        if op == Op::Commit {
            let state = self.b.state(&name, TensorType::new(DType::U32, Shape::new([seqs])));
            let accepted = self.u32(&[seqs]);
            let lens = self.push(op, &[Some(state), Some(accepted)], &[]);
            return self.b.final_state(state, lens);
        }
        let (kv_heads, size) = (self.small(), 2 * self.small());
        let positions = self.pick(&[64, 16, 1]);
        let kv = Shape::new([pages, 2.into(), kv_heads.into(), positions.into(), size.into()]);
        let mut state = self.b.state(&name, TensorType::new(DType::F16, kv));
        let first = state;
        let places = [self.u32(&[seqs, stride]), self.u32(&[rows]), self.u32(&[rows])].map(Some);
        let heads = Shape::new([rows, kv_heads.into(), size.into()]);
        for _ in 0..self.below(3) + usize::from(op == Op::PageWrite) {
            let (k, v) = (self.f32(heads.clone()), self.f32(heads.clone()));
            state = self.push(Op::PageWrite, &[&[Some(state), Some(k), Some(v)], &places[..]].concat(), &[]);
        }
        if state != first {
            self.b.final_state(first, state);
        }
        let group = self.small();
        let q = self.f32(Shape::new([rows, (kv_heads * group).into(), size.into()]));
        let sinks = self.maybe(DType::F32, Shape::consts(&[kv_heads * group]));
        let attrs = [("scale", Attr::F32(self.number())), ("window", Attr::Int(self.below(5) as i64))];
        self.push(Op::Attend, &[&[Some(q), Some(state)], &places[..], &[sinks]].concat(), &attrs);
    }

    fn slots(&mut self, op: Op) {
        let (rows, seqs) = (Dim::Sym(Sym::Rows), Dim::Sym(Sym::Seqs));
        let (name, room) = (self.name(), self.small());
        let uses = [self.u32(&[seqs, 2.into()]), self.u32(&[seqs, 2.into()]), self.u32(&[rows])].map(Some);
        let state = |g: &mut Self, record: [u64; 2]| {
            let dims = [Sym::Slots.into(), record[0].into(), record[1].into()];
            g.b.state(&name, TensorType::f32(Shape::new(dims)))
        };
        let (first, inputs) = if op == Op::Conv {
            let (channels, taps) = (self.small(), self.small());
            let x = self.f32(Shape::new([rows, channels.into()]));
            let weight = self.f32(Shape::consts(&[channels, taps]));
            let bias = self.maybe(DType::F32, Shape::consts(&[channels]));
            let first = state(self, [taps - 1 + room, channels]);
            (first, [&[Some(first), Some(x), Some(weight)], &uses[..], &[bias]].concat())
        } else {
            let (key_heads, group, key, value) = (self.small(), self.small(), self.small(), self.small());
            let heads = key_heads * group;
            let keys = Shape::new([rows, key_heads.into(), key.into()]);
            let (q, k) = (self.f32(keys.clone()), self.f32(keys));
            let v = self.f32(Shape::new([rows, heads.into(), value.into()]));
            let (gate, beta) = (self.f32(Shape::new([rows, heads.into()])), self.f32(Shape::new([rows, heads.into()])));
            let first = state(self, [heads, key * value + room * (key + value + 2)]);
            (first, [&[Some(first), Some(q), Some(k), Some(v), Some(gate), Some(beta)], &uses[..]].concat())
        };
        let last = self.push(op, &inputs, &[]);
        self.b.final_state(first, last);
    }

    fn layout(&mut self, op: Op) {
        let (dtype, shape) = (self.pick(&PLAIN), self.shape());
        let known: Vec<_> = (0..shape.rank()).filter(|&i| shape.dims()[i].known().is_some()).collect();
        match op {
            Op::Reshape => {
                let x = self.value(dtype, shape.clone());
                let mut dims = shape.0.to_vec();
                dims.rotate_left(1);
                dims.insert(self.below(dims.len() + 1), Dim::Const(1));
                self.plain(op, &[x], &[("shape", Attr::Shape(Shape::new(dims)))]);
            }
            Op::Transpose => {
                let x = self.value(dtype, shape.clone());
                let mut perm: Vec<i64> = (0..shape.rank() as i64).collect();
                let (i, j) = (self.below(perm.len()), self.below(perm.len()));
                perm.swap(i, j);
                self.plain(op, &[x], &[("perm", Attr::Ints(perm))]);
            }
            Op::Broadcast => {
                let from = self.broadcasting(&shape);
                let x = self.value(dtype, from);
                self.plain(op, &[x], &[("shape", Attr::Shape(shape))]);
            }
            _ if known.is_empty() => {}
            Op::Slice => {
                let axis = self.pick(&known);
                let size = shape.dims()[axis].known().unwrap_or(1);
                let start = self.below(size as usize + 1) as i64;
                let len = self.below((size as i64 - start) as usize + 1) as i64;
                let x = self.value(dtype, shape);
                let attrs = [("axis", Attr::Int(axis as i64)), ("start", Attr::Int(start)), ("len", Attr::Int(len))];
                self.plain(op, &[x], &attrs);
            }
            _ => {
                let axis = self.pick(&known);
                let mut other = shape.clone();
                other.0[axis] = Dim::Const(self.size());
                let (a, b) = (self.value(dtype, shape), self.value(dtype, other));
                self.plain(op, &[a, b], &[("axis", Attr::Int(axis as i64))]);
            }
        }
    }

    fn convert(&mut self, op: Op) {
        match op {
            Op::Cast => {
                let (from, shape) = (self.pick(&PLAIN), self.shape());
                let x = self.value(from, shape);
                let to = Attr::DType(self.pick(&PLAIN));
                self.plain(op, &[x], &[("to", to)]);
            }
            Op::Quantize => {
                let (rows, columns) = (self.size(), self.pick(&[64, 0]));
                let x = self.f32(Shape::consts(&[rows, columns]));
                let to = Attr::DType(self.pick(&ENCODED));
                self.plain(op, &[x], &[("to", to)]);
            }
            _ => {
                let (dtype, rows, columns) = (self.pick(&WEIGHTS), self.size(), self.columns());
                let x = self.value(dtype, Shape::consts(&[rows, columns]));
                self.plain(op, &[x], &[]);
            }
        }
    }

    fn reduce(&mut self, op: Op) {
        if op == Op::Cumsum {
            let (dtype, shape) = (self.pick(&PLAIN), self.shape());
            let x = self.value(dtype, shape);
            return self.plain(op, &[x], &[]);
        }
        let (kind, place) = (self.pick(&["sum", "max", "min", "mean"]), self.below(6));
        let along = |shape: &Shape| place % shape.rank();
        let shape = if kind == "sum" { self.shape() } else { self.full_along(along) };
        let (kind, axis) = (Attr::Word(kind), Attr::Int(along(&shape) as i64));
        let x = self.f32(shape);
        self.plain(op, &[x], &[("kind", kind), ("axis", axis)]);
    }

    fn choose(&mut self, op: Op) {
        let outs = Dim::Sym(Sym::Outs);
        match op {
            Op::Argmax => {
                let shape = self.full_rows();
                let x = self.f32(shape);
                self.plain(op, &[x], &[]);
            }
            Op::TopK => {
                let n = self.small();
                let x = self.f32(Shape::new([outs, n.into()]));
                let k = self.below(n as usize) as i64 + 1;
                self.plain(op, &[x], &[("k", Attr::Int(k))]);
            }
            Op::Sample => {
                let logits = Shape::new([outs, (3 * self.small()).into()]);
                let x = self.f32(logits.clone());
                let params = self.f32(Shape::new([outs, SAMPLE_PARAMS.into()]));
                let noise = self.u32(&[outs, 4.into()]);
                let recent = self.value(DType::I32, Shape::new([outs, Sym::Recent.into()]));
                let bias = self.maybe(DType::F32, logits);
                self.push(op, &[Some(x), Some(params), Some(noise), Some(recent), bias], &[]);
            }
            _ => {
                let (sampled, drafts) = (self.u32(&[outs]), self.u32(&[outs]));
                let first = self.u32(&[Sym::Seqs.into(), 2.into()]);
                self.plain(op, &[sampled, drafts, first], &[]);
            }
        }
    }

    /// Makes the newest value and some others outputs.
    fn outputs(&mut self) {
        if self.pool.is_empty() {
            self.f32(Shape::default());
        }
        let newest = self.pool[self.pool.len() - 1];
        let mut chosen = vec![newest];
        for _ in 0..self.below(4) {
            let pool = self.pool.clone();
            chosen.push(self.pick(&pool));
        }
        for value in chosen {
            let name = self.name();
            self.b.output(&name, value);
        }
    }
}
