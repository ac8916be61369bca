//! Rotary position embedding by tables of cosines and sines.

use super::arg::{MaybeText, Tensor};
use super::shape::{want_dims, want_float};
use crate::task::Error;
use crate::tensor::exec::Plan;
use crate::tensor::memory::{Memory, Slot};
use crate::tensor::refuse::{invalid, no_kernel};
use crate::tensor::view::View;

/// Which elements of a head turn together.
#[derive(Clone, Copy)]
enum Pairing {
    /// Element `i` with `i + d / 2`.
    Half,
    /// Element `2 i` with `2 i + 1`.
    Interleave,
    /// Both halves turn apart, each by halves.
    Quarter,
}

impl Pairing {
    /// The partner of an element and the sign of the partner's part.
    fn partner(self, i: usize, d: usize) -> (usize, f32) {
        let halves = |i: usize, d: usize| if i < d / 2 { (i + d / 2, -1.0) } else { (i - d / 2, 1.0) };
        match self {
            Self::Half => halves(i, d),
            Self::Interleave => {
                if i.is_multiple_of(2) {
                    (i + 1, -1.0)
                } else {
                    (i - 1, 1.0)
                }
            }
            Self::Quarter => {
                let base = if i < d / 2 { 0 } else { d / 2 };
                let (p, sign) = halves(i - base, d / 2);
                (p + base, sign)
            }
        }
    }
}

fn rotate(pairing: Pairing, memory: &Memory, x: Slot, cos: &View, sin: &View, out: Slot) {
    let d = memory.view(x).last();
    let (cos, sin, x) = (memory.floats_of(cos), memory.floats_of(sin), memory.floats(x));
    let turned: Vec<f32> = (0..x.len())
        .map(|k| {
            let (partner, sign) = pairing.partner(k % d, d);
            x[k] * cos[k] + sign * x[k - k % d + partner] * sin[k]
        })
        .collect();
    memory.put(out, &turned);
}

fn check_head(view: &View, pairing: Pairing) -> Result<(), Error> {
    want_float("x", view)?;
    let multiple = if matches!(pairing, Pairing::Quarter) { 4 } else { 2 };
    if view.rank() == 0 || !view.last().is_multiple_of(multiple) {
        return Err(invalid(format!("the head size of {:?} must be a multiple of {multiple}", view.dims)));
    }
    Ok(())
}

/// Turns `x`; mode 0 pairs halves, 1 neighbours.
pub fn rotary(x: Tensor, cos: Tensor, sin: Tensor, mode: i64, out: Tensor) -> Result<Plan, Error> {
    let pairing = match mode {
        0 => Pairing::Half,
        1 => Pairing::Interleave,
        2 => Pairing::Quarter,
        other => return Err(invalid(format!("mode is {other}, supported: 0, 1, 2"))),
    };
    check_head(&x, pairing)?;
    want_dims("out", &out, &x.dims)?;
    let (wide_cos, wide_sin) = (cos.broadcast(&x.dims)?, sin.broadcast(&x.dims)?);
    let mut plan = Plan::new("rotary");
    let (i, c, s, o) =
        (plan.input("x", &x), plan.input("cos", &cos), plan.input("sin", &sin), plan.output("out", &out));
    Ok(plan.run(4, move |memory| {
        let at = |slot, wide: &View| View { addr: memory.view(slot).addr, ..wide.clone() };
        rotate(pairing, memory, i, &at(c, &wide_cos), &at(s, &wide_sin), o);
        Ok(())
    }))
}

/// Turns queries and keys in place. Layout 1 is BSND, 2 SBND, 3 BNSD, 4 TND; cos and sin have one head.
pub fn apply_rotary(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, layout: i64) -> Result<Plan, Error> {
    apply_rotary_v2(query, key, cos, sin, layout, Some("half".into()))
}

/// The same with a choice of pairing: "half", "interleave" or "quarter".
pub fn apply_rotary_v2(
    query: Tensor,
    key: Tensor,
    cos: Tensor,
    sin: Tensor,
    layout: i64,
    mode: MaybeText,
) -> Result<Plan, Error> {
    let pairing = match mode.as_deref().unwrap_or("half") {
        "half" => Pairing::Half,
        "interleave" => Pairing::Interleave,
        "quarter" => Pairing::Quarter,
        other => return Err(invalid(format!("rotaryMode is \"{other}\", supported: half, interleave, quarter"))),
    };
    let rank = match layout {
        1..=3 => 4,
        4 => 3,
        other => return Err(invalid(format!("layout is {other}, supported: 1 BSND, 2 SBND, 3 BNSD, 4 TND"))),
    };
    for view in [&query, &key] {
        check_head(view, pairing)?;
        if view.rank() != rank {
            return Err(invalid(format!(
                "{:?} has {} dimensions, layout {layout} needs {rank}",
                view.dims,
                view.rank()
            )));
        }
    }
    if cos.last() != query.last() || sin.dims != cos.dims {
        return Err(no_kernel(format!(
            "cos {:?} and sin {:?} must span the head of {}",
            cos.dims,
            sin.dims,
            query.last()
        )));
    }
    let wide = [&query, &key].map(|x| Ok::<_, Error>((cos.broadcast(&x.dims)?, sin.broadcast(&x.dims)?)));
    let [wide_q, wide_k] = wide;
    let (wide_q, wide_k) = (wide_q?, wide_k?);
    let mut plan = Plan::new("rotary");
    let (q, k) = (plan.input("query", &query), plan.input("key", &key));
    let (c, s) = (plan.input("cos", &cos), plan.input("sin", &sin));
    let (out_q, out_k) = (plan.output("queryRef", &query), plan.output("keyRef", &key));
    Ok(plan.run(4, move |memory| {
        let at = |slot, wide: &View| View { addr: memory.view(slot).addr, ..wide.clone() };
        rotate(pairing, memory, q, &at(c, &wide_q.0), &at(s, &wide_q.1), out_q);
        rotate(pairing, memory, k, &at(c, &wide_k.0), &at(s, &wide_k.1), out_k);
        Ok(())
    }))
}
