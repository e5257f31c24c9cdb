//! Which uploads of agents may change a pair, where the sync server keeps pairs in step.
//!
//! An agent that cannot read its `.md5`, for whatever reason and be it for a moment, takes itself for new: it uploads
//! its `.conf`, then its `.md5`. Over a pair that fits, that would put an old file over what an operator wrote. So
//! such a pair is changed only where `overwrite` allows it, and only when some agent had what lies there: then the
//! upload is a later one. Where the `.md5` does not fit (it never came; the main file was edited by hand), the agent will not
//! stop before the pair is whole: its `.conf` is taken, whatever `overwrite` says. And an `.md5` that is not that of the main
//! file which lies there would make a pair of two halves: it is never taken.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::stamp::Stamp;

/// Beyond this many files all are forgotten, and must be read once more before an upload changes them.
const KNOWN_MAX: usize = 200_000;

/// Why an upload is not taken. The sender hears that the file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Guarded {
    #[error("it is half of a pair that fits, which keeps its bytes while `overwrite` is off")]
    Fits,
    #[error(
        "it is half of a pair that fits, and no agent has uploaded or read it since the node started: it may be newer than \
         what the agent has"
    )]
    NotRead,
    #[error("it is not the digest of the file that lies there, which keeps its bytes")]
    OtherDigest,
}

/// What becomes of an upload with other bytes than those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// `overwrite` decides, as for all shared files.
    AsConfigured,
    /// It takes the place of what is there.
    Replaces,
    Refused(Guarded),
}

/// Of a main file that is there.
pub(super) fn over_main(fits: bool, is_conf: bool, overwrite: bool, is_known: bool) -> Verdict {
    match (fits, overwrite) {
        (true, false) => Verdict::Refused(Guarded::Fits),
        (true, true) if is_known => Verdict::AsConfigured,
        (true, true) => Verdict::Refused(Guarded::NotRead),
        (false, _) if is_conf => Verdict::Replaces,
        (false, _) => Verdict::AsConfigured,
    }
}

/// The main files that some agent has, by name, each in the version that it has.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<Box<[u8]>, Stamp>>);

impl Known {
    /// An agent has uploaded it, or has read it to its end.
    pub(super) fn remember(&self, name: &[u8], version: Stamp) {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= KNOWN_MAX {
            files.clear();
        }
        files.insert(name.into(), version);
    }

    pub(super) fn holds(&self, name: &[u8], version: Stamp) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name) == Some(&version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        use Verdict::{AsConfigured, Refused, Replaces};
        for (fits, is_conf, overwrite, is_known, verdict) in [
            (true, true, false, false, Refused(Guarded::Fits)),
            (true, true, false, true, Refused(Guarded::Fits)),
            (true, false, false, true, Refused(Guarded::Fits)),
            (true, true, true, false, Refused(Guarded::NotRead)),
            (true, false, true, false, Refused(Guarded::NotRead)),
            (true, true, true, true, AsConfigured),
            (true, false, true, true, AsConfigured),
            (false, true, false, false, Replaces),
            (false, true, true, false, Replaces),
            (false, false, false, false, AsConfigured),
            (false, false, true, false, AsConfigured),
        ] {
            assert_eq!(
                over_main(fits, is_conf, overwrite, is_known),
                verdict,
                "fits {fits}, conf {is_conf}, overwrite {overwrite}, known {is_known}"
            );
        }
    }
}
