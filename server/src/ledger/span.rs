//! Which numbers of a site's runs were received here: spans of numbers without a gap. They outlive the rows of the
//! packages, which history trims, so that what a restored spool offers again is recognised after years.
//!
//! A mark alone (the highest number of a run) would swallow packages: numbers below it may never have come here. The
//! site skipped a package that was too large, lost one that a later restore brings back, gave some over Tentacle; or a
//! copy that came was damaged here. So only what is inside a span is known, and whatever is not known is new: then the
//! worst is a double. For the same reason a span has the arrival of the newest package in it. What has one of its
//! numbers and arrived later is another package: a running spool was rolled back (a virtual machine's snapshot) and
//! counts again from where it was.

use rusqlite::{Row as SqlRow, params};
use sha2::{Digest as _, Sha256};
use tidegate_proto::relay::Number;

use super::number::Row;
use super::package::{damaged, sum_of};
use super::{Batch, Ledger, LedgerError};

/// Spans kept of one site, for each kind. A run makes one, and every gap in it one more. Beyond it those that were
/// extended longest ago are forgotten: what they knew is known by the rows of history alone from then on.
pub(super) const SPANS_MAX: i64 = if cfg!(test) { 8 } else { 10_000 };

/// What is numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Package,
    Loss,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::Loss => "loss",
        }
    }
}

/// Numbers of one run that were all received here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) numbers: Row,
    /// The latest of their times, in milliseconds since 1970.
    pub(crate) newest: i64,
}

impl Span {
    /// Whether this number, of that time, was received.
    pub(crate) fn covers(&self, number: Number, time: i64) -> bool {
        let Row { run, first, last } = self.numbers;
        run == number.run && (first..=last).contains(&number.counter) && time <= self.newest
    }

    /// Whether this number was received, at whatever time.
    pub(crate) fn holds(&self, number: Number) -> bool {
        self.covers(number, i64::MIN)
    }

    /// What of it lies before this number of its run, if anything.
    pub(crate) fn before(mut self, number: Number) -> Option<Self> {
        let last = number.counter.checked_sub(1).filter(|last| self.numbers.first <= *last)?;
        self.numbers.last = self.numbers.last.min(last);
        Some(self)
    }

    /// Both as one, with what is between them.
    pub(super) fn joined(self, other: Self) -> Self {
        let Row { run, first, last } = self.numbers;
        let numbers = Row { run, first: first.min(other.numbers.first), last: last.max(other.numbers.last) };
        Self { numbers, newest: self.newest.max(other.newest) }
    }

    fn sum(&self, kind: Kind, site: &str) -> i64 {
        let Row { run, first, last } = self.numbers;
        let numbers = [run, first, last, self.newest.cast_unsigned()].map(u64::to_be_bytes);
        let mut hash = Sha256::new();
        for value in
            [kind.as_str().as_bytes(), site.as_bytes()].into_iter().chain(numbers.iter().map(|n| &n[..]))
        {
            hash.update((value.len() as u64).to_be_bytes());
            hash.update(value);
        }
        sum_of(hash)
    }

    /// Reads a row of the table, and verifies it: a span that is too long would swallow packages.
    fn of(row: &SqlRow<'_>, kind: Kind, site: &str) -> rusqlite::Result<(i64, Self)> {
        let id = row.get(0)?;
        let part = |at| row.get::<_, [u8; 8]>(at).map(u64::from_be_bytes);
        let numbers = Row { run: part(1)?, first: part(2)?, last: part(3)? };
        let span = Self { numbers, newest: row.get(4)? };
        if row.get::<_, i64>(5)? == span.sum(kind, site) && numbers.first <= numbers.last {
            Ok((id, span))
        } else {
            Err(damaged("span", id))
        }
    }
}

/// The spans of a run that meet a range of it. They are disjoint: of those that begin before the range only the last
/// can, and no other is looked at.
pub(super) const MEETING: &str = "
    SELECT id, run, first, last, newest, sum FROM span
    WHERE kind = ?1 AND site = ?2 AND run = ?3 AND last >= ?4 AND first <= ?5 AND first >= coalesce(
        (SELECT max(first) FROM span WHERE kind = ?1 AND site = ?2 AND run = ?3 AND first <= ?4), ?4)";

impl Ledger {
    /// The spans of a site's packages that hold some of these numbers.
    pub(crate) fn spans(&self, site: &str, rows: &[Row]) -> Result<Vec<Span>, LedgerError> {
        self.guarded(|db| {
            let mut query = db.prepare_cached(MEETING)?;
            let mut spans = Vec::new();
            for Row { run, first, last } in rows {
                let [run, first, last] = [run, first, last].map(|part| part.to_be_bytes());
                let found = query
                    .query_map(params![Kind::Package.as_str(), site, run, first, last], |row| {
                        Span::of(row, Kind::Package, site)
                    })?;
                for span in found {
                    spans.push(span?.1);
                }
            }
            Ok(spans)
        })
    }
}

impl Batch<'_> {
    /// These numbers of a site, each with its time, were received.
    pub(crate) fn received(
        &self,
        kind: Kind,
        site: &str,
        numbers: impl IntoIterator<Item = (Number, i64)>,
    ) -> rusqlite::Result<()> {
        let mut numbers: Vec<_> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers.dedup_by_key(|(number, _)| *number);
        let mut grown = false;
        let mut rest = &numbers[..];
        for row in Row::of(numbers.iter().map(|(number, _)| *number)) {
            let length = usize::try_from(row.length()).unwrap_or(rest.len());
            let (these, others) = rest.split_at(length);
            rest = others;
            let newest = these.iter().map(|(_, time)| *time).max().unwrap_or_default();
            grown |= self.extend(kind, site, Span { numbers: row, newest })?;
        }
        if grown { self.forget_spans(kind, site) } else { Ok(()) }
    }

    /// Adds a span, with [`Self::forget_spans`] to follow, and joins it with those that it meets or touches. Returns whether there is one more.
    pub(super) fn extend(&self, kind: Kind, site: &str, span: Span) -> rusqlite::Result<bool> {
        let Row { run, first, last } = span.numbers;
        let mut joined = span;
        let touched = {
            let [run, before, behind] =
                [run, first.saturating_sub(1), last.saturating_add(1)].map(u64::to_be_bytes);
            let mut query = self.tx.prepare_cached(MEETING)?;
            let found = query.query_map(params![kind.as_str(), site, run, before, behind], |row| {
                Span::of(row, kind, site)
            })?;
            found.collect::<rusqlite::Result<Vec<_>>>()?
        };
        for (id, other) in &touched {
            joined = joined.joined(*other);
            self.tx.prepare_cached("DELETE FROM span WHERE id = ?1")?.execute([id])?;
        }
        self.insert_span(kind, site, joined)?;
        Ok(touched.is_empty())
    }

    fn insert_span(&self, kind: Kind, site: &str, span: Span) -> rusqlite::Result<()> {
        let Row { run, first, last } = span.numbers;
        let [run, first, last] = [run, first, last].map(u64::to_be_bytes);
        self.tx
            .prepare_cached(
                "INSERT INTO span (kind, site, run, first, last, newest, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![kind.as_str(), site, run, first, last, span.newest, span.sum(kind, site)])?;
        Ok(())
    }

    /// This number of a package was not received after all: its copy is damaged.
    pub(super) fn not_received(&self, site: &str, number: Number) -> rusqlite::Result<()> {
        let kind = Kind::Package;
        let [run, counter] = [number.run, number.counter].map(u64::to_be_bytes);
        let around = {
            let mut query = self.tx.prepare_cached(MEETING)?;
            let found = query.query_map(params![kind.as_str(), site, run, counter, counter], |row| {
                Span::of(row, kind, site)
            })?;
            found.collect::<rusqlite::Result<Vec<_>>>()?
        };
        for (id, span) in around {
            self.tx.prepare_cached("DELETE FROM span WHERE id = ?1")?.execute([id])?;
            let Row { run, first, last } = span.numbers;
            let before = number.counter.checked_sub(1).filter(|end| *end >= first).map(|last| Row {
                run,
                first,
                last,
            });
            let behind = number.counter.checked_add(1).filter(|start| *start <= last).map(|first| Row {
                run,
                first,
                last,
            });
            for numbers in [before, behind].into_iter().flatten() {
                self.insert_span(kind, site, Span { numbers, newest: span.newest })?;
            }
        }
        self.forget_spans(kind, site)
    }

    /// A running spool of this site was rolled back, and counts again from this number on: what the numbers from here on
    /// were before is not known any more. Joined with what comes now, it would make all of that look received.
    pub(crate) fn forget_from(&self, site: &str, number: Number) -> rusqlite::Result<()> {
        let kind = Kind::Package;
        let [run, from, end] = [number.run, number.counter, u64::MAX].map(u64::to_be_bytes);
        let behind = {
            let mut query = self.tx.prepare_cached(MEETING)?;
            let found = query
                .query_map(params![kind.as_str(), site, run, from, end], |row| Span::of(row, kind, site))?;
            found.collect::<rusqlite::Result<Vec<_>>>()?
        };
        for (id, span) in behind {
            self.tx.prepare_cached("DELETE FROM span WHERE id = ?1")?.execute([id])?;
            if let Some(span) = span.before(number) {
                self.insert_span(kind, site, span)?;
            }
        }
        Ok(())
    }

    /// All that is counted of a site's losses in one run.
    pub(super) fn counted_before(&self, site: &str, run: u64) -> rusqlite::Result<Option<Span>> {
        let [run, first, last] = [run, 0, u64::MAX].map(u64::to_be_bytes);
        let mut query = self.tx.prepare_cached(MEETING)?;
        let mut found = query.query_map(params![Kind::Loss.as_str(), site, run, first, last], |row| {
            Span::of(row, Kind::Loss, site)
        })?;
        Ok(found.next().transpose()?.map(|(_, span)| span))
    }

    pub(super) fn forget_spans(&self, kind: Kind, site: &str) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached(
                "DELETE FROM span WHERE id IN (
                     SELECT id FROM span WHERE kind = ?1 AND site = ?2 ORDER BY id DESC LIMIT -1 OFFSET ?3)",
            )?
            .execute(params![kind.as_str(), site, SPANS_MAX])?;
        Ok(())
    }
}
