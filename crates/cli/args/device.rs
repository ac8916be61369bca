//! The value of `--device`: the name of one of the registry's devices.

use crate::registry::registry;
use aio::devices::ORACLE;
use clap::Args as ClapArgs;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use std::path::PathBuf;

/// The name of a device in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeviceArg(&'static str);

impl DeviceArg {
    /// The device that exists on every machine.
    pub(crate) const CPU: DeviceArg = DeviceArg("cpu");

    /// The oracle.
    #[cfg(test)]
    pub(crate) const ORACLE: DeviceArg = DeviceArg(ORACLE);

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.0
    }

    /// Whether it is the oracle, which runs graphs without compiling them.
    pub(crate) fn is_oracle(self) -> bool {
        self.0 == ORACLE
    }
}

/// Flags of `--device ascend`.
#[derive(Clone, Debug, Default, ClapArgs)]
pub(crate) struct AscendArgs {
    /// AscendCL for --device ascend: a library file, or the folder of CANN's libraries [default: the simulated Ascend].
    #[arg(long, value_name = "PATH")]
    pub acl_lib: Option<PathBuf>,
    /// How --device ascend gets lengths of sequences into captured graphs: a graph for each bucket of lengths, one whose
    /// attention each step replaces, or whichever is faster for the step [default: auto].
    #[arg(long, value_name = "HOW", value_parser = ["auto", "bucket", "patch"])]
    pub lengths: Option<String>,
    /// Weight matrices of --device ascend: halves, or the file's integers where it has Q8_0 or Q4_0 [default: f16].
    #[arg(long, value_name = "FORM", value_parser = ["f16", "groups"])]
    pub npu_weights: Option<String>,
    /// Chip that the simulated Ascend models [default: 910B3].
    #[arg(long, value_name = "CHIP", value_parser = ["910B1", "910B2", "910B3", "910B4"])]
    pub chip: Option<String>,
    /// Host that the simulated Ascend models: calls from Rust or C, or from PyTorch [default: native].
    #[arg(long, value_name = "HOST", value_parser = ["native", "torch-eager"])]
    pub host: Option<String>,
}

/// Accepts the names in the registry; help and errors list them.
pub(crate) fn parser() -> impl TypedValueParser<Value = DeviceArg> {
    let values = registry().entries().map(|e| PossibleValue::new(e.name()).help(e.summary()));
    PossibleValuesParser::new(values).map(|name: String| {
        let known = registry().names().find(|n| *n == name);
        DeviceArg(known.expect("the parser admits the registry's names alone"))
    })
}
