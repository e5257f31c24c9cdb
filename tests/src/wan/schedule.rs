//! When bytes pass a link: the arithmetic of [`super::Wan`], without sockets, threads or a clock.
//!
//! Times are durations since an origin that the caller chose.

use std::collections::VecDeque;
use std::time::Duration;

/// What one packet carries.
pub(super) const PACKET: u64 = 1_448;

/// What a sender may have under way before it has heard anything: ten packets, as of RFC 6928. Acknowledged bytes
/// widen the window by as many.
pub(super) const FIRST_WINDOW: u64 = 10 * PACKET;

/// After a pause of so long (and a round trip) a sender begins with [`FIRST_WINDOW`] again, as Linux does by default.
const IDLE: Duration = Duration::from_millis(200);

/// One direction of the link, shared by all connections: one byte after another.
#[derive(Debug)]
pub(super) struct Line {
    rate: Option<u64>,
    free: Duration,
}

impl Line {
    pub(super) fn new(rate: Option<u64>) -> Line {
        Line { rate, free: Duration::ZERO }
    }

    /// Puts bytes on the line, behind those that wait for it. Says when the last of them has left.
    fn send(&mut self, bytes: u64, now: Duration) -> Duration {
        let Some(rate) = self.rate else { return now };
        self.free = self.free.max(now) + Duration::from_nanos(bytes * 1_000_000_000 / rate);
        self.free
    }
}

/// One direction of one connection: what is under way, and how much more may be.
#[derive(Debug)]
pub(super) struct Way {
    half_trip: Duration,
    /// The connection is being made until then.
    opens: Duration,
    window: u64,
    window_max: u64,
    under_way: u64,
    /// When the sender hears of bytes that have been delivered.
    acknowledgements: VecDeque<(Duration, u64)>,
    last: Duration,
}

/// How much a sender may put on its way.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// So many bytes.
    Bytes(u64),
    /// Nothing before then.
    At(Duration),
    /// Nothing until something has been delivered.
    Never,
}

impl Way {
    pub(super) fn new(half_trip: Duration, window_max: u64, opens: Duration) -> Way {
        Way {
            half_trip,
            opens,
            window: FIRST_WINDOW.min(window_max),
            window_max,
            under_way: 0,
            acknowledgements: VecDeque::new(),
            last: opens,
        }
    }

    /// How much may enter now.
    pub(super) fn room(&mut self, now: Duration) -> Room {
        if now < self.opens {
            return Room::At(self.opens);
        }
        while let Some(&(heard, bytes)) = self.acknowledgements.front()
            && heard <= now
        {
            self.acknowledgements.pop_front();
            self.under_way -= bytes;
            self.window = (self.window + bytes).min(self.window_max);
        }
        match self.acknowledgements.front() {
            // It may be long until the next bytes come, and the window has shrunk by then.
            _ if self.under_way == 0 => Room::Bytes(self.window.min(FIRST_WINDOW)),
            _ if self.under_way < self.window => Room::Bytes(self.window - self.under_way),
            Some((heard, _)) => Room::At(*heard),
            None => Room::Never,
        }
    }

    /// Bytes enter. Says when the last of them arrives.
    pub(super) fn enter(&mut self, bytes: u64, line: &mut Line, now: Duration) -> Duration {
        if self.under_way == 0 && now > self.last + IDLE + 2 * self.half_trip {
            self.window = FIRST_WINDOW.min(self.window_max);
        }
        self.last = now;
        self.under_way += bytes;
        line.send(bytes, now) + self.half_trip
    }

    /// The receiver has taken bytes.
    pub(super) fn delivered(&mut self, bytes: u64, now: Duration) {
        self.acknowledgements.push_back((now + self.half_trip, bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Sends `bytes` in packets with nobody ever late. When the last of them arrives, and the most that was under way.
    fn send(way: &mut Way, line: &mut Line, bytes: u64, from: Duration) -> (Duration, u64) {
        let (mut now, mut left, mut most) = (from, bytes, 0);
        let mut arriving: VecDeque<(Duration, u64)> = VecDeque::new();
        loop {
            while let Some(&(at, bytes)) = arriving.front()
                && at <= now
            {
                arriving.pop_front();
                way.delivered(bytes, at);
            }
            let room = way.room(now);
            if let Room::Bytes(room) = room {
                let packet = left.min(room).min(PACKET);
                arriving.push_back((way.enter(packet, line, now), packet));
                most = most.max(way.under_way);
                left -= packet;
                if left == 0 {
                    return (arriving.back().expect("just pushed").0, most);
                }
                continue;
            }
            let heard = if let Room::At(at) = room { at } else { Duration::MAX };
            now = heard.min(arriving.front().map_or(Duration::MAX, |(at, _)| *at));
        }
    }

    #[test]
    fn every_byte_takes_half_a_round_trip() {
        let (mut way, mut line) = (Way::new(50 * MS, 1 << 20, Duration::ZERO), Line::new(None));
        assert_eq!(way.enter(1, &mut line, 3 * MS), 53 * MS);
        assert_eq!(way.enter(1, &mut line, 3 * MS), 53 * MS);
        assert_eq!(way.enter(1, &mut line, 4 * MS), 54 * MS);
    }

    #[test]
    fn nothing_enters_before_the_connection_is_made() {
        let mut way = Way::new(50 * MS, 1 << 20, 100 * MS);
        assert_eq!(way.room(99 * MS), Room::At(100 * MS));
        assert_eq!(way.room(100 * MS), Room::Bytes(FIRST_WINDOW));
    }

    #[test]
    fn the_line_is_busy_byte_by_byte_for_all_connections() {
        let mut line = Line::new(Some(1_000_000));
        let [mut one, mut other] = [(); 2].map(|()| Way::new(10 * MS, 1 << 20, Duration::ZERO));
        assert_eq!(one.enter(5_000, &mut line, Duration::ZERO), 15 * MS);
        assert_eq!(other.enter(1_000, &mut line, MS), 16 * MS, "it waits for the other's");
        assert_eq!(one.enter(1_000, &mut line, 20 * MS), 31 * MS, "a line that was idle owes nothing");
    }

    #[test]
    fn the_window_doubles_each_round_trip_up_to_its_most() {
        let (mut way, mut line) = (Way::new(50 * MS, 1 << 20, Duration::ZERO), Line::new(None));
        // 10 + 20 + 40 packets leave at 0, 100 and 200 ms, and the next one at 300 ms.
        assert_eq!(send(&mut way, &mut line, 70 * PACKET, Duration::ZERO).0, 250 * MS);
        let (mut way, mut line) = (Way::new(50 * MS, 1 << 20, Duration::ZERO), Line::new(None));
        assert_eq!(send(&mut way, &mut line, 70 * PACKET + 1, Duration::ZERO).0, 350 * MS);
        let (mut way, mut line) = (Way::new(50 * MS, 20 * PACKET, Duration::ZERO), Line::new(None));
        let (arrived, most) = send(&mut way, &mut line, 50 * PACKET, Duration::ZERO);
        assert_eq!((arrived, most), (250 * MS, 20 * PACKET));
    }

    #[test]
    fn a_full_window_keeps_the_line_busy() {
        let (rate, bytes) = (1_250_000, 5_000_000);
        let (mut way, mut line) = (Way::new(10 * MS, 25_000 + 65_536, Duration::ZERO), Line::new(Some(rate)));
        let (arrived, most) = send(&mut way, &mut line, bytes, Duration::ZERO);
        assert!(most <= 25_000 + 65_536, "{most} under way");
        // Four seconds of line, half a round trip, and what the first window could not fill.
        assert!(arrived >= 4_010 * MS && arrived <= 4_030 * MS, "{arrived:?}");
    }

    #[test]
    fn a_receiver_that_takes_nothing_stops_the_sender() {
        let (mut way, mut line) = (Way::new(MS, 1 << 20, Duration::ZERO), Line::new(None));
        way.enter(FIRST_WINDOW, &mut line, Duration::ZERO);
        assert_eq!(way.room(Duration::from_secs(3_600)), Room::Never);
        way.delivered(FIRST_WINDOW, Duration::from_secs(3_600));
        assert_eq!(way.room(Duration::from_secs(3_600)), Room::At(Duration::from_secs(3_600) + MS));
    }

    #[test]
    fn a_pause_narrows_the_window() {
        let (mut way, mut line) = (Way::new(50 * MS, 1 << 20, Duration::ZERO), Line::new(None));
        send(&mut way, &mut line, 70 * PACKET, Duration::ZERO);
        assert!(way.window > FIRST_WINDOW);
        let later = Duration::from_secs(10);
        way.delivered(
            way.under_way - way.acknowledgements.iter().map(|(_, bytes)| bytes).sum::<u64>(),
            later,
        );
        assert_eq!(way.room(later + 50 * MS), Room::Bytes(FIRST_WINDOW));
        way.enter(1, &mut line, later + 50 * MS);
        assert_eq!(way.window, FIRST_WINDOW);
    }
}
