//! Compares a task with the limits of a kind's kernels.

use crate::bucket::Bucket;
use crate::numbers::AttendSpec;
use crate::target::{HeadSizes, Limits};
use aio_ir::{Graph, KvShape, Op};

/// The sizes of a task that limits concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    /// Elements of a head.
    head: Option<u32>,
    /// Query heads of each key and value head.
    group: Option<u32>,
    /// Positions of a page.
    page: Option<u32>,
}

impl Sizes {
    fn of(body: &Graph) -> Sizes {
        let kv = body.values().find_map(|(_, v)| KvShape::of(&v.ty));
        let attends = body.nodes().map(|(_, node)| node).find(|node| node.op == Op::Attend);
        let spec = attends.and_then(|node| AttendSpec::from_node(body, node));
        Sizes {
            head: kv.map(|kv| kv.head_dim),
            group: spec.map(|n| n.heads.div_ceil(n.kv_heads.max(1))),
            page: kv.map(|kv| kv.positions),
        }
    }
}

impl Limits {
    /// Why a task with this body exceeds the limits in this bucket; `None` if it does not.
    pub fn misfit(&self, body: &Graph, bucket: &Bucket) -> Option<String> {
        let sizes = Sizes::of(body);
        if let Some(most) = self.rows.filter(|&most| bucket.rows > most) {
            return Some(format!("steps of {} rows, the kernel takes up to {most}", bucket.rows));
        }
        if let (Some(HeadSizes { multiple_of, max }), Some(size)) = (self.head, sizes.head)
            && (size > max || !size.is_multiple_of(multiple_of))
        {
            return Some(format!("heads of {size}, the kernel takes multiples of {multiple_of} up to {max}"));
        }
        if let (Some(most), Some(group)) = (self.group, sizes.group)
            && group > most
        {
            return Some(format!("{group} query heads for each of keys and values, the kernel takes up to {most}"));
        }
        let page = sizes.page.filter(|&p| !self.page.is_empty() && !self.page.contains(&p))?;
        Some(format!("pages of {page} positions, the kernel takes {:?}", self.page))
    }
}
