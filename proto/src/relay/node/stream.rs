//! The node's side of the package stream: what its owner gives, as far as there is room.

use super::Node;
use crate::{
    Time,
    relay::{
        Head, LossRecord, Number, Purpose,
        either::Either as _,
        frame::Frame,
        limits::PAYLOAD_MAX,
        record::{PACKAGE, SKIPPED},
    },
};

impl Node {
    /// How many bytes of the current body [`write`](Self::write) takes now: 0 without credit, while the output is full,
    /// and where no package has begun.
    pub fn room(&self, _now: Time) -> usize {
        let open = self.is_open_for(Purpose::Stream) && self.outbox.has_room();
        if open { self.sending.room() } else { 0 }
    }

    /// Whether a package may [`begin`](Self::begin) or be [`skip`](Self::skip)ped now.
    pub fn may_begin(&self, _now: Time) -> bool {
        self.sending.is_between() && self.may_send()
    }

    /// Begins a package, whose number is greater than all before. Its body follows by [`write`](Self::write), all
    /// [`Head::size`] bytes of it. An owner that cannot give them must [`close`](Self::close).
    pub fn begin(&mut self, head: &Head, now: Time) {
        let may = self.may_begin(now);
        self.tell_untold();
        let may = may && self.sending.begin(PACKAGE, head, true, now, self.outbox.end());
        self.given(may, "begin", now);
    }

    /// Tells of a package that is larger than [`Hello::max_package`](crate::relay::Hello::max_package) and stays.
    pub fn skip(&mut self, head: &Head, now: Time) {
        let may = self.may_begin(now);
        self.tell_untold();
        let may = may && self.sending.begin(SKIPPED, head, false, now, self.outbox.end());
        self.given(may, "skip", now);
    }

    /// A part of the current body, at most [`room`](Self::room) bytes.
    pub fn write(&mut self, bytes: &[u8], now: Time) {
        let may = bytes.len() <= self.room(now);
        self.tell_untold();
        let may = may && self.sending.write(bytes, now, self.outbox.end());
        self.given(may, "write", now);
    }

    /// Says that all there is has been sent. Flushes. Said again before another package has begun, it does nothing.
    pub fn dry(&mut self, now: Time) {
        if !self.sending.is_between() || !self.is_open_for(Purpose::Stream) {
            return self.misused("dry");
        }
        if self.sending.dry(now, self.outbox.end()) {
            self.say(&Frame::Dry);
        }
        self.pulse.speak();
        self.outbox.release(now);
        self.note_room();
    }

    /// Flushes: for an owner that has nothing to give at the moment although there are packages (claimed by another
    /// connection, or being read).
    pub fn pause(&mut self, now: Time) {
        self.sending.pause(now, self.outbox.end());
        self.pulse.speak();
        self.outbox.release(now);
        self.note_room();
    }

    /// Says that everything acknowledged up to `upto` is gone, durably. Each time of a greater number.
    pub fn deleted(&mut self, upto: Number) {
        match self.sending.deleted(upto) {
            true => self.say(&Frame::Deleted(upto)),
            false => self.misused("deleted"),
        }
    }

    /// How many loss records may be told now: the rest waits for [`NodeEvent::LossesAcked`](super::NodeEvent::LossesAcked).
    pub fn losses_room(&self) -> usize {
        if self.is_open_for(Purpose::Stream) { self.losses.room() } else { 0 }
    }

    /// Tells of losses, oldest first, each once on a connection: numbers greater than all told before, at most
    /// [`losses_room`](Self::losses_room).
    pub fn losses(&mut self, records: &[LossRecord]) {
        if !records.is_empty() && (self.losses_room() == 0 || self.losses.tell(records).is_err()) {
            return self.misused("losses");
        }
        for chunk in records.chunks(PAYLOAD_MAX / LossRecord::MAX) {
            self.say(&Frame::Losses(chunk.into()));
        }
    }

    /// How many packages, skipped ones included, have been sent whole and not acknowledged.
    pub fn in_flight(&self) -> usize {
        self.sending.in_flight()
    }

    /// After the owner gave something, if it might.
    fn given(&mut self, may: bool, call: &str, now: Time) {
        if !may {
            return self.misused(call);
        }
        self.pulse.speak();
        self.outbox.release(now);
        self.note_room();
    }

    pub(super) fn may_send(&self) -> bool {
        self.is_open_for(Purpose::Stream) && self.outbox.has_room() && !self.sending.is_stuck()
    }
}
