//! The text form of graphs, a stable interface with a version line.
//!
//! ```text
//! aio 1                                   ; comments run to the end of the line
//! graph "twice"
//! %0 = input "x" : f32[rows, 8]
//! %1 = add %0, %0 : f32[rows, 8]          ; the type may be left out
//! output "y" = %1
//! ```
//! Values are numbered or named (`%x`) in the source and numbered when printed; `_` is an absent operand; attributes
//! are in braces. `parse(print(g)) == g`.

mod error;
mod lexer;
mod parser;
mod printer;

pub use error::{ParseError, ParseErrorKind};
pub use parser::{Parsed, parse};
pub use printer::{print, print_node};

/// The version in the first line. The parser rejects any other.
pub const TEXT_VERSION: u32 = 1;
