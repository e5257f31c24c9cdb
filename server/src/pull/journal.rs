//! What the log is told about one site: only news. A connection that never ends tells what it pulls now and then.

use std::time::{Duration, Instant};

use super::Tally;
use crate::pipeline::Trouble;

/// Between two lines of one connection about what was pulled.
pub(super) const INTERVAL: Duration = Duration::from_secs(60);

/// One site's part of the log.
#[derive(Debug)]
pub(crate) struct Journal {
    site: String,
    /// The error that was told last: the same one again is no news.
    said: Option<String>,
    /// What the tally showed when it was told last, and when that was.
    told: (u64, u64),
    at: Option<Instant>,
    /// When the first came that is not told yet.
    since: Option<Instant>,
}

impl Journal {
    pub(crate) fn new(site: &str) -> Self {
        Self { site: site.to_owned(), said: None, told: (0, 0), at: None, since: None }
    }

    /// Something is about to be pulled.
    pub(crate) fn begin(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Packages came. Returns when [`Self::pulled`] is to be called.
    pub(super) fn came(&mut self) -> Instant {
        self.since.get_or_insert_with(Instant::now);
        self.at.map_or_else(Instant::now, |at| at + INTERVAL)
    }

    /// Tells what was pulled, if anything was.
    pub(crate) fn pulled(&mut self, tally: &Tally) {
        let (packages, bytes) = (tally.packages() - self.told.0, tally.bytes() - self.told.1);
        let since = self.since.take();
        if packages == 0 {
            return;
        }
        let seconds = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        tracing::info!(site = self.site, packages, bytes, seconds = format!("{seconds:.1}"), "pulled");
        self.told = (tally.packages(), tally.bytes());
        self.at = Some(Instant::now());
    }

    /// The site can be pulled.
    pub(crate) fn works(&mut self) {
        if self.said.take().is_some() {
            tracing::info!(site = self.site, "works again");
        }
    }

    /// The site could not be reached, or not be worked with.
    pub(crate) fn unreachable(&mut self, error: &str) {
        if self.is_news(error) {
            tracing::warn!(site = self.site, error, "unreachable");
        }
    }

    /// The site does not want this server.
    pub(crate) fn refused(&mut self, error: &str) {
        if self.is_news(error) {
            tracing::warn!(site = self.site, error, "refused");
        }
    }

    /// This server could not take more.
    pub(crate) fn trouble(&mut self, trouble: &Trouble) {
        let error = trouble.to_string();
        match trouble {
            Trouble::Full(_) => self.full(&error),
            _ if self.is_news(&error) => tracing::error!(site = self.site, error, "cannot take packages"),
            _ => {}
        }
    }

    /// The pipeline has no room.
    pub(super) fn full(&mut self, error: &str) {
        if self.is_news(error) {
            let site = &self.site;
            tracing::warn!(site, error, "the pipeline cannot take more; the backlog stays at the site");
        }
    }

    fn is_news(&mut self, error: &str) -> bool {
        let news = self.said.as_deref() != Some(error);
        if news {
            self.said = Some(error.to_owned());
        } else {
            tracing::debug!(site = self.site, error, "still in trouble");
        }
        news
    }
}
