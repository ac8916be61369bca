//! Where in a model a task belongs: its layer and its block, from the names of its weights and states.
//!
//! Tasks without weights or states, such as a residual of an unfused plan, belong where the task before them does.

use aio_ir::Op;
use aio_plan::{KindName, Loc, PlanFamily, Task};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A part of a layer, or of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Block {
    /// The look-up of token embeddings.
    Embedding,
    /// Attention with its projections and its norm, or a recurrent mixer in its place.
    Attention,
    /// The feed-forward network with its norm.
    Mlp,
    /// The last norm, the projection onto the vocabulary, and what follows.
    Head,
    /// Anything else.
    Other,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Block::Embedding => "embedding",
            Block::Attention => "attention",
            Block::Mlp => "mlp",
            Block::Head => "head",
            Block::Other => "other",
        })
    }
}

/// A layer and a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub layer: Option<u32>,
    pub block: Block,
}

/// The place of each task of a plan.
pub(crate) fn places(family: &PlanFamily, tasks: &[Task]) -> Vec<Place> {
    let mut last = Place { layer: None, block: Block::Other };
    let place = |task: &Task| {
        last = place_of(family, task).unwrap_or(last);
        last
    };
    tasks.iter().map(place).collect()
}

fn place_of(family: &PlanFamily, task: &Task) -> Option<Place> {
    let kind = task.kind.name();
    match kind {
        KindName::Op(Op::Embed) => return Some(Place { layer: None, block: Block::Embedding }),
        KindName::Head => return Some(Place { layer: None, block: Block::Head }),
        KindName::Op(Op::Argmax | Op::Sample | Op::Verify) => {
            return Some(Place { layer: None, block: Block::Head });
        }
        _ => {}
    }
    let name = |loc: &Loc| match *loc {
        Loc::Weight(w) => Some(family.weights[w.index()].name.as_str()),
        Loc::State(s) => Some(family.states[s.index()].name.as_str()),
        _ => None,
    };
    let names: Vec<&str> = task.operands.iter().filter_map(name).collect();
    let layer = names.iter().find_map(|name| layer(name));
    let block = names.iter().map(|name| block(name, layer)).find(|b| *b != Block::Other);
    names.first()?;
    Some(Place { layer, block: block.unwrap_or(Block::Other) })
}

/// The first part of a dotted name that is a number.
fn layer(name: &str) -> Option<u32> {
    name.split('.').find_map(|part| part.parse().ok())
}

fn block(name: &str, layer: Option<u32>) -> Block {
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if layer.is_none() && has(&["output", "token_embd", "lm_head", "head"]) {
        Block::Head
    } else if has(&["ffn", "mlp", "exps", "gate_proj", "up_proj", "down_proj"]) {
        Block::Mlp
    } else if has(&["attn", "kv", "ssm", "conv", "state", "attention"]) {
        Block::Attention
    } else {
        Block::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_layer_and_block() {
        let cases = [
            ("blk.17.attn_q.weight", Some(17), Block::Attention),
            ("blk.3.ffn_gate.weight", Some(3), Block::Mlp),
            ("kv.5", Some(5), Block::Attention),
            ("output_norm.weight", None, Block::Head),
            ("w", None, Block::Other),
        ];
        for (name, number, kind) in cases {
            assert_eq!((layer(name), block(name, layer(name))), (number, kind), "{name}");
        }
    }
}
