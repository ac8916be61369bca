//! The devices known to the command line; their names are the values of `--device`.

use aio::devices::Registry;
use std::sync::LazyLock;

/// All devices.
pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::with_defaults);
    &REGISTRY
}
