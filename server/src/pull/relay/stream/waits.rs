//! What on a connection takes its time, and how long it may.
//!
//! On a slow line what a node says last comes behind all that was on its way before it. So nobody is accused of silence
//! while something comes.

use std::time::{Duration, Instant};

use tidegate_proto::relay::{CloseCode, Farewell};
use tokio::io::{AsyncRead, AsyncWrite};

use super::super::decoders::{LET_GO, LET_GO_BYTES, LET_GO_MAX};
use super::{Decoder, RESUME_INTERVAL, ROOM_INTERVAL_MAX, Stream};
use crate::pull::{Ended, Fault};

/// A decoder that others wait for.
pub(super) struct LettingGo {
    since: Instant,
    /// When it is looked at next, and what had come at the last look.
    pub(super) until: Instant,
    received: u64,
}

impl LettingGo {
    fn new(received: u64, now: Instant) -> Self {
        Self { since: now, until: now + LET_GO, received }
    }

    /// Whether the node may go on for a while: what was on its way still comes.
    fn goes_on(&mut self, received: u64, now: Instant) -> bool {
        let came = received - self.received;
        self.received = received;
        self.until = now + LET_GO;
        came >= LET_GO_BYTES && self.until <= self.since + LET_GO_MAX
    }
}

impl<S> Stream<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    /// Something has taken its time.
    pub(super) fn time(&mut self) -> Result<Option<Ended>, Fault> {
        let now = Instant::now();
        if self.tell.take_if(|tell| *tell <= now).is_some() {
            self.attempt.journal.pulled(self.attempt.tally);
        }
        if self.resume <= now {
            self.resume = now + RESUME_INTERVAL;
            self.due.resume = true;
        }
        if let Some((_, look)) = &mut self.full
            && *look <= now
        {
            *look = now + ROOM_INTERVAL_MAX;
            self.due.room = true;
        }
        let timeout = self.attempt.site.sync.timeout;
        if self.awaiting.is_some_and(|since| since + timeout <= now) {
            if !self.attempt.site.sync.standing {
                return Err(overdue(timeout));
            }
            self.awaiting = None;
        }
        let received = self.link.machine().received();
        let Decoder::Held { let_go, .. } = &mut self.decoder else { return Ok(None) };
        let Some(letting) = let_go.as_mut().filter(|letting| letting.until <= now) else { return Ok(None) };
        if !self.shared.decoders.is_wanted() {
            *let_go = None;
            self.grant();
            return Ok(None);
        }
        if letting.goes_on(received, now) {
            return Ok(None);
        }
        let text = "others wait for a decoder, and this connection did not let go of its own";
        tracing::debug!(site = self.attempt.site.name, "left for a while: {text}");
        self.leaving = Some(Farewell::new(CloseCode::Busy, text));
        Ok(Some(Ended::Later))
    }

    /// Others wait for the decoder.
    pub(super) fn let_go(&mut self) {
        let received = self.link.machine().received();
        if let Decoder::Held { let_go, .. } = &mut self.decoder {
            *let_go = Some(LettingGo::new(received, Instant::now()));
        }
    }

    /// Something of a package has come: what else the node has to say may stand behind it.
    pub(super) fn came(&mut self) {
        if let Some(since) = &mut self.awaiting {
            *since = Instant::now();
        }
    }

    /// A pull by schedule ends when everything the node had is delivered here and deleted there.
    pub(super) fn is_finished(&self) -> bool {
        !self.attempt.site.sync.standing
            && self.dried
            && self.working.is_none()
            && self.incoming.is_empty()
            && self.acked <= self.deleted
    }
}

fn overdue(timeout: Duration) -> Fault {
    Fault::Site(format!(
        "the node has not deleted within {timeout:?} what is delivered; look at its log: its disk may be slow, full or \
         read-only"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_is_kept_while_enough_comes_and_for_a_bounded_time() {
        let start = Instant::now();
        let mut letting = LettingGo::new(7, start);
        assert!(letting.goes_on(7 + LET_GO_BYTES, start + LET_GO));
        assert_eq!(letting.until, start + 2 * LET_GO);
        assert!(!letting.goes_on(7 + 2 * LET_GO_BYTES - 1, start + 2 * LET_GO), "too little came");
        let mut letting = LettingGo::new(0, start);
        let looks = (1..).take_while(|n| letting.goes_on(n * LET_GO_BYTES, letting.until)).count();
        assert_eq!(LET_GO * (u32::try_from(looks).unwrap() + 1), LET_GO_MAX);
    }
}
