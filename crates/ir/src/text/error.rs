//! Parse errors: a stable code, a place, and a caret under it.

use crate::graph::BuildError;
use crate::{DType, Op, Sym};
use std::fmt;

/// What is wrong; the code of each variant is stable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The first line is not `aio 1`.
    #[error("the first line must be `aio {expected}`", expected = super::TEXT_VERSION)]
    Version,
    /// A character that starts no token.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A string without its closing quote, or an unknown escape.
    #[error("string is not closed or has an unknown escape")]
    String,
    /// A number that does not fit.
    #[error("number `{0}` does not fit here")]
    Number(String),
    /// Another token was due.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What was due.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// No such op.
    #[error("there is no op `{0}`; expected one of {ops}", ops = listed(Op::ALL.iter().map(|op| op.mnemonic())))]
    UnknownOp(String),
    /// No such element type.
    #[error("there is no element type `{0}`; expected one of {types}", types = listed(DType::ALL.iter().map(|t| t.name())))]
    UnknownType(String),
    /// No such dimension symbol.
    #[error("there is no dimension symbol `{0}`; expected one of {symbols}", symbols = listed(Sym::ALL.iter().map(|s| s.name())))]
    UnknownSymbol(String),
    /// No such attribute, or not of its kind.
    #[error("`{op}` has no attribute `{name}`")]
    UnknownAttribute {
        /// The op.
        op: &'static str,
        /// The attribute.
        name: String,
    },
    /// An attribute's value is of the wrong kind.
    #[error("attribute `{name}` takes {expected}")]
    AttributeKind {
        /// The attribute.
        name: &'static str,
        /// What it takes.
        expected: String,
    },
    /// An attribute is given twice.
    #[error("attribute `{0}` is given twice")]
    DuplicateAttribute(&'static str),
    /// A value that no earlier line defines.
    #[error("`%{0}` is not defined above")]
    UndefinedValue(String),
    /// A value that an earlier line defines already.
    #[error("`%{0}` is defined twice")]
    Redefined(String),
    /// The number of results or types is not the op's.
    #[error("`{op}` has {expected} results, found {found}")]
    Results {
        /// The op.
        op: &'static str,
        /// How many it has.
        expected: usize,
        /// How many are named.
        found: usize,
    },
    /// The op does not apply to its operands.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The stated type is not the one that follows from the operands.
    #[error("the type is {inferred}, not {stated}")]
    Type {
        /// What follows from the operands.
        inferred: String,
        /// What the line says.
        stated: String,
    },
}

/// The names of a table.
fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl ParseErrorKind {
    /// A code that stays the same when the wording changes.
    pub fn code(&self) -> &'static str {
        match self {
            ParseErrorKind::Version => "P001",
            ParseErrorKind::Character(_) => "P002",
            ParseErrorKind::String => "P003",
            ParseErrorKind::Number(_) => "P004",
            ParseErrorKind::Expected { .. } => "P005",
            ParseErrorKind::UnknownOp(_) => "P006",
            ParseErrorKind::UnknownType(_) => "P007",
            ParseErrorKind::UnknownSymbol(_) => "P008",
            ParseErrorKind::UnknownAttribute { .. } => "P009",
            ParseErrorKind::AttributeKind { .. } => "P010",
            ParseErrorKind::DuplicateAttribute(_) => "P011",
            ParseErrorKind::UndefinedValue(_) => "P012",
            ParseErrorKind::Redefined(_) => "P013",
            ParseErrorKind::Results { .. } => "P014",
            ParseErrorKind::Build(_) => "P015",
            ParseErrorKind::Type { .. } => "P016",
        }
    }
}

/// A fault in a text, with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text, or of a long one what stands around the column. A terminal obeys nothing in it: control
    /// characters other than tabs are replaced by U+FFFD.
    pub text: String,
    /// Where `text` begins in the line, in characters.
    cut: usize,
}

/// Characters of a long line that are shown before and after a fault.
const AROUND: usize = 120;

impl ParseError {
    /// An error at a byte offset of the source.
    pub(super) fn at(source: &str, offset: usize, kind: ParseErrorKind) -> ParseError {
        let before = &source[..offset];
        let start = before.rfind('\n').map_or(0, |i| i + 1);
        let (text, cut) = excerpt(source[start..].lines().next().unwrap_or(""), offset - start);
        ParseError {
            kind,
            line: before.matches('\n').count() + 1,
            column: source[start..offset].chars().count() + 1,
            text,
            cut,
        }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}: {}", self.line, self.column, self.kind.code(), self.kind)?;
        // Tabs stay tabs so that the caret lines up however wide they are shown.
        let before = self.text.chars().take(self.column - 1 - self.cut);
        let pad: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(f, "  {}\n  {pad}^", self.text)
    }
}

/// What stands around a byte of a line, and its place in the line in characters.
fn excerpt(line: &str, at: usize) -> (String, usize) {
    let at = at.min(line.len());
    let from = line[..at].char_indices().rev().nth(AROUND).map_or(0, |(i, _)| i);
    // A line that is not long is shown from its beginning.
    let from = if line[..at].chars().count() <= 2 * AROUND { 0 } else { from };
    let to = line[at..].char_indices().nth(AROUND).map_or(line.len(), |(i, _)| at + i);
    let harmless = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    (line[from..to].chars().map(harmless).collect(), line[..from].chars().count())
}

impl std::error::Error for ParseError {}
