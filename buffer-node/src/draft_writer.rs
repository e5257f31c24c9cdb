//! A draft of the spool as something to write to.

use std::io::{self, Write};

use tidegate_spool::Draft;

/// Appends to a draft.
pub(crate) struct DraftWriter<'a>(pub(crate) &'a mut Draft);

impl Write for DraftWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
