//! What the user reads: `[log] …` on stdout when verbose, `[err] …` on stderr unless quiet.

use std::io::{self, Write};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Say {
    pub(crate) quiet: bool,
    pub(crate) verbose: bool,
}

impl Say {
    /// A closed stdout or stderr does not stop a transfer.
    pub(crate) fn log(self, words: &str) {
        if self.verbose {
            let _ = writeln!(io::stdout(), "[log] {words}");
        }
    }

    pub(crate) fn error(self, words: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "[err] {words}");
        }
    }
}
