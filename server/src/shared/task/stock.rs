//! Stock servers: the way to one, and what it may have.

use std::sync::{Mutex, PoisonError};

use tidegate_proto::Name;
use tokio::time::Instant;

use crate::config::Site;
use crate::pull::{Connection, Fault, connect};
use crate::shared::Shared;
use crate::shared::remote::{Candidate, SILENCE, Way, Wire};
use crate::shared::store::StoreError;
use crate::shared::store::pairs::There;

/// The way to a stock server, of which the first connection is made.
pub(super) struct StockWay {
    site: Site,
    /// And when it was made.
    first: Mutex<Option<(Box<dyn Wire>, Instant)>>,
}

impl StockWay {
    pub(super) fn new(site: &Site, first: Box<dyn Wire>) -> Self {
        Self { site: site.clone(), first: Mutex::new(Some((first, Instant::now()))) }
    }
}

impl Way for StockWay {
    async fn open(&self) -> Result<Box<dyn Wire>, Fault> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The site had to wait for its turn: the server may have hung up.
        if let Some((stream, _)) = first.filter(|(_, since)| since.elapsed() < SILENCE) {
            return Ok(stream);
        }
        match connect(&self.site).await? {
            Connection::Plain(stream) => Ok(stream),
            Connection::Tls(stream, _) => Ok(stream),
            Connection::Relay(_) => Err(Fault::Site("it speaks relay by now".into())),
        }
    }
}

/// What a stock server may have of a site's pairs: what is here, or what it had before.
pub(in crate::shared) fn candidates(shared: &Shared, site: &str) -> Result<Vec<Candidate>, StoreError> {
    let pairs = shared.store().pairs(site)?;
    let scope = shared.scope(site)?;
    let here = shared.here();
    let candidate = |text: &[u8]| {
        let name = Name::parse_listed(text).ok()?;
        let of_here = here.get(text).and_then(|seen| Some((seen, here.pair(text)?.file)));
        let there = pairs.get(text).and_then(|pair| pair.there.as_ref()).map(There::seen);
        let of_there = there.map(|there| (there, shared.objects().path(&there.digest)));
        Some(Candidate { name, contents: of_here.into_iter().chain(of_there).collect(), there })
    };
    Ok(scope.names().filter_map(candidate).collect())
}
