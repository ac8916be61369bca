//! What every back end of aio is tested on: a list of cases as data, and the driver that compares with the oracle.
//!
//! A [`Case`] is a step graph around one kind of task, with the steps to run it on, deterministic inputs and weights,
//! and the largest normalised mean square error against the oracle. It names no device. The driver compiles a case for a
//! device and runs it: [`run_cases`] goes through a list, [`run_case`] compares with a [`Reference`] that several devices
//! share, [`time_case`] takes the time of a step. [`planned_cases`] makes cases of the tasks of any plan.
//! [`Copies`] times a case, or a task taken out of a plan with [`extract`], with its weights in the caches or in memory. The result is an [`Outcome`]; that a device has no kernel is a separate one,
//! with the reason, never a pass.
#![forbid(unsafe_code)]

mod case;
mod copies;
mod describe;
mod driver;
mod extract;
mod graphs;
mod ops;
mod outcome;
mod planned;
mod recurrent;
mod row;
mod runner;
mod slots;
mod summary;
mod values;
mod zero;

pub use case::{
    Case, CaseStep, Compare, POOL_PAGES, POOL_SLOTS, ROWS, SEED, WEIGHT_TYPES, page, page_table, positions_per_sequence,
};
pub use copies::{Copies, case_family, copy_bytes, copy_cost};
pub use driver::{Reference, Report, reference, run_case, run_case_once, run_cases, time_case};
pub use extract::extract;
pub use outcome::{Difference, Fault, Outcome, Place};
pub use planned::{PlannedCase, Purpose, planned_cases};
pub use runner::{ResultTensor, Run, Timing};
pub use summary::Summary;
pub use values::{Weights, nmse};

use aio_ir::DType;
use aio_plan::{KindName, Tail};
use case::{base, long_steps, mixed_steps};
use graphs::{AttendForm, ExpertsForm, LinearForm, QkvForm, Rope};

/// The cases whose names contain `filter`; all if it is empty.
pub fn matching(filter: &str) -> Vec<Case> {
    cases().into_iter().filter(|c| c.name.contains(filter)).collect()
}

/// All cases.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for weights in WEIGHT_TYPES {
        all.extend(linear_cases(weights));
        all.extend([
            gate_up(weights, "silu"),
            head(weights, Tail::Logits),
            head(weights, Tail::Argmax),
            broken_head(weights, Tail::Argmax),
            embed(weights),
        ]);
        all.push(qkv("plain", weights, QkvForm::default(), AttendForm::default(), mixed_steps()));
    }
    all.push(gate_up(DType::Q8_0, "gelu"));
    all.extend(experts());
    all.extend(qkv_variants());
    all.extend(attend_variants());
    all.extend(sample_cases());
    all.extend(single_ops());
    all.extend(ops::cases());
    all.extend(recurrent::cases());
    all
}

fn linear_cases(weights: DType) -> Vec<Case> {
    let all_forms = matches!(weights, DType::F32 | DType::Q4_0 | DType::Q4K | DType::Q8_0);
    let forms = (0..8).map(|bits| LinearForm { norm: bits & 1 != 0, bias: bits & 2 != 0, residual: bits & 4 != 0 });
    let wanted = forms.filter(|f| all_forms || f.norm == f.bias && f.bias == f.residual);
    wanted
        .map(|f| {
            let parts = [("norm", f.norm), ("bias", f.bias), ("residual", f.residual)];
            let parts: String = parts.iter().filter(|(_, on)| *on).map(|(name, _)| format!("-{name}")).collect();
            base(format!("linear{parts}-{weights}"), KindName::Linear, weights, graphs::linear(weights, f))
        })
        .collect()
}

/// Two products multiplied, so that their errors add up.
fn gate_up(weights: DType, activation: &str) -> Case {
    let text = graphs::gate_up(weights, activation);
    let case = base(format!("gate_up-{activation}-{weights}"), KindName::GateUp, weights, text);
    Case { max_nmse: 4.0 * case.max_nmse, ..case }
}

/// Experts of the common forms, in a few types: products of three matrices in a row, so errors add up.
fn experts() -> Vec<Case> {
    let form = |picked, routing, shared, scaled| ExpertsForm { picked, routing, shared, scaled };
    let forms = [
        (DType::F32, form(2, "softmax", false, false)),
        (DType::Q4_0, form(3, "softmax", false, false)),
        (DType::Q8_0, form(2, "normalised", true, false)),
        (DType::Q4K, form(4, "picked", true, true)),
        (DType::BF16, form(8, "normalised", true, true)),
    ];
    let case = |(weights, form): (DType, ExpertsForm)| {
        let name = format!("experts-{}-{weights}", form.routing);
        let case = base(name, KindName::Experts, weights, graphs::experts(weights, form));
        let steps = case.steps.iter().filter(|s| s.positions.len() <= 33).cloned().collect();
        Case { max_nmse: 8.0 * case.max_nmse, steps, ..case }
    };
    forms.map(case).to_vec()
}

fn head(weights: DType, tail: Tail) -> Case {
    let compare = if tail == Tail::Logits { Compare::Numbers } else { Compare::BestToken };
    let case = base(format!("head-{}-{weights}", tail.name()), KindName::Head, weights, graphs::head(weights));
    Case { tail, compare, ..case }
}

/// Rows with NaN or infinite logits, whose arg-max is `NO_TOKEN`.
fn broken_head(weights: DType, tail: Tail) -> Case {
    let name = format!("head-{}-special-{weights}", tail.name());
    Case { name, text: graphs::broken_head(weights), ..head(weights, tail) }
}

/// Decoding a weight is exact in every back end.
fn embed(weights: DType) -> Case {
    let case = base(format!("embed-{weights}"), KindName::Op(aio_ir::Op::Embed), weights, graphs::embed(weights));
    Case { max_nmse: 1e-12, ..case }
}

/// Keys and values are stored as f16 (error near 1e-7), and attention scores amplify the error of queries and keys.
fn qkv(name: &str, weights: DType, q: QkvForm, a: AttendForm, steps: Vec<CaseStep>) -> Case {
    let case = base(format!("qkv-{name}-{weights}"), KindName::Qkv, weights, graphs::qkv(weights, q, a));
    let max_nmse = if weights.is_quantized() { 5e-4 } else { 1e-6 };
    Case { max_nmse, steps, ..case }
}

fn qkv_variants() -> Vec<Case> {
    let plain = QkvForm::default();
    let forms = [
        ("bias", QkvForm { bias: true, ..plain }),
        ("head-norms", QkvForm { head_norms: true, ..plain }),
        ("bias-head-norms", QkvForm { bias: true, head_norms: true, ..plain }),
        ("halves", QkvForm { pairs: "halves", ..plain }),
        ("part", QkvForm { rope_dims: 16, ..plain }),
        ("part-halves", QkvForm { rope_dims: 16, pairs: "halves", ..plain }),
        ("linear", QkvForm { rope: Rope::Linear, ..plain }),
        ("yarn", QkvForm { rope: Rope::Yarn, pairs: "halves", ..plain }),
        ("factors", QkvForm { factors: true, ..plain }),
        ("size-16", QkvForm { head_size: 16, rope_dims: 16, ..plain }),
        ("size-64", QkvForm { head_size: 64, rope_dims: 64, ..plain }),
        ("size-128", QkvForm { head_size: 128, rope_dims: 128, pairs: "halves", ..plain }),
    ];
    let case =
        |weights: DType| forms.map(|(name, form)| qkv(name, weights, form, AttendForm::default(), mixed_steps()));
    [DType::F32, DType::Q8_0, DType::Q4K].into_iter().flat_map(case).collect()
}

fn attend_variants() -> Vec<Case> {
    let (plain, a) = (QkvForm::default(), AttendForm::default());
    let groups = [("heads-4-of-4", 4), ("heads-4-of-1", 1)];
    let forms = [
        ("window-70", AttendForm { window: 70, ..a }, 300),
        ("window-1", AttendForm { window: 1, ..a }, 66),
        ("soft-cap", AttendForm { soft_cap: 2.0, ..a }, 66),
        ("window-soft-cap", AttendForm { window: 300, soft_cap: 5.0, ..a }, 560),
        ("sinks", AttendForm { sinks: true, ..a }, 66),
        ("context-300", a, 300),
        ("context-1100", a, 1100),
    ];
    let attend = |case: Case, name: &str| Case { name: format!("attend-{name}"), kind: KindName::Attend, ..case };
    let by_group = groups
        .map(|(name, kv_heads)| attend(qkv(name, DType::F32, QkvForm { kv_heads, ..plain }, a, mixed_steps()), name));
    let by_form =
        forms.map(|(name, form, context)| attend(qkv(name, DType::F32, plain, form, long_steps(context)), name));
    by_group.into_iter().chain(by_form).collect()
}

/// F32 weights, so that logits agree to within a few bits and tokens agree exactly.
fn sample_cases() -> Vec<Case> {
    let numbers: [(&str, [f32; 7]); 6] = [
        ("greedy", [0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
        ("penalties", [0.0, 0.0, 1.0, 0.0, 1.5, 0.25, 0.5]),
        ("noise", [0.8, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
        ("top-k", [1.0, 5.0, 1.0, 0.0, 1.0, 0.0, 0.0]),
        ("top-p", [1.0, 0.0, 0.7, 0.0, 1.0, 0.0, 0.0]),
        ("min-p", [1.2, 20.0, 0.9, 0.05, 1.1, 0.0, 0.1]),
    ];
    let case = |(name, sampling): (&str, [f32; 7])| {
        let case =
            base(format!("sample-{name}"), KindName::Op(aio_ir::Op::Sample), DType::F32, graphs::head(DType::F32));
        Case { tail: Tail::Sample, compare: Compare::Tokens, sampling, ..case }
    };
    let broken = |case: Case| {
        let name = format!("{}-special", case.name);
        Case { name, text: graphs::broken_head(DType::F32), ..case }
    };
    numbers.iter().copied().map(case).chain(numbers.iter().copied().map(case).map(broken)).collect()
}

/// Ops that remain separate tasks where no fusion pattern takes them.
fn single_ops() -> [Case; 2] {
    let case =
        |op: aio_ir::Op, text: String| base(format!("{}-alone", op.mnemonic()), KindName::Op(op), DType::F32, text);
    let argmax = case(aio_ir::Op::Argmax, graphs::all_rows_head());
    [Case { tail: Tail::Argmax, compare: Compare::BestToken, ..argmax }, case(aio_ir::Op::Gather, graphs::gathered())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_graphs_are_valid() {
        let cases = cases();
        let names: HashSet<_> = cases.iter().map(|c| &c.name).collect();
        assert_eq!(names.len(), cases.len());
        for case in &cases {
            let parsed = aio_ir::text::parse(&case.text).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            aio_ir::verify(&parsed.graph).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        }
    }

    #[test]
    fn every_op_and_every_fused_kind_has_a_case() {
        let cases = cases();
        let kinds = aio_ir::Op::ALL.iter().map(|&op| KindName::Op(op)).chain(KindName::FUSED.iter().copied());
        let missing = kinds.filter(|kind| !cases.iter().any(|c| c.kind == *kind));
        let missing: Vec<_> = missing.map(KindName::name).collect();
        assert!(missing.is_empty(), "no case for {missing:?}");
    }

    /// A case of a kind that no pattern finds in its graph would test single ops instead.
    #[test]
    fn graphs_of_fused_kinds_fuse() {
        let device = aio_interp::InterpDevice::default();
        let fused = |c: &&Case| c.fuse && KindName::FUSED.contains(&c.kind);
        for case in cases().iter().filter(fused) {
            let Ok((_, family)) = driver::compiled(case, &device, case.bucket()) else { panic!("{}", case.name) };
            let mut tasks = family.plans.iter().flat_map(|p| &p.tasks);
            assert!(tasks.any(|t| t.kind.name() == case.kind), "{}", case.name);
        }
    }

    #[test]
    fn a_filter_picks_by_name() {
        let some = matching("op-cumsum");
        assert!(!some.is_empty() && some.iter().all(|c| c.name.contains("op-cumsum")));
        assert_eq!(matching("").len(), cases().len());
    }

    #[test]
    fn steps_fit_their_bucket_and_pages_are_distinct() {
        for case in cases() {
            for step in &case.steps {
                assert!(case.bucket().holds(&step.dims()), "{}", case.name);
                assert!(step.positions.iter().all(|&p| p < positions_per_sequence()), "{}", case.name);
            }
        }
        let each = POOL_PAGES / 2;
        let pages: HashSet<_> = (0..2).flat_map(|s| (0..each).map(move |i| page(s, i))).collect();
        assert_eq!(pages.len() as u32, POOL_PAGES);
    }
}
