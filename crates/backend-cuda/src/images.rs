//! Kernels as data: sources, and cubins where a toolkit was there when the program was built.
//!
//! No crate reaches up for a file, so the package that embeds them hands them down.

/// The unit that runs the kernels of all others inside one.
const BURST: &str = "burst.cu";

/// A source file of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, by which others include it.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// A unit compiled for an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cubin {
    /// The source's name.
    pub unit: &'static str,
    /// Ten times major plus minor.
    pub architecture: u32,
    /// The image.
    pub bytes: &'static [u8],
}

/// All kernels.
#[derive(Clone, Copy, Debug)]
pub struct KernelImages {
    /// Units (`.cu`) and headers.
    pub sources: &'static [Source],
    /// What was compiled with the program; may be empty.
    pub cubins: &'static [Cubin],
}

impl KernelImages {
    /// What serves any model.
    pub(crate) fn units(&self) -> impl Iterator<Item = &'static Source> {
        self.sources.iter().filter(|s| s.name.ends_with(".cu") && s.name != BURST)
    }

    /// What is compiled for each model.
    pub(crate) fn burst(&self) -> Option<&'static Source> {
        self.sources.iter().find(|s| s.name == BURST)
    }

    /// What a unit may include.
    pub(crate) fn others(&self, unit: &Source) -> impl Iterator<Item = &'static Source> {
        let name = unit.name;
        self.sources.iter().filter(move |s| s.name != name)
    }

    pub(crate) fn cubin(&self, unit: &str, architecture: u32) -> Option<&'static [u8]> {
        let found = self.cubins.iter().find(|c| c.unit == unit && c.architecture == architecture);
        found.map(|c| c.bytes)
    }

    /// A hash of all sources, in hexadecimal digits.
    pub(crate) fn hash(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for source in self.sources {
            hash.update(source.name.as_bytes()).update(&[0]).update(source.text.as_bytes()).update(&[0]);
        }
        hash.finalize().to_hex()[..16].to_owned()
    }
}
