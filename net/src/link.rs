//! The one loop that drives a protocol machine over a stream.
//!
//! Constraints, before the design:
//! - An idle link holds no buffer: reads go into the stack of the polling thread, what a machine has not used yet
//!   waits in a `Vec` that is freed as soon as it is empty and nothing more arrives.
//! - Output is collected by the machine and leaves before the next event is looked for: the owner may take seconds
//!   for that event (an fsync under load), and a peer that sent a command and its body at once waits no more than
//!   4 s for the first reply. What the owner says between two calls shares a write.
//! - A machine that waits for its owner is not fed: nothing is read, so the peer feels the back-pressure.
//! - A machine that always has something to tell is fed all the same: what the peer has said is looked for before every
//!   event, not only before a wait, else an end that sends without pause would never hear that it should stop.
//! - Every wait ends: reading at the machine's deadline, writing when the peer takes less than `TAKEN_PER_SECOND`
//!   over a whole timeout. (Taken is what the kernel took: what lies in its buffers is not seen from here.)
//! - Dropping the future of [`Link::next`] or [`Link::flush`] loses nothing.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidegate_proto::limits::BODY_RATE;
use tidegate_proto::{Close, Machine, Time};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use crate::tls;

/// How much is read at once, on the stack: a whole TLS record. More waits in the socket.
const READ_MAX: usize = 16 * 1024;

/// A machine whose deadline has passed is called again this much later if it did nothing about it, so that a
/// deadline that stays in the past cannot spin.
const NUDGE_PAUSE: Duration = Duration::from_millis(10);

/// The least a peer must take of what it asked for, on average over a write timeout: the least that is asked of a body
/// that comes. A slower one has stalled, so that nobody holds a connection for a body it reads byte by byte.
const TAKEN_PER_SECOND: u64 = BODY_RATE.bytes_per_second;

/// How long and how much [`Link::shutdown`] reads, unused, after its own end of output: closing a socket with
/// unread input would destroy the last reply on its way to the peer. Beyond it the socket is closed anyway.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// A protocol machine and the stream it talks over.
#[derive(Debug)]
pub struct Link<S, M> {
    stream: S,
    machine: M,
    write_timeout: Duration,
    origin: Instant,
    /// Bytes read, and where in them the machine stands. The last event's body, if any, is before `used`.
    input: Vec<u8>,
    body: usize,
    used: usize,
    ended: bool,
    /// Reading failed, and the machine may have something to tell of what came before.
    broken: Option<io::Error>,
    nudged: Option<Time>,
    /// Until when the peer has to take so many bytes, while there is output: a share that was begun goes on when the
    /// future that waited for it was dropped.
    share: Option<(Instant, u128)>,
}

/// Why a link gives no more events.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The machine ended the connection.
    #[error("{0}")]
    Closed(Close),
    /// The stream failed.
    #[error("{}", tls::explain(.0))]
    Io(#[source] io::Error),
    /// The peer took no output, or next to none, for the whole write timeout.
    #[error("the peer stopped reading")]
    Stalled,
}

impl<S, M> Link<S, M>
where
    S: AsyncRead + AsyncWrite + Unpin,
    M: Machine,
{
    /// Joins a machine to a stream. The link's clock starts now at zero: make the machine with `Time::ZERO`.
    pub fn new(stream: S, machine: M, write_timeout: Duration) -> Self {
        Self {
            stream,
            machine,
            write_timeout,
            origin: Instant::now(),
            input: Vec::new(),
            body: 0,
            used: 0,
            ended: false,
            broken: None,
            nudged: None,
            share: None,
        }
    }

    /// The machine, to answer its events.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The stream, to ask who is at its other end.
    pub fn stream(&self) -> &S {
        &self.stream
    }

    /// The time on the link's clock, for calls to the machine.
    pub fn now(&self) -> Time {
        self.origin.elapsed()
    }

    /// The body bytes of the last event.
    pub fn chunk(&self) -> &[u8] {
        self.input.get(self.body..self.used).unwrap_or_default()
    }

    /// The machine's next event. What the machine has to say is written first, and again before a wait.
    pub async fn next(&mut self) -> Result<M::Event, LinkError> {
        self.drop_used();
        loop {
            self.flush().await?;
            self.look().await;
            if let Some(event) = self.step()? {
                return Ok(event);
            }
            self.flush().await?;
            self.wait().await?;
        }
    }

    /// Writes all output, and waits until the stream has taken it.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        loop {
            let (until, _) = *self.share.get_or_insert_with(|| {
                let share = u128::from(TAKEN_PER_SECOND) * self.write_timeout.as_millis() / 1000;
                (Instant::now() + self.write_timeout, share)
            });
            timeout_at(until, self.write_share()).await.map_err(|_| LinkError::Stalled)??;
            self.share = None;
            if self.machine.output().is_empty() {
                return Ok(());
            }
        }
    }

    /// Ends the connection in an orderly way, within a bounded time: writes what is left, says so to a TLS peer, and
    /// lets the peer read it before the socket closes.
    pub async fn shutdown(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let closed = timeout(self.write_timeout, self.stream.shutdown()).await;
        if !self.ended && matches!(closed, Ok(Ok(()))) {
            linger(&mut self.stream).await;
        }
    }

    /// Offers the machine what there is. It is called even if there is nothing: an event may be due.
    fn step(&mut self) -> Result<Option<M::Event>, LinkError> {
        let now = self.now();
        let step = self.machine.step(&self.input[self.used..], now).map_err(LinkError::Closed)?;
        self.body = self.used;
        self.used += step.used;
        if step.event.is_none() && self.ended && self.used == self.input.len() {
            return Ok(self.machine.end_of_input(now).map_err(LinkError::Closed)?.event);
        }
        Ok(step.event)
    }

    /// Takes input that is there already, if the machine has none left and wants any. Does not wait.
    async fn look(&mut self) {
        if self.used < self.input.len() || self.is_deaf() || self.broken.is_some() {
            return;
        }
        self.broken = poll_fn(|cx| match self.poll_read(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Some(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(None),
        })
        .await;
    }

    /// Whether nothing is to be read.
    fn is_deaf(&self) -> bool {
        self.ended || self.machine.blocked()
    }

    /// Waits for input, if the machine wants any, or for its deadline.
    async fn wait(&mut self) -> Result<(), LinkError> {
        let deaf = self.is_deaf();
        if !deaf && let Some(error) = self.broken.take() {
            return Err(LinkError::Io(error));
        }
        let deadline = self.machine.deadline().map(|deadline| match self.nudged {
            Some(nudged) => deadline.max(nudged + NUDGE_PAUSE),
            None => deadline,
        });
        let wake = deadline.map(|deadline| self.origin + deadline);
        let input = poll_fn(|cx| {
            let read = if deaf { Poll::Pending } else { self.poll_read(cx) };
            if !deaf && read.is_pending() {
                self.free_buffers();
            }
            read
        });
        let read = match wake {
            Some(wake) => timeout_at(wake, input).await.ok(),
            None => Some(input.await),
        };
        self.nudged = if read.is_none() { Some(self.now()) } else { None };
        read.unwrap_or(Ok(())).map_err(LinkError::Io)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.drop_used();
        let mut stack = [MaybeUninit::<u8>::uninit(); READ_MAX];
        let mut buffer = ReadBuf::uninit(&mut stack);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) => {}
            // A TLS peer that closes without saying so (Perl does). Sizes are announced, so the machine sees a cut.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
        }
        self.ended = buffer.filled().is_empty();
        self.input.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    /// Writes what the peer has to take within one write timeout, or all there is.
    async fn write_share(&mut self) -> Result<(), LinkError> {
        while !self.machine.output().is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx)).await?;
            let Some((_, left)) = &mut self.share else { return Ok(()) };
            *left = left.saturating_sub(written as u128);
            if *left == 0 {
                return Ok(());
            }
        }
        self.stream.flush().await.map_err(LinkError::Io)
    }

    /// One write that makes progress, and how much.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, LinkError>> {
        let output = self.machine.output();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, output)).map_err(LinkError::Io)?;
        if written == 0 {
            return Poll::Ready(Err(LinkError::Io(io::ErrorKind::WriteZero.into())));
        }
        output.drain(..written);
        Poll::Ready(Ok(written))
    }

    /// Forgets what the machine has used, and with it the last event's body.
    fn drop_used(&mut self) {
        if self.used == self.input.len() {
            self.input.clear();
            self.used = 0;
        }
        self.body = self.used;
    }

    /// Gives memory back before a wait of unknown length.
    fn free_buffers(&mut self) {
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        let output = self.machine.output();
        if output.is_empty() {
            *output = Vec::new();
        }
    }
}

/// Reads what the peer still sends until it closes too.
pub(crate) async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut left = LINGER_BYTES;
    let drained = poll_fn(|cx| {
        loop {
            let mut stack = [MaybeUninit::<u8>::uninit(); READ_MAX];
            let mut buffer = ReadBuf::uninit(&mut stack);
            let read = ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer));
            left = left.saturating_sub(buffer.filled().len());
            if read.is_err() || buffer.filled().is_empty() || left == 0 {
                return Poll::Ready(());
            }
        }
    });
    // Waiting for an end that does not come is what the time is for.
    let _ = timeout(LINGER, drained).await;
}
