//! Why a connection ended, in words for an operator.

use tidegate_net::LinkError;
use tidegate_proto::Close;
use tidegate_proto::relay::{CloseCode, Farewell};

use super::Fault;

/// The fault that the end of a link is.
pub(crate) fn fault(site: &str, error: LinkError) -> Fault {
    match error {
        LinkError::Closed(Close::Farewell(farewell)) => said(site, &farewell),
        error => Fault::Site(error.to_string()),
    }
}

/// What the node's last words mean here.
fn said(site: &str, farewell: &Farewell) -> Fault {
    let Farewell { code, number, text } = farewell;
    let text = if text.is_empty() { String::new() } else { format!(" ({text})") };
    let takeover = format!("tidegate-server takeover --site {site}");
    match code {
        CloseCode::EpochOfAnother => Fault::Refused(format!(
            "the node gives its packages to another server, under the epoch {number}{text}; its log, and \
             `tidegate-buffer-node epoch show` there, say to which. If this one is to have them: stop the other one, then \
             run `{takeover}`"
        )),
        CloseCode::EpochTooLow => Fault::Refused(format!(
            "the node has been taken over by another server since: its epoch is {number}, that of this server is \
             lower{text}. If this one is to have the packages again: stop the other one, then run `{takeover}`"
        )),
        CloseCode::EpochJump => Fault::Refused(format!(
            "the node's epoch is {number}, and this server's is too far above it{text}: the node, or its directory, \
             may be another one than before. If it is the right one, run `{takeover}` here, or \
             `tidegate-buffer-node epoch reset` there"
        )),
        CloseCode::Replaced => Fault::Refused(format!(
            "a newer connection has taken the stream{text}: either another server has taken the site over, and this \
             one is refused from now on, or a second one runs with this one's certificate; stop one of these, or give each \
             a certificate of its own"
        )),
        CloseCode::NoRights => Fault::Refused(format!(
            "the node gives this server no packages{text}; it wants a certificate with the server role: \
             tidegate-certs issue server NAME"
        )),
        CloseCode::NotOffered => Fault::Refused(format!(
            "the node does not share its files{text}: write `sync_shared = true` at the top of its configuration \
             (tidegate-buffer-node) and start it again, or `sync_shared = false` for the site {site} here"
        )),
        _ => Fault::Site(format!("the node ended the connection: {farewell}")),
    }
}
