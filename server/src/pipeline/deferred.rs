//! What relay leaves for the next transaction: that packages are delivered, and that their sites have deleted them.
//!
//! It may be lost in a crash. A package that is committed and no longer staged counts as delivered, and a site's next
//! welcome says what it holds no more. So a batch needs one transaction, and an idle site none: the flush of all sites
//! takes the rest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidegate_proto::relay::Number;

use super::{Pipeline, Trouble};
use crate::board;
use crate::ledger::{Batch, Package};

/// Rows remembered of a site whose deletion there was not told yet. Beyond it a deletion shows at the next connection.
const AT_SITE_MAX: usize = 65_536;

/// Of all sites.
#[derive(Debug, Default)]
pub(super) struct Deferred(Mutex<HashMap<String, OfSite>>);

#[derive(Debug, Default)]
struct OfSite {
    changes: Changes,
    /// Rows of what the site still has, by number, ascending.
    at_site: VecDeque<(Number, i64)>,
    /// From a welcome on, until everything that the site holds has come.
    skipped: Option<Skipped>,
}

/// What a site has announced in this connection and keeps.
#[derive(Debug, Default)]
struct Skipped {
    numbers: HashSet<Number>,
    /// Whether more came than is remembered.
    beyond: bool,
}

/// Changes that are still to be written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    delivered: Vec<Package>,
    gone: Vec<i64>,
    pub(super) repeats: u64,
}

impl Changes {
    pub(super) fn write(&self, site: &str, batch: &Batch<'_>) -> rusqlite::Result<()> {
        batch.deliver_all(&self.delivered)?;
        batch.rows_gone(&self.gone)?;
        if self.repeats > 0 { batch.repeated(site, self.repeats) } else { Ok(()) }
    }

    fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.gone.is_empty() && self.repeats == 0
    }

    fn append(&mut self, mut later: Self) {
        self.delivered.append(&mut later.delivered);
        self.gone.append(&mut later.gone);
        self.repeats += later.repeats;
    }
}

impl Deferred {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, OfSite>> {
        // Changed in single steps: sound even after a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a site's changes, to write them.
    pub(super) fn take(&self, site: &str) -> Changes {
        self.lock().get_mut(site).map(|of| std::mem::take(&mut of.changes)).unwrap_or_default()
    }

    /// Adds changes of a site; those that could not be written come before the ones that came meanwhile.
    pub(super) fn put(&self, site: &str, mut changes: Changes) {
        let mut all = self.lock();
        let of = all.entry(site.to_owned()).or_default();
        changes.append(std::mem::take(&mut of.changes));
        of.changes = changes;
    }

    /// These have their target names, durably.
    pub(super) fn delivered(&self, packages: Vec<Package>) {
        let mut all = self.lock();
        for package in packages {
            if let Some(of) = all.get_mut(&package.site) {
                of.changes.delivered.push(package);
            } else {
                let of = all.entry(package.site.clone()).or_default();
                of.changes.delivered.push(package);
            }
        }
    }

    /// These rows are of what a site has until it says that it deleted them.
    pub(super) fn at_site(&self, site: &str, rows: impl IntoIterator<Item = (Number, i64)>) {
        let mut all = self.lock();
        let of = all.entry(site.to_owned()).or_default();
        for row in rows {
            if of.at_site.len() < AT_SITE_MAX {
                of.at_site.push_back(row);
            } else if let Some(skipped) = &mut of.skipped {
                skipped.beyond = true;
            }
        }
    }

    /// A site keeps these.
    pub(super) fn skipped(&self, site: &str, numbers: impl IntoIterator<Item = Number>) {
        let mut all = self.lock();
        let Some(skipped) = all.get_mut(site).and_then(|of| of.skipped.as_mut()) else { return };
        for number in numbers {
            if skipped.numbers.len() < AT_SITE_MAX {
                skipped.numbers.insert(number);
            } else {
                skipped.beyond = true;
            }
        }
    }

    /// Everything that a site holds has come: the numbers of it. `None` if that is not known, or was asked before.
    pub(super) fn held(&self, site: &str) -> Option<HashSet<Number>> {
        let mut all = self.lock();
        let of = all.get_mut(site)?;
        let Skipped { mut numbers, .. } = of.skipped.take().filter(|skipped| !skipped.beyond)?;
        numbers.extend(of.at_site.iter().map(|(number, _)| *number));
        Some(numbers)
    }

    /// A site has deleted what it was allowed to, up to this number.
    fn deleted(&self, site: &str, upto: Number) {
        let mut all = self.lock();
        let Some(of) = all.get_mut(site) else { return };
        let gone = of.at_site.iter().take_while(|(number, _)| *number <= upto).count();
        of.changes.gone.extend(of.at_site.drain(..gone).map(|(_, id)| id));
    }

    /// A new connection says by itself what the site still has.
    fn reconnected(&self, site: &str) {
        let mut all = self.lock();
        let of = all.entry(site.to_owned()).or_default();
        of.at_site.clear();
        of.skipped = Some(Skipped::default());
    }
}

impl Pipeline {
    /// A site welcomed this server: what is older than `oldest` it has no more.
    pub(crate) fn relay_welcomed(&self, site: &str, oldest: Option<Number>) -> Result<(), Trouble> {
        self.deferred.reconnected(site);
        self.write_deferred(site)?;
        Ok(self.ledger.holds_from(site, oldest)?)
    }

    /// A site has deleted, durably, what was acknowledged up to this number. Cheap: it is written with what comes next.
    pub(crate) fn relay_deleted(&self, site: &str, upto: Number) -> Result<(), Trouble> {
        self.deferred.deleted(site, upto);
        self.unbroken()
    }

    /// Writes what was left for the site's next transaction.
    pub(super) fn write_deferred(&self, site: &str) -> Result<(), Trouble> {
        let changes = self.deferred.take(site);
        if changes.is_empty() {
            return Ok(());
        }
        let written = self.ledger.write(|batch| changes.write(site, batch));
        if written.is_err() {
            self.deferred.put(site, changes);
        }
        Ok(written?)
    }

    /// Writes what was left for later and what the sites told, of all of them, in one transaction.
    pub(crate) fn flush(&self) -> Result<(), Trouble> {
        let board = self.board.take();
        // Held until it is written: nobody finds a package committed that is delivered.
        let mut all = self.deferred.lock();
        all.retain(|_, of| !of.changes.is_empty() || !of.at_site.is_empty() || of.skipped.is_some());
        let is_idle = board.is_empty() && all.values().all(|of| of.changes.is_empty());
        if is_idle {
            return Ok(());
        }
        let written = self.ledger.write(|batch| {
            all.iter().try_for_each(|(site, of)| of.changes.write(site, batch))?;
            board::write(&board, batch)
        });
        match written {
            Ok(()) => all.values_mut().for_each(|of| of.changes = Changes::default()),
            Err(_) => self.board.put_back(board),
        }
        Ok(written?)
    }
}
