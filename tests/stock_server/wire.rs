//! How the reference reads and writes: whatever has arrived, up to one block, and a command is complete only when the
//! block *ends* in a newline. That habit is why nobody may pipeline towards it.

use std::fmt;
use std::io::{ErrorKind, Read, Write};

/// The reference reads and writes at most this much at once; a longer command ends the connection.
const BLOCK: usize = 1024;

/// Plain or TLS.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Why a session ended other than by `QUIT`.
#[derive(Debug)]
pub(crate) struct End(String);

impl End {
    pub(crate) fn because(reason: impl Into<String>) -> End {
        End(reason.into())
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::io::Error> for End {
    fn from(error: std::io::Error) -> End {
        End(error.to_string())
    }
}

/// One connection.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    retries: u32,
}

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>, retries: u32) -> Wire {
        Wire { stream, retries }
    }

    /// One read of at most `most` bytes; the first wait and `retries` more without a byte end the session.
    fn read_some(&mut self, most: usize) -> Result<Vec<u8>, End> {
        let mut buffer = vec![0; most];
        for _ in 0..=self.retries {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(End::because("connection unexpectedly closed")),
                Ok(read) => {
                    buffer.truncate(read);
                    return Ok(buffer);
                }
                Err(error) if is_wait(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(End::because("connection timed out"))
    }

    pub(crate) fn command(&mut self) -> Result<Vec<u8>, End> {
        let mut command = Vec::new();
        loop {
            command.extend(self.read_some(BLOCK)?);
            if command.last() == Some(&b'\n') {
                command.pop();
                return Ok(command);
            }
            if command.len() > BLOCK {
                return Err(End::because("received too much data"));
            }
        }
    }

    pub(crate) fn body(&mut self, size: usize) -> Result<Vec<u8>, End> {
        let mut body = Vec::new();
        while body.len() < size {
            body.extend(self.read_some(size - body.len())?);
        }
        Ok(body)
    }

    /// Writes block by block. Writing nothing looks to the reference like a closed connection, and ends it: fetching an
    /// empty file therefore fails.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), End> {
        if bytes.is_empty() {
            return Err(End::because("connection unexpectedly closed"));
        }
        let (mut written, mut waits) = (0, 0);
        while written < bytes.len() {
            let block = &bytes[written..bytes.len().min(written + BLOCK)];
            match self.stream.write(block) {
                Ok(0) => return Err(End::because("connection unexpectedly closed")),
                Ok(count) => written += count,
                Err(error) if is_wait(&error) && waits < self.retries => waits += 1,
                Err(error) => return Err(error.into()),
            }
        }
        self.stream.flush()?;
        Ok(())
    }
}

fn is_wait(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
