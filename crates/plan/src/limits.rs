//! Compares a task with the limits of a kind's kernels.

use crate::bucket::Bucket;
use crate::kinds::TaskKind;
use crate::numbers::AttendSpec;
use crate::target::{HeadSizes, Limits};
use aio_ir::{Graph, KvShape};

/// The sizes of a task that limits concern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sizes {
    /// Size of a head, and query heads of each key and value head.
    head: Option<(u32, u32)>,
    /// Positions of a page.
    page: Option<u32>,
}

impl Sizes {
    fn of(kind: &TaskKind, body: &Graph) -> Sizes {
        let head = match kind {
            TaskKind::Qkv(n) => Some((n.head_dim, n.heads.div_ceil(n.kv_heads.max(1)))),
            TaskKind::Attend(n) => Some((n.head_dim, n.heads.div_ceil(n.kv_heads.max(1)))),
            _ => body.nodes().find_map(|(_, node)| {
                let attend = node.op == aio_ir::Op::Attend;
                let n = attend.then(|| AttendSpec::from_node(body, node)).flatten()?;
                Some((n.head_dim, n.heads.div_ceil(n.kv_heads.max(1))))
            }),
        };
        let page = body.values().find_map(|(_, v)| KvShape::of(&v.ty)).map(|kv| kv.positions);
        Sizes { head, page }
    }
}

impl Limits {
    /// Why a task of this kind and body exceeds the limits in this bucket; `None` if it does not.
    pub fn misfit(&self, kind: &TaskKind, body: &Graph, bucket: &Bucket) -> Option<String> {
        let sizes = Sizes::of(kind, body);
        if let Some(most) = self.rows.filter(|&most| bucket.rows > most) {
            return Some(format!("steps of {} rows, the kernel takes up to {most}", bucket.rows));
        }
        if let (Some(HeadSizes { multiple_of, max }), Some((size, _))) = (self.head, sizes.head)
            && (size > max || !size.is_multiple_of(multiple_of))
        {
            return Some(format!("heads of {size}, the kernel takes multiples of {multiple_of} up to {max}"));
        }
        if let (Some(most), Some((_, group))) = (self.group, sizes.head)
            && group > most
        {
            return Some(format!("{group} query heads for each of keys and values, the kernel takes up to {most}"));
        }
        let page = sizes.page.filter(|&p| !self.page.is_empty() && !self.page.contains(&p))?;
        Some(format!("pages of {page} positions, the kernel takes {:?}", self.page))
    }
}
