//! Shared files over relay: looks, gives and changes for the puller that keeps them in step, one request at a time.
//!
//! Each request is worked on beside the connection, on a thread that may block; the machine reads nothing further
//! meanwhile. What was begun is finished, whoever leaves, and a newer connection waits for that.

mod exchange;

use std::time::Duration;
use std::vec;

use tidegate_net::shutdown::Shutdown;
use tidegate_net::{Link, LinkError};
use tidegate_proto::relay::{
    CloseCode, Farewell, Hello, Node as Machine, NodeEvent, SharedAnswer, SharedItem,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinHandle, spawn_blocking};
use tracing::{debug, info};

use super::pullers::{Place, Predecessor, Rejected};
use super::{Left, SUCCESSION, Visit};
use exchange::{Exchange, Figures, Worked};

/// Items given to the machine at once.
const ITEMS: usize = 1000;

/// Why it is over.
enum End {
    Link(LinkError),
    Epoch(Rejected),
    /// The node stores nothing more.
    Trouble(String),
    Replaced,
    Stopping,
}

/// One connection.
struct Dialogue<'a, S> {
    link: &'a mut Link<S, Machine>,
    place: Place,
    /// Absent while it works.
    exchange: Option<Exchange>,
    working: Option<JoinHandle<(Exchange, Worked)>>,
    /// What is still to be told of an answer.
    items: Option<vec::IntoIter<SharedItem>>,
}

impl Visit<'_> {
    pub(super) async fn shared<S>(
        &self,
        hello: &Hello,
        link: &mut Link<S, Machine>,
        shutdown: &Shutdown,
    ) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if !self.node.shared.is_synced() {
            debug!(peer = %self.from, "a puller asked for shared files; `sync_shared` is off");
            link.machine().refuse(Farewell::new(CloseCode::NotOffered, "the node's `sync_shared` is off"));
            return Left::Bidding;
        }
        let (node, epoch, puller) = (self.node.clone(), hello.epoch, self.puller.clone());
        let taken = spawn_blocking(move || node.pullers.take_shared(epoch, &puller)).await;
        let (accepted, place, before) = match taken {
            Ok(Ok(taken)) => taken,
            Ok(Err(rejected)) => return self.reject(link, epoch, rejected),
            Err(crash) => return self.trouble(link, &crash),
        };
        if let Some(refusal) = turn(&place, before, SUCCESSION).await {
            link.machine().refuse(refusal);
            return Left::Bidding;
        }
        if let Err(crash) = self.greet(link, &accepted).await {
            return self.trouble(link, &crash);
        }
        let exchange = Exchange::new(self.node.clone(), self.from, epoch, self.puller.clone(), place.hold());
        let dialogue = Dialogue { link, place, exchange: Some(exchange), working: None, items: None };
        let (end, figures) = dialogue.run(shutdown).await;
        self.synced(&figures);
        match end {
            End::Link(error) => self.gone(&error),
            End::Epoch(rejected) => self.reject(link, epoch, rejected),
            End::Trouble(why) => self.trouble(link, &why),
            End::Stopping => self.stopping(link),
            End::Replaced => {
                link.machine().close(replaced());
                Left::Bidding
            }
        }
    }

    fn synced(&self, figures: &Figures) {
        let Figures { placed, removed, given, refused, changed } = *figures;
        if placed + removed + given + refused > 0 {
            info!(
                peer = %self.from, puller = %self.puller, placed, removed, given, refused, changed,
                "shared files were synced"
            );
        }
    }
}

/// Waits until the connection before has finished what it works on; or says why this one cannot begin. Two must not place
/// the same file at the same time.
async fn turn(place: &Place, before: Option<Predecessor>, patience: Duration) -> Option<Farewell> {
    let mut before = before?;
    tokio::select! {
        biased;
        () = place.taken() => return Some(replaced()),
        gone = before.gone(patience) => if gone { return None },
    }
    // Whoever comes next waits for it, too.
    let hold = place.hold();
    tokio::spawn(async move {
        before.gone(Duration::MAX).await;
        drop(hold);
    });
    Some(Farewell::new(CloseCode::Busy, "the connection before still works: slow disk? Ask again later"))
}

fn replaced() -> Farewell {
    Farewell::new(CloseCode::Replaced, "a newer connection has taken the shared files")
}

impl<S> Dialogue<'_, S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Answers until something ends it. What was begun is finished when it returns.
    async fn run(mut self, shutdown: &Shutdown) -> (End, Figures) {
        let end = loop {
            self.tell_items();
            tokio::select! {
                biased;
                () = shutdown.draining() => break End::Stopping,
                () = self.place.taken() => break End::Replaced,
                worked = finished(&mut self.working) => match self.worked(worked) {
                    Ok(()) => {}
                    Err(end) => break end,
                },
                event = self.link.next() => match event {
                    Ok(NodeEvent::Shared(request)) => {
                        // The machine gives one at a time.
                        let Some(mut exchange) = self.exchange.take() else { continue };
                        self.working = Some(spawn_blocking(move || {
                            let worked = exchange.work(request);
                            (exchange, worked)
                        }));
                    }
                    Ok(_) => {}
                    Err(error) => break End::Link(error),
                },
            }
        };
        let exchange = match self.working.take() {
            Some(working) => working.await.ok().map(|(exchange, _)| exchange),
            None => self.exchange.take(),
        };
        (end, exchange.map(|exchange| exchange.figures()).unwrap_or_default())
    }

    fn worked(&mut self, worked: Result<(Exchange, Worked), JoinError>) -> Result<(), End> {
        self.working = None;
        let (exchange, worked) = worked.map_err(|crash| End::Trouble(crash.to_string()))?;
        self.exchange = Some(exchange);
        match worked {
            Worked::Answer(answer) => self.link.machine().answer(answer),
            Worked::Items(items) => self.items = Some(items.into_iter()),
            Worked::Rejected(rejected) => return Err(End::Epoch(rejected)),
            Worked::Trouble(why) => return Err(End::Trouble(why)),
        }
        Ok(())
    }

    fn tell_items(&mut self) {
        while let Some(items) = &mut self.items
            && self.link.machine().answer_room()
        {
            let part: Vec<SharedItem> = items.by_ref().take(ITEMS).collect();
            let last = items.as_slice().is_empty();
            self.link.machine().answer(SharedAnswer::Items { items: part, last });
            if last {
                self.items = None;
            }
        }
    }
}

/// Waits for what is being worked on. Never completes without. May be dropped and called again.
async fn finished(
    working: &mut Option<JoinHandle<(Exchange, Worked)>>,
) -> Result<(Exchange, Worked), JoinError> {
    match working {
        Some(working) => working.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pullers;
    use super::*;
    use crate::fatal::Fatal;

    const PUZZLED: &str = "a puller that was accepted before";

    #[tokio::test]
    async fn whoever_comes_while_another_still_works_is_told_to_come_again_and_so_is_the_next() {
        let directory = tempfile::tempdir().expect("a directory");
        let pullers = Pullers::new(directory.path().join("epoch"), Fatal::default());
        let take = || pullers.take_shared(1, "tidegate:server/a").ok().expect(PUZZLED);
        let short = Duration::from_millis(20);
        let (_, first, before) = take();
        assert_eq!(turn(&first, before, short).await, None);
        // On a slow disk.
        let working = first.hold();
        drop(first);
        for _ in 0..2 {
            let (_, next, before) = take();
            let refusal = turn(&next, before, short).await.expect("a refusal");
            assert_eq!(refusal.code, CloseCode::Busy);
        }
        drop(working);
        let (_, last, before) = take();
        assert_eq!(turn(&last, before, Duration::from_secs(60)).await, None);
        let (_, newest, before) = take();
        assert_eq!(turn(&last, before, short).await.map(|farewell| farewell.code), Some(CloseCode::Replaced));
        drop((last, newest));
    }
}
