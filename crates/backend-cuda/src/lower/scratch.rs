//! Scratch memory: regions that tasks use in turn, each as large as its largest use.
//!
//! All plans of a model share it, with different region boundaries, so its contents do not survive a step. Memory that
//! must be zero between launches belongs to the executable instead.

/// The purpose of a region of scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// Counters of finished blocks; zero before and after every launch.
    Tickets,
    /// The best token of each row so far; zero before and after every launch.
    Best,
    /// Prepared rows of the current product.
    Acts,
    /// Rows that a task prepares for the next one.
    Chained,
    /// Products before rotation.
    Raw,
    /// Partial results of attention.
    Partials,
    /// Rank keys of sampling.
    Keys,
    /// Rows after their norm, for forms that are prepared in several launches.
    Normed,
    /// Repeated rows.
    Doubled,
    /// Rotation tables and attention partitions, valid for the whole step.
    Tables,
}

/// The zeroed regions come first.
const ZEROS: usize = Region::Best as usize + 1;
const REGIONS: usize = Region::Tables as usize + 1;
/// Alignment of regions and tables.
const ALIGNMENT: u64 = 256;

/// The scratch memory of a plan. See the module docs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    starts: [u64; REGIONS],
    needs: [u64; REGIONS],
    /// Size in bytes of the zeroed regions, and of all others.
    zero_bytes: u64,
    bytes: u64,
}

impl Scratch {
    /// Reserves space in a region shared by later tasks, and returns its address.
    pub(crate) fn take(&mut self, region: Region, bytes: u64) -> u64 {
        let need = &mut self.needs[region as usize];
        *need = (*need).max(bytes);
        self.starts[region as usize]
    }

    /// Reserves exclusive space among the tables.
    pub(crate) fn keep(&mut self, bytes: u64) -> u64 {
        let need = &mut self.needs[Region::Tables as usize];
        let at = *need;
        *need = (at + bytes).next_multiple_of(ALIGNMENT);
        self.starts[Region::Tables as usize] + at
    }

    /// Empty regions of the sizes reached here, laid out in sequence: the zeroed ones from `zeros` on, the others from
    /// `base` on.
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

    /// Size in bytes of the regions that plans share.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Size in bytes of the zeroed regions.
    pub(crate) fn zero_bytes(&self) -> usize {
        self.zero_bytes as usize
    }
}
