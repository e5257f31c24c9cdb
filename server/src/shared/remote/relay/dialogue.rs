//! Requests and answers on a connection: each request has one answer, in order, and several may be under way.

use std::collections::VecDeque;
use std::fmt::Display;
use std::pin::pin;
use std::time::Duration;

use tidegate_net::Link;
use tidegate_proto::relay::limits::SHARED_IN_FLIGHT;
use tidegate_proto::relay::{Puller, PullerEvent, SharedAnswer, SharedRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::pull::{Fault, relay};
use crate::shared::blocking::blocking;

/// What a way without a rate carries at least. On a slower one answers are given up.
const BYTES_PER_SECOND_MIN: u64 = 4_000;

/// A connection that was welcomed.
#[derive(Debug)]
pub(super) struct Dialogue<S> {
    link: Link<S, Puller>,
    site: String,
    /// The longest wait for an answer: what is under way before it takes its time, too.
    patience: Duration,
    /// Answers that nobody has looked at yet.
    answers: VecDeque<SharedAnswer>,
    /// Since when the next answer is waited for.
    since: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Dialogue<S> {
    pub(super) fn new(link: Link<S, Puller>, site: &str, patience: Duration, rate: Option<u64>) -> Self {
        let under_way = 2 * SHARED_IN_FLIGHT as u64 / rate.unwrap_or(BYTES_PER_SECOND_MIN).max(1);
        Self {
            link,
            site: site.to_owned(),
            patience: patience + Duration::from_secs(under_way),
            answers: VecDeque::new(),
            since: Instant::now(),
        }
    }

    pub(super) fn site(&self) -> &str {
        &self.site
    }

    pub(super) fn into_link(self) -> Link<S, Puller> {
        self.link
    }

    /// Makes a request as soon as there is room for it. What is answered meanwhile waits to be looked at.
    pub(super) async fn ask(&mut self, request: SharedRequest) -> Result<(), Fault> {
        while !self.link.machine().may_request(&request) {
            self.hear().await?;
        }
        if self.link.machine().outstanding() == 0 {
            self.since = Instant::now();
        }
        self.link.machine().request(request);
        Ok(())
    }

    /// The oldest answer that was not looked at, as soon as there is one.
    pub(super) async fn answer(&mut self) -> Result<SharedAnswer, Fault> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Ok(answer);
            }
            self.hear().await?;
        }
    }

    /// The same, if it has come already.
    pub(super) fn answered(&mut self) -> Option<SharedAnswer> {
        self.answers.pop_front()
    }

    /// Gives signs of life while nothing is asked.
    pub(super) async fn idle(&mut self) -> Fault {
        match self.link.next().await {
            Ok(event) => relay::out_of_turn(&event),
            Err(error) => relay::fault(&self.site, error),
        }
    }

    /// Works on the disk. What comes meanwhile waits to be looked at, and signs of life go out.
    pub(super) async fn during<T, E>(
        &mut self,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Fault>
    where
        T: Send + 'static,
        E: Display + Send + 'static,
    {
        let mut working = pin!(blocking(work));
        loop {
            tokio::select! {
                biased;
                done = &mut working => {
                    self.since = Instant::now();
                    return done;
                }
                event = self.link.next() => {
                    let event = event.map_err(|error| relay::fault(&self.site, error));
                    if let Err(fault) = event.and_then(|event| self.take(event)) {
                        // The next sync must not meet it.
                        working.await?;
                        return Err(fault);
                    }
                }
            }
        }
    }

    /// Waits for something to come.
    async fn hear(&mut self) -> Result<(), Fault> {
        let event = timeout_at(self.since + self.patience, self.link.next()).await.map_err(|_| {
            Fault::Site(format!("the node did not answer about its shared files within {:?}", self.patience))
        })?;
        self.take(event.map_err(|error| relay::fault(&self.site, error))?)
    }

    fn take(&mut self, event: PullerEvent) -> Result<(), Fault> {
        match event {
            PullerEvent::Shared(answer) => {
                self.since = Instant::now();
                self.answers.push_back(answer);
                Ok(())
            }
            event => Err(relay::out_of_turn(&event)),
        }
    }
}

/// The node answered something else than it was asked.
pub(super) fn unasked(answer: &SharedAnswer) -> Fault {
    Fault::Site(format!("the node answered out of turn: {answer:.40?}"))
}
