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
