//! What has come before, over relay. In this order:
//!
//! 1. A row of this site with the same number: the same name and content is a repeat, unless the copy here is damaged.
//!    Other content is new: a running spool was rolled back, and counts again from where it was. So is the same content
//!    of a name without a time that arrived at another moment.
//! 2. A row of this site without a number, of the same name and content, that the site may still have: it came over
//!    Tentacle, and gets the number. (A name without a time must have come to the node before it came here.) A name with a
//!    time that was delivered within [`REPEAT_WINDOW`] is a repeat under any number.
//! 3. No row, but a span of this site's numbers holds the number and the arrival is not later than any in it: its row was
//!    trimmed ([`crate::ledger::Span`]). One that arrived later is new, and so is one whose name holds a later time: a
//!    node's clock may be behind after its machine was rolled back. (What is neither, of a name without a time, is taken
//!    for a repeat: there must be a roll-back, a clock behind, and a history that was trimmed meanwhile.)
//! 4. A row of another site with the same number, name, content and arrival: this site is a clone of that one.
//!
//! The first number of a roll-back cuts the run's spans: what they say from there on is about another life of the spool.
//!
//! All else is new. Of names without a time nothing but the number decides: what a plugin sends twice arrives twice.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, SystemTime};

use tidegate_proto::Name;
use tidegate_proto::relay::Number;
use tidegate_spool::sabotage::{self, Switch};

use super::{Pipeline, REPEAT_WINDOW, Trouble};
use crate::body::{Digest, digest_of};
use crate::ledger::{NumberRow, Package, Span, State, milliseconds, seconds};
use crate::names;

/// How far a node's clock may be ahead of this server's without making a repeat look like a later package.
const CLOCK_MARGIN: Duration = Duration::from_secs(60 * 60);

/// What a node says of a package.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    pub(super) number: Number,
    pub(super) name: &'a Name,
    pub(super) digest: &'a Digest,
    pub(super) arrival: SystemTime,
}

/// What the ledger knows of a batch's numbers.
#[derive(Debug, Default)]
pub(super) struct Known {
    rows: HashMap<Number, Vec<Package>>,
    spans: Vec<Span>,
    /// Where running spools were rolled back to, as it turned out.
    pub(super) rolled_back: Vec<Number>,
    /// The last row when this was found out.
    pub(super) newest_row: i64,
}

impl Known {
    /// What the spans say of this number and of those behind it is about another life of the spool.
    fn roll_back(&mut self, number: Number) {
        self.rolled_back.push(number);
        let spans = std::mem::take(&mut self.spans);
        let of_before =
            |span: Span| if span.numbers.run == number.run { span.before(number) } else { Some(span) };
        self.spans = spans.into_iter().filter_map(of_before).collect();
    }
}

/// What a package is.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is here, or was handed over.
    Repeat {
        /// Its row, if it has one of its own.
        row: Option<Box<Package>>,
        /// What is to be done about that.
        then: Then,
    },
    /// It is not. These versions of its name came from a stock server and are held.
    New { held: Vec<Package> },
}

/// What a repeat gives to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// The number is to be noted as received.
    Note,
    /// The row came without this number.
    Number,
    /// The row was not delivered yet; it may have no number.
    Deliver,
}

/// What a row says about a package that comes again.
enum Standing {
    /// It was handed over, or waits for an operator.
    Here,
    /// Its file is here and good.
    Undelivered,
    /// There is no good copy.
    Lost,
}

impl Pipeline {
    /// What is known of these numbers, which ascend.
    pub(super) fn known(&self, site: &str, numbers: &[Number]) -> Result<Known, Trouble> {
        if sabotage::breaks(Switch::ForgetDuplicates) || sabotage::breaks(Switch::ForgetNumbers) {
            return Ok(Known::default());
        }
        let numbers = NumberRow::of(numbers.iter().copied());
        let newest_row = self.ledger.newest_row()?;
        let spans = self.ledger.spans(site, &numbers)?;
        let mut known = Known { spans, newest_row, ..Known::default() };
        for package in self.ledger.numbered(&numbers)? {
            if let Some(number) = package.number {
                known.rows.entry(number).or_default().push(package);
            }
        }
        Ok(known)
    }

    /// Finds out whether a package came before.
    pub(super) fn judge(&self, site: &str, came: Came<'_>, known: &mut Known) -> Result<Verdict, Trouble> {
        let Came { number, name, digest, arrival } = came;
        if sabotage::breaks(Switch::ForgetDuplicates) {
            return Ok(Verdict::New { held: Vec::new() });
        }
        let arrival = milliseconds(arrival);
        let timed = names::is_timed(name, digest);
        let is_copy = |row: &Package| {
            row.name == *name
                && row.digest == *digest
                && (timed || row.modified.is_none_or(|modified| modified == arrival))
        };
        let rows = known.rows.get(&number).map_or(&[][..], Vec::as_slice);
        let mut rolled_back = false;
        for row in rows.iter().filter(|row| row.site == site) {
            if !is_copy(row) {
                rolled_back = true;
                continue;
            }
            match self.standing(row)? {
                Standing::Here => return Ok(Verdict::repeat(row, Then::Nothing)),
                Standing::Undelivered => return Ok(Verdict::repeat(row, Then::Deliver)),
                Standing::Lost => {}
            }
        }
        // It came later than all that was received, or is of a later time.
        let time = if timed { names::time_in(name, SystemTime::now()) } else { None };
        let time = time.and_then(|time| time.checked_sub(CLOCK_MARGIN)).map_or(i64::MIN, milliseconds);
        let is_later = |span: &Span| span.holds(number) && span.newest < arrival.max(time);
        if rolled_back || known.spans.iter().any(is_later) {
            known.roll_back(number);
        }
        let namesakes = self.ledger.same_name(site, name, timed)?;
        if let Some(repeat) = self.came_without_number(&namesakes, came, timed)? {
            return Ok(repeat);
        }
        if known.spans.iter().any(|span| span.covers(number, arrival)) {
            return Ok(Verdict::Repeat { row: None, then: Then::Nothing });
        }
        let rows = known.rows.get(&number).map_or(&[][..], Vec::as_slice);
        for row in rows.iter().filter(|row| row.site != site && is_copy(row)) {
            // One that is on its way counts as well: if it proves damaged, its own node has it still.
            if !matches!(self.standing(row)?, Standing::Lost) {
                return Ok(Verdict::Repeat { row: None, then: Then::Note });
            }
        }
        let is_held = |row: &Package| row.state == State::Held && row.number.is_none();
        Ok(Verdict::New { held: namesakes.into_iter().filter(is_held).collect() })
    }

    /// What came over Tentacle of something that the site announces and keeps: it has the same name and size. If it is
    /// another after all, that shows when its bytes come under this number.
    pub(super) fn announced(&self, site: &str, name: &Name, size: u64) -> Result<Option<Package>, Trouble> {
        let namesakes = self.ledger.open_packages(site, name)?;
        Ok(namesakes.into_iter().find(|row| row.number.is_none() && row.on_site && row.size == size))
    }

    /// The second of the rules.
    fn came_without_number(
        &self,
        namesakes: &[Package],
        came: Came<'_>,
        timed: bool,
    ) -> Result<Option<Verdict>, Trouble> {
        let latest = came.arrival.checked_sub(CLOCK_MARGIN).map_or(0, seconds);
        let since = SystemTime::now().checked_sub(REPEAT_WINDOW).map_or(0, seconds);
        for row in namesakes.iter().filter(|row| row.digest == *came.digest) {
            let came_before = row.number.is_none() && row.on_site && (timed || latest <= row.received);
            let is_recent = timed && row.delivered.is_none_or(|delivered| delivered >= since);
            if !came_before && !is_recent {
                continue;
            }
            match self.standing(row)? {
                Standing::Here if came_before => return Ok(Some(Verdict::repeat(row, Then::Number))),
                Standing::Undelivered if came_before => return Ok(Some(Verdict::repeat(row, Then::Deliver))),
                Standing::Here => return Ok(Some(Verdict::Repeat { row: None, then: Then::Note })),
                // Under another number, and on its way: if it does not get there, this copy is the good one.
                Standing::Undelivered | Standing::Lost => {}
            }
        }
        Ok(None)
    }

    fn standing(&self, row: &Package) -> Result<Standing, Trouble> {
        match row.state {
            State::Delivered => return Ok(Standing::Here),
            State::Quarantined if row.is_damaged() => return Ok(Standing::Lost),
            State::Quarantined => return Ok(Standing::Here),
            State::Held | State::Committed => {}
        }
        match digest_of(&self.staging.path(&row.staged)) {
            Ok((digest, _)) if digest == row.digest => Ok(Standing::Undelivered),
            // It was handed over.
            Err(error) if error.kind() == io::ErrorKind::NotFound && row.state == State::Committed => {
                Ok(Standing::Here)
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(Trouble::io("cannot read a staged file that waits to be delivered")(error))
            }
            _ => Ok(Standing::Lost),
        }
    }
}

impl Verdict {
    fn repeat(row: &Package, then: Then) -> Self {
        Self::Repeat { row: Some(Box::new(row.clone())), then }
    }
}
