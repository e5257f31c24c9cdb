//! One connection, from its first command to its end: asks the protocol machine what happened, lets `intake` and
//! `handover` do it, and answers. Here are decided rights and replies; bytes and files are others' work.

use std::net::SocketAddr;
use std::sync::Arc;

use tidegate_net::shutdown::Shutdown;
use tidegate_net::{Link, LinkError};
use tidegate_proto::{Close, Escaped, Name, Packing, Reason, Responder, ResponderEvent, Time, Verb};
use tidegate_spool::Lease;
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, error};

use crate::committer::StoreError;
use crate::filters;
use crate::handover::{HandoverError, Source};
use crate::intake::{IntakeError, Outcome, Upload};
use crate::node::Node;
use crate::report::Report;
use crate::rights::{Lack, Rights};
use crate::shared::Reading;

/// Serves a connection until it ends, or until the node stops and nothing is in flight on it.
pub(crate) async fn serve<S>(
    node: Arc<Node>,
    stream: S,
    peer: SocketAddr,
    rights: Rights,
    shutdown: &Shutdown,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let machine = Responder::new(node.session.clone(), Time::ZERO);
    let link = Link::new(stream, machine, node.session.idle);
    let report = Report::new(node.clone(), peer);
    // Seen before the look at what is remembered, so that a puller that comes after that look is noticed.
    let relay_before = node.pullers.accepted();
    let rights = rights.over_tentacle(&node).await;
    let mut session = Session { node, link, report, rights, relay_before, given: None, work: Work::Nothing };
    let end = session.run(shutdown).await;
    session.log_end(&end);
    // Whoever sees the connection closed finds no draft and no claim of it left.
    session.work = Work::Nothing;
    if !matches!(end, End::Link(LinkError::Io(_) | LinkError::Stalled)) {
        session.link.shutdown().await;
    }
}

struct Session<S> {
    node: Arc<Node>,
    link: Link<S, Responder>,
    report: Report,
    rights: Rights,
    /// A shared file that was sent; the peer's next word proves that it read it.
    given: Option<Reading>,
    /// Pullers that had come by relay when the session began.
    relay_before: u64,
    work: Work,
}

/// What is in flight.
enum Work {
    Nothing,
    /// A body is arriving.
    Receiving(Box<Upload>),
    /// A body is arriving that cannot be kept: it is read to its end, where the protocol has words for it.
    Spoilt {
        name: Name,
        size: u64,
        packing: Packing,
        error: IntakeError,
    },
    /// A body was announced; with a lease, it is a package to be moved.
    Sending(Source, Option<Lease>),
    /// A moved package was sent; it goes when the peer has proved that it read it.
    Moved(Lease),
}

impl Work {
    /// The file that is arriving.
    fn name(&self) -> Option<&[u8]> {
        match self {
            Self::Receiving(upload) => Some(upload.name().as_bytes()),
            Self::Spoilt { name, .. } => Some(name.as_bytes()),
            Self::Nothing | Self::Sending(..) | Self::Moved(_) => None,
        }
    }
}

/// Why a session is over.
enum End {
    Link(LinkError),
    /// A body could not go on: too late for a refusal.
    Handover(HandoverError),
    /// A moved package is still there: an answer would tell the puller that it is gone.
    Deletion(StoreError),
    Stopping,
}

impl From<LinkError> for End {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl<S> Session<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    async fn run(&mut self, shutdown: &Shutdown) -> End {
        loop {
            let idle = matches!(self.work, Work::Nothing);
            let event = tokio::select! {
                biased;
                () = shutdown.draining(), if idle => return End::Stopping,
                event = self.link.next() => event,
            };
            let handled = match event {
                Ok(event) => self.handle(event).await,
                Err(error) => Err(error.into()),
            };
            if let Err(end) = handled {
                return end;
            }
        }
    }

    async fn handle(&mut self, event: ResponderEvent) -> Result<(), End> {
        if let Some(given) = self.given.take() {
            self.node.shared.was_read(&given);
        }
        match event {
            ResponderEvent::Refused { verb, name, size, reason } => {
                let why = reason.text(verb).unwrap_or("not an acceptable request");
                self.report.refused(verb, &name, &why);
                self.report.lost_offer(verb, &name, size, reason);
            }
            ResponderEvent::Offer { name, size, packing } => self.offer(name, size, packing).await,
            ResponderEvent::Body => self.body().await,
            ResponderEvent::BodyEnd => self.body_end().await,
            ResponderEvent::Fetch { name, packing } => self.fetch(name, packing).await,
            ResponderEvent::List { filter } => self.list(&filter).await,
            ResponderEvent::Move { name } => self.move_package(name).await,
            ResponderEvent::Proceed => self.send().await?,
            ResponderEvent::Declined => self.work = Work::Nothing,
            ResponderEvent::Released => self.delete_moved().await?,
            ResponderEvent::Quit => {}
        }
        Ok(())
    }

    async fn offer(&mut self, name: Name, size: u64, packing: Packing) {
        match Upload::begin(&self.node, name.clone(), size, packing).await {
            Ok(upload) => {
                self.work = Work::Receiving(Box::new(upload));
                let now = self.link.now();
                self.link.machine().accept(now);
            }
            Err(error) => self.refuse_upload(&name, size, packing, &error),
        }
    }

    async fn body(&mut self) {
        let Work::Receiving(upload) = &mut self.work else { return };
        let room = upload.make_room(&self.node, self.link.chunk().len() as u64).await;
        let kept = match room.and_then(|()| upload.hold(self.link.chunk())) {
            Ok(true) => Ok(()),
            Ok(false) => upload.write_out(self.link.chunk().to_vec()).await,
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            let (name, size, packing) = (upload.name().clone(), upload.size(), upload.packing());
            self.work = Work::Spoilt { name, size, packing, error };
        }
    }

    async fn body_end(&mut self) {
        let (name, size, packing, finished) = match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Receiving(upload) => {
                let (name, size, packing) = (upload.name().clone(), upload.size(), upload.packing());
                (name, size, packing, upload.finish(&self.node).await)
            }
            Work::Spoilt { name, size, packing, error } => (name, size, packing, Err(error)),
            Work::Nothing | Work::Sending(..) | Work::Moved(_) => return,
        };
        match finished {
            Ok(outcome) => {
                let now = self.link.now();
                self.link.machine().confirm(now);
                if let Some(directory) = self.node.filters.directory_of(name.as_bytes())
                    && filters::is_data_name(name.as_bytes())
                {
                    self.report.data_kept_as_shared(name.as_bytes(), directory);
                }
                let repeat = matches!(outcome, Outcome::Repeat);
                debug!(peer = %self.report.peer, %name, repeat, "stored");
            }
            Err(error) => self.refuse_upload(&name, size, packing, &error),
        }
    }

    async fn fetch(&mut self, name: Name, packing: Packing) {
        let verb = match packing {
            Packing::Plain => Verb::Recv,
            Packing::Zip => Verb::ZRecv,
        };
        let node = self.node.clone();
        let shown = name.as_bytes().to_vec();
        let source = match node.filters.directory_of(name.as_bytes()) {
            Some(directory) if !self.is_held_for_puller(&shown) => {
                Source::shared(&node, directory, name, packing).await
            }
            _ if self.may_pull(verb, &shown) => Source::package(&node, name, packing).await,
            _ => return self.refuse(Reason::NotFound),
        };
        match source {
            Ok(source) => self.announce(source, None),
            Err(error) => {
                self.report.not_given(verb, &shown, &error);
                self.refuse(error.reason());
            }
        }
    }

    async fn list(&mut self, filter: &[u8]) {
        if !self.may_pull(Verb::Ls, filter) {
            return self.refuse(Reason::Bare);
        }
        let node = self.node.clone();
        match Source::listing(&node, node.filters.directory_of(filter)).await {
            Ok(source) => self.announce(source, None),
            Err(error) => {
                self.report.not_given(Verb::Ls, filter, &error);
                self.refuse(Reason::Bare);
            }
        }
    }

    async fn move_package(&mut self, name: Name) {
        let shown = name.as_bytes().to_vec();
        if !self.may_pull(Verb::Mv, &shown) {
            return self.refuse(Reason::Bare);
        }
        if self.node.filters.directory_of(&shown).is_some() && !self.is_held_for_puller(&shown) {
            self.report.refused(Verb::Mv, &shown, &"shared files stay on the node; RECV reads them");
            return self.refuse(Reason::Bare);
        }
        match Source::leased(&self.node, name).await {
            Ok((source, lease)) => self.announce(source, Some(lease)),
            Err(error) => {
                self.report.not_given(Verb::Mv, &shown, &error);
                self.refuse(Reason::Bare);
            }
        }
    }

    fn announce(&mut self, source: Source, lease: Option<Lease>) {
        let now = self.link.now();
        self.link.machine().announce(source.size(), now);
        self.work = Work::Sending(source, lease);
    }

    /// Sends the announced body, at the pace at which the peer takes it.
    async fn send(&mut self) -> Result<(), End> {
        let Work::Sending(source, _) = &mut self.work else { return Ok(()) };
        loop {
            let chunk = source.chunk().await.map_err(End::Handover)?;
            if chunk.is_empty() {
                break;
            }
            let now = self.link.now();
            self.link.machine().write_body(&chunk, now);
            self.link.flush().await?;
        }
        self.work = match std::mem::replace(&mut self.work, Work::Nothing) {
            Work::Sending(_, Some(lease)) => Work::Moved(lease),
            Work::Sending(mut source, None) if self.is_agent() => {
                self.given = source.reading();
                Work::Nothing
            }
            _ => Work::Nothing,
        };
        Ok(())
    }

    /// Deletes the package whose body the peer has read. That the session goes on proves the deletion to the peer.
    async fn delete_moved(&mut self) -> Result<(), End> {
        if let Work::Moved(lease) = std::mem::replace(&mut self.work, Work::Nothing) {
            let (name, size) = (lease.package().listed_name.clone(), lease.package().size);
            if let Err(error) = self.node.committer.delete(lease).await {
                error!(name = %Escaped(&name), %error, "a moved package could not be deleted, it stays");
                return Err(End::Deletion(error));
            }
            self.node.totals.deleted(1, size);
            debug!(peer = %self.report.peer, name = %Escaped(&name), "moved and deleted");
        }
        let now = self.link.now();
        self.link.machine().released(now);
        Ok(())
    }

    /// Whether the peer may be an agent: with `insecure` nobody can tell.
    fn is_agent(&self) -> bool {
        self.node.insecure || self.rights != Rights::Puller
    }

    /// Whether the peer has a puller's rights; otherwise the log says which check failed.
    fn may_pull(&self, verb: Verb, name: &[u8]) -> bool {
        match &self.rights {
            Rights::Puller if self.node.insecure || self.node.pullers.accepted() == self.relay_before => true,
            Rights::Puller => {
                self.report.refused(verb, name, &Lack::Relay("a puller came by relay meanwhile".into()));
                false
            }
            Rights::None(lack) => {
                self.report.refused(verb, name, lack);
                false
            }
        }
    }

    /// Whether the peer is a puller and this is a package. What was taken as data stays data for its puller, also when
    /// the filters have changed since.
    fn is_held_for_puller(&self, name: &[u8]) -> bool {
        self.rights == Rights::Puller && self.node.spool.find(name).is_some()
    }

    fn refuse(&mut self, reason: Reason) {
        let now = self.link.now();
        self.link.machine().refuse(reason, now);
    }

    fn refuse_upload(&mut self, name: &Name, size: u64, packing: Packing, error: &IntakeError) {
        let verb = match packing {
            Packing::Plain => Verb::Send,
            Packing::Zip => Verb::ZSend,
        };
        self.report.not_taken(verb, name.as_bytes(), size, error);
        self.refuse(error.reason());
    }

    fn log_end(&self, end: &End) {
        let peer = self.report.peer;
        let reason: &dyn std::fmt::Display = match end {
            End::Stopping => return debug!(%peer, reason = "the node is stopping", "closed"),
            End::Link(LinkError::Closed(close)) if close.is_clean() => {
                return debug!(%peer, reason = %close, "closed");
            }
            End::Link(error) => error,
            End::Handover(error) => error,
            End::Deletion(error) => error,
        };
        if let Work::Moved(lease) | Work::Sending(_, Some(lease)) = &self.work {
            return self.report.moved_package_stays(&lease.package().listed_name, reason);
        }
        if matches!(end, End::Link(LinkError::Closed(Close::Idle))) {
            return self.report.idle(reason);
        }
        self.report.broken_off(self.work.name(), reason);
    }
}
