//! Fleets and probes: no room, damaged variants, labels and files that cannot be used.

use crate::Table;
use aio::cpu::{CpuDevice, CpuOptions};
use aio::engine::{Engine, EngineOptions, Flow, Sequence};
use aio::fleet::{Ask, Fleet, FleetError, FleetOptions, LinearHead, Loader, VariantSpec, ZeroShot};
use aio::ir::DType;
use aio::orchestrator::routing::Policy;
use aio_filetest::tiny;
use std::sync::Arc;

fn engine() -> Engine {
    loaded(false)
}

fn loaded(hidden: bool) -> Engine {
    let options =
        EngineOptions { context: Some(64), prefill_rows: 64, sequences: 2, hidden, ..EngineOptions::default() };
    let device = CpuDevice::new(CpuOptions { threads: 1, ..CpuOptions::default() }).unwrap();
    tiny::engine("smollm2-135m", DType::Q8_0, Arc::new(device), &options)
}

fn fleet(names: &[&str], variant: &str, budget: u64) -> Result<Fleet, FleetError> {
    let policy = Policy::from_toml(&format!("name = \"p\"\n[default]\nvariant = \"{variant}\"")).unwrap();
    let spec = |name: &&str| VariantSpec { name: (*name).to_owned(), weight_bytes: 5, need: 5 };
    let loader: Loader =
        Arc::new(|name| if name == "broken" { Err("the file is damaged".into()) } else { Ok(engine()) });
    Fleet::load(names.iter().map(spec).collect(), policy, loader, FleetOptions { budget })
}

pub(crate) fn cause(table: &mut Table) {
    for (names, variant, budget) in [
        (&[][..], "largest", 9),
        (&["a", "a"], "largest", 99),
        (&["a"], "largest", 4),
        (&["broken"], "largest", 9),
        (&["a"], "b", 9),
    ] {
        table.add("FleetError", fleet(names, variant, budget).unwrap_err());
    }
    let mut small = fleet(&["a"], "largest", 9).unwrap();
    table.add("FleetError", small.route(&Ask::new("x", 64, 60)).unwrap_err());
    let asks = Ask { variant: Some("huge"), ..Ask::new("x", 6, 6) };
    table.add("FleetError", small.route(&asks).unwrap_err());
    table.add("FleetError", LinearHead::from_json("{}").unwrap_err());
    let own = engine();
    table.add("FleetError", ZeroShot::new(&own, &["x".to_owned(), "x".to_owned()]).unwrap_err());
    let samples = ["a", "b"].map(|name| (name.to_owned(), name.to_owned()));
    let read = loaded(true);
    table.add("FleetError", LinearHead::train(&read, &samples, 0.01, &mut || Flow::Stop).unwrap_err());
    table.add("FleetError", FleetError::from(own.reserve(&mut Sequence::new(), 1 << 20).unwrap_err()));
}
