//! A node over relay: a connection of its own, made when there is something to do.
//!
//! ```text
//! dialogue   requests and answers
//! fetching   contents that come
//! placing    contents that go
//! ```
//!
//! Constraints, before the design:
//! - The machine lets no more than 64 KiB be under way in either direction, and writes at the rate of its hello: a package
//!   on the connection beside this one waits for no more.
//! - Bytes go in one direction at a time (contents come, or they go), so that no end waits for the other to read.
//! - Nothing that the node says is believed further than what was asked for: an answer of another size than the pair has
//!   is another content.
//! - A small pair takes one turn of a blocking thread, and lies in memory until then; a large one is never held whole.
//! - What takes long is left for the next sync when other sites wait for their turn.

mod dialogue;
mod fetching;
mod placing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_net::Link;
use tidegate_proto::Name;
use tidegate_proto::relay::limits::SHARED_AT_ONCE;
use tidegate_proto::relay::{
    CloseCode, Farewell, Hello, Puller, PullerEvent, Purpose, SharedAnswer, SharedRequest,
};
use tidegate_spool::shared::{Buckets, Seen};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Fetched, Known, Listing, Order, Remote, Reply, Wanted};
use crate::config::Site;
use crate::pull::{Fault, relay};
use crate::shared::objects::Objects;
use crate::shared::turn::{Turn, Turns};
use dialogue::{Dialogue, unasked};

/// Pairs of no more than this go and come as a whole. Larger ones come alone, and are gone on with after a cut.
const SMALL: u64 = SHARED_AT_ONCE;

/// How many buckets are looked into with one request.
const BUCKETS_AT_ONCE: usize = 32;

/// A node over a connection that is open for shared files.
#[derive(Debug)]
pub(in crate::shared) struct Relay<S> {
    dialogue: Dialogue<S>,
    /// `None`: it has not begun.
    turn: Option<Turn>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<S> {
    /// Says hello, and hears whether the node shares its files with this server.
    pub(in crate::shared) async fn open(stream: S, site: &Site, epoch: u64) -> Result<Self, Fault> {
        let rate = site.sync.rate.map(|rate| (rate / relay::SHARED_PART).max(1));
        let hello =
            Hello { standing: false, rate: rate.unwrap_or(0), ..relay::hello(site, Purpose::Shared, epoch) };
        let mut link = Link::new(stream, Puller::new(hello, Duration::ZERO), site.sync.timeout);
        match link.next().await.map_err(|error| relay::fault(&site.name, error))? {
            PullerEvent::Welcome(_) => {
                let dialogue = Dialogue::new(link, &site.name, site.sync.timeout, rate);
                Ok(Self { dialogue, turn: None })
            }
            event => Err(relay::out_of_turn(&event)),
        }
    }

    /// Waits for the site's turn, and gives signs of life meanwhile.
    pub(in crate::shared) async fn turn(&mut self, turns: &Arc<Turns>) -> Result<Turn, Fault> {
        let turn = tokio::select! {
            biased;
            turn = Arc::clone(turns).next() => turn,
            fault = self.dialogue.idle() => return Err(fault),
        };
        Ok(self.turn.insert(turn).clone())
    }

    fn is_over(&self) -> bool {
        self.turn.as_ref().is_some_and(Turn::is_over)
    }

    /// Takes leave.
    pub(in crate::shared) async fn close(self) {
        let mut link = self.dialogue.into_link();
        link.machine().close(Farewell::new(CloseCode::Done, ""));
        link.shutdown().await;
    }

    /// Looks into some buckets.
    async fn look_into(&mut self, group: &[u16], items: &mut BTreeMap<Name, Seen>) -> Result<(), Fault> {
        self.dialogue.ask(SharedRequest::LookInto(group.to_vec())).await?;
        loop {
            let (some, last) = match self.dialogue.answer().await? {
                SharedAnswer::Items { items, last } => (items, last),
                answer => return Err(unasked(&answer)),
            };
            for item in some {
                if group.binary_search(&Buckets::of(item.name.as_bytes())).is_err() {
                    let text = "the node showed a shared file that it was not asked for";
                    return Err(Fault::Site(text.into()));
                }
                let seen = Seen { digest: item.digest, size: item.size, fits: item.fits };
                items.insert(item.name, seen);
            }
            if last {
                return Ok(());
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Remote for Relay<S> {
    async fn list(&mut self, known: &Known) -> Result<Listing, Fault> {
        self.dialogue.ask(SharedRequest::Summary).await?;
        let theirs = match self.dialogue.answer().await? {
            SharedAnswer::Buckets(values) => values,
            answer => return Err(unasked(&answer)),
        };
        let differing = known.there.differing(&theirs).into_iter();
        let is_as_here =
            |bucket: &u16| known.here.values()[usize::from(*bucket)] == theirs[usize::from(*bucket)];
        let (as_here, mut buckets): (Vec<_>, Vec<_>) = differing.partition(is_as_here);
        let (mut items, mut looked) = (BTreeMap::new(), 0);
        for group in buckets.chunks(BUCKETS_AT_ONCE) {
            if looked > 0 && self.is_over() {
                break;
            }
            self.look_into(group, &mut items).await?;
            looked += group.len();
        }
        let more = looked < buckets.len();
        buckets.truncate(looked);
        Ok(Listing { as_here, buckets, items: items.into_iter().collect(), more })
    }

    async fn fetch(
        &mut self,
        objects: &Arc<Objects>,
        wanted: &[Wanted],
        came: &mut Vec<Fetched>,
    ) -> Result<(), Fault> {
        fetching::fetch(&mut self.dialogue, self.turn.as_ref(), objects, wanted, came).await
    }

    async fn carry_out(&mut self, orders: &[Order], replies: &mut Vec<Reply>) -> Result<(), Fault> {
        placing::carry_out(&mut self.dialogue, self.turn.as_ref(), orders, replies).await
    }

    async fn idle(&mut self) -> Fault {
        self.dialogue.idle().await
    }
}

#[cfg(test)]
mod tests;
