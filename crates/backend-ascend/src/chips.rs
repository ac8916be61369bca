//! Peak rates of chips by name, from which predictions begin before any step has run. Called by the device.

use aio_plan::Ceilings;

/// Chips with the bytes per second that copies reach (78 % of the nominal), and the cube's multiply-adds per second of halves.
const CHIPS: [(&str, f64, f64); 4] = [
    ("Ascend910B1", 1.25e12, 182e12),
    ("Ascend910B2", 1.25e12, 177e12),
    ("Ascend910B3", 1.25e12, 147e12),
    ("Ascend910B4", 0.625e12, 123e12),
];

/// The rates of a chip; `None` if it is another.
pub(crate) fn ceilings(chip: &str) -> Option<Ceilings> {
    let known = CHIPS.iter().find(|(name, ..)| chip.starts_with(name));
    known.map(|&(_, bandwidth, peak)| Ceilings { bandwidth, peak })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_of_a_chip_have_its_rates_and_unknown_chips_none() {
        assert_eq!(ceilings("Ascend910B4-1").map(|c| c.bandwidth), Some(0.625e12));
        assert_eq!(ceilings("Ascend310P3"), None);
    }
}
