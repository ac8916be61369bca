//! Typed ids that print as they parse: `%3` is a value, `n7` a node.
//!
//! Ids are created by the table that owns the entities and are meaningful only with it. `Option<Id>` takes four bytes.
//! A macro, so that `aio-plan` can declare further ids (`b2`, `t19`).

/// Declares a dense u32 id type with a printed prefix.
///
/// The id is stored off by one so that `Option<Id>` needs no extra space.
#[macro_export]
macro_rules! entity_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(std::num::NonZeroU32);

        impl $name {
            /// The id of entity number `index` of its table.
            ///
            /// # Panics
            /// If `index` is `u32::MAX` or more; no table is that long.
            pub fn new(index: usize) -> Self {
                let raw = u32::try_from(index).ok().and_then(|i| i.checked_add(1)).and_then(std::num::NonZeroU32::new);
                Self(raw.expect("fewer than 2^32 - 1 entities"))
            }

            /// The entity's index in its table.
            pub fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.index())
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

entity_id! {
    /// An SSA value of a [`Graph`](crate::Graph).
    ValueId, "%"
}

entity_id! {
    /// A node (one application of an op) of a [`Graph`](crate::Graph).
    NodeId, "n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_they_parse_and_options_are_small() {
        assert_eq!(ValueId::new(3).to_string(), "%3");
        assert_eq!(NodeId::new(0).to_string(), "n0");
        assert_eq!(size_of::<Option<ValueId>>(), 4);
        assert_eq!(ValueId::new(7).index(), 7);
    }
}
