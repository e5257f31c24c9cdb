//! The package stream as a node sends it: what it may cost, what is on its way, and when the compressor rests.
//!
//! What nothing can follow is flushed at once, whatever the reason: the puller could not know of it, and would wait with
//! its credit and its acknowledgements for what never comes.
//!
//! The zstd frame ends with a lone package, for a decoder is held at the other end until then; and goes on for a
//! while where packages follow each other, for its window is what makes them cost next to nothing.

use alloc::{collections::VecDeque, vec::Vec};

use super::{
    Head, Number, Violation,
    limits::{FLUSH_AFTER, IN_FLIGHT_MAX, LONE_MAX, RECORD_COST, REST, WRITE_MAX},
    outflow::Outflow,
};
use crate::Time;

/// The sending side of a stream. Output goes to the end of the vector that is given.
#[derive(Debug)]
pub(crate) struct Sending {
    outflow: Outflow,
    /// What the puller granted in all, and what was spent of it.
    granted: u64,
    spent: u64,
    /// The package that is being sent, and what of its body is still to come.
    current: Option<(Number, u64)>,
    last: Option<Number>,
    /// Sent whole, or skipped, and not acknowledged.
    in_flight: VecDeque<Number>,
    acked: Option<Number>,
    deleted: Option<Number>,
    /// `DRY` was said, and nothing was sent since.
    dry: bool,
    /// When the owner last gave something, or heard that it could.
    given: Time,
    /// Since when there has been nothing to send, or no credit to send it.
    resting: Option<Time>,
    /// What the zstd frame holds, before compression; whether it began soon after another; when the last one ended.
    plain: usize,
    busy: bool,
    ended: Option<Time>,
    /// For a record before it is compressed.
    scratch: Vec<u8>,
}

impl Sending {
    pub(crate) fn new(now: Time) -> Self {
        Sending {
            outflow: Outflow::default(),
            granted: 0,
            spent: 0,
            current: None,
            last: None,
            in_flight: VecDeque::new(),
            acked: None,
            deleted: None,
            dry: false,
            given: now,
            resting: None,
            plain: 0,
            busy: false,
            ended: None,
            scratch: Vec::new(),
        }
    }

    pub(crate) fn credit(&mut self, total: u64) -> Result<(), Violation> {
        if total <= self.granted {
            return Err(Violation::CreditShrinks(total));
        }
        self.granted = total;
        Ok(())
    }

    /// Forgets what the puller has. Only a number that it was sent can say so.
    pub(crate) fn ack(&mut self, upto: Number) -> Result<(), Violation> {
        let at = self.in_flight.binary_search(&upto).map_err(|_| Violation::Ack(upto))?;
        self.in_flight.drain(..=at);
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
        self.acked = Some(upto);
        Ok(())
    }

    /// Whether that may be told: it was acknowledged, and not told before.
    pub(crate) fn deleted(&mut self, upto: Number) -> bool {
        let news = Some(upto) <= self.acked && Some(upto) > self.deleted;
        if news {
            self.deleted = Some(upto);
        }
        news
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn is_between(&self) -> bool {
        self.current.is_none()
    }

    /// How much of the current body the credit pays for now.
    pub(crate) fn room(&self) -> usize {
        let Some((_, left)) = self.current else { return 0 };
        let most = left.min(self.granted - self.spent);
        usize::try_from(most).unwrap_or(WRITE_MAX).min(WRITE_MAX)
    }

    /// Whether the puller has to act before anything more can be sent.
    pub(crate) fn is_stuck(&self) -> bool {
        let credit = self.granted - self.spent;
        match self.current {
            Some(_) => credit == 0,
            None => credit < RECORD_COST || self.in_flight.len() >= IN_FLIGHT_MAX,
        }
    }

    /// Sends what stands before a body; the body is to follow. Whether it may.
    pub(crate) fn begin(&mut self, kind: u8, head: &Head, body: bool, now: Time, out: &mut Vec<u8>) -> bool {
        if self.current.is_some() || self.is_stuck() || Some(head.number) <= self.last {
            return false;
        }
        self.last = Some(head.number);
        self.spent += RECORD_COST;
        self.scratch.clear();
        head.write(kind, &mut self.scratch);
        if !self.outflow.is_open() {
            self.plain = 0;
            self.busy = self.ended.is_some_and(|ended| now < ended.saturating_add(REST));
        }
        self.outflow.write(&self.scratch, out);
        self.plain += self.scratch.len();
        self.current = Some((head.number, if body { head.size } else { 0 }));
        self.sent(0, now, out);
        true
    }

    /// Sends a part of the current body. Whether it may.
    pub(crate) fn write(&mut self, bytes: &[u8], now: Time, out: &mut Vec<u8>) -> bool {
        if bytes.len() > self.room() {
            return false;
        }
        self.outflow.write(bytes, out);
        self.plain += bytes.len();
        self.sent(bytes.len() as u64, now, out);
        true
    }

    fn sent(&mut self, count: u64, now: Time, out: &mut Vec<u8>) {
        self.spent += count;
        if let Some((number, left)) = self.current {
            self.current = (left > count).then_some((number, left - count));
            if left == count {
                self.in_flight.push_back(number);
            }
        }
        (self.dry, self.given, self.resting) = (false, now, None);
        if self.is_stuck() {
            self.pause(now, out);
        }
    }

    /// There is nothing to follow at the moment.
    pub(crate) fn pause(&mut self, now: Time, out: &mut Vec<u8>) {
        if self.outflow.is_open() {
            self.outflow.flush(out);
            self.resting.get_or_insert(now);
        }
    }

    /// Everything has been sent. Whether `DRY` is to be said.
    pub(crate) fn dry(&mut self, now: Time, out: &mut Vec<u8>) -> bool {
        if self.busy || self.plain > LONE_MAX {
            self.pause(now, out);
        } else {
            self.rest(now, out);
        }
        !core::mem::replace(&mut self.dry, true)
    }

    /// The owner knows that it may give more.
    pub(crate) fn told_room(&mut self, now: Time) {
        self.given = now;
    }

    /// When the zstd frame is to end.
    pub(crate) fn rest_over(&self) -> Option<Time> {
        self.resting.filter(|_| self.outflow.is_open()).map(|since| since.saturating_add(REST))
    }

    /// When to flush what an owner that may go on has left there.
    pub(crate) fn flush_at(&self) -> Option<Time> {
        self.outflow.is_unflushed().then(|| self.given.saturating_add(FLUSH_AFTER))
    }

    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        self.outflow.flush(out);
    }

    /// Ends the zstd frame; nothing large is kept.
    pub(crate) fn rest(&mut self, now: Time, out: &mut Vec<u8>) {
        if self.outflow.is_open() {
            self.outflow.end(out);
            self.ended = Some(now);
        }
        (self.resting, self.scratch) = (None, Vec::new());
    }

    /// The connection is over.
    pub(crate) fn free(&mut self) {
        (self.outflow, self.scratch) = (Outflow::default(), Vec::new());
    }
}
