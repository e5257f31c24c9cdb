//! Who may list, move and receive data packages.

use std::fmt;
use std::sync::Arc;

use tidegate_net::identity::{Fingerprint, Identity, Role};
use tidegate_net::tls::Peer;
use tokio::task::spawn_blocking;

use crate::node::Node;

/// What a connection may do with data packages. Shared files and sending are everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rights {
    /// List, move and receive.
    Puller,
    /// Nothing, and which check failed.
    None(Lack),
}

/// The check that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    Plain,
    NoCertificate,
    NoIdentity(Fingerprint),
    OtherRole(Identity),
    /// A puller has come by relay, so plain Tentacle gives nothing away: in its words who.
    Relay(String),
}

impl Rights {
    /// The certificate has been verified by the handshake: by the authority, or as one of the pinned.
    pub(crate) fn of(peer: &Peer, insecure: bool) -> Self {
        let server = peer.identity.as_ref().is_some_and(|identity| identity.role() == Role::Server);
        if insecure || peer.pinned || server {
            return Self::Puller;
        }
        Self::None(match (&peer.identity, &peer.fingerprint) {
            (Some(identity), _) => Lack::OtherRole(identity.clone()),
            (None, Some(fingerprint)) => Lack::NoIdentity(*fingerprint),
            (None, None) if peer.tls => Lack::NoCertificate,
            (None, None) => Lack::Plain,
        })
    }
}

impl Rights {
    /// The same over plain Tentacle. It carries no epoch: a puller that was replaced could still delete by it. So once
    /// a puller has come by relay it gives packages to nobody, but where `insecure = true` gives them to everybody.
    pub(crate) async fn over_tentacle(self, node: &Arc<Node>) -> Self {
        if self != Self::Puller || node.insecure {
            return self;
        }
        let asked = node.clone();
        match spawn_blocking(move || asked.pullers.held()).await {
            Ok(Ok(None)) => self,
            Ok(Ok(Some(held))) => Self::None(Lack::Relay(held.to_string())),
            Ok(Err(error)) => Self::None(Lack::Relay(error.to_string())),
            Err(crash) => Self::None(Lack::Relay(crash.to_string())),
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => {
                write!(f, "the connection is plain; a puller comes over TLS with a server certificate")
            }
            Self::NoCertificate => write!(f, "the peer presented no client certificate; a puller needs one"),
            Self::NoIdentity(fingerprint) => write!(
                f,
                "the peer's certificate carries no Tidegate role; issue one with `tidegate-certs issue server`, or add \
                 {fingerprint} to `puller_fingerprints`"
            ),
            Self::OtherRole(identity) => {
                write!(f, "the peer's certificate is {identity}; a puller needs the role server")
            }
            Self::Relay(held) => write!(
                f,
                "packages of this node are pulled by relay ({held}), so plain Tentacle gives none away; to allow it \
                 again: `tidegate-buffer-node epoch reset`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_certificate_and_a_pinned_one_pull_and_others_hear_why_not() {
        let identity = |role| Some(Identity::new(role, "x").expect("a name"));
        let tls = Peer { tls: true, ..Peer::default() };
        let server = Peer { identity: identity(Role::Server), ..tls.clone() };
        let agent = Peer { identity: identity(Role::Agent), ..tls.clone() };
        let pinned = Peer { pinned: true, ..tls.clone() };
        assert_eq!(Rights::of(&server, false), Rights::Puller);
        assert_eq!(Rights::of(&pinned, false), Rights::Puller);
        assert_eq!(Rights::of(&Peer::plain(), true), Rights::Puller);
        assert_eq!(Rights::of(&Peer::plain(), false), Rights::None(Lack::Plain));
        assert_eq!(Rights::of(&tls, false), Rights::None(Lack::NoCertificate));
        let Rights::None(lack) = Rights::of(&agent, false) else { panic!("an agent pulls") };
        assert!(lack.to_string().contains("tidegate:agent/x"), "{lack}");
    }
}
