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
            let _ = writeln!(io::stdout(), "[log] {}", without_codes(words));
        }
    }

    pub(crate) fn error(self, words: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "[err] {}", without_codes(words));
        }
    }
}

/// Without the numbers that Rust adds to the system's words and the stock client does not.
fn without_codes(words: &str) -> String {
    let mut parts = words.split(" (os error ");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((number, rest)) if number.parse::<i32>().is_ok() => clean.push_str(rest),
            _ => clean.extend([" (os error ", part]),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_stand_without_their_numbers() {
        let twice = "a: Permission denied (os error 13). b: No such file (os error 2)";
        assert_eq!(without_codes(twice), "a: Permission denied. b: No such file");
        assert_eq!(without_codes("as it is (os error x)"), "as it is (os error x)");
        assert_eq!(without_codes(&io::Error::from_raw_os_error(2).to_string()), "No such file or directory");
    }
}
