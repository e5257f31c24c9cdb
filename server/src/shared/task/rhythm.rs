//! How a site's syncs follow each other.

use std::time::Duration;

use tidegate_net::backoff::Backoff;

use crate::shared::session::Report;

/// The least pause before what could not be done is tried again: what a node refused, or shows otherwise than it says.
const PAUSE: Duration = Duration::from_secs(60);

/// How often a sync that found things changing meanwhile is followed at once by the next; then it is put off as well.
const UNFINISHED_MAX: u32 = 3;

/// How often a stock server is asked about every file: nothing rings for it.
const STOCK_INTERVAL: Duration = Duration::from_secs(60);

/// When the next sync may begin, and after how much longer it begins though nothing rings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) pause: Duration,
    pub(super) again: Option<Duration>,
}

/// What the last syncs came to.
#[derive(Debug)]
pub(super) struct Rhythm {
    interval: Duration,
    failures: Backoff,
    fruitless: Backoff,
    unfinished: u32,
}

impl Rhythm {
    /// Of syncs that are at least `interval` apart, and at most `most` when they fail.
    pub(super) fn new(interval: Duration, most: Duration) -> Self {
        let most = most.max(interval);
        Self {
            interval,
            failures: Backoff::new(interval, most),
            fruitless: Backoff::new(PAUSE.max(interval), most.max(PAUSE)),
            unfinished: 0,
        }
    }

    /// What follows a sync; `None`: it failed.
    pub(super) fn after(&mut self, report: Option<&Report>, is_stock: bool) -> Next {
        let Some(report) = report else {
            return Next { pause: self.failures.next(), again: Some(Duration::ZERO) };
        };
        self.failures.reset();
        let goes_on = report.waits || report.gave_way;
        self.unfinished = if report.unfinished && !goes_on { self.unfinished + 1 } else { 0 };
        let is_fruitless = report.refused || self.unfinished > UNFINISHED_MAX;
        if !is_fruitless {
            self.fruitless.reset();
        }
        let again = if goes_on || (report.unfinished && !is_fruitless) {
            Some(Duration::ZERO)
        } else if is_fruitless {
            Some(self.fruitless.next())
        } else {
            is_stock.then_some(Duration::ZERO)
        };
        let pause = if is_stock { self.interval.max(STOCK_INTERVAL) } else { self.interval };
        Next { pause, again }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn rhythm() -> Rhythm {
        Rhythm::new(INTERVAL, Duration::from_secs(300))
    }

    #[test]
    fn a_sync_that_left_nothing_to_do_is_followed_when_something_rings_and_never_sooner_than_the_interval() {
        let next = rhythm().after(Some(&Report::default()), false);
        assert_eq!(next, Next { pause: INTERVAL, again: None });
        let waits = Report { waits: true, ..Report::default() };
        assert_eq!(
            rhythm().after(Some(&waits), false),
            Next { pause: INTERVAL, again: Some(Duration::ZERO) }
        );
    }

    #[test]
    fn failures_and_what_is_refused_come_ever_more_rarely_and_a_good_sync_forgets_them() {
        let mut rhythm = rhythm();
        let first = rhythm.after(None, false).pause;
        assert!(first <= INTERVAL && first >= INTERVAL / 2);
        for _ in 0..8 {
            rhythm.after(None, false);
        }
        assert!(rhythm.after(None, false).pause >= Duration::from_secs(150));
        let refused = Report { refused: true, ..Report::default() };
        let mut again = Duration::ZERO;
        for _ in 0..8 {
            again = rhythm.after(Some(&refused), false).again.unwrap();
            assert!(again >= PAUSE / 2);
        }
        assert!(again >= Duration::from_secs(150));
        rhythm.after(Some(&Report::default()), false);
        assert!(rhythm.after(Some(&refused), false).again.unwrap() <= PAUSE);
        assert!(rhythm.after(None, false).pause <= INTERVAL);
    }

    #[test]
    fn what_changes_all_the_time_is_not_followed_for_ever() {
        let mut rhythm = rhythm();
        let unfinished = Report { unfinished: true, ..Report::default() };
        for _ in 0..UNFINISHED_MAX {
            assert_eq!(rhythm.after(Some(&unfinished), false).again, Some(Duration::ZERO));
        }
        assert!(rhythm.after(Some(&unfinished), false).again.unwrap() >= PAUSE / 2);
        let gave_way = Report { unfinished: true, gave_way: true, ..Report::default() };
        for _ in 0..9 {
            assert_eq!(
                rhythm.after(Some(&gave_way), false).again,
                Some(Duration::ZERO),
                "it is others' turn"
            );
        }
    }

    #[test]
    fn a_stock_server_is_asked_again_and_again_and_no_more_than_once_a_minute() {
        let next = rhythm().after(Some(&Report::default()), true);
        assert_eq!(next, Next { pause: STOCK_INTERVAL, again: Some(Duration::ZERO) });
    }
}
