//! Reads the body of a download on a separate thread, so that a stalled or trickling one can be abandoned. Called by
//! `fetch`.

use crate::signals;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Bytes read at a time.
const PIECE: usize = 1 << 18;
/// Minimum bytes per second, averaged over a period.
const MIN_RATE: u64 = 1024;
/// Interval between checks for Ctrl-C.
const POLL: Duration = Duration::from_millis(50);

/// Yields the pieces of a body as they arrive.
pub(crate) struct Stream {
    pieces: Receiver<io::Result<Vec<u8>>>,
    patience: Duration,
    /// Start of the current period, and the bytes received in it.
    since: Instant,
    brought: u64,
}

impl Stream {
    /// Starts reading. Each period of `patience` must average at least [`MIN_RATE`] bytes per second.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn new(mut body: impl Read + Send + 'static, patience: Duration) -> io::Result<Stream> {
        let (send, pieces) = sync_channel(4);
        let read = move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match body.read(&mut buffer) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    read => read.map(|n| buffer[..n].to_vec()),
                };
                let last = piece.as_ref().map_or(true, Vec::is_empty);
                // The receiver is gone once the download was abandoned.
                if send.send(piece).is_err() || last {
                    return;
                }
            }
        };
        // The thread is never joined: if it hangs in a read, it ends with the process.
        Builder::new().name("aio-fetch".to_owned()).spawn(read)?;
        Ok(Stream { pieces, patience, since: Instant::now(), brought: 0 })
    }

    /// The next piece; empty at the end.
    ///
    /// # Errors
    /// Read errors; [`io::ErrorKind::TimedOut`] if the body stalls, [`io::ErrorKind::Interrupted`] on Ctrl-C.
    pub(crate) fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if signals::interrupted() {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
            }
            match self.pieces.recv_timeout(POLL.min(self.patience)) {
                Ok(piece) => {
                    let piece = piece?;
                    self.brought += piece.len() as u64;
                    return self.in_time().map(|()| piece);
                }
                Err(RecvTimeoutError::Timeout) => self.in_time()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(Vec::new()),
            }
        }
    }

    fn in_time(&mut self) -> io::Result<()> {
        if self.since.elapsed() < self.patience {
            return Ok(());
        }
        if self.brought < MIN_RATE * self.patience.as_secs().max(1) {
            let message = format!("only {} bytes came in {} s", self.brought, self.patience.as_secs_f32());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        (self.since, self.brought) = (Instant::now(), 0);
        Ok(())
    }
}
