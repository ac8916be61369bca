//! Attention: projections with rotation and page write, attention over pages, and what they need once a step.

use super::products::{ProductLaunch, Source};
use super::slots::{Places, small};
use super::{Call, CutKey, Lowering, Region, RopeKey, unsupported};
use crate::args::{AttendArgs, AttendPlanArgs, PageWriteArgs, QkvArgs, RopeArgs, RopeTableArgs};
use crate::format::passes;
use aio_backend::DeviceError;
use aio_ir::{DType, Sym};
use aio_plan::{AttendSpec, QkvSpec, RopePairs, RopeSpec, Slot, Task};

/// Positions of a split of attention.
const SPLIT: u64 = 256;
/// Query rows and heads that a block holds at most.
const COLUMNS: u32 = 24;
/// Partial results up to this size where a step's rows fill the device without splitting contexts; and where they do not, so
/// that few blocks would walk a long context alone (16 rows of a model of 32 heads of 64 have 69 MB at 131072 positions).
const MAX_PARTIALS: u64 = 64 << 20;
const MAX_PARTIALS_OF_FEW: u64 = 256 << 20;
/// Blocks of a grid that walks whole contexts.
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
    /// Norm, projections, biases, head norms, rotation, page write; a launch for each form of the three matrices.
    pub(super) fn qkv(&mut self, task: &Task, spec: &QkvSpec) -> Result<(), DeviceError> {
        let (wq, q_form) = self.matrix(task, 2)?;
        let forms = [q_form, self.matrix(task, 3)?.1, self.matrix(task, 4)?.1];
        let k = wq.cols as u64;
        let rows = self.rows_of(task, task.operands[0], k)?;
        let width = u64::from(spec.heads) * u64::from(spec.head_dim);
        self.rows_of(task, task.results[0], width)?;
        let (kv, ..) = self.layer(task, task.operands[12])?;
        if rows.sym != Sym::Rows {
            return Err(unsupported(task, "rows that are not the step's"));
        }
        let places = self.places(task, 13, 14, 10)?;
        let norm = self.vector(task, 1)?;
        let source = Source { x: self.at(task.operands[0]), rows, norm, eps: spec.norm_eps, picked: 0 };
        let all_heads = u64::from(spec.heads) + 2 * u64::from(spec.kv_heads);
        let count = u64::from(self.bound(Sym::Rows));
        let args = QkvArgs {
            step: self.header(),
            wq: self.operand(task, 2),
            wk: self.operand(task, 3),
            wv: self.operand(task, 4),
            acts: 0,
            bq: self.vector(task, 5)?,
            bk: self.vector(task, 6)?,
            bv: self.vector(task, 7)?,
            q_norm: self.vector(task, 8)?,
            k_norm: self.vector(task, 9)?,
            rope: self.rope_table(task, spec.rope, task.operands[11], task.operands[10])?,
            q: self.at(task.results[0]),
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

    /// Cosines and sines of the rows' positions, computed once a step where the step binds them; their address.
    fn rope_table(&mut self, task: &Task, rope: RopeSpec, factors: Slot, positions: Slot) -> Result<u64, DeviceError> {
        let key = RopeKey { rope, factors, positions };
        if let Some((_, at)) = self.ropes.iter().find(|(k, _)| *k == key) {
            return Ok(*at);
        }
        let values = match factors {
            Slot::Absent => None,
            Slot::Weight(w) => Some((self.model.vector)(w.index())?),
            _ => return Err(unsupported(task, "frequency factors that are no weight")),
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
        let bound = matches!(positions, Slot::Input(_));
        self.call("rope_table", [self.bound(Sym::Rows).max(1), 1], 0, &args);
        self.hoist(bound);
        if bound {
            self.ropes.push((key, args.table));
        }
        Ok(args.table)
    }

    /// Which rows read their pages together, worked out once a step; its address.
    fn cut(&mut self, task: &Task, spec: &AttendSpec, places: &Places) -> u64 {
        let block_rows = (COLUMNS / (spec.heads / spec.kv_heads)).max(1);
        let (row_seq, positions) = (task.operands[3], task.operands[4]);
        let key = CutKey { window: spec.window, block_rows, row_seq, positions };
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
        let (kv, kv_heads, head_dim) = self.layer(task, task.operands[1])?;
        let (rows, out) = (self.rows(task, task.operands[0])?, self.rows(task, task.results[0])?);
        let group = spec.heads / spec.kv_heads.max(1);
        let fits = (kv_heads, head_dim) == (spec.kv_heads, spec.head_dim)
            && rows.sym == Sym::Rows
            && rows.width == u64::from(spec.heads) * u64::from(head_dim)
            && out.width == rows.width
            && (1..=COLUMNS).contains(&group);
        if !fits {
            return Err(unsupported(task, format!("{group} query heads a key-value head of {head_dim} elements")));
        }
        let places = self.places(task, 2, 3, 4)?;
        let count = u64::from(self.bound(Sym::Rows));
        let splits = (u64::from(self.model.states.pages) * 64).div_ceil(SPLIT);
        let partials = 4 * count * u64::from(spec.heads) * splits * (u64::from(head_dim) + 2);
        let shared_bytes = attend_shared(head_dim);
        let together = self.model.limits.blocks(shared_bytes);
        let alone = count.div_ceil(u64::from(COLUMNS / group)) * u64::from(kv_heads);
        let few = alone < u64::from(together);
        let splitting = partials <= if few { MAX_PARTIALS_OF_FEW } else { MAX_PARTIALS };
        let chain = if head_dim.is_multiple_of(32) { self.chain(task.results[0], &out) } else { None };
        let (whole, tickets) = (count * u64::from(kv_heads), 4 * count * u64::from(spec.heads));
        let args = AttendArgs {
            step: self.header(),
            plan: self.cut(task, spec, &places),
            q: self.at(task.operands[0]),
            kv,
            table: places.table,
            positions: places.positions,
            sinks: self.vector(task, 5)?,
            out: if chain.is_some() { 0 } else { self.at(task.results[0]) },
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

    /// The same, as a node of its own.
    pub(super) fn attend_alone(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let size =
            |operand: usize, dim: usize| task.body.ty(node.input(operand)).shape.dims()[dim].known().unwrap_or(0);
        let spec = AttendSpec {
            heads: size(0, 1) as u32,
            kv_heads: size(1, 2) as u32,
            head_dim: size(0, 2) as u32,
            scale: node.f32("scale"),
            window: u32::try_from(node.int("window")).unwrap_or(0),
            soft_cap: node.f32("soft_cap"),
        };
        if spec.kv_heads == 0 || !spec.heads.is_multiple_of(spec.kv_heads) {
            return Err(unsupported(task, "heads whose number depends on the step"));
        }
        self.attend(task, &spec)
    }

    /// Keys and values of the rows to their pages.
    pub(super) fn page_write(&mut self, task: &Task) -> Result<(), DeviceError> {
        let (kv, kv_heads, head_dim) = self.layer(task, task.operands[0])?;
        let width = u64::from(kv_heads) * u64::from(head_dim);
        for place in [1, 2] {
            if self.rows_of(task, task.operands[place], width)?.sym != Sym::Rows {
                return Err(unsupported(task, "rows that are not the step's"));
            }
        }
        let places = self.places(task, 3, 4, 5)?;
        let args = PageWriteArgs {
            step: self.header(),
            k: self.at(task.operands[1]),
            v: self.at(task.operands[2]),
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

    /// Rotation as a node of its own.
    pub(super) fn rope(&mut self, task: &Task) -> Result<(), DeviceError> {
        let node = self.node(task);
        let spec = RopeSpec::from_node(node);
        let rows = self.rows(task, task.operands[0])?;
        let head_dim = task.body.ty(node.input(0)).shape.last().known().unwrap_or(0);
        let positions = task.body.ty(node.input(1));
        let by_row = positions.dtype == DType::U32 && positions.shape.dims() == [Sym::Rows.into()];
        if rows.sym != Sym::Rows || head_dim == 0 || !by_row {
            return Err(unsupported(task, "positions that are not the step's rows'"));
        }
        let args = RopeArgs {
            step: self.header(),
            x: self.at(task.operands[0]),
            rope: self.rope_table(task, spec, task.operands[2], task.operands[1])?,
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
