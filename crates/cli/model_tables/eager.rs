//! Time of a step that an engine launches operator by operator, or replays as a graph, from enumerated operators.

use super::constants::Costs;
use super::operators::{Line, Operators};
use aio::model::synth::Preset;

/// Bytes that each operator of a step moves, in order.
pub(crate) fn bytes(operators: &Operators, preset: &Preset, context: u32) -> Vec<f64> {
    let layers = (0..preset.block_count).flat_map(|_| operators.layer);
    let lines = operators.before.iter().chain(layers).chain(operators.after);
    let each = |line: &Line| {
        // Keys and values are two operators of one line when they are copied, one when attention reads both.
        let all = line.moves.bytes(preset, f64::from(context));
        std::iter::repeat_n(all, line.count())
    };
    lines.flat_map(each).collect()
}

/// Seconds of a kernel.
fn kernel(bytes: f64, costs: &Costs) -> f64 {
    (bytes / costs.hbm).max(costs.floor)
}

/// Seconds until the last of these operators has run: the host launches them one after the other, and the device runs
/// each once it was launched and the one before has ended.
pub(crate) fn launched(bytes: &[f64], costs: &Costs) -> f64 {
    let (mut host, mut device) = (0.0, 0.0);
    for &moved in bytes {
        host += costs.launch;
        device = f64::max(host, device + costs.gap) + kernel(moved, costs);
    }
    device + costs.sync
}

/// Seconds of the same operators as one graph.
pub(crate) fn replayed(bytes: &[f64], costs: &Costs) -> f64 {
    let device: f64 = bytes.iter().map(|&moved| kernel(moved, costs) + costs.gap).sum();
    costs.replay + costs.replay_task * bytes.len() as f64 + device + costs.sync
}

/// Seconds of a copy to the host.
pub(crate) fn copied(bytes: f64, costs: &Costs) -> f64 {
    costs.copy_base + bytes / costs.copy_rate
}

/// The argument between `low` and `high` at which a rising function reaches `wanted`; `None` if it does not.
pub(crate) fn reaches(wanted: f64, (low, high): (f64, f64), rising: impl Fn(f64) -> f64) -> Option<f64> {
    if !(rising(low)..=rising(high)).contains(&wanted) {
        return None;
    }
    let (mut low, mut high) = (low, high);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if rising(middle) < wanted { low = middle } else { high = middle }
    }
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::super::operators::PANGU_GENERATE;
    use super::*;

    const COSTS: Costs = Costs {
        launch: 10e-6,
        sync: 100e-6,
        replay: 20e-6,
        replay_task: 0.0,
        gap: 2e-6,
        floor: 4e-6,
        hbm: 1.25e12,
        copy_base: 10e-6,
        copy_rate: 25e9,
    };

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_slower_of_host_and_device_gives_the_time() {
        assert!(near(launched(&[0.0; 10], &COSTS), 100e-6 + 4e-6 + 100e-6));
        // Two kernels of 100 us: the second waits for the first.
        assert!(near(launched(&[1.25e8; 2], &COSTS), 10e-6 + 100e-6 + 2e-6 + 100e-6 + 100e-6));
        assert!(near(replayed(&[0.0; 10], &COSTS), 20e-6 + 60e-6 + 100e-6));
    }

    #[test]
    fn a_rising_function_is_inverted() {
        assert!(near(reaches(9.0, (0.0, 10.0), |x| x * x).unwrap_or_default(), 3.0));
        assert_eq!(reaches(200.0, (0.0, 10.0), |x| x * x), None);
    }

    #[test]
    fn the_ratio_of_the_models_holds_for_any_operator_cost() {
        let preset = |name| Preset::find(name).expect("a preset");
        let moved = ["pangu-1b", "pangu-7b"].map(|name| bytes(&PANGU_GENERATE, &preset(name), 2048));
        for us in 16..=45 {
            let costs = Costs { launch: f64::from(us) * 1e-6, ..COSTS };
            let [small, large] = [&moved[0], &moved[1]].map(|m| launched(m, &costs));
            let ratio = large / small;
            assert!((ratio / 1.26 - 1.0).abs() <= 0.10, "{us} us: {ratio}");
        }
    }
}
