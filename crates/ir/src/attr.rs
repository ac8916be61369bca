//! Attributes: the constants that a node carries besides its operands.
//!
//! The op table lists each op's attributes with their kinds and defaults. A node stores one value for each in that
//! order, with defaults filled in, so that graphs with the same meaning compare equal.

use crate::{DType, Shape};
use std::fmt;

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A number other than NaN, printed so that it parses to the same bits.
    F32(f32),
    /// One word of a fixed list.
    Word(&'static str),
    /// A shape.
    Shape(Shape),
    /// A list of integers.
    Ints(Vec<i64>),
    /// An element type.
    DType(DType),
}

/// The values that an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrKind {
    /// An integer.
    Int,
    /// A finite number.
    F32,
    /// A finite number, `inf` or `-inf`. Not NaN, which would make a graph unequal to itself.
    Extended,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A shape.
    Shape,
    /// A list of integers.
    Ints,
    /// An element type.
    DType,
}

impl AttrKind {
    /// Whether the value is of this kind.
    pub fn admits(self, value: &Attr) -> bool {
        match (self, value) {
            (AttrKind::Int, Attr::Int(_))
            | (AttrKind::Shape, Attr::Shape(_))
            | (AttrKind::Ints, Attr::Ints(_))
            | (AttrKind::DType, Attr::DType(_)) => true,
            (AttrKind::F32, Attr::F32(v)) => v.is_finite(),
            (AttrKind::Extended, Attr::F32(v)) => !v.is_nan(),
            (AttrKind::Word(words), Attr::Word(w)) => words.contains(w),
            _ => false,
        }
    }
}

impl fmt::Display for AttrKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AttrKind::Int => f.write_str("an integer"),
            AttrKind::F32 => f.write_str("a number"),
            AttrKind::Extended => f.write_str("a number, inf or -inf"),
            AttrKind::Word(words) => write!(f, "one of {}", words.join(", ")),
            AttrKind::Shape => f.write_str("a shape"),
            AttrKind::Ints => f.write_str("a list of integers"),
            AttrKind::DType => f.write_str("an element type"),
        }
    }
}

/// A default value, in a form usable in a constant table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// No default: the attribute must be given.
    Required,
    /// An integer.
    Int(i64),
    /// A number.
    F32(f32),
    /// A word.
    Word(&'static str),
}

impl Default {
    /// The default value, or `None` if the attribute is required.
    pub fn value(self) -> Option<Attr> {
        match self {
            Default::Required => None,
            Default::Int(v) => Some(Attr::Int(v)),
            Default::F32(v) => Some(Attr::F32(v)),
            Default::Word(v) => Some(Attr::Word(v)),
        }
    }
}

/// One attribute of an op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttrSpec {
    /// Name in the text form.
    pub name: &'static str,
    /// The values it takes.
    pub kind: AttrKind,
    /// Its default value.
    pub default: Default,
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Attr::Int(v) => write!(f, "{v}"),
            // `{:?}` prints the shortest decimal that reads back as the same bits.
            Attr::F32(v) => write!(f, "{v:?}"),
            Attr::Word(w) => f.write_str(w),
            Attr::Shape(s) => fmt::Display::fmt(s, f),
            Attr::Ints(v) => {
                f.write_str("[")?;
                for (i, n) in v.iter().enumerate() {
                    write!(f, "{}{n}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Attr::DType(t) => fmt::Display::fmt(t, f),
        }
    }
}
