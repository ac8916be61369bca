//! What the tables are made for.

/// What the tables are made for.
pub(crate) struct Setting<'a> {
    pub chip: &'a str,
    pub hosts: Vec<&'a str>,
}
