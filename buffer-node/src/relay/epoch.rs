//! The epoch: which puller this node listens to, and since when.
//!
//! A puller that was replaced may come back: from a backup, out of a partition, started twice by hand. It would delete here
//! what its successor never got. So the node remembers the highest epoch that it has accepted and who came with it, and
//! refuses everybody else before it sends anything. Only an operator raises an epoch, by one; a jump is somebody's
//! mistake. Who a puller is says its certificate, never its words.
//!
//! The file is one line, `<epoch> <puller> <since>`. It is durable before the puller hears WELCOME. Beside it lies a spare
//! one, whose room it takes where the disk is full: only the puller can empty that disk.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tidegate_net::tls::Peer;
use tidegate_spool::durable;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The highest epoch that a node which knows none begins with. A higher one is no operator's counting: CLOSE.
const FIRST_MAX: u64 = 1_000_000;

/// What an epoch file may hold at most; more is none.
const FILE_MAX: u64 = 1024;

/// Stands for a puller without a certificate, which `insecure = true` admits.
const NOBODY: &str = "anybody";

/// What the node remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) epoch: u64,
    /// Who came with it, as [`puller`] tells.
    pub(crate) puller: String,
    /// When it was first accepted, in words.
    pub(crate) since: String,
}

/// What becomes of a puller's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is the one that is remembered, and its puller.
    Known,
    /// It is to be remembered, before anything is said.
    New,
    Refused(Refusal),
}

/// Why an epoch is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    TooLow,
    Jump,
    OfAnother,
}

/// Who a peer is, by its certificate.
pub(super) fn puller(peer: &Peer) -> String {
    match (&peer.identity, &peer.fingerprint) {
        // What a pinned certificate calls itself was signed by nobody we trust.
        (_, Some(fingerprint)) if peer.pinned => format!("fingerprint:{fingerprint}"),
        (Some(identity), _) => identity.to_string(),
        (None, Some(fingerprint)) => format!("fingerprint:{fingerprint}"),
        (None, None) => NOBODY.to_owned(),
    }
}

/// The whole rule.
pub(super) fn decide(held: Option<&Held>, epoch: u64, puller: &str) -> Decision {
    let Some(held) = held else {
        return match epoch {
            0 => Decision::Refused(Refusal::TooLow),
            1..=FIRST_MAX => Decision::New,
            _ => Decision::Refused(Refusal::Jump),
        };
    };
    match epoch.checked_sub(held.epoch) {
        None => Decision::Refused(Refusal::TooLow),
        Some(0) if held.puller == puller => Decision::Known,
        Some(0) => Decision::Refused(Refusal::OfAnother),
        Some(1) => Decision::New,
        Some(_) => Decision::Refused(Refusal::Jump),
    }
}

/// What is remembered; `None` when no puller has come by relay yet, or an operator has reset it.
pub(crate) fn load(file: &Path) -> io::Result<Option<Held>> {
    let text = match std::fs::metadata(file) {
        Ok(found) if found.len() > FILE_MAX => return Err(damaged()),
        Ok(_) => std::fs::read_to_string(file),
        Err(error) => Err(error),
    };
    match text {
        Ok(text) => parse(&text).map(Some).ok_or_else(damaged),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn damaged() -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        "it does not say `<epoch> <puller> <since>`; `tidegate-buffer-node epoch reset` removes it",
    )
}

fn parse(text: &str) -> Option<Held> {
    let fields: Vec<&str> = text.strip_suffix('\n')?.split(' ').collect();
    let [epoch, puller, since] = fields[..] else { return None };
    let whole = |field: &str| !field.is_empty() && !field.contains(char::is_control);
    (whole(puller) && whole(since)).then_some(())?;
    Some(Held { epoch: epoch.parse().ok()?, puller: puller.to_owned(), since: since.to_owned() })
}

/// Remembers, durably.
pub(super) fn save(file: &Path, epoch: u64, puller: &str) -> io::Result<Held> {
    let held = Held { epoch, puller: puller.to_owned(), since: now() };
    let line = format!("{} {} {}\n", held.epoch, held.puller, held.since);
    match durable::replace(file, line.as_bytes()) {
        Err(error) if is_full(&error) && std::fs::remove_file(spare(file)).is_ok() => {
            durable::replace(file, line.as_bytes())?;
        }
        written => {
            written?;
            set_room_aside(file);
        }
    }
    Ok(held)
}

/// Sets room aside for [`save`]. Where there is none now, the next start tries again.
pub(super) fn set_room_aside(file: &Path) {
    let spare = spare(file);
    if std::fs::metadata(&spare).is_err() && std::fs::write(&spare, [0; FILE_MAX as usize]).is_err() {
        // Half of it is of no use.
        let _ = std::fs::remove_file(spare);
    }
}

fn spare(file: &Path) -> PathBuf {
    file.with_extension("spare")
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Forgets, durably, and says what it was. Also what cannot be read is forgotten.
pub(crate) fn reset(file: &Path) -> io::Result<Option<Held>> {
    let held = load(file).unwrap_or_default();
    match std::fs::remove_file(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        removed => removed?,
    }
    let directory = file.parent().ok_or(ErrorKind::InvalidInput)?;
    durable::sync_dir(directory)?;
    Ok(held)
}

fn now() -> String {
    let now = OffsetDateTime::from(SystemTime::now());
    let now = now.replace_nanosecond(0).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_else(|_| format!("@{}", now.unix_timestamp()))
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, held by {} since {}", self.epoch, self.puller, self.since)
    }
}

#[cfg(test)]
mod tests {
    use tidegate_net::identity::{Identity, Role};

    use super::*;

    fn held(epoch: u64) -> Held {
        Held { epoch, puller: "tidegate:server/a".into(), since: "2026-01-01T00:00:00Z".into() }
    }

    #[test]
    fn the_whole_table() {
        use Decision::{Known, New, Refused};
        use Refusal::{Jump, OfAnother, TooLow};
        let (a, b) = ("tidegate:server/a", "tidegate:server/b");
        for (known, epoch, puller, decision) in [
            (None, 0, a, Refused(TooLow)),
            (None, 1, a, New),
            (None, FIRST_MAX, b, New),
            (None, FIRST_MAX + 1, a, Refused(Jump)),
            (None, u64::MAX, a, Refused(Jump)),
            (Some(7), 7, a, Known),
            (Some(7), 7, b, Refused(OfAnother)),
            (Some(7), 8, a, New),
            (Some(7), 8, b, New),
            (Some(7), 6, a, Refused(TooLow)),
            (Some(7), 0, b, Refused(TooLow)),
            (Some(7), 9, a, Refused(Jump)),
            (Some(7), u64::MAX, b, Refused(Jump)),
            (Some(u64::MAX), u64::MAX, a, Known),
            (Some(u64::MAX), 0, a, Refused(TooLow)),
            // Beyond what a node begins with, but counted there by an operator.
            (Some(FIRST_MAX), FIRST_MAX + 1, b, New),
        ] {
            let known = known.map(held);
            assert_eq!(decide(known.as_ref(), epoch, puller), decision, "{known:?} {epoch} {puller}");
        }
    }

    #[test]
    fn a_puller_is_who_its_certificate_says() {
        let identity = Some(Identity::new(Role::Server, "a").expect("a name"));
        let fingerprint: tidegate_net::identity::Fingerprint =
            "0f".repeat(32).parse().expect("a fingerprint");
        let signed = Peer { tls: true, identity, fingerprint: Some(fingerprint), ..Peer::default() };
        assert_eq!(puller(&signed), "tidegate:server/a");
        let pinned = Peer { pinned: true, ..signed };
        assert_eq!(puller(&pinned), format!("fingerprint:{fingerprint}"));
        assert_eq!(puller(&Peer { identity: None, ..pinned }), format!("fingerprint:{fingerprint}"));
        assert_eq!(puller(&Peer { tls: true, ..Peer::default() }), NOBODY);
    }

    #[test]
    fn what_is_remembered_is_read_again_until_it_is_reset() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("epoch");
        assert_eq!(load(&file).expect("reads"), None);
        assert_eq!(reset(&file).expect("nothing to do"), None);
        let saved = save(&file, 7, "tidegate:server/a").expect("saves");
        assert!(saved.since.ends_with('Z'), "{saved}");
        assert_eq!(load(&file).expect("reads"), Some(saved));
        save(&file, 8, "tidegate:server/b").expect("saves");
        assert_eq!(reset(&file).expect("resets").map(|held| held.epoch), Some(8));
        assert_eq!(load(&file).expect("reads"), None);
    }

    #[test]
    fn a_damaged_file_is_no_free_node() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("epoch");
        let long = format!("1 {} now\n", "a".repeat(2000));
        for text in
            ["", "\n", "7", "7 a", "7 a now", "7  now\n", "x a now\n", "-1 a now\n", "7 a now more\n", &long]
        {
            std::fs::write(&file, text).expect("writes");
            assert!(load(&file).is_err(), "{text:?}");
        }
        assert_eq!(reset(&file).expect("resets"), None);
        assert_eq!(load(&file).expect("reads"), None);
    }
}
