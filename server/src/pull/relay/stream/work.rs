//! What is under way on a connection: the work of a batch, the credit that it gives back, and what is noted of the site.

use std::time::{Duration, Instant};

use tidegate_proto::relay::limits::RECORD_COST;
use tidegate_proto::relay::{CloseCode, Farewell, Head, Number, Status};
use tidegate_spool::sabotage::{self, Switch};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::job::{Done, Job};
use super::{Decoder, ROOM_INTERVAL_MAX, SKIPPED_NAMED, Stream, Working};
use crate::ledger::SiteNote;
use crate::pull::{Ended, Kind};

/// How often at most a node's numbers are used. What comes sooner is passed over: the next ones come anyhow.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

impl<'a, S> Stream<'a, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// The next piece of work, if there is any.
    pub(super) fn next_work(&mut self) -> Option<Working<'a>> {
        let batch = if self.full.is_none() { self.incoming.take() } else { Default::default() };
        if sabotage::breaks(Switch::DeleteBeforeLedger) {
            self.ack(batch.last());
        }
        self.attempt.desk.learned(&self.attempt.site.name, batch.names());
        let drained = self.due.drained.is_some_and(|after| self.incoming.taken() >= after);
        let due = &mut self.due;
        let job = Job {
            site: self.attempt.site.name.clone(),
            welcomed: due.welcomed.take(),
            losses: std::mem::take(&mut due.losses),
            batch,
            drained,
            deleted: due.deleted.take(),
            room: std::mem::take(&mut due.room),
            news: std::mem::take(&mut due.news),
            resume: std::mem::take(&mut due.resume),
        };
        if job.is_empty() {
            return None;
        }
        let desk = self.attempt.desk;
        Some(Box::pin(desk.run(move |pipeline| job.work(pipeline))))
    }

    /// A piece of work is done: the node may delete what is delivered, and send more.
    pub(super) fn worked(&mut self, done: Done) -> Option<Ended> {
        let whole = done.whole;
        self.count(&done);
        if let Some(upto) = done.losses.filter(|_| !self.over) {
            self.link.machine().ack_losses(upto);
        }
        self.ack(done.upto);
        if done.drained {
            self.due.drained = None;
        }
        if done.deleted && self.acked <= self.deleted {
            self.shared.settled.notify_one();
        }
        if let Some(batch) = done.refused {
            self.incoming.put_back(batch);
        }
        match done.full {
            Some(Some(why)) => self.no_room(why),
            Some(None) if self.full.is_some() => {
                self.full = None;
                self.note_news();
                self.attempt.journal.works();
                self.grant();
            }
            Some(None) | None => {}
        }
        self.freed(done.batch.charge);
        if whole {
            return None;
        }
        // It stands before everything behind it, and comes again on another connection.
        self.leaving =
            Some(Farewell::new(CloseCode::Trouble, "a package was damaged here before it was delivered"));
        Some(Ended::Again)
    }

    /// The node may delete what came up to this number.
    fn ack(&mut self, upto: Option<Number>) {
        let Some(upto) = upto.filter(|upto| !self.over && Some(*upto) > self.acked) else { return };
        self.link.machine().ack(upto);
        self.acked = Some(upto);
        self.awaiting.get_or_insert_with(Instant::now);
    }

    fn count(&mut self, done: &Done) {
        self.incoming.delivered();
        if done.upto.is_none() || done.batch.count == 0 {
            return;
        }
        self.attempt.tally.delivered(done.batch.count, done.batch.bytes);
        self.tell = Some(self.attempt.journal.came());
    }

    /// Room is there again for so much of what has come, and for what has gone to its file meanwhile.
    pub(super) fn freed(&mut self, charge: u64) {
        self.credit.received(self.link.machine().received());
        let freed = charge + self.incoming.freed();
        if freed > 0 {
            self.credit.done(freed);
            self.grant();
        }
    }

    /// Lets the node send more, if it may.
    pub(super) fn grant(&mut self) {
        self.credit.received(self.link.machine().received());
        let is_to_end = self.dried && !self.attempt.site.sync.standing;
        let lets_go = matches!(self.decoder, Decoder::Held { let_go: Some(_), .. });
        if self.full.is_some() || is_to_end || lets_go || self.over {
            return;
        }
        if let Some(total) = self.credit.grow() {
            self.link.machine().grant(total);
        }
    }

    /// The pipeline takes no more for now.
    pub(super) fn no_room(&mut self, why: String) {
        let interval = self.attempt.site.sync.interval.min(ROOM_INTERVAL_MAX);
        self.attempt.journal.full(&why);
        let is_news = self.full.as_ref().is_none_or(|(before, _)| *before != why);
        self.full = Some((why, Instant::now() + interval));
        if is_news {
            self.note_news();
        }
    }

    /// Tells the log of a package that is too large. A node may have very many of them.
    pub(super) fn say_skipped(&self, head: &Head) {
        let (site, max) = (&self.attempt.site.name, self.attempt.site.sync.max_size);
        let (package, size, packages) = (&head.name, head.size, self.skipped);
        if packages <= SKIPPED_NAMED {
            tracing::warn!(site, %package, size, max, "larger than max_size: it stays at the site");
        } else if packages.is_power_of_two() {
            tracing::warn!(site, packages, max, "so many are larger than max_size: they stay at the site");
        }
    }

    /// What the node says of itself. It needs no credit for it, so not every word of it costs work here.
    pub(super) fn status(&mut self, status: &Status) {
        if let (Some(shared), Some(sign)) = (self.attempt.desk.shared(), status.shared_sign) {
            // A comparison, and the next word may be long in coming.
            shared.bells().heard(&self.attempt.site.name, sign);
        }
        let now = Instant::now();
        if self.told.is_some_and(|told| now < told + STATUS_INTERVAL) {
            return;
        }
        self.told = Some(now);
        if let (Some(packages), Some(bytes)) = (status.packages, status.bytes) {
            let waiting = usize::try_from(packages).unwrap_or(usize::MAX);
            self.attempt.tally.waiting(waiting);
            // What is delivered and not deleted yet is counted, too: a little too much.
            self.credit.received(self.link.machine().received());
            self.credit.backlog(bytes.saturating_add(packages.saturating_mul(RECORD_COST)));
            self.grant();
        }
        self.attempt.desk.board().status(&self.attempt.site.name, status);
        self.note();
    }

    /// Notes how the site is, to be written at once.
    pub(super) fn note_news(&mut self) {
        self.note();
        self.due.news = self.welcomed.is_some();
    }

    /// Notes how the site is. It is written with what the other sites say, so that a thousand of them cost one
    /// transaction.
    fn note(&self) {
        if self.welcomed.is_none() {
            return;
        }
        let error = self.full.as_ref().map(|(why, _)| why.clone());
        let note = SiteNote {
            kind: Some(Kind::Tidegate.as_str()),
            state: if error.is_some() { "pipeline-full" } else { "ok" },
            contact: true,
            held_back: Some(self.skipped),
            error,
        };
        self.attempt.desk.board().note(&self.attempt.site.name, note);
    }
}
