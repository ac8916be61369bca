//! Scratch memory: regions that tasks use one after the other, each as large as the largest use.

/// What a piece of scratch memory is for. The first two are zero before and after every launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// Counters of blocks that are done.
    Tickets,
    /// The best token of each row so far.
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

const REGIONS: usize = Region::Tables as usize + 1;
/// Where regions and tables begin.
const ALIGNMENT: u64 = 256;

/// See the module's header.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    starts: [u64; REGIONS],
    needs: [u64; REGIONS],
    end: u64,
    base: u64,
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

    /// Empty regions of the sizes that these have grown to, one after the other from `base` on.
    pub(crate) fn placed(&self, base: u64) -> Scratch {
        let mut placed = Scratch { base, end: base, ..Scratch::default() };
        for (start, need) in placed.starts.iter_mut().zip(self.needs) {
            *start = placed.end;
            placed.end = (placed.end + need).next_multiple_of(ALIGNMENT);
        }
        placed
    }

    /// Bytes of all regions.
    pub(crate) fn bytes(&self) -> usize {
        (self.end - self.base) as usize
    }
}
