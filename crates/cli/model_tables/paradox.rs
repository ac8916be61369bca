//! The paradox and its cure: the small and the large model by dispatch, from eager operators to one graph a step.

use super::constants::{Constants, Point};
use super::eager::{bytes, launched};
use super::operators::PANGU_GENERATE;
use super::setting::Setting;
use super::walk::{Form, Walk, preset};
use crate::section::{Section, cells};
use crate::table::Table;
use anyhow::Result;

const CONTEXT: u32 = 2048;
const MODELS: [&str; 2] = ["pangu-1b", "pangu-7b"];

pub(super) fn sections(setting: &Setting<'_>) -> Result<Vec<Section>> {
    let eager = Constants::of(setting.chip, "torch-eager")?.costs(Point::Value)?;
    let published = MODELS.map(|m| preset(m).map(|p| launched(&bytes(&PANGU_GENERATE, &p, CONTEXT), &eager)));
    let [small, large] = published;
    let mut rows = vec![row("eager, the model's own operators", "torch-eager", [small?, large?])];
    let op = Form { graphs: false, fuse: false, ..Form::GRAPH };
    let forms = [
        ("eager, our plan without fusion", op),
        ("eager, our fused plan", Form { graphs: false, ..Form::GRAPH }),
        ("one graph a step", Form::GRAPH),
    ];
    for (what, form) in forms {
        let mut times = Vec::new();
        for model in MODELS {
            let mut walk = Walk::new(setting.chip, &preset(model)?, form, &[1])?;
            for host in &setting.hosts {
                walk.host(host)?;
                times.push(walk.decode(CONTEXT)?);
            }
        }
        let hosts = setting.hosts.len();
        rows.extend(setting.hosts.iter().enumerate().map(|(i, host)| row(what, host, [times[i], times[hosts + i]])));
    }
    let title = "Modelled: the paradox and its cure, decode at 2048 positions";
    let heads = vec!["dispatch", "host", ">1B ms", ">7B ms", ">1B tok/s", ">7B tok/s", ">speed of 1B over 7B"];
    let notes = vec![
        "Eager, the host sets the time and the ratio is that of the layers. With one graph a step the device does, and the \
         ratio moves towards that of the bytes (6.4). The rest of the way is kernel floors and gaps between tasks, which \
         the small model has nearly as many of."
            .to_owned(),
    ];
    Ok(vec![Section { table: Table { title, heads, rows }, notes }])
}

fn row(what: &str, host: &str, [small, large]: [f64; 2]) -> Vec<String> {
    let (ms, rate) = (|s: f64| format!("{:.2}", s * 1e3), |s: f64| format!("{:.1}", 1.0 / s));
    cells![what, host, ms(small), ms(large), rate(small), rate(large), format!("{:.2}", large / small)]
}
