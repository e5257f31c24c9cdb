//! The commands, as lines and as meanings.

use core::fmt;

/// What a command or reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// `SEND`: a file comes.
    Send,
    /// `ZSEND`: a file comes, in a ZIP archive.
    ZSend,
    /// `RECV`: a file is asked for.
    Recv,
    /// `ZRECV`: a file is asked for, in a ZIP archive.
    ZRecv,
    /// `LS`: a listing is asked for.
    Ls,
    /// `MV`: a file is asked for and to be deleted.
    Mv,
}

/// How a body holds its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Packing {
    /// As it is.
    Plain,
    /// As the one entry of a ZIP archive.
    Zip,
}

impl Verb {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Send => "SEND",
            Verb::ZSend => "ZSEND",
            Verb::Recv => "RECV",
            Verb::ZRecv => "ZRECV",
            Verb::Ls => "LS",
            Verb::Mv => "MV",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
