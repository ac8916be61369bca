//! Products: prepares activations for a weight's form, then launches the kernel of the task's kind.

use super::locs::{Rows, small, symbol_of};
use super::{Call, Lowering, Region, unsupported};
use crate::args::{GateUpArgs, HeadArgs, LinearArgs, MapArgs, PrepareArgs, RowsArgs};
use crate::format::{Acts, Form, NORM_ROWS, TILE_ROWS, Walk, passes};
use crate::lower::ops::{MAP_COPY, ROWS_RMS_NORM};
use crate::weights::WeightMap;
use aio_backend::DeviceError;
use aio_ir::{Dim, Op, Sym};
use aio_plan::kinds::{gate_up, head, linear};
use aio_plan::{Activation, GateUpSpec, HeadSpec, Loc, Task, TaskKind};
use bytemuck::{Pod, Zeroable};

/// The input rows of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    /// Their address.
    pub x: u64,
    pub rows: Rows,
    /// Address of the weight of a norm before the product, and its epsilon; address 0 without a norm.
    pub norm: u64,
    pub eps: f32,
    /// Address of the indices of the selected rows, one per output row of the step; 0 for all rows.
    pub picked: u64,
}

impl Source {
    /// The symbol that counts the prepared rows.
    fn prepared(&self) -> Sym {
        if self.picked == 0 { self.rows.sym } else { Sym::Outs }
    }
}

/// A product launch. The kernel's name lacks the norm prefix and the type.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProductLaunch {
    pub kernel: &'static str,
    pub walk: Walk,
}

impl<'a> Lowering<'a> {
    /// A packed weight and its form.
    pub(super) fn matrix(&self, task: &Task, place: usize) -> Result<(&'a WeightMap, Form), DeviceError> {
        let weight = self.weight(task, place).filter(|w| w.packed.is_some());
        let found = weight.and_then(|w| Some((w, w.form()?)));
        found.ok_or_else(|| unsupported(task, format!("operand {place} is not a packed matrix")))
    }

    fn prepare_args(&self, task: &Task, source: &Source, form: Form) -> Result<PrepareArgs, DeviceError> {
        Ok(PrepareArgs {
            step: self.header(),
            x: source.x,
            norm: source.norm,
            row_index: source.picked,
            acts: 0,
            k: small(task, form.kernel_cols(source.rows.width))?,
            eps: source.eps,
            symbol: symbol_of(source.prepared()),
            spare: 0,
        })
    }

    /// Prepares rows for products with matrices of a form and returns the address of the result.
    fn prepare(&mut self, task: &Task, source: &Source, form: Form) -> Result<u64, DeviceError> {
        let count = self.bound(source.prepared());
        let acts = form.format().acts();
        let mut args = self.prepare_args(task, source, form)?;
        args.acts = self.scratch.take(Region::Acts, acts.bytes(count.into(), args.k.into()));
        if form == Form::Split {
            args.x = self.doubled(task, source)?;
            args.norm = 0;
        }
        self.call(acts.kernel(), [count.max(1), 1], 0, &args);
        Ok(args.acts)
    }

    /// A product of rows after a norm. With few rows one launch does both, if the rows fit shared memory without
    /// reducing the number of blocks; otherwise rows are prepared first. `product` makes the arguments from the address
    /// of prepared rows.
    pub(super) fn normed_product<A: Pod>(
        &mut self,
        task: &Task,
        source: &Source,
        form: Form,
        launch: ProductLaunch,
        product: impl FnOnce(u64) -> A,
    ) -> Result<(), DeviceError> {
        let ProductLaunch { kernel, walk: Walk { prefix, pieces, passes, shared_bytes } } = launch;
        let (count, format) = (self.bound(source.prepared()), form.format());
        let name = format!("{kernel}_{}", format.name());
        let extra = format.acts().shared_bytes(count.into(), source.rows.width);
        let limits = self.model.limits;
        let fits = u64::from(shared_bytes) + extra <= limits.dynamic_shared_bytes().into()
            && limits.blocks(shared_bytes + extra as u32) == limits.blocks(shared_bytes);
        if count > NORM_ROWS || form == Form::Split || !fits {
            let acts = self.prepare(task, source, form)?;
            let grid = [self.blocks_with(pieces, shared_bytes), passes];
            self.call(format!("{prefix}{name}"), grid, shared_bytes, &product(acts));
            return Ok(());
        }
        let mut args = bytemuck::bytes_of(&self.prepare_args(task, source, form)?).to_vec();
        args.extend_from_slice(bytemuck::bytes_of(&product(0)));
        let shared_bytes = shared_bytes + extra as u32;
        let grid = [self.blocks_with(pieces, shared_bytes), passes];
        self.calls.push(Call { kernel: format!("norm_{name}"), grid, shared_bytes, args: args.into() });
        Ok(())
    }

    /// The rows after their norm, each repeated, for weights stored as two numbers each.
    fn doubled(&mut self, task: &Task, source: &Source) -> Result<u64, DeviceError> {
        let k = source.rows.width;
        let (count, row) = (u64::from(self.bound(source.rows.sym)), 4 * k);
        let tensor = |at: u64, dims: &[u64]| {
            let dims = dims.iter().map(|&d| Dim::Const(d));
            self.f32_tensor(task, at, std::iter::once(source.rows.sym.into()).chain(dims))
        };
        let mut from = tensor(source.x, &[1, k])?;
        let step = self.header();
        if source.norm != 0 {
            let normed = self.scratch.take(Region::Normed, count * row);
            let (x, out) = (tensor_at(from, source.x), tensor_at(from, normed));
            let args = RowsArgs { step, out, x, weight: source.norm, bias: 0, code: ROWS_RMS_NORM, eps: source.eps };
            from = out;
            self.call("op_rows", [self.blocks(count), 1], 0, &args);
        }
        let at = self.scratch.take(Region::Doubled, 2 * count * row);
        let dims = [Dim::from(source.rows.sym), Dim::Const(2), Dim::Const(k)];
        let out = self.f32_tensor(task, at, dims.into_iter())?;
        let args = MapArgs { step, out, a: from, code: MAP_COPY, ..MapArgs::zeroed() };
        self.call("op_map", [self.blocks((2 * count * k).div_ceil(256)), 1], 0, &args);
        Ok(at)
    }

    /// Prepared rows for a product without a norm, possibly already prepared by the previous task.
    fn plain_acts(&mut self, task: &Task, source: &Source, form: Form) -> Result<u64, DeviceError> {
        match self.chained {
            Some((loc, acts, at)) if loc == task.operands[linear::AT.x] && source.norm == 0 => {
                debug_assert_eq!(acts, form.format().acts());
                Ok(at)
            }
            _ => self.prepare(task, source, form),
        }
    }

    /// If a result is used only as prepared rows of the next task's product, returns their form and address.
    pub(super) fn chain(&mut self, loc: Loc, rows: &Rows) -> Option<(Acts, u64)> {
        self.chained = None;
        let Loc::Buffer(_) = loc else { return None };
        let next = self.plan.tasks.get(self.task + 1)?;
        let later = self.plan.tasks[self.task + 1..].iter().flat_map(|t| &t.operands);
        let alone = later.filter(|s| **s == loc).count() == 1 && next.operands.get(linear::AT.x) == Some(&loc);
        let plain = matches!(next.kind, TaskKind::Linear(spec) if spec.norm_eps.is_none());
        let weight = self.weight(next, linear::AT.w).filter(|w| w.packed.is_some() && w.cols as u64 == rows.width)?;
        let Some(Form::Same(format)) = weight.form() else { return None };
        let acts = format.acts();
        if !(alone && plain && acts.chains() && rows.sym == Sym::Rows) {
            return None;
        }
        let at = self.scratch.take(Region::Chained, acts.bytes(self.bound(rows.sym).into(), rows.width));
        self.chained = Some((loc, acts, at));
        Some((acts, at))
    }

    /// `norm(x) * w + bias + residual`.
    pub(super) fn linear(&mut self, task: &Task, eps: Option<f32>) -> Result<(), DeviceError> {
        use linear::{AT, OUT};
        let (w, form) = self.matrix(task, AT.w)?;
        let (n, k) = (w.rows as u64, w.cols as u64);
        let linear::Operands { x, residual, .. } = linear::Operands::of(&task.operands);
        let out = task.results[OUT.out];
        let rows = self.rows_of(task, x, k)?;
        let ends = [out, residual].into_iter().filter(|s| *s != Loc::Absent);
        for loc in ends {
            if self.rows_of(task, loc, n)?.sym != rows.sym {
                return Err(unsupported(task, "operands with rows of different counts"));
            }
        }
        let norm = if eps.is_some() { self.vector(task, AT.norm)? } else { 0 };
        let source = Source { x: self.at(x), rows, norm, eps: eps.unwrap_or(0.0), picked: 0 };
        let args = LinearArgs {
            step: self.header(),
            w: self.operand(task, AT.w),
            acts: self.plain_acts(task, &source, form)?,
            bias: self.vector(task, AT.bias)?,
            residual: self.at(residual),
            out: self.at(out),
            n: small(task, n)?,
            k: small(task, form.kernel_cols(k))?,
            symbol: symbol_of(rows.sym),
            spare: 0,
        };
        self.launch_linear(form, rows.sym, &args);
        Ok(())
    }

    fn launch_linear(&mut self, form: Form, sym: Sym, args: &LinearArgs) {
        let format = form.format();
        let Walk { prefix, pieces, passes, shared_bytes } = self.walk(form, sym, u64::from(args.n), 1);
        let grid = [self.blocks_with(pieces, shared_bytes), passes];
        self.call(format!("{prefix}linear_{}", format.name()), grid, shared_bytes, args);
    }

    /// How a product of the bucket's rows iterates over matrices with `n` outputs each.
    pub(super) fn walk(&self, form: Form, sym: Sym, n: u64, matrices: u64) -> Walk {
        let most = self.model.limits.dynamic_shared_bytes();
        form.format().walk(self.bound(sym), n.div_ceil(TILE_ROWS as u64), matrices, most)
    }

    /// An unfused `matmul` with a packed weight.
    pub(super) fn row_product(&mut self, task: &Task) -> Result<(), DeviceError> {
        const X: usize = Op::Matmul.place("x");
        const W: usize = Op::Matmul.place("w");
        let (w, form) = self.matrix(task, W)?;
        let (n, k) = (w.rows as u64, w.cols as u64);
        let rows = self.rows_of(task, task.operands[X], k)?;
        let source = Source { x: self.at(task.operands[X]), rows, norm: 0, eps: 0.0, picked: 0 };
        let args = LinearArgs {
            step: self.header(),
            w: self.operand(task, W),
            acts: self.prepare(task, &source, form)?,
            bias: 0,
            residual: 0,
            out: self.at(task.results[0]),
            n: small(task, n)?,
            k: small(task, form.kernel_cols(k))?,
            symbol: symbol_of(rows.sym),
            spare: 0,
        };
        self.launch_linear(form, rows.sym, &args);
        Ok(())
    }

    /// `act(norm(x) * wg) * (norm(x) * wu)`.
    pub(super) fn gate_up(&mut self, task: &Task, spec: &GateUpSpec) -> Result<(), DeviceError> {
        use gate_up::{AT, OUT};
        let out = task.results[OUT.out];
        let ((gate, form), (up, up_form)) = (self.matrix(task, AT.gate)?, self.matrix(task, AT.up)?);
        if form != up_form || (gate.rows, gate.cols) != (up.rows, up.cols) {
            return Err(unsupported(task, "gate and up matrices of different types or shapes"));
        }
        let (n, k) = (gate.rows as u64, gate.cols as u64);
        let rows = self.rows_of(task, task.operands[AT.x], k)?;
        let results = self.rows_of(task, out, n)?;
        if rows.sym != Sym::Rows {
            return Err(unsupported(task, "rows that are not the step's"));
        }
        let source = Source {
            x: self.at(task.operands[AT.x]),
            rows,
            norm: self.vector(task, AT.norm)?,
            eps: spec.norm_eps,
            picked: 0,
        };
        let chain = self.chain(out, &results);
        let args = GateUpArgs {
            step: self.header(),
            gate: self.operand(task, AT.gate),
            up: self.operand(task, AT.up),
            acts: 0,
            out: if chain.is_some() { 0 } else { self.at(out) },
            acts_out: chain.map_or(0, |c| c.1),
            n: small(task, n)?,
            k: small(task, form.kernel_cols(k))?,
            activation: u32::from(spec.activation == Activation::Gelu),
            acts_kind: chain.map_or(0, |c| c.0 as u32),
        };
        let launch = ProductLaunch { kernel: "gate_up", walk: self.walk(form, Sym::Rows, n, 2) };
        self.normed_product(task, &source, form, launch, |acts| GateUpArgs { acts, ..args })
    }

    /// The last norm and the projection of the output rows.
    pub(super) fn head(&mut self, task: &Task, spec: &HeadSpec) -> Result<(), DeviceError> {
        use head::{AT, OUT};
        let (w, form) = self.matrix(task, AT.w)?;
        let (n, k) = (w.rows as u64, w.cols as u64);
        let rows = self.rows_of(task, task.operands[AT.x], k)?;
        if !matches!(task.operands[AT.out_rows], Loc::Input(_)) {
            return Err(unsupported(task, "output rows that no step binds"));
        }
        let norm = self.vector(task, AT.norm)?;
        let source = Source {
            x: self.at(task.operands[AT.x]),
            rows,
            norm,
            eps: spec.norm_eps,
            picked: self.at(task.operands[AT.out_rows]),
        };
        let (outs, out) = (self.bound(Sym::Outs), self.at(task.results[OUT.out]));
        let args = HeadArgs {
            step: self.header(),
            w: self.operand(task, AT.w),
            acts: 0,
            logits: if spec.argmax { 0 } else { out },
            tokens: if spec.argmax { out } else { 0 },
            best: self.scratch.take(Region::Best, 8 * u64::from(outs)),
            tickets: self.scratch.take(Region::Tickets, 4 * u64::from(passes(outs))),
            n: small(task, n)?,
            k: small(task, form.kernel_cols(k))?,
        };
        // Few rows need logits, so there is no kernel for many rows.
        let (pieces, shared_bytes) = (n.div_ceil(TILE_ROWS as u64), form.format().shared_for_one());
        let walk = Walk { prefix: "", pieces, passes: passes(outs), shared_bytes };
        let launch = ProductLaunch { kernel: "head", walk };
        self.normed_product(task, &source, form, launch, |acts| HeadArgs { acts, ..args })
    }

    /// Looks up rows of a table by id.
    pub(super) fn embed(&mut self, task: &Task) -> Result<(), DeviceError> {
        const TABLE: usize = Op::Embed.place("table");
        const IDS: usize = Op::Embed.place("ids");
        debug_assert_eq!(task.kind, TaskKind::Op(Op::Embed));
        let node = self.node(task);
        if self.weight(task, TABLE).is_none_or(|w| w.packed.is_none()) || self.copies_decoded(task, TABLE) {
            return self.gather_table(task);
        }
        let (w, form) = self.matrix(task, TABLE)?;
        let (per, sym) = task.body.ty(node.input(IDS)).shape.factors();
        let sym = match sym[..] {
            [] => None,
            [sym] => Some(sym),
            _ => return Err(unsupported(task, "ids that grow in two dimensions")),
        };
        let per = small(task, per.unwrap_or(u64::MAX))?;
        let args = crate::args::EmbedArgs {
            step: self.header(),
            w: self.operand(task, TABLE),
            ids: self.at(task.operands[IDS]),
            out: self.at(task.results[0]),
            n: small(task, w.rows as u64)?,
            k: small(task, w.cols as u64)?,
            per,
            symbol: sym.map_or(crate::args::symbol::ONE, symbol_of),
        };
        let ids = u64::from(per) * sym.map_or(1, |s| u64::from(self.bound(s)));
        self.call(format!("embed_{}", form.format().name()), [small(task, ids.max(1))?, 1], 0, &args);
        Ok(())
    }
}

/// The same tensor at another address.
fn tensor_at(tensor: crate::args::Tensor, data: u64) -> crate::args::Tensor {
    crate::args::Tensor { data, ..tensor }
}
