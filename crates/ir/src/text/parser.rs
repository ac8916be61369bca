//! Parses the text form, one statement per line.
//!
//! The grammar needs one token of look-ahead. Nodes go through the same checks as the builder's, so a parsed graph
//! breaks no rule that a single line can break; the verifier does the rest.

use super::TEXT_VERSION;
use super::error::{ParseError, ParseErrorKind as Kind};
use super::lexer::{Spanned, Token, lex};
use super::printer::print_named;
use crate::DType;
use crate::attr::{Attr, AttrKind, AttrSpec};
use crate::graph::{Builder, Def, Graph};
use crate::ids::ValueId;
use crate::op::Op;
use crate::shape::{Dim, Shape, Sym, TensorType};
use crate::verify::Entity;
use smallvec::SmallVec;
use std::collections::HashMap;

/// A graph and the source positions of its entities.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The graph; not yet verified.
    pub graph: Graph,
    /// Line (from 1) of each value by id.
    pub value_lines: Vec<usize>,
    /// The name of each value in the source, without the percent sign.
    pub value_names: Vec<String>,
    /// Lines of the outputs.
    pub output_lines: Vec<usize>,
    /// Lines of the finals.
    pub final_lines: Vec<usize>,
}

impl Parsed {
    /// The graph's text with the names of the source. It parses to the same graph.
    pub fn print(&self) -> String {
        print_named(&self.graph, &|id: &ValueId| format!("%{}", self.value_names[id.index()]))
    }

    /// The line that a verifier error is about; 2, the graph's line, if none is.
    pub fn line_of(&self, entity: Entity) -> usize {
        let line = match entity {
            Entity::Graph => None,
            Entity::Value(v) => self.value_lines.get(v.index()),
            Entity::Node(n) => self.value_lines.get(self.graph.node(n).results[0].index()),
            Entity::Output(i) => self.output_lines.get(i),
            Entity::Final(i) => self.final_lines.get(i),
        };
        line.copied().unwrap_or(2)
    }
}

/// Parses a graph.
///
/// # Errors
/// The first error, with line, column, caret and code.
pub fn parse(source: &str) -> Result<Parsed, ParseError> {
    let tokens = lex(source).map_err(|(kind, at)| ParseError::at(source, at, kind))?;
    let mut parser = Parser {
        source,
        tokens,
        at: 0,
        builder: Builder::new(""),
        names: HashMap::new(),
        lines: LineCounter::default(),
        value_lines: Vec::new(),
        output_lines: Vec::new(),
        final_lines: Vec::new(),
    };
    parser.header()?;
    while *parser.peek() != Token::End {
        parser.statement()?;
    }
    let value_names = parser.value_names();
    Ok(Parsed {
        value_names,
        graph: parser.builder.finish(),
        value_lines: parser.value_lines,
        output_lines: parser.output_lines,
        final_lines: parser.final_lines,
    })
}

/// Computes line numbers of ascending offsets in one pass over the source.
#[derive(Default)]
struct LineCounter {
    offset: usize,
    line: usize,
}

impl LineCounter {
    fn line_at(&mut self, source: &str, offset: usize) -> usize {
        self.line += source[self.offset..offset].matches('\n').count();
        self.offset = offset;
        self.line + 1
    }
}

struct Parser<'s> {
    source: &'s str,
    tokens: Vec<Spanned<'s>>,
    at: usize,
    builder: Builder,
    names: HashMap<&'s str, ValueId>,
    lines: LineCounter,
    value_lines: Vec<usize>,
    output_lines: Vec<usize>,
    final_lines: Vec<usize>,
}

type Result_<T> = Result<T, ParseError>;

impl<'s> Parser<'s> {
    /// Names by id.
    fn value_names(&self) -> Vec<String> {
        let mut names = vec![String::new(); self.builder.graph().values().len()];
        for (name, id) in &self.names {
            names[id.index()] = (*name).to_owned();
        }
        names
    }

    fn peek(&self) -> &Token<'s> {
        &self.tokens[self.at].0
    }

    fn offset(&self) -> usize {
        self.tokens[self.at].1
    }

    fn next(&mut self) -> Token<'s> {
        let token = self.tokens[self.at].0.clone();
        if token != Token::End {
            self.at += 1;
        }
        token
    }

    fn fail<T>(&self, offset: usize, kind: Kind) -> Result_<T> {
        Err(ParseError::at(self.source, offset, kind))
    }

    fn expected<T>(&self, expected: &'static str) -> Result_<T> {
        self.fail(self.offset(), Kind::Expected { expected, found: self.peek().describe() })
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = *self.peek() == Token::Punct(c);
        self.at += usize::from(hit);
        hit
    }

    fn punct(&mut self, c: char, name: &'static str) -> Result_<()> {
        if self.eat(c) { Ok(()) } else { self.expected(name) }
    }

    fn word(&mut self, what: &'static str) -> Result_<&'s str> {
        match *self.peek() {
            Token::Word(w) => {
                self.at += 1;
                Ok(w)
            }
            _ => self.expected(what),
        }
    }

    fn string(&mut self) -> Result_<String> {
        match self.peek().clone() {
            Token::Str(s) => {
                self.at += 1;
                Ok(s)
            }
            _ => self.expected("a string"),
        }
    }

    fn end_of_line(&mut self) -> Result_<()> {
        match self.peek() {
            Token::Newline => {
                self.at += 1;
                Ok(())
            }
            Token::End => Ok(()),
            _ => self.expected("the end of the line"),
        }
    }

    fn header(&mut self) -> Result_<()> {
        let version = TEXT_VERSION.to_string();
        let good = *self.peek() == Token::Word("aio")
            && self.tokens.get(self.at + 1).is_some_and(|(t, _)| *t == Token::Number(&version));
        if !good {
            return self.fail(self.offset(), Kind::Version);
        }
        self.at += 2;
        self.end_of_line()?;
        match self.peek() {
            Token::Word("graph") => self.at += 1,
            _ => return self.expected("`graph`"),
        }
        let name = self.string()?;
        self.builder = Builder::new(&name);
        self.end_of_line()
    }

    fn statement(&mut self) -> Result_<()> {
        let line = self.lines.line_at(self.source, self.offset());
        match *self.peek() {
            Token::Word("output") => {
                self.output_lines.push(line);
                self.output()?;
            }
            Token::Word("final") => {
                self.final_lines.push(line);
                self.final_state()?;
            }
            Token::Value(_) => {
                self.definition()?;
                self.value_lines.resize(self.builder.graph().values.len(), line);
            }
            _ => return self.expected("a value, `output` or `final`"),
        }
        self.end_of_line()
    }

    fn output(&mut self) -> Result_<()> {
        self.at += 1;
        let name = self.string()?;
        self.punct('=', "`=`")?;
        let value = self.used_value()?;
        self.builder.output(&name, value);
        Ok(())
    }

    fn final_state(&mut self) -> Result_<()> {
        self.at += 1;
        let state = self.used_value()?;
        self.punct('=', "`=`")?;
        let value = self.used_value()?;
        self.builder.final_state(state, value);
        Ok(())
    }

    fn used_value(&mut self) -> Result_<ValueId> {
        let Token::Value(name) = *self.peek() else { return self.expected("a value") };
        match self.names.get(name) {
            Some(&id) => {
                self.at += 1;
                Ok(id)
            }
            None => self.fail(self.offset(), Kind::UndefinedValue(name.to_owned())),
        }
    }

    /// `%a, %b = ...`
    fn definition(&mut self) -> Result_<()> {
        let mut names: SmallVec<[(&'s str, usize); 2]> = SmallVec::new();
        loop {
            let Token::Value(name) = *self.peek() else { return self.expected("a value") };
            let taken = self.names.contains_key(name) || names.iter().any(|(n, _)| *n == name);
            if taken || name.is_empty() {
                return self.fail(self.offset(), Kind::Redefined(name.to_owned()));
            }
            names.push((name, self.offset()));
            self.at += 1;
            if !self.eat(',') {
                break;
            }
        }
        self.punct('=', "`=`")?;
        let at = self.offset();
        let keyword = self.word("an op, `input`, `weight` or `state`")?;
        let def = match keyword {
            "input" => Some(Def::Input { optional: false }),
            "weight" => Some(Def::Weight),
            "state" => Some(Def::State),
            _ => None,
        };
        match def {
            Some(def) => self.declaration(def, &names),
            None => match Op::from_mnemonic(keyword) {
                Some(op) => self.application(op, at, &names),
                None => self.fail(at, Kind::UnknownOp(keyword.to_owned())),
            },
        }
    }

    fn declaration(&mut self, def: Def, names: &[(&'s str, usize)]) -> Result_<()> {
        if let Some(&(_, at)) = names.get(1) {
            return self.fail(at, Kind::Results { op: "declaration", expected: 1, found: names.len() });
        }
        let name = self.string()?;
        self.punct(':', "`:`")?;
        let ty = self.tensor_type()?;
        let optional = def == (Def::Input { optional: false }) && *self.peek() == Token::Word("optional");
        self.at += usize::from(optional);
        let id = match def {
            Def::Input { .. } if optional => self.builder.optional_input(&name, ty),
            Def::Input { .. } => self.builder.input(&name, ty),
            Def::Weight => self.builder.weight(&name, ty),
            _ => self.builder.state(&name, ty),
        };
        self.names.insert(names[0].0, id);
        Ok(())
    }

    fn application(&mut self, op: Op, at: usize, names: &[(&'s str, usize)]) -> Result_<()> {
        let expected = op.spec().results.len();
        if names.len() != expected {
            return self.fail(names[0].1, Kind::Results { op: op.mnemonic(), expected, found: names.len() });
        }
        let inputs = self.operands()?;
        let attrs = self.attributes(op)?;
        let node = match self.builder.apply(op, &inputs, &attrs) {
            Ok(node) => node,
            Err(e) => return self.fail(at, e.into()),
        };
        let results = self.builder.graph().node(node).results.clone();
        for (&(name, _), &id) in names.iter().zip(&results) {
            self.names.insert(name, id);
        }
        self.stated_types(op, &results)
    }

    fn operands(&mut self) -> Result_<SmallVec<[Option<ValueId>; 8]>> {
        let mut inputs = SmallVec::new();
        if !matches!(self.peek(), Token::Value(_) | Token::Word("_")) {
            return Ok(inputs);
        }
        loop {
            if *self.peek() == Token::Word("_") {
                self.at += 1;
                inputs.push(None);
            } else {
                inputs.push(Some(self.used_value()?));
            }
            if !self.eat(',') {
                return Ok(inputs);
            }
        }
    }

    fn attributes(&mut self, op: Op) -> Result_<SmallVec<[(&'static str, Attr); 4]>> {
        let mut attrs: SmallVec<[(&'static str, Attr); 4]> = SmallVec::new();
        if !self.eat('{') {
            return Ok(attrs);
        }
        while !self.eat('}') {
            if !attrs.is_empty() {
                self.punct(',', "`,` or `}`")?;
            }
            let at = self.offset();
            let name = self.word("an attribute's name")?;
            let Some(index) = op.spec().attr_index(name) else {
                return self.fail(at, Kind::UnknownAttribute { op: op.mnemonic(), name: name.to_owned() });
            };
            let spec = &op.spec().attrs[index];
            if attrs.iter().any(|(n, _)| *n == spec.name) {
                return self.fail(at, Kind::DuplicateAttribute(spec.name));
            }
            self.punct('=', "`=`")?;
            attrs.push((spec.name, self.attribute_value(spec)?));
        }
        Ok(attrs)
    }

    fn attribute_value(&mut self, spec: &'static AttrSpec) -> Result_<Attr> {
        let at = self.offset();
        let wrong = Kind::AttributeKind { name: spec.name, expected: spec.kind.to_string() };
        let is_list = *self.peek() == Token::Punct('[');
        match spec.kind {
            AttrKind::Shape if is_list => Ok(Attr::Shape(self.shape()?)),
            AttrKind::Ints if is_list => Ok(Attr::Ints(self.integers()?)),
            AttrKind::Int => match self.next() {
                Token::Number(n) => self.number(n, at).map(Attr::Int),
                _ => self.fail(at, wrong),
            },
            AttrKind::Extended if *self.peek() == Token::Word("inf") => {
                self.at += 1;
                Ok(Attr::F32(f32::INFINITY))
            }
            AttrKind::F32 | AttrKind::Extended => match self.next() {
                Token::Number(n) => self.float(n, at, spec.kind),
                _ => self.fail(at, wrong),
            },
            AttrKind::Word(words) => match self.next() {
                Token::Word(w) => match words.iter().find(|x| **x == w) {
                    Some(word) => Ok(Attr::Word(word)),
                    None => self.fail(at, wrong),
                },
                _ => self.fail(at, wrong),
            },
            AttrKind::DType => self.dtype().map(Attr::DType),
            AttrKind::Shape | AttrKind::Ints => self.fail(at, wrong),
        }
    }

    /// An f32. An integer must be exactly representable, because a rounded one is hardly intended.
    fn float(&self, text: &str, at: usize, kind: AttrKind) -> Result_<Attr> {
        let value = Attr::F32(self.number(text, at)?);
        let overflows = text != "-inf" && value == Attr::F32(f32::NEG_INFINITY) || value == Attr::F32(f32::INFINITY);
        let inexact = text.parse::<i64>().is_ok_and(|n| f64::from(n as f32) != n as f64);
        if overflows || !kind.admits(&value) || inexact {
            return self.fail(at, Kind::Number(text.to_owned()));
        }
        Ok(value)
    }

    fn number<T: std::str::FromStr>(&self, text: &str, at: usize) -> Result_<T> {
        text.parse().or_else(|_| self.fail(at, Kind::Number(text.to_owned())))
    }

    fn integers(&mut self) -> Result_<Vec<i64>> {
        let mut list = Vec::new();
        self.punct('[', "`[`")?;
        while !self.eat(']') {
            if !list.is_empty() {
                self.punct(',', "`,` or `]`")?;
            }
            let at = self.offset();
            match self.next() {
                Token::Number(n) => list.push(self.number(n, at)?),
                other => return self.fail(at, Kind::Expected { expected: "an integer", found: other.describe() }),
            }
        }
        Ok(list)
    }

    fn stated_types(&mut self, op: Op, results: &[ValueId]) -> Result_<()> {
        if !self.eat(':') {
            return Ok(());
        }
        for (i, &id) in results.iter().enumerate() {
            if i > 0 && !self.eat(',') {
                return self
                    .fail(self.offset(), Kind::Results { op: op.mnemonic(), expected: results.len(), found: i });
            }
            let at = self.offset();
            let stated = self.tensor_type()?;
            let inferred = self.builder.graph().ty(id);
            if *inferred != stated {
                let kind = Kind::Type { inferred: inferred.to_string(), stated: stated.to_string() };
                return self.fail(at, kind);
            }
        }
        Ok(())
    }

    fn dtype(&mut self) -> Result_<DType> {
        let at = self.offset();
        let name = self.word("an element type")?;
        match DType::from_name(name) {
            Some(t) => Ok(t),
            None => self.fail(at, Kind::UnknownType(name.to_owned())),
        }
    }

    fn tensor_type(&mut self) -> Result_<TensorType> {
        let dtype = self.dtype()?;
        Ok(TensorType::new(dtype, self.shape()?))
    }

    fn shape(&mut self) -> Result_<Shape> {
        let mut dims = SmallVec::<[Dim; 4]>::new();
        self.punct('[', "`[`")?;
        while !self.eat(']') {
            if !dims.is_empty() {
                self.punct(',', "`,` or `]`")?;
            }
            let at = self.offset();
            dims.push(match self.next() {
                Token::Number(n) => Dim::Const(self.number(n, at)?),
                Token::Word(w) => match Sym::from_name(w) {
                    Some(s) => Dim::Sym(s),
                    None => return self.fail(at, Kind::UnknownSymbol(w.to_owned())),
                },
                other => return self.fail(at, Kind::Expected { expected: "a dimension", found: other.describe() }),
            });
        }
        Ok(Shape(dims))
    }
}
