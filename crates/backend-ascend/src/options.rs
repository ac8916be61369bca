//! Options for opening an NPU, set by the registry entry and by tests.
//!
//! The simulated Ascend is one per process, so its chip and host are those of the device that was opened last.

use crate::shape::Lengths;

/// Options for opening an NPU.
#[derive(Clone, Copy, Debug)]
pub struct AscendOptions {
    /// Its number.
    pub number: u32,
    /// How lengths of sequences get into captured graphs; `None` offers each step both ways, for the engine to choose.
    pub lengths: Option<Lengths>,
    /// Whether matrices of Q8_0 and Q4_0 keep their integers; otherwise all become halves.
    pub groups: bool,
    /// Whether steps are captured; otherwise each operator is launched by itself, with one wait at the end of the step, as
    /// an engine without graphs does it.
    pub graphs: bool,
    /// On the simulated Ascend: walks steps for their modelled time and computes nothing. Weights are neither read nor
    /// uploaded, so a model needs none.
    pub dry: bool,
    /// The chip that the simulated Ascend models: 910B1, 910B2, 910B3 or 910B4.
    pub chip: &'static str,
    /// The host that it models: native or torch-eager.
    pub host: &'static str,
}

impl Default for AscendOptions {
    fn default() -> AscendOptions {
        AscendOptions {
            number: 0,
            lengths: None,
            groups: false,
            graphs: true,
            dry: false,
            chip: "910B3",
            host: "native",
        }
    }
}
