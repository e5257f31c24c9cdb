//! The way to a site by which a further connection comes, and what must be so before it counts.

use tokio_rustls::client::TlsStream;

use super::Kind;
use super::connect::{Connection, connect};
use super::prompt::Prompt;
use super::remote::{Fault, Way};
use super::session::Session;
use crate::config::Site;

/// To a site without TLS.
#[derive(Debug)]
pub(super) struct PlainWay<'a>(pub(super) &'a Site);

/// To a site with TLS, which is what it was when the first connection was made.
#[derive(Debug)]
pub(super) struct TlsWay<'a>(pub(super) &'a Site, pub(super) Kind);

impl Way for PlainWay<'_> {
    type Remote = Session<Prompt>;

    async fn open(&self) -> Result<Self::Remote, Fault> {
        let Connection::Plain(stream) = connect(self.0).await? else { return Err(changed()) };
        let mut session = Session::open(*stream, Kind::Stock, &self.0.sync).await?;
        // The kernel at the other end takes connections for a server that has no slot left. TLS and a password show
        // that there is one.
        if self.0.sync.password.is_none() {
            session.prove().await?;
        }
        Ok(session)
    }
}

impl Way for TlsWay<'_> {
    type Remote = Session<TlsStream<Prompt>>;

    async fn open(&self) -> Result<Self::Remote, Fault> {
        match connect(self.0).await? {
            Connection::Tls(stream, kind) if kind == self.1 => {
                Session::open(*stream, kind, &self.0.sync).await
            }
            _ => Err(changed()),
        }
    }
}

fn changed() -> Fault {
    Fault::Site("the site is another kind of server than a moment ago".into())
}
