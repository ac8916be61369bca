//! Options of devices as data: what an entry declares, and what whoever opens a device sets.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Threads of a CPU, the caller's included; 0 or absent for one a core.
pub const THREADS: &str = "threads";
/// The highest instruction set to use; absent for the best there is.
pub const ISA: &str = "isa";
/// The folder in which compiled kernels are kept; absent compiles them at each start.
pub const KERNEL_CACHE: &str = "kernel-cache";
/// Folders that may have the headers that kernels include, the best first.
pub const HEADERS: &str = "headers";
/// Whether each kernel waits for the whole end of the one before it.
pub const SERIAL: &str = "serial";
/// The share of first-level memory that kernels ask for as shared memory, in percent.
pub const CARVEOUT: &str = "carveout";

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// On or off.
    Flag(bool),
    /// A number.
    Count(u64),
    /// One word of several.
    Word(String),
    /// Folders, in order.
    Folders(Vec<PathBuf>),
}

impl From<bool> for OptionValue {
    fn from(on: bool) -> OptionValue {
        OptionValue::Flag(on)
    }
}

impl From<u32> for OptionValue {
    fn from(count: u32) -> OptionValue {
        OptionValue::Count(count.into())
    }
}

impl From<&str> for OptionValue {
    fn from(word: &str) -> OptionValue {
        OptionValue::Word(word.to_owned())
    }
}

impl From<PathBuf> for OptionValue {
    fn from(folder: PathBuf) -> OptionValue {
        OptionValue::Folders(vec![folder])
    }
}

impl From<Vec<PathBuf>> for OptionValue {
    fn from(folders: Vec<PathBuf>) -> OptionValue {
        OptionValue::Folders(folders)
    }
}

/// Which values an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionForm {
    /// On or off.
    Flag,
    /// A number up to this one.
    Count(u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One folder.
    Folder,
    /// Any number of folders.
    Folders,
}

impl OptionForm {
    /// Whether it takes the value.
    pub fn takes(&self, value: &OptionValue) -> bool {
        match (self, value) {
            (OptionForm::Flag, OptionValue::Flag(_)) | (OptionForm::Folders, OptionValue::Folders(_)) => true,
            (OptionForm::Folder, OptionValue::Folders(folders)) => folders.len() == 1,
            (OptionForm::Count(most), OptionValue::Count(count)) => count <= most,
            (OptionForm::Word(words), OptionValue::Word(word)) => words.contains(&word.as_str()),
            _ => false,
        }
    }
}

impl fmt::Display for OptionForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionForm::Flag => f.write_str("true or false"),
            OptionForm::Count(most) => write!(f, "a number from 0 to {most}"),
            OptionForm::Word(words) => f.write_str(&words.join(", ")),
            OptionForm::Folder => f.write_str("a folder"),
            OptionForm::Folders => f.write_str("folders"),
        }
    }
}

/// An option that a device has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// Its name.
    pub name: &'static str,
    /// Which values it takes.
    pub form: OptionForm,
}

/// Options to open a device with, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    values: BTreeMap<String, OptionValue>,
}

impl DeviceOptions {
    /// None set.
    pub fn new() -> DeviceOptions {
        DeviceOptions::default()
    }

    /// With an option set.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OptionValue>) -> DeviceOptions {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    /// All that are set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A switch; off where it is not set.
    pub fn flag(&self, name: &str) -> bool {
        self.values.get(name) == Some(&OptionValue::Flag(true))
    }

    /// A number that is set.
    pub fn count(&self, name: &str) -> Option<u64> {
        if let Some(OptionValue::Count(count)) = self.values.get(name) { Some(*count) } else { None }
    }

    /// A word that is set.
    pub fn word(&self, name: &str) -> Option<&str> {
        if let Some(OptionValue::Word(word)) = self.values.get(name) { Some(word) } else { None }
    }

    /// Folders that are set.
    pub fn folders(&self, name: &str) -> &[PathBuf] {
        if let Some(OptionValue::Folders(folders)) = self.values.get(name) { folders } else { &[] }
    }
}
