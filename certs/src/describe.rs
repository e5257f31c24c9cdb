//! A certificate in plain words, and what is wrong or unusual about it.

use std::fmt::Write;

use tidegate_net::certificate::{Certificate, Moment, Purposes};
use tidegate_net::identity::Role;

/// Fewer days left than this are worth a word.
const SOON_DAYS: i64 = 30;

/// Signature algorithms made with SHA-1 or MD5, which nobody should trust: object identifiers.
const BROKEN_SIGNATURES: [&str; 3] = ["1.2.840.113549.1.1.4", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"];

/// Something to say about a file or certificate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It will not work, or not safely.
    Bad(String),
    /// Worth knowing.
    Note(String),
}

/// The facts, one a line.
pub(crate) fn facts(certificate: &Certificate, report: &mut String) {
    let c = certificate;
    let mut line = |label: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(report, "    {label:<12} {value}");
    };
    match &c.identity {
        Ok(Some(identity)) => line("identity", identity),
        Ok(None) => line("identity", &"none"),
        Err(error) => line("identity", error),
    }
    line("subject", &c.subject);
    line("issuer", &format!("{}{}", c.issuer, if c.self_issued { " (itself)" } else { "" }));
    line("names", &names(c));
    line("usable for", &uses(c));
    let left = Moment::now().days_until(c.not_after);
    let left = if left < 0 { format!("expired {} days ago", -left) } else { format!("{left} days left") };
    line("valid", &format!("{} to {}, {left}", c.not_before, c.not_after));
    line("key", &c.key);
    line("SHA-256", &c.fingerprint);
}

fn names(c: &Certificate) -> String {
    let dns = c.dns_names.iter().map(|name| format!("DNS {name}"));
    let ip = c.ip_addresses.iter().map(|address| format!("IP {address}"));
    let uris = c.uris.iter().map(|uri| format!("URI {uri}"));
    let names: Vec<String> = dns.chain(ip).chain(uris).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn uses(c: &Certificate) -> &'static str {
    match c.purposes {
        _ if c.authority => "signing certificates (an authority)",
        None => "anything (it has no extended key usage)",
        Some(Purposes { server: true, client: true }) => "listening and dialling",
        Some(Purposes { server: true, client: false }) => "listening (a node)",
        Some(Purposes { server: false, client: true }) => "dialling (a sync server or an agent)",
        Some(Purposes { server: false, client: false }) => "neither end of TLS",
    }
}

/// What is bad or unusual, with the way out.
pub(crate) fn findings(c: &Certificate) -> Vec<Finding> {
    let mut found = Vec::new();
    validity(c, &mut found);
    keys(c, &mut found);
    if c.version < 3 {
        found.push(Finding::Bad(format!(
            "it is X.509 v{}: without names and usages it can only be pinned by its fingerprint; {}",
            c.version,
            reissue(c)
        )));
    } else if c.authority {
        found.push(Finding::Note(
            "as an authority it belongs into CA files (ca, sync_ca, ssl_ca); an end that presents it is refused, \
             unless the other end pins its fingerprint"
                .to_owned(),
        ));
    } else {
        end(c, &mut found);
    }
    found
}

fn validity(c: &Certificate, found: &mut Vec<Finding>) {
    let now = Moment::now();
    let left = now.days_until(c.not_after);
    if c.not_after < now {
        found.push(Finding::Bad(format!("it expired on {}; {}", c.not_after, reissue(c))));
    } else if left < SOON_DAYS {
        found.push(Finding::Note(format!("it expires in {left} days; {}", reissue(c))));
    }
    if c.not_before > now {
        found.push(Finding::Bad(format!(
            "it is not valid before {}, and this clock says {now}; if the clock is right, {}",
            c.not_before,
            reissue(c)
        )));
    }
}

fn keys(c: &Certificate, found: &mut Vec<Finding>) {
    if !c.key.is_usable() {
        found.push(Finding::Bad(format!(
            "its key ({}) cannot be used: ECDSA P-256 and P-384, Ed25519 and RSA from 2048 bits can; {}",
            c.key,
            reissue(c)
        )));
    }
    if BROKEN_SIGNATURES.contains(&c.signature_algorithm.as_str()) && !c.self_issued {
        found.push(Finding::Bad(format!("it is signed with SHA-1 or MD5, which is refused; {}", reissue(c))));
    }
}

/// What matters for a certificate that an end presents.
fn end(c: &Certificate, found: &mut Vec<Finding>) {
    let nameless = c.dns_names.is_empty() && c.ip_addresses.is_empty();
    match &c.identity {
        Err(error) => found.push(Finding::Bad(format!("{error}; {}", reissue(c)))),
        Ok(Some(identity)) => {
            let listens = identity.role() == Role::Node;
            let fits =
                c.purposes.is_none_or(|purposes| if listens { purposes.server } else { purposes.client });
            if !fits {
                found.push(Finding::Bad(format!(
                    "its extended key usage does not fit the role {}; {}",
                    identity.role(),
                    reissue(c)
                )));
            }
            if listens && nameless {
                found.push(Finding::Bad(format!("a node without DNS name or IP address; {}", reissue(c))));
            }
        }
        Ok(None) => {
            found.push(Finding::Note(
                "without a tidegate: identity its holder is no sync server: it may send, and pull only where its \
                 fingerprint is pinned"
                    .to_owned(),
            ));
            if nameless && c.purposes.is_none_or(|purposes| purposes.server) {
                found.push(Finding::Note(format!(
                    "without a subject alternative name nobody can verify it as a node's; the common name does not \
                     count; {}",
                    reissue(c)
                )));
            }
        }
    }
}

/// The command that makes a better one.
fn reissue(c: &Certificate) -> String {
    let whom = match &c.identity {
        _ if c.authority => return "make another authority: tidegate-certs init --dir NEW".to_owned(),
        Ok(Some(identity)) if identity.role() == Role::Node => {
            format!("node {}{}", identity.name(), addresses(c))
        }
        Ok(Some(identity)) => format!("{} {}", identity.role(), identity.name()),
        _ => "server NAME, node NAME --ip ADDRESS or agent NAME".to_owned(),
    };
    format!("issue a new one: tidegate-certs issue --dir PKI --out PREFIX {whom}")
}

fn addresses(c: &Certificate) -> String {
    let dns = c.dns_names.iter().map(|name| format!(" --dns {name}"));
    let ip = c.ip_addresses.iter().map(|address| format!(" --ip {address}"));
    let all: String = dns.chain(ip).collect();
    if all.is_empty() { " --ip ADDRESS".to_owned() } else { all }
}
