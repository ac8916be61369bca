#![allow(clippy::unwrap_used, missing_docs)]
use aio_orchestrator::{CostModel, Recording, StepTime};
#[test]
fn debug() {
    let text = std::fs::read_to_string(std::env::var("REC").unwrap()).unwrap();
    let recording = Recording::parse(&text).unwrap();
    let mut model = CostModel::new(recording.head.work);
    for (at, step) in recording.steps.iter().filter(|s| s.reads.is_some()).enumerate() {
        let p = model.predict(step.size()).0;
        let s = step.size();
        println!("D {at} {} {} {} {:.3} {:.3} {:.1} {:?}", s.sequences, s.rows, s.positions, step.seconds * 1e3, p * 1e3, (p / step.seconds - 1.0) * 100.0, step.reads.unwrap().map(|r| (r * 1e4).round() / 10.0));
        model.observe(step.size(), StepTime::Measured(step.seconds));
    }
}
