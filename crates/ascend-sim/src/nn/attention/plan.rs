//! From checked parameters to a task: operands, cost, and the loop over sequences and heads.

use super::layout::Heads;
use super::masks::{self, Masking};
use super::numbers::{RowInput, attend};
use super::paging::{Bound, Source};
use super::params::Params;
use super::rules::{self, Sizes};
use crate::nn::parallel;
use crate::nn::shape::want_type;
use crate::task::{Error, Fault};
use crate::tensor::dtype::DType;
use crate::tensor::exec::Plan;
use crate::tensor::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use crate::tensor::memory::{Memory, Slot};
use crate::tensor::refuse::{null, tiling};
use crate::tensor::view::View;

/// Device memory that the kernel keeps partial results in.
const WORKSPACE: u64 = 16 << 20;

/// All that the kernel needs beside memory.
struct Call {
    sizes: Sizes,
    masking: Masking,
    keys: Bound,
    values: Bound,
    query: Slot,
    mask: Option<Slot>,
    pse: Option<Slot>,
    table: Option<Slot>,
    out: Slot,
    lse: Option<Slot>,
    scale: f32,
    zero_hidden: bool,
    brain: bool,
}

fn charge(plan: &mut Plan, p: &Params, sizes: &Sizes) {
    let d = sizes.query.d as u64;
    let size = p.query.dtype.bytes(1) as u64;
    let kv: u64 = sizes.lens_kv.iter().map(|&n| n as u64).sum();
    let pairs: u64 = sizes.rows.iter().zip(&sizes.lens_kv).map(|(r, &n)| (r.1 * n) as u64).sum();
    let heads = sizes.query.heads as u64;
    let extra = [&p.mask, &p.pse, &p.block_table].into_iter().flatten().map(|v| v.bytes()).sum::<u64>();
    plan.cost.read = p.query.bytes() + 2 * kv * sizes.kv_heads as u64 * d * size + extra;
    plan.cost.write = p.out.bytes();
    plan.cost.cube_flops = 4 * pairs * heads * d;
    plan.cost.vector_ops = 8 * pairs * heads;
}

fn lse_rule(p: &Params, sizes: &Sizes) -> Result<(), Error> {
    if !p.lse_flag {
        return Ok(());
    }
    let lse = p.lse.as_ref().ok_or_else(|| null("softmaxLse"))?;
    want_type("softmaxLse", lse, &[DType::F32])?;
    let q = sizes.query;
    let want = if sizes.order.packed() { vec![q.len, q.heads, 1] } else { vec![q.batch, q.heads, q.len, 1] };
    if lse.dims == want {
        Ok(())
    } else {
        Err(tiling(format!("softmaxLse has shape {:?}, expected {want:?}", lse.dims)))
    }
}

/// Checks a call and plans it.
pub fn plan(p: &Params) -> Result<Plan, Error> {
    let sizes = rules::check(p)?;
    let masking = masks::check(p, &sizes)?;
    lse_rule(p, &sizes)?;
    let (source_k, source_v) = (Source::of(p, &p.keys, &sizes)?, Source::of(p, &p.values, &sizes)?);
    if source_k.d() != sizes.query.d {
        return Err(tiling(format!("key heads have size {}, query heads {}", source_k.d(), sizes.query.d)));
    }
    let mut plan = Plan::new("fused_infer_attention_score");
    let query = plan.input("query", &p.query);
    let keys = Bound { source: source_k, slots: plan.list("key", &p.keys) };
    let values = Bound { source: source_v, slots: plan.list("value", &p.values) };
    let pse = plan.maybe("pseShift", p.pse.as_deref());
    let mask = plan.maybe("attenMask", p.mask.as_deref());
    let table = plan.maybe("blockTable", p.block_table.as_deref());
    let out = plan.output("attentionOut", &p.out);
    let lse = plan.maybe_output("softmaxLse", p.lse.as_deref().filter(|_| p.lse_flag));
    let brain = p.query.dtype == DType::Bf16;
    let call = Call {
        sizes: sizes.clone(),
        masking,
        keys,
        values,
        query,
        mask,
        pse,
        table,
        out,
        lse,
        scale: p.scale as f32,
        zero_hidden: p.inner >= 2,
        brain,
    };
    let mut plan = plan.run(0, move |memory| call.run(memory));
    charge(&mut plan, p, &sizes);
    plan.workspace = WORKSPACE;
    Ok(plan)
}

/// Results of one sequence and KV head: head by head, row by row.
struct Part {
    rows: Vec<(Vec<f32>, f32)>,
}

fn round_half(x: f32) -> f32 {
    f16_to_f32(f32_to_f16(x))
}

fn round_brain(x: f32) -> f32 {
    bf16_to_f32(f32_to_bf16(x))
}

impl Call {
    fn convert(&self) -> fn(u16) -> f32 {
        if self.brain { bf16_to_f32 } else { f16_to_f32 }
    }

    fn query_row(&self, from: &[u16], heads: &Heads, b: usize, s: usize, n: usize) -> Vec<f32> {
        let (at, step, convert) = (heads.at(b, s, n), heads.step(), self.convert());
        (0..heads.d).map(|i| convert(from[at + i * step])).collect()
    }

    /// Visited positions of a row, given that the band leaves one range.
    fn range(&self, i: usize, rows: usize, kv: usize) -> (usize, usize) {
        let Some(band) = self.masking.band else { return (0, kv) };
        let first = (0..kv).find(|&p| band.sees(i, rows, p, kv)).unwrap_or(kv);
        let last = (first..kv).rev().find(|&p| band.sees(i, rows, p, kv)).map_or(first, |p| p + 1);
        (first, last)
    }

    fn part(&self, memory: &Memory, table: &[i64], b: usize, kv_head: usize) -> Result<Part, Fault> {
        let sizes = &self.sizes;
        let ((start, rows), kv) = (sizes.rows[b], sizes.lens_kv[b]);
        let group = sizes.query.heads / sizes.kv_heads;
        let read = |bound: &Bound| {
            let data: Vec<&[u16]> = bound.slots.iter().map(|&slot| memory.raw16(slot)).collect();
            bound.source.read(&data, table, b, kv_head, kv, self.convert())
        };
        let (k, v) = (read(&self.keys)?, read(&self.values)?);
        let here = |slot: Option<Slot>, view: &Option<View>, index: &[usize]| {
            slot.zip(view.as_ref()).map(|(slot, view)| View { addr: memory.view(slot).addr, ..view.at(index) })
        };
        let from = memory.raw16(self.query);
        let seq = if sizes.order.packed() { 0 } else { b };
        let mut out = Vec::with_capacity(group * rows);
        for n in kv_head * group..(kv_head + 1) * group {
            for i in 0..rows {
                let q = self.query_row(from, &sizes.query, seq, start + i, n);
                let mask = here(self.mask, &self.masking.mask, &[b, i]).map(|view| memory.ints_of(&view));
                let shift = here(self.pse, &self.masking.pse, &[b, n, i]).map(|view| memory.floats_of(&view));
                out.push(attend(&RowInput {
                    q: &q,
                    k: &k,
                    v: &v,
                    scale: self.scale,
                    shift: shift.as_deref(),
                    mask: mask.as_deref(),
                    range: self.range(i, rows, kv),
                    zero_hidden: self.zero_hidden,
                    round: if self.brain { round_brain } else { round_half },
                }));
            }
        }
        Ok(Part { rows: out })
    }

    fn run(&self, memory: &Memory) -> Result<(), Fault> {
        let sizes = &self.sizes;
        let table = self.table.map_or(Vec::new(), |slot| memory.ints(slot));
        let pairs: usize = sizes.rows.iter().zip(&sizes.lens_kv).map(|(r, n)| (r.1 + 2) * n).sum();
        let ops = pairs * sizes.query.heads * sizes.query.d * 2;
        let parts = parallel::map(sizes.batch * sizes.kv_heads, ops, |i| {
            self.part(memory, &table, i / sizes.kv_heads, i % sizes.kv_heads)
        });
        for (i, part) in parts.into_iter().enumerate() {
            self.write(memory, i / sizes.kv_heads, i % sizes.kv_heads, &part?);
        }
        Ok(())
    }

    fn write(&self, memory: &Memory, b: usize, kv_head: usize, part: &Part) {
        let sizes = &self.sizes;
        let (start, rows) = sizes.rows[b];
        let group = sizes.query.heads / sizes.kv_heads;
        let seq = if sizes.order.packed() { 0 } else { b };
        let whole = memory.view(self.out);
        for (i, (row, lse)) in part.rows.iter().enumerate() {
            let (n, s) = (kv_head * group + i / rows, start + i % rows);
            let offset = whole.offset + sizes.out.at(seq, s, n);
            let target = View { offset, dims: vec![row.len()], strides: vec![sizes.out.step()], ..whole.clone() };
            memory.put_in(&target, row);
            if let Some(slot) = self.lse {
                let index: &[usize] = if sizes.order.packed() { &[s, n] } else { &[seq, n, s] };
                memory.put_in(&memory.view(slot).at(index), &[*lse]);
            }
        }
    }
}
