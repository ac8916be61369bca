//! Attention: projections with rotation and page write, attention over pages, and what they prepare once per step.

use super::locs::{PagedRows, small};
use super::products::{ProductLaunch, Source};
use super::{Call, CutKey, Lowering, Region, RopeKey, unsupported};
use crate::args::{AttendArgs, AttendPlanArgs, PageWriteArgs, QkvArgs, RopeArgs, RopeTableArgs};
use crate::format::passes;
use aio_backend::DeviceError;
use aio_ir::{DType, Op, Sym};
use aio_plan::kinds;
use aio_plan::{AttendSpec, Loc, QkvSpec, RopePairs, RopeSpec, Task};

/// Positions per split of the context.
const SPLIT: u64 = 256;
/// Maximum query rows times heads in a block, and so maximum query heads of each key and value head.
pub(crate) const COLUMNS: u32 = 24;
/// Maximum size of partial results if a step's rows fill the device without splitting contexts, and if they do not. The
/// latter is larger so that a long context is not left to a few blocks (16 rows of a model with 32 heads of 64 have 69
/// MB at 131072 positions).
const MAX_PARTIALS: u64 = 64 << 20;
const MAX_PARTIALS_OF_FEW: u64 = 256 << 20;
/// Maximum blocks of a grid that processes unsplit contexts.
const MAX_WHOLE_BLOCKS: u64 = 65535 * 32;

/// Dynamic shared memory of `attend`.
fn attend_shared(head_dim: u32) -> u32 {
    let tiles = head_dim / 16;
    let parts = if tiles > 0 && 8 % tiles == 0 { (8 / tiles).max(1) } else { 1 };
    4 * COLUMNS * (head_dim * (parts + 2) + 272 + 5)
}

fn pairs(rope: &RopeSpec) -> u32 {
    u32::from(rope.pairs == RopePairs::Halves)
}

impl Lowering<'_> {
    /// Norm, projections, biases, head norms, rotation, page write: one launch for each form among the three matrices.
    pub(super) fn qkv(&mut self, task: &Task, spec: &QkvSpec) -> Result<(), DeviceError> {
        use kinds::qkv::{AT, OUT, Operands};
        let (o, q) = (Operands::of(&task.operands), task.results[OUT.q]);
        let (wq, q_form) = self.matrix(task, AT.wq)?;
        let forms = [q_form, self.matrix(task, AT.wk)?.1, self.matrix(task, AT.wv)?.1];
        let k = wq.cols as u64;
        let rows = self.rows_of(task, o.x, k)?;
        let width = u64::from(spec.heads) * u64::from(spec.head_dim);
        self.rows_of(task, q, width)?;
        let (kv, ..) = self.layer(task, o.kv)?;
        if rows.sym != Sym::Rows {
            return Err(unsupported(task, "rows that are not the step's"));
        }
        let places = self.places(task, o.page_table, o.row_seq, o.positions)?;
        let norm = self.vector(task, AT.norm)?;
        let source = Source { x: self.at(o.x), rows, norm, eps: spec.norm_eps, picked: 0 };
        let all_heads = u64::from(spec.heads) + 2 * u64::from(spec.kv_heads);
        let count = u64::from(self.bound(Sym::Rows));
        let args = QkvArgs {
            step: self.header(),
            wq: self.operand(task, AT.wq),
            wk: self.operand(task, AT.wk),
            wv: self.operand(task, AT.wv),
            acts: 0,
            bq: self.vector(task, AT.bq)?,
            bk: self.vector(task, AT.bk)?,
            bv: self.vector(task, AT.bv)?,
            q_norm: self.vector(task, AT.q_norm)?,
            k_norm: self.vector(task, AT.k_norm)?,
            rope: self.rope_table(task, spec.rope, o.freq_factors, o.positions)?,
            q: self.at(q),
            kv,
            table: places.table,
            row_seq: places.row_seq,
            positions: places.positions,
            raw: self.scratch.take(Region::Raw, 4 * count * all_heads * u64::from(spec.head_dim)),
            tickets: self.scratch.take(Region::Tickets, 4 * u64::from(passes(count as u32)) * all_heads),
            page_stride: self.model.states.page_stride(),
            heads: spec.heads,
            kv_heads: spec.kv_heads,
            head_dim: spec.head_dim,
            k: 0,
            rope_dims: spec.rope.dims,
            rope_pairs: pairs(&spec.rope),
            parts: 0,
            qk_eps: spec.qk_norm_eps.unwrap_or(0.0),
        };
        for (_, &form) in forms.iter().enumerate().filter(|(i, form)| !forms[..*i].contains(form)) {
            let part = |bit: usize| if forms[bit] == form { 1 << bit } else { 0 };
            let parts = part(0) | part(1) | part(2);
            let k = small(task, form.kernel_cols(k))?;
            let of = |bit: u32, heads: u32| if parts >> bit & 1 == 1 { u64::from(heads) } else { 0 };
            let heads = of(0, spec.heads) + of(1, spec.kv_heads) + of(2, spec.kv_heads);
            let walk = self.walk(form, Sym::Rows, heads * u64::from(spec.head_dim), 1);
            let launch = ProductLaunch { kernel: "qkv", walk };
            self.normed_product(task, &source, form, launch, |acts| QkvArgs { acts, k, parts, ..args })?;
        }
        Ok(())
    }

    /// The address of the cosines and sines of the rows' positions, computed once per step if the step binds the
    /// positions.
    fn rope_table(&mut self, task: &Task, rope: RopeSpec, factors: Loc, positions: Loc) -> Result<u64, DeviceError> {
        let key = RopeKey { rope, factors, positions };
        if let Some((_, at)) = self.ropes.iter().find(|(k, _)| *k == key) {
            return Ok(*at);
        }
        let values = match factors {
            Loc::Absent => None,
            Loc::Weight(w) => Some((self.model.vector)(w.index())?),
            _ => return Err(unsupported(task, "frequency factors that are not a weight")),
        };
        let (frequencies, magnitude) = rope.frequencies(values.as_deref());
        let half = frequencies.len() as u32;
        let args = RopeTableArgs {
            step: self.header(),
            positions: self.at(positions),
            frequencies: self.constant(bytemuck::cast_slice(&frequencies)),
            table: self.scratch.keep(8 * u64::from(self.bound(Sym::Rows)) * u64::from(half)),
            half,
            magnitude,
        };
        let bound = matches!(positions, Loc::Input(_));
        self.call("rope_table", [self.bound(Sym::Rows).max(1), 1], 0, &args);
        self.hoist(bound);
        if bound {
            self.ropes.push((key, args.table));
        }
        Ok(args.table)
    }

    /// The address of the partition into rows that read their pages together, computed once per step.
    fn cut(&mut self, task: &Task, spec: &AttendSpec, places: &PagedRows) -> u64 {
        let block_rows = (COLUMNS / (spec.heads / spec.kv_heads)).max(1);
        let o = kinds::attend::Operands::of(&task.operands);
        let key = CutKey { window: spec.window, block_rows, row_seq: o.row_seq, positions: o.positions };
        if let Some((_, at)) = self.cuts.iter().find(|(k, _)| *k == key) {
            return *at;
        }
        let args = AttendPlanArgs {
            step: self.header(),
            positions: places.positions,
            row_seq: places.row_seq,
            plan: self.scratch.keep(16 + 32 * u64::from(self.bound(Sym::Rows))),
            window: spec.window,
            block_rows,
        };
        let kernel = "attend_plan".to_owned();
        let args_bytes = bytemuck::bytes_of(&args).into();
        self.prelude.push(Call { kernel, grid: [1, 1], shared_bytes: 0, args: args_bytes });
        self.cuts.push((key, args.plan));
        args.plan
    }

    /// Attention over pages.
    pub(super) fn attend(&mut self, task: &Task, spec: &AttendSpec) -> Result<(), DeviceError> {
        use kinds::attend::{AT, OUT, Operands};
        let (o, result) = (Operands::of(&task.operands), task.results[OUT.out]);
        let (kv, kv_heads, head_dim) = self.layer(task, o.kv)?;
        let (rows, out) = (self.rows(task, o.q)?, self.rows(task, result)?);
        let group = spec.heads / spec.kv_heads.max(1);
        let fits = (kv_heads, head_dim) == (spec.kv_heads, spec.head_dim)
            && rows.sym == Sym::Rows
            && rows.width == u64::from(spec.heads) * u64::from(head_dim)
            && out.width == rows.width
            && (1..=COLUMNS).contains(&group);
        if !fits {
            return Err(unsupported(task, format!("{group} query heads a key-value head of {head_dim} elements")));
        }
        let places = self.places(task, o.page_table, o.row_seq, o.positions)?;
        let count = u64::from(self.bound(Sym::Rows));
        let splits = (u64::from(self.model.states.pages) * 64).div_ceil(SPLIT);
        let partials = 4 * count * u64::from(spec.heads) * splits * (u64::from(head_dim) + 2);
        let shared_bytes = attend_shared(head_dim);
        let together = self.model.limits.blocks(shared_bytes);
        let alone = count.div_ceil(u64::from(COLUMNS / group)) * u64::from(kv_heads);
        let few = alone < u64::from(together);
        let splitting = partials <= if few { MAX_PARTIALS_OF_FEW } else { MAX_PARTIALS };
        let chain = if head_dim.is_multiple_of(32) { self.chain(result, &out) } else { None };
        let (whole, tickets) = (count * u64::from(kv_heads), 4 * count * u64::from(spec.heads));
        let args = AttendArgs {
            step: self.header(),
            plan: self.cut(task, spec, &places),
            q: self.at(o.q),
            kv,
            table: places.table,
            positions: places.positions,
            sinks: self.vector(task, AT.sinks)?,
            out: if chain.is_some() { 0 } else { self.at(result) },
            acts_out: chain.map_or(0, |c| c.1),
            partials: if splitting { self.scratch.take(Region::Partials, partials) } else { 0 },
            tickets: if splitting { self.scratch.take(Region::Tickets, tickets) } else { 0 },
            page_stride: self.model.states.page_stride(),
            heads: spec.heads,
            kv_heads,
            head_dim,
            window: spec.window,
            scale: spec.scale,
            soft_cap: spec.soft_cap,
            max_splits: if splitting { splits as u32 } else { 0 },
            acts_kind: chain.map_or(0, |c| c.0 as u32),
        };
        let blocks = if splitting { together } else { whole.clamp(1, MAX_WHOLE_BLOCKS) as u32 };
        self.call("attend", [blocks, 1], shared_bytes, &args);
        Ok(())
    }

    /// Attention as a single op.
    pub(super) fn attend_alone(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let spec = AttendSpec::from_node(&task.body, node);
        let spec = spec.ok_or_else(|| unsupported(task, "heads whose number depends on the step"))?;
        if spec.kv_heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
            return Err(unsupported(task, "heads whose number depends on the step"));
        }
        self.attend(task, &spec)
    }

    /// Writes keys and values of the rows to their pages.
    pub(super) fn page_write(&mut self, task: &Task) -> Result<(), DeviceError> {
        let [kv, k, v, table, row_seq, positions] =
            ["kv", "k", "v", "table", "row_seq", "positions"].map(|name| task.operands[Op::PageWrite.place(name)]);
        let (kv, kv_heads, head_dim) = self.layer(task, kv)?;
        let width = u64::from(kv_heads) * u64::from(head_dim);
        for loc in [k, v] {
            if self.rows_of(task, loc, width)?.sym != Sym::Rows {
                return Err(unsupported(task, "rows that are not the step's"));
            }
        }
        let places = self.places(task, table, row_seq, positions)?;
        let args = PageWriteArgs {
            step: self.header(),
            k: self.at(k),
            v: self.at(v),
            kv,
            table: places.table,
            row_seq: places.row_seq,
            positions: places.positions,
            page_stride: self.model.states.page_stride(),
            kv_heads,
            head_dim,
        };
        self.call("op_page_write", [self.bound(Sym::Rows).max(1), 1], 0, &args);
        Ok(())
    }

    /// Rotation as a single op.
    pub(super) fn rope(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let [x, positions, factors] =
            ["x", "positions", "freq_factors"].map(|name| task.operands[Op::Rope.place(name)]);
        let spec = RopeSpec::from_node(node);
        let rows = self.rows(task, x)?;
        let head_dim = task.body.ty(node.operand("x")).shape.last().known().unwrap_or(0);
        let places = task.body.ty(node.operand("positions"));
        let by_row = places.dtype == DType::U32 && places.shape.dims() == [Sym::Rows.into()];
        if rows.sym != Sym::Rows || head_dim == 0 || !by_row {
            return Err(unsupported(task, "positions that are not the step's rows'"));
        }
        let args = RopeArgs {
            step: self.header(),
            x: self.at(x),
            rope: self.rope_table(task, spec, factors, positions)?,
            out: self.at(task.results[0]),
            heads: small(task, rows.width / head_dim)?,
            head_dim: small(task, head_dim)?,
            rope_dims: spec.dims,
            rope_pairs: pairs(&spec),
        };
        self.call("op_rope", [self.bound(Sym::Rows).max(1), 1], 0, &args);
        Ok(())
    }
}
