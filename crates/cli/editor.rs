//! The line editor of a terminal chat: history, pasted lines as one turn, Ctrl-C for a new line, Ctrl-D to end.
//!
//! Built on Rustyline. The history is in `history` in the cache folder, readable by this user alone.

use crate::{folders, signals};
use anyhow::{Context, Result};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Behavior, Config, Editor};
use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};

/// Maximum number of turns in the history.
const KEPT: usize = 1000;

/// Reads the user's turns from the terminal.
pub(crate) struct Turns {
    editor: Editor<(), FileHistory>,
    /// Path of the history; `None` without a cache folder.
    history: Option<PathBuf>,
}

impl Turns {
    /// Opens the terminal.
    pub(crate) fn new() -> Result<Turns> {
        let history = history();
        Ok(Turns { editor: editor(history.as_deref())?, history })
    }

    /// Reads the next turn, which may have several lines; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<String>> {
        loop {
            match signals::while_editing(|| self.editor.readline("> ")) {
                Ok(turn) if turn.trim().is_empty() => {}
                Ok(turn) => {
                    self.keep(&turn);
                    return Ok(Some(turn));
                }
                Err(ReadlineError::Eof) => return Ok(None),
                // Ctrl-C, or the window was resized.
                Err(ReadlineError::Interrupted | ReadlineError::Signal(_)) => {}
                Err(ReadlineError::Io(e)) if e.kind() == ErrorKind::InvalidData => {
                    // Otherwise the rest of a paste would become turns.
                    signals::drop_typed();
                    self.editor = editor(self.history.as_deref())?;
                    note!("\nthe input is not UTF-8 and was discarded");
                }
                Err(e) => return Err(e).context("cannot read from the terminal"),
            }
        }
    }

    fn keep(&mut self, turn: &str) {
        // Failing to store the history must not end the chat.
        let fresh = self.editor.add_history_entry(turn).unwrap_or(false);
        if let Some(path) = self.history.as_ref().filter(|_| fresh) {
            let _ = self.editor.append_history(path);
        }
    }
}

fn editor(history: Option<&Path>) -> Result<Editor<(), FileHistory>> {
    // The prompt goes to the terminal even if the answers are redirected to a file.
    let behavior = if std::io::stdout().is_terminal() { Behavior::Stdio } else { Behavior::PreferTerm };
    let config = Config::builder().behavior(behavior).max_history_size(KEPT).map(|c| c.build());
    let editor = config.and_then(|config| {
        let history = FileHistory::with_config(&config);
        Editor::with_history(config, history)
    });
    let mut editor = editor.context("cannot open the terminal")?;
    if let Some(path) = history {
        // If the history cannot be read, the chat starts without one.
        let _ = editor.load_history(path);
    }
    Ok(editor)
}

/// Path of the history file, created for this user alone if it is missing.
fn history() -> Option<PathBuf> {
    let folder = folders::cache().ok()?;
    folders::create(&folder).ok()?;
    let path = folder.join("history");
    let mut options = std::fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).ok()?;
    Some(path)
}
