//! What the sites told of themselves, in memory until the next flush: with a thousand standing connections a
//! transaction for each of their words would keep the disk busy with nothing else. What a crash loses of it, the sites
//! say again.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde_json::{Map, Value};
use tidegate_proto::relay;

use crate::ledger::{Batch, Mode, SiteNote, Told, milliseconds, seconds};

/// The words of all sites.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<BTreeMap<String, Told>>);

impl Board {
    /// How a site is pulled.
    pub(crate) fn mode(&self, site: &str, mode: Mode) {
        self.of(site, |told| told.mode = Some(mode));
    }

    /// What runs at a site, and what its clock shows now, in milliseconds since 1970.
    pub(crate) fn welcomed(&self, site: &str, software: &str, clock: i64) {
        let offset = clock.saturating_sub(milliseconds(SystemTime::now()));
        self.of(site, |told| {
            told.software = Some(printable(software));
            told.clock_offset = Some(offset);
        });
    }

    /// A site's latest status.
    pub(crate) fn status(&self, site: &str, status: &relay::Status) {
        let document = document(status);
        let now = SystemTime::now();
        let clock = status.clock.and_then(|clock| i64::try_from(clock).ok());
        self.of(site, |told| {
            told.status = Some((document, seconds(now)));
            if let Some(clock) = clock {
                told.clock_offset = Some(clock.saturating_sub(milliseconds(now)));
            }
        });
    }

    /// The same as [`crate::ledger::Ledger::note`], with the next flush.
    pub(crate) fn note(&self, site: &str, note: SiteNote) {
        self.of(site, |told| told.note = Some(note));
    }

    fn of(&self, site: &str, change: impl FnOnce(&mut Told)) {
        let mut board = self.lock();
        if let Some(told) = board.get_mut(site) {
            return change(told);
        }
        change(board.entry(site.to_owned()).or_default());
    }

    /// All that was said since it was taken last.
    pub(crate) fn take(&self) -> BTreeMap<String, Told> {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be written. What was said meanwhile is newer.
    pub(crate) fn put_back(&self, board: BTreeMap<String, Told>) {
        let mut now = self.lock();
        for (site, old) in board {
            let new = now.remove(&site).unwrap_or_default();
            let told = Told {
                mode: new.mode.or(old.mode),
                software: new.software.or(old.software),
                clock_offset: new.clock_offset.or(old.clock_offset),
                status: new.status.or(old.status),
                note: new.note.or(old.note),
            };
            now.insert(site, told);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Told>> {
        // Changed in single steps: sound even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what the sites told.
pub(crate) fn write(board: &BTreeMap<String, Told>, batch: &Batch<'_>) -> rusqlite::Result<()> {
    board.iter().try_for_each(|(site, told)| batch.told(site, told))
}

/// A site's text without what would disturb a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }).collect()
}

/// A status for programs, without what the site did not say.
fn document(status: &relay::Status) -> Value {
    let mut document = Map::new();
    macro_rules! fields {
        ($($field:ident),* $(,)?) => {
            $(if let Some(value) = status.$field {
                document.insert(stringify!($field).to_owned(), value.into());
            })*
        };
    }
    fields!(
        packages,
        bytes,
        oldest_arrival,
        intake_packages,
        intake_bytes,
        drained_packages,
        drained_bytes,
        intake_rate,
        drain_rate,
        free_bytes,
        max_packages,
        max_bytes,
        reserve_bytes,
        refused,
        dropped,
        held_back,
        connections,
        max_connections,
        cert_expiry,
        started,
        clock,
        limits_hit,
    );
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Ledger;

    #[test]
    fn what_sites_told_is_written_at_once_and_what_could_not_be_written_waits_behind_what_is_newer() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(directory.path()).unwrap();
        let board = Board::default();
        let note =
            |state| SiteNote { kind: Some("tidegate"), state, contact: true, held_back: None, error: None };
        board.mode("a", Mode::Relay);
        board.welcomed("a", "node\u{1b}[31m 1.0", milliseconds(SystemTime::now()) + 500_000);
        board.status("a", &relay::Status { packages: Some(3), bytes: Some(0), ..relay::Status::default() });
        board.note("a", note("ok"));
        board.mode("b", Mode::Tentacle);
        let taken = board.take();
        board.note("a", note("pipeline-full"));
        board.status("a", &relay::Status { packages: Some(4), ..relay::Status::default() });
        board.put_back(taken);
        ledger.write(|batch| write(&board.take(), batch)).unwrap();
        assert!(board.take().is_empty());
        let sites = Ledger::read_sites(directory.path()).unwrap();
        assert_eq!(sites.len(), 2);
        assert_eq!((sites[0].mode.as_deref(), sites[1].mode.as_deref()), (Some("relay"), Some("tentacle")));
        assert_eq!(sites[0].state, "pipeline-full");
        assert_eq!(sites[0].software.as_deref(), Some("node\u{fffd}[31m 1.0"));
        assert_eq!(sites[0].status, Some(serde_json::json!({ "packages": 4 })));
        assert!(sites[0].clock_offset_ms.unwrap() > 400_000 && sites[0].status_at.is_some());
        assert!(sites[1].status.is_none());
    }
}
