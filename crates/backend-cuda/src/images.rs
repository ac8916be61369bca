//! Kernels as data: sources, and cubins if a toolkit was available at build time.
//!
//! No crate reads files outside its folder, so the package that embeds the kernels passes them down.

/// The unit that runs the kernels of all others in one kernel.
const BURST: &str = "burst.cu";

/// A source file of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name by which others include it.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// A unit compiled for one architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cubin {
    /// The source's name.
    pub unit: &'static str,
    /// Architecture, ten times major plus minor.
    pub architecture: u32,
    /// The image.
    pub bytes: &'static [u8],
}

/// All kernels.
#[derive(Clone, Copy, Debug)]
pub struct KernelImages {
    /// Units (`.cu`) and headers.
    pub sources: &'static [Source],
    /// Cubins built with the program; may be empty.
    pub cubins: &'static [Cubin],
}

impl KernelImages {
    /// The units that every model uses.
    pub(crate) fn units(&self) -> impl Iterator<Item = &'static Source> {
        self.sources.iter().filter(|s| s.name.ends_with(".cu") && s.name != BURST)
    }

    /// The unit compiled for each model.
    pub(crate) fn burst(&self) -> Option<&'static Source> {
        self.sources.iter().find(|s| s.name == BURST)
    }

    /// The files that a unit may include.
    pub(crate) fn others(&self, unit: &Source) -> impl Iterator<Item = &'static Source> {
        let name = unit.name;
        self.sources.iter().filter(move |s| s.name != name)
    }

    /// The image of a unit for a GPU: for its own architecture, or else the newest older one of the same major version.
    pub(crate) fn cubin(&self, unit: &str, architecture: u32) -> Option<&'static [u8]> {
        let runs = |c: &&Cubin| c.architecture / 10 == architecture / 10 && c.architecture <= architecture;
        let found = self.cubins.iter().filter(|c| c.unit == unit).filter(runs);
        found.max_by_key(|c| c.architecture).map(|c| c.bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_runs_images_of_its_major_version() {
        const fn image(architecture: u32, bytes: &'static [u8]) -> Cubin {
            Cubin { unit: "a.cu", architecture, bytes }
        }
        const CUBINS: &[Cubin] = &[image(80, b"80"), image(89, b"89"), image(90, b"90")];
        let images = KernelImages { sources: &[], cubins: CUBINS };
        let of = |architecture| images.cubin("a.cu", architecture);
        assert_eq!([of(80), of(86), of(89)], [Some(&b"80"[..]), Some(b"80"), Some(b"89")]);
        assert_eq!([of(90), of(100), of(75)], [Some(&b"90"[..]), None, None]);
        assert_eq!(images.cubin("b.cu", 80), None);
    }
}
