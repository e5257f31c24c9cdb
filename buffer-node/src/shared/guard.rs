//! Which uploads of agents may change a pair, where the sync server keeps pairs in step.
//!
//! An agent that cannot read its `.md5`, for whatever reason and be it for a moment, takes itself for new: it uploads
//! its `.conf`, then its `.md5`. Over a whole pair, that would put an old file over what an operator wrote. So
//! such a pair is changed only where `overwrite` allows it, and only when some agent had what lies there: then the
//! upload is a later one. Whether the `.md5` fits does not matter: with one there, no agent is new.
//!
//! Without an `.md5` (it never came: a registration was broken off) the agent will not stop before there is one: its `.conf` is
//! taken, whatever `overwrite` says. And an `.md5` that is not that of a main file which lies there would make a pair of two
//! halves, or keep its agent from ever uploading the other one: it is never taken.
//!
//! Main files of one name and several extensions have one `.md5`, and any agent may leave a file of any name. So only a file
//! that the `.md5` fits keeps others from it, and an agent may leave no collection beside another's configuration.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::stamp::Stamp;

/// Beyond this many files all are forgotten, and must be read once more before an upload changes them.
const KNOWN_MAX: usize = 200_000;

/// Why an upload is not taken. The sender hears that the file exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Guarded {
    #[error("there is a whole pair of this name, which keeps its bytes while `overwrite` is off")]
    Whole,
    #[error(
        "there is a whole pair of this name, and no agent has uploaded or read it since the node started: it may be newer \
         than what the agent has"
    )]
    NotRead,
    #[error("it is not the digest of the file that lies there")]
    OtherDigest,
    #[error("the file that it is the digest of is not there")]
    Lone,
    #[error(
        "another file of this name lies there under another extension, and both would have the same .md5"
    )]
    Sibling,
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
pub(super) fn over_main(has_md5: bool, is_conf: bool, overwrite: bool, is_known: bool) -> Verdict {
    match (has_md5, overwrite) {
        (true, false) => Verdict::Refused(Guarded::Whole),
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
        for (has_md5, is_conf, overwrite, is_known, verdict) in [
            (true, true, false, false, Refused(Guarded::Whole)),
            (true, true, false, true, Refused(Guarded::Whole)),
            (true, false, false, true, Refused(Guarded::Whole)),
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
                over_main(has_md5, is_conf, overwrite, is_known),
                verdict,
                "md5 {has_md5}, conf {is_conf}, overwrite {overwrite}, known {is_known}"
            );
        }
    }
}
