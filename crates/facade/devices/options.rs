//! Device options as data: those an entry declares, and those a caller sets when opening a device.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Threads of a CPU, including the caller's; 0 or absent means one per core.
pub const THREADS: &str = "threads";
/// The highest instruction set to use; absent means the best available.
pub const ISA: &str = "isa";
/// Folder for compiled kernels; if absent, kernels are compiled at each start.
pub const KERNEL_CACHE: &str = "kernel-cache";
/// Folders to search for the headers that kernels include, best first.
pub const HEADERS: &str = "headers";
/// Whether each kernel waits until the previous one has finished completely.
pub const SERIAL: &str = "serial";
/// The share of first-level memory that kernels request as shared memory, in percent.
pub const CARVEOUT: &str = "carveout";

/// AscendCL: a library file, or the folder of CANN's libraries; absent means the simulated Ascend.
pub const ACL_LIB: &str = "acl-lib";
/// How lengths of sequences get into captured graphs.
pub const LENGTHS: &str = "lengths";
/// The form of weight matrices on the device.
pub const WEIGHTS: &str = "npu-weights";
/// The chip that a simulated device models.
pub const CHIP: &str = "chip";
/// The host that a simulated device models.
pub const HOST: &str = "host";

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionValue {
    /// On or off.
    Flag(bool),
    /// A number.
    Count(u64),
    /// One of several words.
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

/// The values that an option accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionForm {
    /// On or off.
    Flag,
    /// A number up to this maximum.
    Count(u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One folder.
    Folder,
    /// One file or folder.
    Path,
    /// Any number of folders.
    Folders,
}

impl OptionForm {
    /// Whether the value is acceptable.
    pub fn takes(&self, value: &OptionValue) -> bool {
        match (self, value) {
            (OptionForm::Flag, OptionValue::Flag(_)) | (OptionForm::Folders, OptionValue::Folders(_)) => true,
            (OptionForm::Folder | OptionForm::Path, OptionValue::Folders(paths)) => paths.len() == 1,
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
            OptionForm::Path => f.write_str("a file or folder"),
            OptionForm::Folders => f.write_str("folders"),
        }
    }
}

/// An option that a device supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionSpec {
    /// The option's name.
    pub name: &'static str,
    /// The values that it accepts.
    pub form: OptionForm,
}

/// Options to open a device with, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    values: BTreeMap<String, OptionValue>,
}

impl DeviceOptions {
    /// Creates an empty set of options.
    pub fn new() -> DeviceOptions {
        DeviceOptions::default()
    }

    /// Sets an option.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<OptionValue>) -> DeviceOptions {
        self.values.insert(name.to_owned(), value.into());
        self
    }

    /// All options that are set, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OptionValue)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a flag; false if it is not set.
    pub fn flag(&self, name: &str) -> bool {
        self.values.get(name) == Some(&OptionValue::Flag(true))
    }

    /// The value of a number, if it is set.
    pub fn count(&self, name: &str) -> Option<u64> {
        if let Some(OptionValue::Count(count)) = self.values.get(name) { Some(*count) } else { None }
    }

    /// The value of a word, if it is set.
    pub fn word(&self, name: &str) -> Option<&str> {
        if let Some(OptionValue::Word(word)) = self.values.get(name) { Some(word) } else { None }
    }

    /// The value of a list of folders; empty if it is not set.
    pub fn folders(&self, name: &str) -> &[PathBuf] {
        if let Some(OptionValue::Folders(folders)) = self.values.get(name) { folders } else { &[] }
    }
}
