//! Parse errors: a stable code, a position, and a caret under it.

use crate::graph::BuildError;
use crate::{DType, Op, Sym};
use std::fmt;

/// What is wrong. The code of each variant is stable.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ParseErrorKind {
    /// The first line is not `aio 1`.
    #[error("the first line must be `aio {expected}`", expected = super::TEXT_VERSION)]
    Version,
    /// A character that cannot start a token.
    #[error("unexpected character {0:?}")]
    Character(char),
    /// A string without its closing quote, or an unknown escape.
    #[error("string is not closed or has an unknown escape")]
    String,
    /// A number that is out of range.
    #[error("number `{0}` does not fit here")]
    Number(String),
    /// An unexpected token.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What was expected.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// Unknown op.
    #[error("there is no op `{0}`; expected one of {ops}", ops = listed(Op::ALL.iter().map(|op| op.mnemonic())))]
    UnknownOp(String),
    /// Unknown element type.
    #[error("there is no element type `{0}`; expected one of {types}", types = listed(DType::ALL.iter().map(|t| t.name())))]
    UnknownType(String),
    /// Unknown dimension symbol.
    #[error("there is no dimension symbol `{0}`; expected one of {symbols}", symbols = listed(Sym::ALL.iter().map(|s| s.name())))]
    UnknownSymbol(String),
    /// The op has no such attribute.
    #[error("`{op}` has no attribute `{name}`")]
    UnknownAttribute {
        /// The op.
        op: &'static str,
        /// The attribute.
        name: String,
    },
    /// An attribute's value has the wrong kind.
    #[error("attribute `{name}` takes {expected}")]
    AttributeKind {
        /// The attribute.
        name: &'static str,
        /// The kind it takes.
        expected: String,
    },
    /// An attribute is given twice.
    #[error("attribute `{0}` is given twice")]
    DuplicateAttribute(&'static str),
    /// A value that no earlier line defines.
    #[error("`%{0}` is not defined above")]
    UndefinedValue(String),
    /// A value that an earlier line already defines.
    #[error("`%{0}` is defined twice")]
    Redefined(String),
    /// The number of results or types differs from the op's.
    #[error("`{op}` has {expected} results, found {found}")]
    Results {
        /// The op.
        op: &'static str,
        /// Number of results of the op.
        expected: usize,
        /// Number of results named.
        found: usize,
    },
    /// The op does not apply to its operands.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// The stated type differs from the inferred one.
    #[error("the type is {inferred}, not {stated}")]
    Type {
        /// The type inferred from the operands.
        inferred: String,
        /// The type stated in the line.
        stated: String,
    },
}

/// The names, joined by commas.
fn listed(names: impl Iterator<Item = &'static str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

impl ParseErrorKind {
    /// A code that does not change with the wording.
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

/// An error in a text, with its position.
#[derive(Clone, Debug, PartialEq)]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line's text, or the part of a long line around the column. Control characters other than tabs are replaced
    /// by U+FFFD, so it is safe to print on a terminal.
    pub text: String,
    /// Start of `text` in the line, in characters.
    cut: usize,
}

/// Characters of a long line shown before and after an error.
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
        // Tabs stay tabs, so that the caret lines up regardless of tab width.
        let before = self.text.chars().take(self.column - 1 - self.cut);
        let pad: String = before.map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(f, "  {}\n  {pad}^", self.text)
    }
}

/// The part of a line around a byte offset, and its start in characters.
fn excerpt(line: &str, at: usize) -> (String, usize) {
    let at = at.min(line.len());
    let from = line[..at].char_indices().rev().nth(AROUND).map_or(0, |(i, _)| i);
    // A line that is not long is shown from its start.
    let from = if line[..at].chars().count() <= 2 * AROUND { 0 } else { from };
    let to = line[at..].char_indices().nth(AROUND).map_or(line.len(), |(i, _)| at + i);
    let harmless = |c: char| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c };
    (line[from..to].chars().map(harmless).collect(), line[..from].chars().count())
}

impl std::error::Error for ParseError {}
