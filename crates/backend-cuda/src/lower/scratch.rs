//! Scratch memory: regions that tasks use one after the other, each as large as the largest use.
//!
//! All plans of a model share it, each with borders of its own, so whatever lies there is gone after a step. What must be
//! zero between launches lies in the executable's own memory instead.

/// What a piece of scratch memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// Counters of blocks that are done: zero before and after every launch.
    Tickets,
    /// The best token of each row so far: likewise.
    Best,
    /// Prepared rows of the product under way.
    Acts,
    /// Rows that a task leaves prepared for the next one.
    Chained,
    /// Products before rotation.
    Raw,
    /// Partial results of attention.
    Partials,
    /// Rank keys of sampling.
    Keys,
    /// Rows after their norm, for forms that are prepared in several launches.
    Normed,
    /// Rows twice over.
    Doubled,
    /// Rotation tables and cuts, which last for the whole step.
    Tables,
}

/// The regions of zeros are the first.
const ZEROS: usize = Region::Best as usize + 1;
const REGIONS: usize = Region::Tables as usize + 1;
/// Where regions and tables begin.
const ALIGNMENT: u64 = 256;

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    starts: [u64; REGIONS],
    needs: [u64; REGIONS],
    /// Bytes of the regions of zeros, and of all others.
    zero_bytes: u64,
    bytes: u64,
}

impl Scratch {
    /// Room in a region, which later tasks use too; its address.
    pub(crate) fn take(&mut self, region: Region, bytes: u64) -> u64 {
        let need = &mut self.needs[region as usize];
        *need = (*need).max(bytes);
        self.starts[region as usize]
    }

    /// Room among the tables, for this use alone.
    pub(crate) fn keep(&mut self, bytes: u64) -> u64 {
        let need = &mut self.needs[Region::Tables as usize];
        let at = *need;
        *need = (at + bytes).next_multiple_of(ALIGNMENT);
        self.starts[Region::Tables as usize] + at
    }

    /// Empty regions of the sizes that these have grown to, one after the other: those of zeros from `zeros` on, the others
    /// from `base` on.
    pub(crate) fn placed(&self, base: u64, zeros: u64) -> Scratch {
        let mut placed = Scratch::default();
        let (mut zero_end, mut end) = (zeros, base);
        for (i, (start, need)) in placed.starts.iter_mut().zip(self.needs).enumerate() {
            let end = if i < ZEROS { &mut zero_end } else { &mut end };
            *start = *end;
            *end = (*end + need).next_multiple_of(ALIGNMENT);
        }
        Scratch { zero_bytes: zero_end - zeros, bytes: end - base, ..placed }
    }

    /// Bytes of the regions that plans share.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Bytes of the regions of zeros.
    pub(crate) fn zero_bytes(&self) -> usize {
        self.zero_bytes as usize
    }
}
