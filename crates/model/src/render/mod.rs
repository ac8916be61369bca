//! Renders untrusted templates: both chat templates and graph templates go through here.
//!
//! A template may be written to exhaust its reader. Its nesting is checked before it is parsed (`source`). Parsing and
//! rendering run on a thread whose stack fits the deepest template that passes. Fuel bounds the work and the data
//! created. Each value kept, and the output, are at most [`MAX_BYTES`]. Exceeding a bound is a [`TemplateError`].
//! Called by `crate::chat` and `crate::template`.

mod arithmetic;
mod bound;
mod depth;
mod error;
mod format;
mod lex;
mod literal;
mod source;

use std::io::{self, Write};
use std::thread;

use minijinja::value::{Kwargs, Rest, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};

pub(crate) use arithmetic::escaped;
pub(crate) use bound::{MAX_BYTES, Text, measure};
pub use error::TemplateError;
pub(crate) use format::{Show, Style, bounded_format};

/// Stack size in bytes of the thread that parses and renders templates; only the used part takes memory.
const STACK: usize = 64 << 20;

/// Parsed templates that render within bounds.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    env: Environment<'static>,
    name: String,
}

impl Guarded {
    /// Parses the templates `files`; `name` is the one to render. `fuel` is the number of instructions, or of 64-byte
    /// units of data, that a rendering may take. `set_up` adds functions, filters and tests.
    ///
    /// # Errors
    /// A template nests too deeply, is too large, or does not parse; or no thread can be started.
    pub(crate) fn new<'a>(
        name: &str,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        fuel: u64,
        show: Show,
        set_up: impl FnOnce(&mut Environment<'static>) + Send,
    ) -> Result<Guarded, TemplateError> {
        let files: Vec<_> = files.into_iter().collect();
        on_thread(name, || {
            let mut env = environment(fuel, show);
            set_up(&mut env);
            for (name, text) in files {
                let prepared = source::prepare(text).map_err(|e| TemplateError::Unbounded {
                    name: name.to_owned(),
                    line: e.line,
                    message: e.message,
                })?;
                if let Err(e) = env.add_template_owned(name.to_owned(), prepared) {
                    // The original text gives its author a better message than the rewritten one.
                    let e = env.template_from_named_str(name, text).err().unwrap_or(e);
                    return Err(TemplateError::new(name, &e));
                }
            }
            Ok(Guarded { env, name: name.to_owned() })
        })
    }

    /// Renders the template with `context`.
    ///
    /// # Errors
    /// The template fails or exceeds a bound, or no thread can be started.
    pub(crate) fn render(&self, context: Value) -> Result<String, TemplateError> {
        let name = self.name.as_str();
        on_thread(name, || {
            let template = self.env.get_template(name).map_err(|e| TemplateError::new(name, &e))?;
            let mut output = Capped::default();
            let rendered = template.render_captured_to(context, &mut output).map(drop);
            if output.is_full {
                return Err(TemplateError::TooLong { name: name.to_owned(), bytes: MAX_BYTES });
            }
            rendered.map_err(|e| TemplateError::new(name, &e))?;
            String::from_utf8(output.bytes).map_err(|e| TemplateError::Render {
                name: name.to_owned(),
                line: 0,
                message: e.to_string(),
            })
        })
    }
}

/// Runs `work` on a thread with a stack of known size. Everything that recurses over template or values is also dropped
/// there.
fn on_thread<T: Send>(name: &str, work: impl FnOnce() -> Result<T, TemplateError> + Send) -> Result<T, TemplateError> {
    let fail = |message: String| TemplateError::Thread { name: name.to_owned(), message };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("template".to_owned()).stack_size(STACK).spawn_scoped(scope, work);
        let thread = thread.map_err(|e| fail(e.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(fail("it ended early".to_owned())))
    })
}

fn environment(fuel: u64, show: Show) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_debug(false);
    env.set_fuel(Some(fuel));
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    let syntax = env.syntax().to_builder().trim_blocks(true).lstrip_blocks(true).build();
    // Only whitespace handling changes, which cannot fail; if it did, templates would print blank lines.
    if let Ok(syntax) = syntax {
        env.set_syntax(syntax);
    }
    // These print the whole state, or a value, without bounds.
    env.remove_global("debug");
    env.remove_filter("pprint");
    env.add_function("__aio_held", |state: &State<'_, '_>, value: Value| bound::held(state, value));
    env.add_function("__aio_attr", |state: &State<'_, '_>, value: Value| bound::attribute(state, value));
    env.add_function("__aio_iter", iterable);
    env.add_function("__aio_add", |state: &State<'_, '_>, parts: Rest<Value>| arithmetic::sum(state, &parts));
    env.add_function("__aio_mod", move |state: &State<'_, '_>, a: Value, b: Value| {
        arithmetic::modulo(state, &a, &b, show)
    });
    env.add_function("__aio_cat", move |state: &State<'_, '_>, parts: Rest<Value>| concatenate(state, &parts, show));
    env.add_function("namespace", |state: &State<'_, '_>, first: Option<Value>, named: Kwargs| {
        let values = fields(state, first, &named)?;
        minijinja::functions::namespace(Some(values.into()))
    });
    env.add_function("dict", |state: &State<'_, '_>, first: Option<Value>, named: Kwargs| fields(state, first, &named));
    env.add_filter("zip", |state: &State<'_, '_>, first: Value, others: Rest<Value>| {
        bound::held(state, minijinja::filters::zip(state, first, others)?)
    });
    env.set_formatter(move |out, state, value| {
        if let Some(text) = value.as_str() {
            return Ok(out.write_str(text)?);
        }
        let mut text = Text::default();
        show(state, value, &mut text)?;
        Ok(out.write_str(&text.into_string())?)
    });
    env.add_filter("format", move |state: &State<'_, '_>, text: &str, args: Rest<ValueOrKwargs>| {
        bounded_format(state, Style::Percent, text, &args.into_values(), show)
    });
    env
}

/// The iterable of a loop. Fails for none, which minijinja's loops treat as an empty list.
fn iterable(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "none cannot be iterated"));
    }
    Ok(value)
}

/// A map of the pairs of `first` and of the named arguments.
fn fields(state: &State<'_, '_>, first: Option<Value>, named: &Kwargs) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    if let Some(map) = first.filter(|v| !v.is_undefined()) {
        let object = map.as_object().and_then(|o| o.try_iter_pairs());
        let object = object.ok_or_else(|| Error::new(ErrorKind::InvalidOperation, "expected a map"))?;
        pairs.extend(object);
    }
    for name in named.args() {
        pairs.push((Value::from(name), named.get::<Value>(name)?));
    }
    bound::held(state, Value::from_pairs(pairs))
}

fn concatenate(state: &State<'_, '_>, parts: &[Value], show: Show) -> Result<Value, Error> {
    let mut text = Text::default();
    for part in parts {
        show(state, part, &mut text)?;
    }
    Ok(Value::from(text.into_string()))
}

/// Collects the output, up to [`MAX_BYTES`].
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Write for Capped {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > MAX_BYTES {
            self.is_full = true;
            return Err(io::Error::other("the output is full"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
