//! The value of `--device`: the name of one of the registry's devices.

use crate::registry::registry;
use aio::devices::ORACLE;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

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

/// Accepts the names in the registry; help and errors list them.
pub(crate) fn parser() -> impl TypedValueParser<Value = DeviceArg> {
    let values = registry().entries().map(|e| PossibleValue::new(e.name()).help(e.summary()));
    PossibleValuesParser::new(values).map(|name: String| {
        let known = registry().names().find(|n| *n == name);
        DeviceArg(known.expect("the parser admits the registry's names alone"))
    })
}
