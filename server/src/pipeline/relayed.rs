//! A batch of packages from a node that speaks relay: durable, in the ledger, delivered, and only then acknowledged.
//!
//! ```text
//!  judge ─▶ files written and fsynced, side by side ─▶ one transaction ─▶ verified and renamed ─▶ directories fsynced
//!                                                           ▲                                          │
//!                                                           └──── "delivered", with the next batch ◀───┘
//! ```
//!
//! What is returned is the number up to which the node may delete: all before it is durable in `incomingdir` or in
//! quarantine here, or was before. A crash anywhere repeats at most what was not acknowledged, and [`super::repeats`]
//! recognises that. A package whose staged copy proves damaged ends what may be deleted: its node gives it again, and
//! what came behind it in the batch, delivered already, comes as a repeat.

use std::collections::HashSet;
use std::io;
use std::time::SystemTime;

use tidegate_proto::Name;
use tidegate_proto::relay::{LossRecord, Number};
use tidegate_spool::parallel;

use super::deliver::{Damaged, say_quarantined};
use super::repeats::{Came, Known, Then, Verdict};
use super::{Pipeline, Trouble};
use crate::body::{Arrived, Digest};
use crate::ledger::{Batch, DAMAGED, NewPackage, Package, SpanKind, milliseconds};
use crate::names;
use crate::staging::StagedFile;

/// How many files of a batch are written and fsynced side by side. The file system joins the fsyncs that wait together.
const SYNC_THREADS: usize = 16;

/// Packages of a batch that go to quarantine with a line each in the log; beyond it they are counted in one.
const SAID_MAX: usize = 3;

/// Something that a node sent or announced.
#[derive(Debug)]
pub(crate) struct Relayed {
    pub(crate) number: Number,
    pub(crate) name: Name,
    /// When it arrived at the node: its modification time, and a part of what tells two packages apart.
    pub(crate) modified: SystemTime,
    pub(crate) what: What,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum What {
    /// The whole body.
    Body(Arrived),
    /// Nothing: it is too large, and stays at the node, which will announce it again.
    Skipped { size: u64 },
    /// The whole body of something that is not to be delivered, and why. It goes to quarantine.
    Unwanted(Arrived, String),
}

/// One of a batch.
struct One {
    number: Number,
    name: Name,
    arrival: SystemTime,
    fate: Fate,
}

enum Fate {
    /// It stays at the node. The row, if it came over Tentacle before.
    Skipped(Option<Box<Package>>),
    Repeat {
        row: Option<Box<Package>>,
        then: Then,
    },
    New(Box<New>),
}

/// What is to be stored.
struct New {
    digest: Digest,
    size: u64,
    body: Option<Arrived>,
    file: Option<io::Result<StagedFile>>,
    /// Why it goes to quarantine at once.
    reason: Option<String>,
    /// Versions of its name from a stock server, which go before it.
    held: Vec<Package>,
    /// The last of them, if the new one contains it.
    continues: Option<Package>,
}

/// What a batch is, and what its transaction must know of the ledger that this was found out from.
struct Judged {
    batch: Vec<One>,
    /// Where its runs were rolled back to, each once.
    rolled_back: Vec<Number>,
    newest_row: i64,
}

/// What a batch's transaction made.
#[derive(Default)]
struct Recorded {
    /// Files of what came from another site meanwhile.
    superfluous: Vec<String>,
    /// To be delivered.
    committed: Vec<Package>,
    quarantined: Vec<Package>,
    /// The rows of the batch, by number.
    rows: Vec<(Number, i64)>,
}

impl Pipeline {
    /// A batch in the order of the stream, durable, in the ledger, delivered or quarantined. Returns the last number up
    /// to which the node may delete, skipped ones counting as dealt with; `None`: not even the first.
    pub(crate) fn relayed(&self, site: &str, batch: Vec<Relayed>) -> Result<Option<Number>, Trouble> {
        self.unbroken()?;
        let mut judged = self.judged(site, batch)?;
        self.store(&mut judged.batch)?;
        for new in judged.batch.iter_mut().filter_map(One::new_one) {
            self.find_continued(new)?;
        }
        let recorded = self.record_relayed(site, &judged)?;
        let mut batch = judged.batch;
        recorded.superfluous.iter().for_each(|file| self.staging.remove(file));
        self.remove_continued(
            batch.iter_mut().filter_map(One::new_one).filter_map(|new| new.continues.as_ref()),
        );
        for package in recorded.quarantined.iter().take(SAID_MAX) {
            say_quarantined(package, package.reason.as_deref().unwrap_or_default());
        }
        if let Some(others) = recorded.quarantined.len().checked_sub(SAID_MAX).filter(|others| *others > 0) {
            tracing::error!(site, packages = others, "more packages of the same batch are in quarantine");
        }
        self.crash.point("after-relayed-committed");
        let damaged = self.finish_deferring(recorded.committed)?;
        self.crash.point("after-relayed-delivered");
        let upto = last_before_damage(&batch, &recorded.rows, &damaged);
        let is_skipped = |one: &&One| matches!(one.fate, Fate::Skipped(_));
        self.deferred.skipped(site, batch.iter().filter(is_skipped).map(|one| one.number));
        self.deferred.at_site(site, recorded.rows);
        Ok(upto)
    }

    /// Finds out what each is.
    fn judged(&self, site: &str, batch: Vec<Relayed>) -> Result<Judged, Trouble> {
        let numbers: Vec<_> = batch
            .iter()
            .filter(|one| !matches!(one.what, What::Skipped { .. }))
            .map(|one| one.number)
            .collect();
        let mut known = self.known(site, &numbers)?;
        let mut judged = Vec::with_capacity(batch.len());
        for Relayed { number, name, modified: arrival, what } in batch {
            let (body, reason) = match what {
                What::Body(body) => (body, None),
                What::Unwanted(body, reason) => (body, Some(not_damage(reason))),
                What::Skipped { size } => {
                    tracing::debug!(site, package = %name, %number, size, "too large: it stays at the site");
                    let fate = Fate::Skipped(self.announced(site, &name, size)?.map(Box::new));
                    judged.push(One { number, name, arrival, fate });
                    continue;
                }
            };
            let came = Came { number, name: &name, digest: &body.digest, arrival };
            let fate = match self.judge(site, came, &mut known)? {
                Verdict::Repeat { row, then } => Fate::Repeat { row, then },
                Verdict::New { held } => {
                    let (digest, size) = (body.digest.clone(), body.size);
                    let body = Some(body);
                    Fate::New(Box::new(New { digest, size, body, file: None, reason, held, continues: None }))
                }
            };
            judged.push(One { number, name, arrival, fate });
        }
        let Known { mut rolled_back, newest_row, .. } = known;
        if let Some(first) = rolled_back.first() {
            tracing::warn!(
                site,
                packages = rolled_back.len(),
                %first,
                "packages came under numbers that the site used before, and are taken as new: was its spool rolled back \
                 while it was running (a virtual machine's snapshot)?"
            );
        }
        // They ascend.
        rolled_back.dedup_by_key(|number| number.run);
        Ok(Judged { batch: judged, rolled_back, newest_row })
    }

    /// Writes new bodies to their files, and makes them durable.
    fn store(&self, batch: &mut [One]) -> Result<(), Trouble> {
        let mut new: Vec<_> = batch
            .iter_mut()
            .filter_map(|one| {
                let arrival = one.arrival;
                one.new_one().map(|new| (arrival, new))
            })
            .collect();
        parallel::for_each(&mut new, SYNC_THREADS, |(arrival, new)| {
            new.file = new.body.take().map(|body| body.into_durable_file(*arrival));
        });
        let stored = !new.is_empty();
        for (_, new) in new {
            if let Some(Err(error)) = new.file.take_if(|file| file.is_err()) {
                return Err(Trouble::io("cannot write a staged file")(error));
            }
        }
        if stored {
            self.staging.sync().map_err(Trouble::io("cannot make staged files durable"))?;
        }
        self.crash.point("after-relayed-staged");
        Ok(())
    }

    fn find_continued(&self, new: &mut New) -> Result<(), Trouble> {
        let Some(last) = new.held.last() else { return Ok(()) };
        let file = new.file();
        // A damaged copy of the same gives way as well.
        let gives_way = last.digest == new.digest || self.continues(&file.path(), last)?;
        new.continues = if gives_way { new.held.pop() } else { None };
        Ok(())
    }

    /// One transaction for all of it, and for what the batches before left to be written.
    fn record_relayed(&self, site: &str, judged: &Judged) -> Result<Recorded, Trouble> {
        let Judged { batch, rolled_back, newest_row } = judged;
        let repeats = batch.iter().filter(|one| matches!(one.fate, Fate::Repeat { .. })).count() as u64;
        let mut changes = self.deferred.take(site);
        changes.repeats += repeats;
        if rolled_back.is_empty() && batch.iter().all(One::changes_nothing) {
            let rows = batch.iter().filter_map(One::known_row).collect();
            self.deferred.put(site, changes);
            return Ok(Recorded { rows, ..Recorded::default() });
        }
        let files: Vec<_> = batch.iter().filter_map(One::new_file).collect();
        let recorded = self.record_durable(&files, |transaction| {
            changes.write(site, transaction)?;
            rolled_back.iter().try_for_each(|number| transaction.forget_from(site, *number))?;
            let mut recorded = Recorded::default();
            let mut noted = Vec::new();
            for one in batch {
                one.record(site, *newest_row, transaction, &mut recorded, &mut noted)?;
            }
            transaction.received(SpanKind::Package, site, noted)?;
            Ok(recorded)
        });
        if recorded.is_err() {
            changes.repeats -= repeats;
            self.deferred.put(site, changes);
        }
        recorded
    }

    /// The first time in a connection that a site has sent all it holds: what came from it before, and did not come
    /// again, it has deleted. What of that is held is the only copy, and is delivered.
    pub(crate) fn relay_drained(&self, site: &str) -> Result<(), Trouble> {
        self.write_deferred(site)?;
        if let Some(held) = self.deferred.held(site) {
            self.ledger.settle_numbered(site, &held)?;
        }
        let undelivered = self.ledger.settle_unnumbered(site)?;
        self.crash.point("after-released");
        self.finish(undelivered).map(|_| ())
    }

    /// Records what a site tells of its losses, durably: it may forget that they were not told.
    pub(crate) fn relay_losses(&self, site: &str, records: &[LossRecord]) -> Result<(), Trouble> {
        let new = self.ledger.lost_at_site(site, records)?;
        if new > 0 {
            let packages: u64 = records.iter().fold(0, |sum, record| sum.saturating_add(record.packages));
            tracing::warn!(
                site,
                records = new,
                packages,
                "the site tells of losses: `tidegate-server losses`"
            );
        }
        Ok(())
    }

    /// The epoch under which a site is pulled.
    pub(crate) fn epoch(&self, site: &str) -> Result<u64, Trouble> {
        Ok(self.ledger.epoch(site)?)
    }
}

/// A reason that is not taken for damage, for which a site would be asked again.
fn not_damage(reason: String) -> String {
    if reason.starts_with(DAMAGED) { format!("not wanted: {reason}") } else { reason }
}

/// The number before the first whose copy here is damaged.
fn last_before_damage(batch: &[One], rows: &[(Number, i64)], damaged: &Damaged) -> Option<Number> {
    let damaged: HashSet<Number> =
        rows.iter().filter(|(_, id)| damaged.contains(*id)).map(|(number, _)| *number).collect();
    batch.iter().map(|one| one.number).take_while(|number| !damaged.contains(number)).last()
}

impl One {
    fn new_one(&mut self) -> Option<&mut New> {
        if let Fate::New(new) = &mut self.fate { Some(new) } else { None }
    }

    fn new_file(&self) -> Option<&StagedFile> {
        if let Fate::New(new) = &self.fate { Some(new.file()) } else { None }
    }

    fn changes_nothing(&self) -> bool {
        matches!(self.fate, Fate::Skipped(None) | Fate::Repeat { then: Then::Nothing, .. })
    }

    fn known_row(&self) -> Option<(Number, i64)> {
        if let Fate::Repeat { row: Some(row), .. } = &self.fate { Some((self.number, row.id)) } else { None }
    }

    fn record(
        &self,
        site: &str,
        newest_row: i64,
        batch: &Batch<'_>,
        recorded: &mut Recorded,
        noted: &mut Vec<(Number, i64)>,
    ) -> rusqlite::Result<()> {
        let row = match &self.fate {
            Fate::Skipped(row) => {
                // It must not look gone when the site has sent all that it gives.
                return row.iter().try_for_each(|row| batch.number(row, self.number, self.arrival).map(drop));
            }
            Fate::Repeat { row: None, then: Then::Note } => {
                noted.push((self.number, milliseconds(self.arrival)));
                return Ok(());
            }
            Fate::Repeat { row: None, .. } => return Ok(()),
            Fate::Repeat { row: Some(row), then } => {
                let numbered = match then {
                    Then::Nothing | Then::Note => None,
                    Then::Deliver if row.number == Some(self.number) => Some(Package::clone(row)),
                    Then::Number | Then::Deliver => Some(batch.number(row, self.number, self.arrival)?),
                };
                if *then == Then::Number {
                    noted.push((self.number, milliseconds(self.arrival)));
                }
                if let Some(row) = numbered.filter(|_| *then == Then::Deliver) {
                    batch.commit(&row)?;
                    recorded.committed.push(row);
                }
                row.id
            }
            Fate::New(new) => {
                new.continues.iter().try_for_each(|package| batch.forget(package))?;
                for held in &new.held {
                    batch.commit(held)?;
                    recorded.committed.push(held.clone());
                }
                let package = NewPackage {
                    site,
                    name: &self.name,
                    digest: &new.digest,
                    size: new.size,
                    staged: new.file().name(),
                    modified: self.arrival,
                };
                let timed = names::is_timed(&self.name, &new.digest);
                if batch.came_elsewhere(&package, self.number, timed, newest_row)? {
                    // A clone of this site was drained meanwhile.
                    noted.push((self.number, milliseconds(self.arrival)));
                    recorded.superfluous.push(package.staged.to_owned());
                    return Ok(());
                }
                let package = batch.arrive(&package, self.number)?;
                let id = package.id;
                if let Some(reason) = &new.reason {
                    batch.quarantine(&package, reason)?;
                    let reason = Some(reason.clone());
                    recorded.quarantined.push(Package { reason, ..package });
                } else {
                    recorded.committed.push(package);
                }
                id
            }
        };
        recorded.rows.push((self.number, row));
        Ok(())
    }
}

impl New {
    fn file(&self) -> &StagedFile {
        self.file.as_ref().and_then(|file| file.as_ref().ok()).expect("what is new was stored")
    }
}
