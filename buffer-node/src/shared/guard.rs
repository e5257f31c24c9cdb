//! Which uploads of agents may change a pair, where the sync server keeps pairs in step.
//!
//! An agent that cannot read its `.md5`, for whatever reason and be it for a moment, takes itself for new: it uploads
//! its `.conf`, then its `.md5`. Over a whole pair, that would put an old file over what an operator wrote. So
//! such a pair is changed only where `overwrite` allows it, and only when some agent had what lies there: then the
//! upload is a later one. Whether the `.md5` fits does not matter: with one there, no agent is new.
//!
//! Without an `.md5` (it never came: a registration was broken off) the agent will not stop before there is one: its `.conf` is
//! taken, whatever `overwrite` says, over what agents have uploaded and over what has lain there for a while. What was put
//! there a moment ago may be an operator's, whose `.md5` is on its way. And an `.md5` that is not that of a main file which lies there would make a pair of two
//! halves, or keep its agent from ever uploading the other one: it is never taken.
//!
//! Main files of one name and several extensions have one `.md5`, and any agent may leave a file of any name. So only a file
//! that the `.md5` fits keeps others from it, and an agent may leave no collection beside another's configuration.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::stamp::Stamp;

/// Beyond this many files all are forgotten, and must be read once more before an upload changes them.
const KNOWN_MAX: usize = 200_000;

/// How long a `.conf` without an `.md5` that no agent has uploaded is left to whoever has put it there.
pub(super) const SETTLING: Duration = Duration::from_secs(5 * 60);

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
        "it was put there by hand a moment ago, and its .md5 may be on its way; in a few minutes it is replaced"
    )]
    Settling,
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

/// The `.md5` of a main file that is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Md5 {
    There,
    /// The main file has lain there for [`SETTLING`], if so.
    Absent {
        is_settled: bool,
    },
}

/// Of a main file that is there.
pub(super) fn over_main(md5: Md5, is_conf: bool, overwrite: bool, is_known: bool) -> Verdict {
    match md5 {
        Md5::There if !overwrite => Verdict::Refused(Guarded::Whole),
        Md5::There if is_known => Verdict::AsConfigured,
        Md5::There => Verdict::Refused(Guarded::NotRead),
        Md5::Absent { .. } if !is_conf => Verdict::AsConfigured,
        Md5::Absent { is_settled } if is_settled || is_known => Verdict::Replaces,
        Md5::Absent { .. } => Verdict::Refused(Guarded::Settling),
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
        let (new, old) = (Md5::Absent { is_settled: false }, Md5::Absent { is_settled: true });
        for (md5, is_conf, overwrite, is_known, verdict) in [
            (Md5::There, true, false, false, Refused(Guarded::Whole)),
            (Md5::There, true, false, true, Refused(Guarded::Whole)),
            (Md5::There, false, false, true, Refused(Guarded::Whole)),
            (Md5::There, true, true, false, Refused(Guarded::NotRead)),
            (Md5::There, false, true, false, Refused(Guarded::NotRead)),
            (Md5::There, true, true, true, AsConfigured),
            (Md5::There, false, true, true, AsConfigured),
            (old, true, false, false, Replaces),
            (old, true, true, false, Replaces),
            (new, true, false, true, Replaces),
            (new, true, true, true, Replaces),
            (new, true, false, false, Refused(Guarded::Settling)),
            (new, true, true, false, Refused(Guarded::Settling)),
            (new, false, false, false, AsConfigured),
            (new, false, true, false, AsConfigured),
        ] {
            assert_eq!(
                over_main(md5, is_conf, overwrite, is_known),
                verdict,
                "{md5:?}, conf {is_conf}, overwrite {overwrite}, known {is_known}"
            );
        }
    }
}
