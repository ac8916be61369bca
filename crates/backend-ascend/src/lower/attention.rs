//! Attention: projections with rotation and page write, attention over pages, and the masks of its lengths.
//!
//! Fused attention takes the lengths of sequences from the host, so a captured call has them fixed. With buckets, the
//! captured length is the bucket's, and a mask hides what lies past each row: positions come in the step's block, and the
//! graph compares them with 0, 1, 2, ... (BNSD, sparse mode 0: the one form that admits such a mask). With patched lengths,
//! each replay replaces the call; several rows of a sequence are then packed (TND) and masked by the triangle.

use super::{Lowering, unsupported};
use crate::acl::{Attention, Binary, Call, Rotary, Unary};
use crate::shape::{Group, Lengths};
use crate::stage::{Places, Section};
use crate::view::{Elem, View};
use aio_backend::DeviceError;
use aio_ir::Op;
use aio_plan::kinds;
use aio_plan::{AttendSpec, InputId, Loc, QkvSpec, RopePairs, RopeSpec, Task, TaskKind};

/// Side of the triangle that sparse mode 3 takes.
const TRIANGLE: i64 = 2048;

/// The operands of attention.
struct Operands {
    q: Loc,
    kv: Loc,
    places: [Loc; 3],
    sinks: Loc,
}

/// The numbers of a task of attention.
fn spec_of(task: &Task) -> Option<AttendSpec> {
    match task.kind {
        TaskKind::Attend(spec) => Some(spec),
        TaskKind::Op(Op::Attend) => AttendSpec::from_node(&task.body, task.body.nodes().next()?.1),
        _ => None,
    }
}

impl Lowering<'_> {
    /// Takes the scratch that lives for the whole step, and computes masks before all tasks.
    pub(super) fn reserve(&mut self) {
        let types = self.plan.buffers.iter().map(|b| &b.ty).chain(self.plan.outputs.iter().map(|o| &o.ty));
        let widest = types.map(|ty| self.sizes(ty).iter().product::<i64>()).max().unwrap_or(0);
        // Room for a normed value that waits for the next task.
        self.keep(Elem::F16, &[widest]);
        for task in &self.plan.tasks {
            let Some(spec) = spec_of(task) else { continue };
            let Ok(places) = self.places_of(task, attend_operands(task).places) else { continue };
            for (i, group) in self.shape.groups.iter().enumerate() {
                match self.shape.lengths {
                    Lengths::Bucket => drop(self.mask(places, i, group, spec, task)),
                    Lengths::Patch if group.rows > 1 => self.triangle(),
                    Lengths::Patch => {}
                }
            }
        }
    }

    /// The step inputs that say where rows are: the page table, the rows' sequences and positions.
    fn places_of(&self, task: &Task, locs: [Loc; 3]) -> Result<Places, DeviceError> {
        let input = |loc: Loc| match loc {
            Loc::Input(i) if !self.plan.inputs[i.index()].optional => Ok(i),
            _ => Err(unsupported(task, "places that no step binds")),
        };
        let [table, row_seq, positions] = locs;
        let places = Places { table: input(table)?, row_seq: input(row_seq)?, positions: input(positions)? };
        let mut sizes = self.model.family.states.iter().filter_map(|s| s.kv_shape()).map(|kv| kv.positions);
        let first = sizes.next();
        if !sizes.all(|size| Some(size) == first) {
            return Err(unsupported(task, "layers with pages of different sizes"));
        }
        match self.places {
            Some(known) if known != places => Err(unsupported(task, "places other than those of another task")),
            _ => Ok(places),
        }
    }

    fn positions(&self, task: &Task, loc: Loc) -> Result<InputId, DeviceError> {
        match loc {
            Loc::Input(i) if self.ty(loc).is_some_and(|ty| ty.shape.rank() == 1) => Ok(i),
            _ => Err(unsupported(task, "positions that no step binds")),
        }
    }

    /// Norm, projections, biases, head norms, rotation, page write.
    pub(super) fn qkv(&mut self, task: &Task, spec: &QkvSpec) -> Result<(), DeviceError> {
        use kinds::qkv::{AT, OUT, Operands};
        let o = Operands::of(&task.operands);
        let places = self.places_of(task, [o.page_table, o.row_seq, o.positions])?;
        self.places = Some(places);
        let x = self.normed_rows(task, o.x, o.norm, Some(spec.norm_eps))?;
        let rows = x.dims[0];
        let [heads, kv_heads, size] = [spec.heads, spec.kv_heads, spec.head_dim].map(i64::from);
        let q = self.result(task, OUT.q, Elem::F16)?.shaped([rows, heads, size]);
        let [k, v] = [0, 1].map(|_| self.temp(Elem::F16, &[rows, kv_heads, size]));
        self.product(task, &x, &[AT.wq], &q.by_first())?;
        self.product(task, &x, &[AT.wk], &k.by_first())?;
        self.product(task, &x, &[AT.wv], &v.by_first())?;
        for (out, bias) in [(&q, o.bq), (&k, o.bk), (&v, o.bv)] {
            self.add_vector(task, &out.by_first(), bias)?;
        }
        let eps = spec.qk_norm_eps.unwrap_or(0.0);
        let q = self.head_norm(task, q, o.q_norm, eps)?;
        let k = self.head_norm(task, k, o.k_norm, eps)?;
        self.rotate(task, [&q, &k], spec.rope, (o.freq_factors, places.positions))?;
        self.write_pages(task, o.kv, places, [k, v])
    }

    /// Norms each head; the result takes its place.
    fn head_norm(&mut self, task: &Task, x: View, weight: Loc, eps: f32) -> Result<View, DeviceError> {
        let Some(weight) = self.vector(task, weight)? else { return Ok(x) };
        let normed = self.temp(x.elem, &x.dims.clone());
        let factors = self.temp(Elem::F32, &[x.rows().dims[0], 1]);
        self.calls.push(Call::RmsNorm { x: x.rows(), weight, eps, out: normed.rows(), factors });
        self.calls.push(Call::Copy { from: normed, to: x.clone() });
        Ok(x)
    }

    /// Rotates queries and keys `[rows, heads, size]` in place.
    fn rotate(
        &mut self,
        task: &Task,
        [q, k]: [&View; 2],
        rope: RopeSpec,
        (factors, positions): (Loc, InputId),
    ) -> Result<(), DeviceError> {
        let numbers = match factors {
            Loc::Absent => None,
            Loc::Weight(w) => {
                self.model.weights.keep(self.model.family, w)?;
                let known = self.model.vectors.and_then(|vectors| vectors.get(&w)).cloned();
                Some(known.unwrap_or_else(|| vec![1.0; rope.dims as usize / 2]))
            }
            _ => return Err(unsupported(task, "frequency factors that are no weight")),
        };
        let (frequencies, magnitude) = rope.frequencies(numbers.as_deref());
        let (rows, turned) = (q.dims[0], 2 * frequencies.len() as i64);
        let pairs = if rope.pairs == RopePairs::Adjacent { Rotary::Adjacent } else { Rotary::Halves };
        // Composed of other operators, it is computed in f32.
        let elem = if self.model.rotates { q.elem } else { Elem::F32 };
        let mut table = |sine| {
            let (frequencies, adjacent) = (frequencies.clone(), pairs == Rotary::Adjacent);
            let turn = Section::Turn { positions, sine, adjacent, frequencies, magnitude, elem };
            self.stage.section(turn, elem, [rows, 1, turned])
        };
        let tables = [table(false), table(true)];
        if turned == q.last() {
            self.turn([q, k], tables, pairs);
            return Ok(());
        }
        // Only the first elements of each head turn: they are taken out and put back.
        let parts = [q, k].map(|x| x.sliced(2, 0, turned));
        let taken = parts.clone().map(|part| {
            let out = self.temp(part.elem, &part.dims);
            self.calls.push(Call::Copy { from: part, to: out.clone() });
            out
        });
        self.turn(taken.each_ref(), tables, pairs);
        let back = taken.into_iter().zip(parts).map(|(from, to)| Call::Copy { from, to });
        self.calls.extend(back);
        Ok(())
    }

    /// Rotates whole heads in place.
    fn turn(&mut self, [q, k]: [&View; 2], [cos, sin]: [View; 2], pairs: Rotary) {
        if self.model.rotates {
            self.calls.push(Call::Rotate { q: q.clone(), k: k.clone(), cos, sin, pairs });
        } else {
            [q, k].into_iter().for_each(|x| self.turn_composed(x, [&cos, &sin], pairs));
        }
    }

    /// `a, b = a cos - b sin, b cos + a sin` for all pairs.
    fn turn_composed(&mut self, x: &View, tables: [&View; 2], pairs: Rotary) {
        let element = |view: &View, which: i64| {
            let [rows, heads, half] = [view.dims[0], view.dims[1], view.last() / 2];
            match pairs {
                Rotary::Halves => view.shaped([rows, heads, 2, half]).sliced(2, which, 1),
                Rotary::Adjacent => view.shaped([rows, heads, half, 2]).sliced(3, which, 1),
            }
        };
        let parts = [0, 1].map(|which| element(x, which));
        let [cos, sin] = tables.map(|table| element(table, 0));
        let [a, b, first, second] = [0; 4].map(|_| self.temp(Elem::F32, &parts[0].dims));
        let [to_a, to_b] = parts;
        let product = |x: &View, y: &View, out: &View| Call::Binary(Binary::Mul, x.clone(), y.clone(), out.clone());
        self.calls.extend([
            Call::Copy { from: to_a.clone(), to: a.clone() },
            Call::Copy { from: to_b.clone(), to: b.clone() },
            product(&a, &cos, &first),
            product(&b, &sin, &second),
            Call::Binary(Binary::Sub, first.clone(), second.clone(), first.clone()),
            Call::Copy { from: first.clone(), to: to_a },
            product(&b, &cos, &first),
            product(&a, &sin, &second),
            Call::Binary(Binary::Add, first.clone(), second, first.clone()),
            Call::Copy { from: first, to: to_b },
        ]);
    }

    /// Writes keys and values `[rows, heads, size]` of halves to the rows' pages.
    fn write_pages(&mut self, task: &Task, kv: Loc, places: Places, [k, v]: [View; 2]) -> Result<(), DeviceError> {
        let Loc::State(state) = kv else { return Err(unsupported(task, "pages that are no state")) };
        let layer = self.model.states.layer(state.index());
        let (keys, values, shape) = layer.ok_or_else(|| unsupported(task, "pages of sizes that attention lacks"))?;
        let slots = Section::Slots { places, heads: shape.heads, page: shape.positions };
        let index = self.stage.section(slots, Elem::I64, [k.dims[0] * i64::from(shape.heads)]);
        for (to, from) in [(keys.rows(), k.rows()), (values.rows(), v.rows())] {
            self.calls.push(Call::Scatter { to, index: index.clone(), from });
        }
        Ok(())
    }

    /// Attention over pages.
    pub(super) fn attend(&mut self, task: &Task, spec: &AttendSpec) -> Result<(), DeviceError> {
        let o = attend_operands(task);
        let places = self.places_of(task, o.places)?;
        self.places = Some(places);
        if spec.soft_cap != 0.0 || o.sinks != Loc::Absent {
            return Err(unsupported(task, "fused attention has no soft cap and no sinks"));
        }
        if self.shape.lengths == Lengths::Patch && spec.window > 0 {
            return Err(unsupported(task, "a window with patched lengths"));
        }
        let q = self.half(task, o.q)?;
        let result = self.result(task, 0, Elem::F16)?;
        let (rows, size) = (q.dims[0], i64::from(spec.head_dim));
        let dims = [rows, spec.heads.into(), size];
        let (q, out) = (q.shaped(dims), result.shaped(dims));
        for (i, group) in self.shape.groups.iter().enumerate() {
            let (start, count) = (i64::from(group.start), i64::from(group.sequences * group.rows));
            let (q, out) = (q.sliced(0, start, count), out.sliced(0, start, count));
            let call = self.attention(task, o.kv, places, (i, group), (q, out.clone()), spec)?;
            let turned = (call.layout == "BNSD" && group.rows > 1).then(|| call.out.clone());
            self.calls.push(Call::Attention(Box::new(call)));
            if let Some(turned) = turned {
                // Heads came before rows; the plan wants them after.
                let [sequences, each] = [group.sequences, group.rows].map(i64::from);
                let to = out.shaped([sequences, each, dims[1], dims[2]]);
                self.calls.push(Call::Copy { from: turned.permuted(&[0, 2, 1, 3]), to });
            }
        }
        Ok(())
    }

    /// One call: the attention of a group's sequences.
    fn attention(
        &mut self,
        task: &Task,
        kv: Loc,
        places: Places,
        (i, group): (usize, &Group),
        (q, out): (View, View),
        spec: &AttendSpec,
    ) -> Result<Attention, DeviceError> {
        let Loc::State(state) = kv else { return Err(unsupported(task, "pages that are no state")) };
        let layer = self.model.states.layer(state.index());
        let (keys, values, shape) = layer.ok_or_else(|| unsupported(task, "pages of sizes that attention lacks"))?;
        let [sequences, each, pages, page] = [group.sequences, group.rows, group.pages, shape.positions].map(i64::from);
        let [heads, kv_heads, size] = [spec.heads, spec.kv_heads, spec.head_dim].map(i64::from);
        let table = Section::Table { places, group: i, page: shape.positions };
        let table = self.stage.section(table, Elem::I32, [sequences, pages]);
        let whole = pages * page;
        let (mask, rows, positions, sparse) = match self.shape.lengths {
            Lengths::Bucket => (Some(self.mask(places, i, group, *spec, task)?), Vec::new(), vec![whole], 0),
            Lengths::Patch if each == 1 => (None, Vec::new(), vec![whole; sequences as usize], 0),
            Lengths::Patch => {
                let totals = (1..=sequences).map(|n| n * each).collect();
                (self.masks.first().map(|(_, view)| view.clone()), totals, vec![whole; sequences as usize], 3)
            }
        };
        let (layout, query, out) = if sparse == 3 {
            ("TND", q, out)
        } else if each == 1 {
            let dims = [sequences, heads, 1, size];
            ("BNSD", q.shaped(dims), out.shaped(dims))
        } else {
            // Rows come before heads; attention wants them after.
            let [turned, out] = [0, 1].map(|_| self.temp(Elem::F16, &[sequences, heads, each, size]));
            let from = q.shaped([sequences, each, heads, size]);
            self.calls.push(Call::Copy { from: from.permuted(&[0, 2, 1, 3]), to: turned.clone() });
            ("BNSD", turned, out)
        };
        let scale = spec.scale;
        Ok(Attention {
            group: i,
            query,
            keys,
            values,
            mask,
            table,
            out,
            layout,
            heads,
            kv_heads,
            scale,
            rows,
            positions,
            sparse,
            page,
        })
    }

    /// The mask of a group's rows: true where a position lies past the row's own, or before its window.
    fn mask(
        &mut self,
        places: Places,
        i: usize,
        group: &Group,
        spec: AttendSpec,
        task: &Task,
    ) -> Result<View, DeviceError> {
        let key = (i, spec.window);
        if let Some((_, view)) = self.masks.iter().find(|(known, _)| *known == key) {
            return Ok(view.clone());
        }
        let Loc::State(state) = attend_operands(task).kv else {
            return Err(unsupported(task, "pages that are no state"));
        };
        let layer = self.model.states.layer(state.index());
        let page = layer.ok_or_else(|| unsupported(task, "pages of sizes that attention lacks"))?.2.positions;
        let [sequences, rows, pages] = [group.sequences, group.rows, group.pages].map(i64::from);
        let dims = [sequences, 1, rows, pages * i64::from(page)];
        let mask = self.keep(Elem::Bool, &dims);
        let distance = self.temp(Elem::F32, &dims);
        // The middle of the window is at distance 0; without one, the row's own position is.
        let reach = if spec.window > 0 { (spec.window - 1) as f32 / 2.0 } else { 0.0 };
        let all = Section::Positions { positions: places.positions, minus: reach };
        // Not the step's rows, of which a graph with a constant number has none.
        let rows_of_all = self.shape.groups.iter().map(|g| g.start + g.sequences * g.rows).max().unwrap_or(0);
        let all = self.stage.section(all, Elem::F32, [i64::from(rows_of_all)]);
        let own = all.sliced(0, group.start.into(), sequences * rows).shaped([sequences, 1, rows, 1]);
        let counts = self.model.states.counts(dims[3]).shaped([1, 1, 1, dims[3]]);
        self.prelude.push(Call::Binary(Binary::Sub, counts, own, distance.clone()));
        if spec.window > 0 {
            self.prelude.push(Call::Unary(Unary::Abs, distance.clone(), distance.clone()));
        }
        self.prelude.push(Call::Above { x: distance, bound: reach, out: mask.clone() });
        self.masks.push((key, mask.clone()));
        Ok(mask)
    }

    /// The triangle of sparse mode 3, true above the diagonal.
    fn triangle(&mut self) {
        if !self.masks.is_empty() {
            return;
        }
        let mask = self.keep(Elem::Bool, &[TRIANGLE, TRIANGLE]);
        let (counts, distance) = (self.keep(Elem::F32, &[TRIANGLE]), self.temp(Elem::F32, &[TRIANGLE, TRIANGLE]));
        self.prelude.push(Call::Count { to: counts.clone() });
        let [across, down] = [[1, TRIANGLE], [TRIANGLE, 1]].map(|dims| counts.shaped(dims));
        self.prelude.push(Call::Binary(Binary::Sub, across, down, distance.clone()));
        self.prelude.push(Call::Above { x: distance, bound: 0.0, out: mask.clone() });
        self.masks.push(((usize::MAX, 0), mask));
    }

    /// Attention as a single op.
    pub(super) fn attend_alone(&mut self, task: &Task) -> Result<(), DeviceError> {
        let spec = spec_of(task).ok_or_else(|| unsupported(task, "heads whose number depends on the step"))?;
        self.attend(task, &spec)
    }

    /// The page write as a single op.
    pub(super) fn page_write(&mut self, task: &Task) -> Result<(), DeviceError> {
        let [kv, k, v, table, row_seq, positions] =
            ["kv", "k", "v", "table", "row_seq", "positions"].map(|name| task.operands[Op::PageWrite.place(name)]);
        let places = self.places_of(task, [table, row_seq, positions])?;
        self.places = Some(places);
        let pair = [self.half(task, k)?, self.half(task, v)?];
        self.write_pages(task, kv, places, pair)
    }

    /// Rotation as a single op.
    pub(super) fn rope(&mut self, task: &Task) -> Result<(), DeviceError> {
        let [x, positions, factors] =
            ["x", "positions", "freq_factors"].map(|name| task.operands[Op::Rope.place(name)]);
        let Some((_, node)) = task.body.nodes().next() else { return Ok(()) };
        let positions = self.positions(task, positions)?;
        let x = self.value(task, x)?;
        if x.dims.len() != 3 || !x.elem.is_float() {
            return Err(unsupported(task, "rows that are not of heads"));
        }
        let out = self.result(task, 0, x.elem)?;
        self.calls.push(Call::Copy { from: x, to: out.clone() });
        // The operator turns a pair of tensors; the second one is a head that nothing reads.
        let spare = self.temp(out.elem, &[out.dims[0], 1, out.dims[2]]);
        self.calls.push(Call::Fill { to: spare.clone(), value: 0.0 });
        self.rotate(task, [&out, &spare], RopeSpec::from_node(node), (factors, positions))
    }
}

fn attend_operands(task: &Task) -> Operands {
    let at = |name: &str| task.operands[Op::Attend.place(name)];
    let places = ["table", "row_seq", "positions"].map(at);
    Operands { q: at("q"), kv: at("kv"), places, sinks: at("sinks") }
}
