//! Which kernel runs a task, and why, as devices tell reports. Nothing is decided by it.

/// The kernel that runs a task of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelChoice {
    /// Its name, in parts that slashes separate: what it is compiled for, what it works on, its tile.
    pub name: String,
    /// Why it runs, in words.
    pub why: String,
}
