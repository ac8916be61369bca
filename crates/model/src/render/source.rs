//! Prepares the text of a template for minijinja: checks its bounds and adds what minijinja lacks.
//!
//! Values that a template builds or keeps go through functions that bound them (`__aio_held`, `__aio_attr`), and loops
//! reject none (`__aio_iter`). `+`, `~` and `%` become calls (`__aio_add`, `__aio_cat`, `__aio_mod`), since minijinja
//! does not let a host bound or change operators. String literals are decoded like Python's, and `{% generation %}`
//! becomes a scope. Line numbers do not change, so errors name the line of the file. Called by `render`.

use super::depth::{self, Branches, MAX_DEPTH};
use super::lex::{self, Kind, LexError, Piece, Tag, Token};
use super::literal;

/// Maximum size of a template in bytes.
pub(super) const MAX_SOURCE: usize = 4 << 20;

/// The template as passed to minijinja.
pub(super) fn prepare(source: &str) -> Result<String, LexError> {
    if source.len() > MAX_SOURCE {
        return Err(LexError { line: 0, message: "the template is larger than 4 MiB" });
    }
    // Jinja has only one kind of line end.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len() * 2);
    let mut branches = Branches::default();
    for piece in lex::pieces(&source)? {
        match piece {
            Piece::Text(text) => out += text,
            Piece::Tag(tag) => {
                let levels = branches.enter(&tag).saturating_add(depth::of_tag(&tag.tokens));
                if levels > MAX_DEPTH {
                    return Err(LexError { line: tag.line, message: "the template nests too deeply" });
                }
                let matching = matching(&tag)?;
                let rewriter = Rewriter { tokens: &tag.tokens, matching, out: &mut out };
                rewriter.tag(&tag);
            }
        }
    }
    Ok(out)
}

/// For each opening bracket, the index of its closing one.
fn matching(tag: &Tag<'_>) -> Result<Vec<usize>, LexError> {
    let fault = LexError { line: tag.line, message: "brackets do not match" };
    let mut found = vec![0; tag.tokens.len()];
    let mut open: Vec<(usize, &str)> = Vec::new();
    for (i, token) in tag.tokens.iter().enumerate().filter(|(_, t)| t.kind == Kind::Op) {
        match token.text {
            "(" => open.push((i, ")")),
            "[" => open.push((i, "]")),
            "{" => open.push((i, "}")),
            ")" | "]" | "}" => match open.pop() {
                Some((start, wanted)) if wanted == token.text => found[start] = i,
                _ => return Err(fault),
            },
            _ => {}
        }
    }
    if open.is_empty() { Ok(found) } else { Err(fault) }
}

/// Writes one tag. Ranges of tokens are half-open.
struct Rewriter<'a, 'o> {
    tokens: &'a [Token<'a>],
    matching: Vec<usize>,
    out: &'o mut String,
}

impl Rewriter<'_, '_> {
    fn tag(mut self, tag: &Tag<'_>) {
        *self.out += tag.open;
        let end = self.tokens.len();
        match self.tokens.first().filter(|_| tag.is_block).map(|t| t.text) {
            Some("generation") => self.replaced_word("with"),
            Some("endgeneration") => self.replaced_word("endwith"),
            Some("for") => {
                let body = self.find(1, |t| t.is_word("in")).map_or(end, |i| i + 1);
                self.raw(0, body);
                self.iterable(body, end);
            }
            Some("set") => self.set(end),
            Some("call") if self.tokens.get(1).is_some_and(|t| t.is_op("(")) => {
                let body = self.matching[1] + 1;
                self.raw(0, body);
                self.level(body, end);
            }
            Some(_) => {
                self.raw(0, 1);
                self.level(1, end);
            }
            None => self.level(0, end),
        }
        *self.out += tag.close;
    }

    /// The iterable of a loop, up to its condition.
    fn iterable(&mut self, start: usize, end: usize) {
        let stop = self.find(start, |t| t.is_word("if") || t.is_word("recursive")).unwrap_or(end);
        let is_tuple = self.outside(start, stop).any(|i| self.tokens[i].is_op(","));
        *self.out += if is_tuple { " __aio_iter((" } else { " __aio_iter(" };
        self.level(start, stop);
        *self.out += if is_tuple { "))" } else { ")" };
        self.level(stop, end);
    }

    fn replaced_word(&mut self, word: &str) {
        *self.out += self.tokens[0].space;
        *self.out += word;
        self.raw(1, self.tokens.len());
    }

    /// `{% set target = value %}`: bounds the value, which is kept.
    fn set(&mut self, end: usize) {
        let Some(equals) = self.find(1, |t| t.is_op("=")) else { return self.raw(0, end) };
        let has_attribute = self.tokens[..equals].iter().any(|t| t.is_op("."));
        let start = equals + 1;
        self.raw(0, start);
        let is_constant = |t: &Token<'_>| matches!(t.kind, Kind::Number | Kind::Str) || is_constant(t.text);
        if self.tokens[start..].iter().all(is_constant) {
            return self.level(start, end);
        }
        let is_tuple = self.find(start, |t| t.is_op(",")).is_some();
        *self.out += if has_attribute { " __aio_attr(" } else { " __aio_held(" };
        *self.out += if is_tuple { "(" } else { "" };
        self.level(start, end);
        *self.out += if is_tuple { "))" } else { ")" };
    }

    /// The first token from `start` on, outside brackets, for which `wanted` holds.
    fn find(&self, start: usize, wanted: impl Fn(&Token<'_>) -> bool) -> Option<usize> {
        self.outside(start, self.tokens.len()).find(|&i| wanted(&self.tokens[i]))
    }

    /// The tokens outside brackets, and the opening brackets.
    fn outside(&self, start: usize, end: usize) -> impl Iterator<Item = usize> + '_ {
        let mut next = start;
        std::iter::from_fn(move || {
            let i = next;
            (i < end).then(|| {
                next = if is_open(&self.tokens[i]) { self.matching[i] + 1 } else { i + 1 };
                i
            })
        })
    }

    fn raw(&mut self, start: usize, end: usize) {
        for token in &self.tokens[start..end] {
            *self.out += token.space;
            *self.out += token.text;
        }
    }

    /// The contents of a pair of brackets, or a whole expression: chains of operators between commas and weaker
    /// operators.
    fn level(&mut self, start: usize, end: usize) {
        let ends: Vec<usize> = self.outside(start, end).filter(|&i| self.is_boundary(start, i)).collect();
        let mut from = start;
        for i in ends {
            self.sum(from, i);
            self.raw(i, i + 1);
            from = i + 1;
        }
        self.sum(from, end);
    }

    /// Whether the token at `i` is an operator weaker than `+`, a separator, or a word that ends an expression.
    fn is_boundary(&self, start: usize, i: usize) -> bool {
        let token = &self.tokens[i];
        let after_is = i > start && self.tokens[i - 1].is_word("is");
        match token.kind {
            Kind::Op => matches!(token.text, "," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">="),
            Kind::Word => match token.text {
                "and" | "or" | "if" | "else" => true,
                "not" | "in" => !after_is,
                // Words after an operand, of `for`, `include` and `import`.
                "recursive" | "ignore" | "with" | "without" | "as" | "import" => i > start && self.is_operand(i - 1),
                _ => false,
            },
            Kind::Number | Kind::Str => false,
        }
    }

    /// Whether the token at `i` ends an operand.
    fn is_operand(&self, i: usize) -> bool {
        let token = &self.tokens[i];
        match token.kind {
            Kind::Op => matches!(token.text, ")" | "]" | "}"),
            Kind::Word => !matches!(token.text, "and" | "or" | "not" | "in" | "is" | "if" | "else"),
            Kind::Number | Kind::Str => true,
        }
    }

    /// Positions of `operators` between two operands.
    fn splits(&self, start: usize, end: usize, operators: &[&str]) -> Vec<usize> {
        let is_split = |&i: &usize| {
            self.tokens[i].kind == Kind::Op
                && operators.contains(&self.tokens[i].text)
                && i > start
                && self.is_operand(i - 1)
        };
        self.outside(start, end).filter(is_split).collect()
    }

    /// `a + b + c - d` as `__aio_add(a, b, c) - d`.
    fn sum(&mut self, start: usize, end: usize) {
        let splits = self.splits(start, end, &["+", "-"]);
        let is_plus: Vec<bool> = splits.iter().map(|&i| self.tokens[i].is_op("+")).collect();
        let runs = is_plus.iter().enumerate().filter(|&(i, plus)| *plus && (i == 0 || !is_plus[i - 1])).count();
        *self.out += if runs > 0 { " " } else { "" };
        *self.out += &"__aio_add(".repeat(runs);
        let mut from = start;
        for (n, &i) in splits.iter().enumerate() {
            self.concatenation(from, i);
            if n > 0 && is_plus[n - 1] && !is_plus[n] {
                *self.out += ")";
            }
            *self.out += self.tokens[i].space;
            *self.out += if is_plus[n] { "," } else { self.tokens[i].text };
            from = i + 1;
        }
        self.concatenation(from, end);
        *self.out += if is_plus.last() == Some(&true) { ")" } else { "" };
    }

    /// `a ~ b ~ c` as one call.
    fn concatenation(&mut self, start: usize, end: usize) {
        let splits = self.splits(start, end, &["~"]);
        if splits.is_empty() {
            return self.product(start, end);
        }
        *self.out += " __aio_cat(";
        let mut from = start;
        for i in splits {
            self.product(from, i);
            *self.out += self.tokens[i].space;
            *self.out += ",";
            from = i + 1;
        }
        self.product(from, end);
        *self.out += ")";
    }

    /// `a * b % c` as `__aio_mod(a * b, c)`.
    fn product(&mut self, start: usize, end: usize) {
        let splits = self.splits(start, end, &["*", "/", "//", "%"]);
        let calls = splits.iter().filter(|&&i| self.tokens[i].is_op("%")).count();
        if calls > 0 {
            *self.out += " ";
        }
        *self.out += &"__aio_mod(".repeat(calls);
        let (mut from, mut is_argument) = (start, false);
        for i in splits.into_iter().chain([end]) {
            self.operand(from, i);
            if is_argument {
                *self.out += ")";
            }
            if i < end {
                is_argument = self.tokens[i].is_op("%");
                *self.out += self.tokens[i].space;
                *self.out += if is_argument { "," } else { self.tokens[i].text };
                from = i + 1;
            }
        }
    }

    /// Names, literals, calls, subscripts and filters.
    fn operand(&mut self, start: usize, end: usize) {
        let mut i = start;
        while i < end {
            if is_open(&self.tokens[i]) {
                self.bracket(i, i == start || !self.is_operand(i - 1));
                i = self.matching[i] + 1;
            } else if self.tokens[i].kind == Kind::Str {
                i = self.strings(i, end);
            } else {
                self.raw(i, i + 1);
                i += 1;
            }
        }
    }

    /// Brackets and their contents. A list, map or tuple of existing values is bounded.
    fn bracket(&mut self, open: usize, is_literal: bool) {
        let close = self.matching[open];
        let inner = &self.tokens[open + 1..close];
        let has_names = inner.iter().any(|t| t.kind == Kind::Word && !is_constant(t.text));
        let is_tuple = || self.outside(open + 1, close).any(|i| self.tokens[i].is_op(","));
        let holds = is_literal && has_names && (!self.tokens[open].is_op("(") || is_tuple());
        *self.out += if holds { " __aio_held(" } else { "" };
        self.raw(open, open + 1);
        self.level(open + 1, close);
        self.raw(close, close + 1);
        *self.out += if holds { ")" } else { "" };
    }

    /// Joins adjacent string literals. Returns the index after them.
    fn strings(&mut self, start: usize, end: usize) -> usize {
        let mut i = start;
        let mut text = String::new();
        while i < end && self.tokens[i].kind == Kind::Str {
            *self.out += self.tokens[i].space;
            text += &literal::decode(self.tokens[i].text);
            i += 1;
        }
        literal::encode(&text, self.out);
        i
    }
}

fn is_open(token: &Token<'_>) -> bool {
    token.kind == Kind::Op && matches!(token.text, "(" | "[" | "{")
}

fn is_constant(word: &str) -> bool {
    matches!(word, "true" | "True" | "false" | "False" | "none" | "None")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
mod tests {
    use super::*;

    /// Removes white space, which is irrelevant here.
    fn squeezed(text: &str) -> String {
        text.split_whitespace().collect()
    }

    fn same(text: &str, prepared: &str) {
        let out = prepare(&format!("{{{{ {text} }}}}")).unwrap();
        assert_eq!(squeezed(&out), squeezed(&format!("{{{{{prepared}}}}}")));
    }

    #[test]
    fn operators_become_calls_where_their_operands_end() {
        same("a ~ b + c", "__aio_add( __aio_cat(a , b) , c)");
        same("a + b - c + d", "__aio_add(__aio_add( a , b) - c , d)");
        same("a ~ b|f ~ -c * 2", "__aio_cat(a , b|f , -c * 2)");
        same("a * b % c % d", "__aio_mod(__aio_mod( a * b , c) , d)");
        same("x if a ~ b is not none else c[d ~ e]", "x if __aio_cat(a , b is not none) else c[ __aio_cat(d , e)]");
        same("a ~ b == c and not d % 2", "__aio_cat(a , b) == c and not __aio_mod( d , 2)");
        same("f(a=b ~ c, *d)", "f(a= __aio_cat(b , c), *d)");
    }

    #[test]
    fn values_that_are_kept_are_bounded() {
        same("[1, 'a', none]", "[1, \"a\", none]");
        same("[x] + x[1:]", "__aio_add( __aio_held( [x]) , x[1:])");
        same("{'a': x}.a", "__aio_held( {\"a\": x}).a");
        same("(x) - f(x, y) - (x, y)", "(x) - f(x, y) - __aio_held( (x, y))");
        assert_eq!(prepare("{% set ns.x = y.z %}").unwrap(), "{% set ns.x = __aio_attr( y.z) %}");
        assert_eq!(prepare("{% set a, b = b, a %}").unwrap(), "{% set a, b = __aio_held(( b, a)) %}");
        assert_eq!(prepare("{% set x = 1 %}{% set y %}").unwrap(), "{% set x = 1 %}{% set y %}");
        assert_eq!(
            prepare("{% for (a, b) in x ~ y recursive %}").unwrap(),
            "{% for (a, b) in __aio_iter( __aio_cat( x , y)) recursive %}"
        );
    }

    #[test]
    fn generation_is_a_scope_and_lines_stay() {
        assert_eq!(
            prepare("a\r\nb{%- generation -%}\rx{% endgeneration %}").unwrap(),
            "a\nb{%- with -%}\nx{% endwith %}"
        );
        assert_eq!(prepare("{{ 'a\nb' '\\x41\\d\"' }}").unwrap(), "{{  \"a\nbA\\\\d\\\"\" }}");
    }

    #[test]
    fn what_is_not_bounded_is_refused() {
        let refused = |source: &str| prepare(source).unwrap_err();
        let deep = "the template nests too deeply";
        assert_eq!(refused(&format!("\n{{{{ {}x }}}}", "not ".repeat(20_000))), LexError { line: 2, message: deep });
        assert_eq!(refused(&format!("{{% if a %}}{}", "{% elif b %}".repeat(20_000))).message, deep);
        assert_eq!(refused("{{ (] }}").message, "brackets do not match");
        assert_eq!(refused(&" ".repeat(MAX_SOURCE + 1)).message, "the template is larger than 4 MiB");
    }
}
