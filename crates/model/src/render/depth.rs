//! Bounds the nesting depth of a template before any recursive code sees it.
//!
//! minijinja's parser, its code generator and the destructor of its syntax tree recurse once per level. The parser
//! limits brackets and blocks, but not chains such as `not not x`, `a + b + c`, `x|f|g` and `{% elif %}`. Called by
//! `render::source`.

use super::lex::{Kind, Tag, Token};

/// Maximum levels of operators, brackets and filters in an expression, and of `elif` in a template.
pub(super) const MAX_DEPTH: usize = 1000;

/// Upper bound on the depth of the syntax tree for one tag's tokens.
pub(super) fn of_tag(tokens: &[Token<'_>]) -> usize {
    let mut stack = vec![Level::default()];
    for token in tokens {
        match token.text {
            "(" | "[" | "{" if token.kind == Kind::Op => stack.push(Level::default()),
            ")" | "]" | "}" if token.kind == Kind::Op && stack.len() > 1 => {
                let inner = stack.pop().map_or(0, |level| level.depth());
                if let Some(outer) = stack.last_mut() {
                    outer.inner = outer.inner.max(inner);
                    outer.chain += 1;
                }
            }
            "," | ":" if token.kind == Kind::Op => stack.last_mut().into_iter().for_each(Level::begin_sibling),
            _ if is_link(token) => stack.last_mut().into_iter().for_each(|top| top.chain += 1),
            _ => {}
        }
    }
    // Brackets that are never closed also nest.
    stack.iter().map(Level::depth).fold(0, usize::saturating_add)
}

/// A pair of brackets. Between two commas is a chain of operators around bracketed parts.
#[derive(Default)]
struct Level {
    chain: usize,
    inner: usize,
    deepest: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.deepest.max(self.chain + self.inner) + 1
    }

    fn begin_sibling(&mut self) {
        *self = Level { deepest: self.deepest.max(self.chain + self.inner), ..Level::default() };
    }
}

/// Whether the token adds a level to its expression.
fn is_link(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Op => true,
        Kind::Word => matches!(token.text, "not" | "and" | "or" | "in" | "is" | "if" | "else"),
        Kind::Number | Kind::Str => false,
    }
}

/// Counts the `elif` tags of open `if` tags, since each nests in the one before.
#[derive(Debug, Default)]
pub(super) struct Branches {
    open: Vec<usize>,
}

impl Branches {
    /// Processes the next tag and returns its depth.
    pub(super) fn enter(&mut self, tag: &Tag<'_>) -> usize {
        match tag.tokens.first().filter(|_| tag.is_block).map(|t| t.text) {
            Some("if") => self.open.push(0),
            Some("elif") => {
                if let Some(top) = self.open.last_mut() {
                    *top += 1;
                }
            }
            Some("endif") => {
                self.open.pop();
            }
            _ => {}
        }
        self.open.iter().map(|elifs| elifs + 1).sum()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::super::lex::{Piece, pieces};
    use super::*;

    fn depth(expression: &str) -> usize {
        let source = format!("{{{{ {expression} }}}}");
        let pieces = pieces(&source).unwrap();
        let Piece::Tag(tag) = &pieces[0] else { panic!("no tag") };
        of_tag(&tag.tokens)
    }

    #[test]
    fn chains_and_brackets_count_and_siblings_do_not() {
        assert_eq!(depth("x"), 1);
        assert_eq!(depth("not not not x"), 4);
        assert_eq!(depth("a + b + c"), 3);
        assert_eq!(depth("x|f|g"), 3);
        assert_eq!(depth("[[[x]]]"), 7);
        assert_eq!(depth("[a, b, c, d, e]"), depth("[a]"));
        assert_eq!(depth("{'a': b, 'c': d}"), depth("{'a': b}"));
        assert!(depth(&"- ".repeat(1000)) > 1000);
    }
}
