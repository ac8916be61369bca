//! Sweeps whose result is a boundary: what re-binding may cost, and how long a synchronise may take.

use super::eager::reaches;
use super::setting::Setting;
use super::walk::{Form, Rows, Walk};
use crate::section::{Section, cells};
use crate::table::Table;
use aio::model::synth::Preset;
use anyhow::{Context as _, Result};

pub(super) fn sections(_: &Setting<'_>) -> Result<Vec<Section>> {
    Ok(vec![rebinding()?, drafts()?])
}

/// A decoder of 20 layers. Its dimensions are assumed: those of Qwen3-0.6B.
fn decoder() -> Result<Preset> {
    let base = super::walk::preset("qwen3-0.6b")?;
    Ok(Preset { name: "decoder-20".to_owned(), block_count: 20, ..base })
}

const CONTEXTS: [u32; 4] = [300, 2048, 8192, 32_768];
/// Microseconds of re-binding a layer.
const REBINDING_US: [u32; 6] = [0, 20, 48, 92, 184, 368];
/// Microseconds between the costs that are walked.
const STEP_US: u32 = 4;

/// Every cost that is walked.
fn walked() -> impl Iterator<Item = u32> {
    (0..=REBINDING_US[REBINDING_US.len() - 1]).step_by(STEP_US as usize)
}

/// Patched against bucketed lengths, by context and cost of re-binding a layer.
fn rebinding() -> Result<Section> {
    let chip = "910B3";
    let mut times = Vec::new();
    for form in [Form::GRAPH, Form::PATCH] {
        let mut walk = Walk::new(chip, &decoder()?, form, &[1])?;
        walk.host("torch-eager")?;
        times.push(CONTEXTS.iter().map(|&len| patched(&mut walk, len)).collect::<Result<Vec<_>>>()?);
    }
    let (bucket, patch) = (&times[0], &times[1]);
    let mut rows = Vec::new();
    for (i, context) in CONTEXTS.iter().enumerate() {
        let ratios: Vec<f64> = patch[i].iter().zip(&bucket[i]).map(|(p, b)| p / b).collect();
        let mut row = cells![context, format!("{:.2}", bucket[i][0] * 1e3)];
        row.extend(REBINDING_US.iter().map(|us| format!("{:.3}", ratios[(us / STEP_US) as usize])));
        row.push(boundary(&walked().map(f64::from).collect::<Vec<_>>(), &ratios));
        rows.push(row);
    }
    let title = "Modelled: a 20-layer decoder, patched over bucketed lengths, by what re-binding a layer costs";
    let heads =
        vec![">context", ">bucket ms", ">0 us", ">20 us", ">48 us", ">92 us", ">184 us", ">368 us", ">breaks even at"];
    let notes = vec![
        "910B3, torch-eager host, batch 1. Assumed: the dimensions of Qwen3-0.6B with 20 layers. Published (vllm-ascend RFC \
         13058): 20 layers at 184 us each take 3.68 ms a step, replay 1.21 ms; its dimensions are not known."
            .to_owned(),
        "Above the boundary, buckets are faster. The host re-binds while the device runs, so re-binding is free until the \
         host becomes the slower of the two. Of the two synchronises a step that vllm-ascend takes, ours takes one."
            .to_owned(),
    ];
    Ok(Section { table: Table { title, heads, rows }, notes })
}

/// Seconds of a step for each cost of re-binding.
fn patched(walk: &mut Walk, len: u32) -> Result<Vec<f64>> {
    walk.constant("launch_ns", 0.0)?;
    walk.constant("event_ns", 0.0)?;
    let at = |us: u32| {
        walk.constant("update_ns", f64::from(us) * 1e3)?;
        walk.decode(len)
    };
    walked().map(at).collect()
}

/// Where ratios over rising costs reach 1, between the costs by straight lines.
fn boundary(costs: &[f64], ratios: &[f64]) -> String {
    let value = |x: f64| interpolated(costs, ratios, x);
    match (costs.first(), costs.last()) {
        (Some(&low), Some(_)) if value(low) > 1.0 => "below the sweep".to_owned(),
        (Some(&low), Some(&high)) => {
            reaches(1.0, (low, high), value).map_or_else(|| "above the sweep".to_owned(), |us| format!("{us:.0} us"))
        }
        _ => String::new(),
    }
}

fn interpolated(xs: &[f64], ys: &[f64], x: f64) -> f64 {
    let after = xs.partition_point(|&known| known < x).clamp(1, xs.len() - 1);
    let (x0, x1, y0, y1) = (xs[after - 1], xs[after], ys[after - 1], ys[after]);
    y0 + (y1 - y0) * (x - x0) / (x1 - x0)
}

/// Constants of a device like a 310P. Assumed from public descriptions of cards with LPDDR4X.
const LIKE_310P: [(&str, f64); 4] =
    [("hbm_bytes_per_s", 160e9), ("l2_bytes_per_s", 640e9), ("cube_flops_per_s", 70e12), ("vector_ops_per_s", 0.5e12)];
const ACCEPTANCE: [f64; 8] = [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Drafts of a step.
const DRAFTS: u32 = 2;
const DRAFT_CONTEXT: u32 = 1024;

/// Two models that draft by multi-token prediction. Dimensions are assumed.
fn drafting() -> Result<[Preset; 2]> {
    let base = super::walk::preset("qwen3-0.6b")?;
    let small = Preset {
        name: "2b".to_owned(),
        block_count: 28,
        embedding_length: 2048,
        feed_forward_length: 8192,
        head_count: 16,
        head_count_kv: 4,
        ..base.clone()
    };
    let large = Preset {
        name: "9b".to_owned(),
        block_count: 40,
        embedding_length: 4096,
        feed_forward_length: 14_336,
        head_count: 32,
        head_count_kv: 8,
        ..base
    };
    Ok([small, large])
}

/// Seconds of a step without drafts, of one that verifies, and of one draft.
#[derive(Clone, Copy, Debug)]
struct Drafting {
    plain: f64,
    verify: f64,
    draft: f64,
}

impl Drafting {
    fn of(shape: &Preset) -> Result<Drafting> {
        let walked = |shape: &Preset, rows: &[u32]| {
            let mut walk = Walk::new("910B4", shape, Form::GRAPH, rows)?;
            walk.host("torch-eager")?;
            for (name, value) in LIKE_310P {
                walk.constant(name, value)?;
            }
            let steps = rows.iter().enumerate();
            steps.map(|(i, &rows)| walk.step(i, &[Rows { rows, len: DRAFT_CONTEXT }])).collect::<Result<Vec<_>>>()
        };
        let whole = walked(shape, &[1, DRAFTS + 1])?;
        let one = walked(&Preset { block_count: 1, ..shape.clone() }, &[1])?;
        let [plain, verify] = whole[..] else { anyhow::bail!("two steps have two times") };
        Ok(Drafting { plain, verify, draft: *one.first().context("a step has a time")? })
    }

    /// The seconds that a synchronise may take at an acceptance; below zero if drafts lose without any.
    fn allows(&self, acceptance: f64) -> f64 {
        tokens(acceptance) * self.plain - self.verify - f64::from(DRAFTS) * self.draft
    }
}

/// Tokens of a step whose drafts are accepted one after the other with this probability.
fn tokens(acceptance: f64) -> f64 {
    (0..=DRAFTS as i32).map(|i| acceptance.powi(i)).sum()
}

fn drafts() -> Result<Section> {
    let [small, large] = drafting()?.map(|shape| Drafting::of(&shape));
    let (small, large) = (small?, large?);
    let ms = |s: f64| if s < 0.0 { "loses without any".to_owned() } else { format!("{:.2}", s * 1e3) };
    let row = |&acceptance: &f64| {
        let (least, most) = (small.allows(acceptance), large.allows(acceptance));
        let between = if most <= 0.0 || most <= least {
            "nowhere".to_owned()
        } else {
            format!("{:.2} to {:.2} ms", least.max(0.0) * 1e3, most * 1e3)
        };
        cells![acceptance, format!("{:.2}", tokens(acceptance)), ms(least), ms(most), between]
    };
    let rows = ACCEPTANCE.iter().map(row).collect();
    let title = "Modelled: multi-token drafts on a device like a 310P, by acceptance: the synchronise that breaks even";
    let heads = vec![
        ">acceptance",
        ">tokens a step",
        ">2B breaks even at, ms",
        ">9B breaks even at, ms",
        "2B loses and 9B gains between",
    ];
    let said = |name: &str, d: &Drafting| {
        format!(
            "{name}: step {:.2} ms, with {DRAFTS} drafts {:.2} ms, a draft {:.2} ms",
            d.plain * 1e3,
            d.verify * 1e3,
            d.draft * 1e3
        )
    };
    let notes = vec![
        format!("{}; {}. Context 1024, torch-eager host, one graph a step.", said("2B", &small), said("9B", &large)),
        "Assumed: 160 GB/s of memory (0.78 of 204.8), 640 GB/s of L2, 70 TFLOPS fp16, 0.5 T vector operations/s, all else as \
         910B4. 2B: 28 layers of 2048, feed-forward 8192, 16 heads, 4 of keys; 9B: 40 layers of 4096, 14336, 32, 8; \
         vocabulary 151936, tied. A draft is a step of one layer and the head. A step without drafts hides the device-wide \
         synchronise behind the next step, one with drafts pays for it. Published (vllm-ascend PR 17051) without figures: a \
         2B model lost, a 9B gained."
            .to_owned(),
    ];
    Ok(Section { table: Table { title, heads, rows }, notes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boundary_lies_where_the_ratio_is_one() {
        assert_eq!(boundary(&[0.0, 10.0, 20.0], &[0.5, 0.9, 1.1]), "15 us");
        assert_eq!(boundary(&[0.0, 10.0], &[1.1, 1.2]), "below the sweep");
        assert_eq!(boundary(&[0.0, 10.0], &[0.1, 0.2]), "above the sweep");
    }

    #[test]
    fn a_synchronise_may_take_what_accepted_drafts_save() {
        let d = Drafting { plain: 10.0, verify: 11.0, draft: 1.0 };
        assert_eq!(tokens(0.0), 1.0);
        assert_eq!(tokens(1.0), 3.0);
        assert_eq!(d.allows(1.0), 17.0);
        assert!(d.allows(0.0) < 0.0);
    }
}
