//! The sites: one for every address in `sync_address`, and one for every `[[site]]`, which may differ in any key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use tidegate_net::identity::Fingerprint;
use tidegate_net::tls::{ALPN_RELAY, ALPN_TENTACLE, ClientFiles, Verify};
use tidegate_proto::PassDigest;
use toml::de::DeValue;

use super::reader::{Place, Problems, Section};
use super::shared::SiteShared;
use super::{address, shared, values};
use crate::names::NamePattern;

/// A slower way could not carry the link's own words in time: a typing error.
const RATE_MIN: u64 = 1_000;

/// IANA's port of Tentacle.
const PORT: u16 = 41121;

/// Longest site name; it is shown in tables and log lines.
const NAME_MAX: usize = 64;

/// The most connections to a site: a stock server has 10 slots, and its agents need them.
const CONNECTIONS_MAX: usize = 4;

/// How packages are taken from a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullMode {
    /// As the site allows: over relay where it agrees on that, else as with `Tentacle`.
    Auto,
    /// Over relay, or not at all.
    Relay,
    /// Over Tentacle: a Tidegate node keeps a package until it is delivered, any other site is taken for stock.
    Tentacle,
    /// `MV` alone, as stock sync servers do: half the transfer, and a cut loses what was under way.
    Move,
}

impl PullMode {
    /// What is offered in the TLS handshake. A node takes the first that it has; a stock server knows of none.
    fn protocols(self) -> Vec<&'static [u8]> {
        match self {
            Self::Auto => vec![ALPN_RELAY, ALPN_TENTACLE],
            Self::Relay => vec![ALPN_RELAY],
            Self::Tentacle | Self::Move => vec![ALPN_TENTACLE],
        }
    }
}

/// One isolated network, seen from here.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    /// Its identity in the ledger: another name makes it another site.
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None`: plain Tentacle.
    pub(crate) tls: Option<ClientFiles>,
    pub(crate) sync: SyncKeys,
}

/// What a site inherits from the top of the file unless it says otherwise.
#[derive(Debug, Clone)]
pub(crate) struct SyncKeys {
    port: u16,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    pub(crate) password: Option<PassDigest>,
    /// Failed attempts in a row after which the site is left alone until its next turn.
    pub(crate) retries: u32,
    /// The longest wait for anything.
    pub(crate) timeout: Duration,
    /// From the end of a turn to the next.
    pub(crate) interval: Duration,
    /// The longest time between two turns of a site that fails.
    pub(crate) backoff: Duration,
    /// How long after the body of a stock site's `MV` nothing more may come.
    pub(crate) quiet: Duration,
    /// The most connections to a stock site at once.
    pub(crate) connections: usize,
    pub(crate) mode: PullMode,
    /// Whether a relay connection stays open, so that packages come as they arrive at the site.
    pub(crate) standing: bool,
    /// The most bytes a second that a site sends over relay, as they are on the wire.
    pub(crate) rate: Option<u64>,
    /// Larger files stay at the site.
    pub(crate) max_size: u64,
    pub(crate) names: NamePattern,
    pub(crate) shared: SiteShared,
}

impl Default for SyncKeys {
    fn default() -> Self {
        Self {
            port: PORT,
            ca: None,
            cert: None,
            key: None,
            password: None,
            retries: 3,
            timeout: Duration::from_secs(10),
            interval: Duration::from_secs(10),
            backoff: Duration::from_secs(300),
            quiet: Duration::from_millis(50),
            connections: CONNECTIONS_MAX,
            mode: PullMode::Auto,
            standing: true,
            rate: None,
            max_size: 64_000_000,
            names: NamePattern::parse(NamePattern::DEFAULT)
                .expect("the default pattern is a regular expression"),
            shared: SiteShared::default(),
        }
    }
}

impl Site {
    /// What works, but deserves a second look.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let mut warn = |text: &str| warnings.push(format!("site {}: {text}", self.name));
        match &self.tls {
            None => warn("tls = \"off\": whoever is on the way can read, change and take the data"),
            Some(files) if files.cert.is_none() => {
                warn(
                    "no client certificate is presented: the site gives data to anybody, or will refuse this server",
                );
            }
            Some(_) => {}
        }
        if self.sync.mode == PullMode::Move {
            warn("pull_mode = \"move\": a broken connection or a crash loses the file that is under way");
        }
        warnings
    }
}

/// Reads all sites.
pub(super) fn read(root: &mut Section<'_>, problems: &mut Problems) -> Vec<Site> {
    let base = sync(root, SyncKeys::default(), problems);
    let mut sites = Vec::new();
    if let Some((addresses, place)) = root.take("sync_address", problems, values::list) {
        for text in addresses {
            match address::parse(&text) {
                Ok((host, port)) => {
                    let tls = Some(files(&base, Verify::Name { expected: host.clone() }));
                    let port = port.unwrap_or(base.port);
                    sites.push((Site { name: text, host, port, tls, sync: base.clone() }, place));
                }
                Err(wrong) => problems.add(place, format!("`sync_address` {wrong}")),
            }
        }
    }
    let inherits_missing_ca = !sites.is_empty() && base.ca.is_none();
    if inherits_missing_ca {
        problems.add(
            sites[0].1,
            "`sync_address` needs `sync_ca`, the authority that signed the sites' certificates; for a site with its \
             own certificate use a [[site]] with `pin`, for one without TLS a [[site]] with `tls = \"off\"`",
        );
    }
    for (mut section, place) in root.tables("site", problems) {
        if let Some(site) = one(&mut section, place, &base, problems) {
            sites.push((site, place));
        }
        section.finish(problems);
    }
    if sites.is_empty() {
        problems.or_add(Place::FILE, "no site to pull; write `sync_address`, or a [[site]] table");
    }
    shared::check(&sites, problems);
    let mut names = BTreeSet::new();
    let mut endpoints = BTreeMap::new();
    for (site, place) in &sites {
        // Two tasks would pull one site at the same time, each for its own history: every package twice.
        if let Some(other) = endpoints.insert((address::canonical(&site.host), site.port), &site.name) {
            let text = format!(
                "the sites {other:?} and {:?} have the same address and port, so that every package would come twice; \
                 remove one (also from `sync_address`)",
                site.name
            );
            problems.add(*place, text);
        }
        if !names.insert(site.name.clone()) {
            problems
                .add(*place, format!("a second site is called {:?}; give each its own `name`", site.name));
        }
    }
    sites.into_iter().map(|(site, _)| site).collect()
}

/// Reads a `[[site]]`.
fn one(section: &mut Section<'_>, place: Place, base: &SyncKeys, problems: &mut Problems) -> Option<Site> {
    let mut sync = sync(section, base.clone(), problems);
    sync.shared.read_own(section, problems);
    let name = section.take("name", problems, name).map(|(name, _)| name);
    let parse = |value: &DeValue<'_>| address::parse(&values::text(value)?);
    let address = section.take("address", problems, parse).map(|(address, _)| address);
    let port = section.take("port", problems, port).map(|(port, _)| port);
    let tls =
        section.take_or("tls", true, problems, |value| values::word(value, &[("on", true), ("off", false)]));
    let present = section.take_or("client_cert", true, problems, values::boolean);
    let node = section.take("node", problems, name_of_node);
    let certificate_name = section.take("certificate_name", problems, values::text);
    let pin = section.take("pin", problems, pin);
    let (host, own_port) = address.or_else(|| {
        if !section.was_asked_in_vain("address") {
            problems.add(place, "the site has no `address`; write its host name or IP address");
        }
        None
    })?;
    let mut ways: Vec<(Verify, Place)> = [
        node.map(|(name, place)| (Verify::NodeIdentity(name), place)),
        certificate_name.map(|(expected, place)| (Verify::Name { expected }, place)),
        pin.map(|(pin, place)| (Verify::Pinned(pin), place)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let [_, (_, second), ..] = ways[..] {
        problems.add(
            second,
            "the site is recognised in two ways; keep one of `node`, `certificate_name` and `pin`",
        );
        return None;
    }
    let verify = ways.pop().map_or(Verify::Name { expected: host.clone() }, |(verify, _)| verify);
    if tls && sync.ca.is_none() && !matches!(verify, Verify::Pinned(_)) {
        problems.add(
            place,
            "the site cannot be recognised; write `sync_ca`, or `pin` with the SHA-256 of its certificate, or \
             `tls = \"off\"` if it has none",
        );
    }
    if !tls && sync.mode == PullMode::Relay {
        problems.add(
            place,
            "relay needs TLS, and the site has `tls = \"off\"`; remove that, or write `pull_mode = \"auto\"` for it",
        );
    }
    let is_node = matches!(verify, Verify::NodeIdentity(_));
    if sync.shared.on && tls && is_node && matches!(sync.mode, PullMode::Tentacle | PullMode::Move) {
        problems.add(
            place,
            "`sync_shared` needs relay, and `pull_mode` does not let this node speak it; write `pull_mode = \"auto\"` for \
             it, or `sync_shared = false`",
        );
    }
    let mut files = files(&sync, verify);
    if !present {
        (files.cert, files.key) = (None, None);
    }
    let port = port.or(own_port).unwrap_or(sync.port);
    let name =
        name.unwrap_or_else(|| if port == sync.port { host.clone() } else { format!("{host}:{port}") });
    Some(Site { name, host, port, tls: tls.then_some(files), sync })
}

/// Reads the keys that stand at the top of the file or in a site.
fn sync(section: &mut Section<'_>, base: SyncKeys, problems: &mut Problems) -> SyncKeys {
    let mut path = |key, base: Option<PathBuf>| {
        let given = section.take(key, problems, values::absolute_path);
        let place = given.as_ref().map(|(_, place)| *place);
        (given.map(|(path, _)| path).or(base), place)
    };
    let (ca, _) = path("sync_ca", base.ca);
    let (cert, cert_place) = path("sync_cert", base.cert);
    let (key, key_place) = path("sync_key", base.key);
    match (&cert, &key) {
        (Some(_), None) => {
            problems.add(
                cert_place.unwrap_or(Place::FILE),
                "`sync_cert` needs its private key; write `sync_key`",
            );
        }
        (None, Some(_)) => {
            problems
                .add(key_place.unwrap_or(Place::FILE), "`sync_key` needs its certificate; write `sync_cert`");
        }
        _ => {}
    }
    let retries = |value: &DeValue<'_>| values::number(value, 1, 100).map(|n| u32::try_from(n).unwrap_or(1));
    let pattern = |value: &DeValue<'_>| {
        NamePattern::parse(&values::text(value)?)
            .map_err(|error| format!("is no regular expression: {error}"))
    };
    let connections = |value: &DeValue<'_>| {
        let number = values::number(value, 1, CONNECTIONS_MAX as u64);
        number.map(|number| usize::try_from(number).unwrap_or(CONNECTIONS_MAX))
    };
    const MODES: [(&str, PullMode); 4] = [
        ("auto", PullMode::Auto),
        ("relay", PullMode::Relay),
        ("tentacle", PullMode::Tentacle),
        ("move", PullMode::Move),
    ];
    SyncKeys {
        ca,
        cert,
        key,
        password: password(section, problems).or(base.password),
        port: section.take_or("sync_port", base.port, problems, port),
        retries: section.take_or("sync_retries", base.retries, problems, retries),
        timeout: section.take_or("sync_timeout", base.timeout, problems, values::duration),
        interval: section.take_or("sync_interval", base.interval, problems, values::duration),
        backoff: section.take_or("sync_backoff_max", base.backoff, problems, values::duration),
        quiet: section.take_or("sync_quiet", base.quiet, problems, values::duration),
        connections: section.take_or("sync_connections", base.connections, problems, connections),
        mode: section.take_or("pull_mode", base.mode, problems, |value| values::word(value, &MODES)),
        standing: section.take_or("sync_standing", base.standing, problems, values::boolean),
        rate: section.take("sync_rate", problems, rate).map(|(rate, _)| rate).or(base.rate),
        max_size: section.take_or("max_size", base.max_size, problems, values::size),
        names: section.take_or("names", base.names, problems, pattern),
        shared: SiteShared::read(section, base.shared, problems),
    }
}

/// The password, of which only the digest is kept.
fn password(section: &mut Section<'_>, problems: &mut Problems) -> Option<PassDigest> {
    let digest = |password: &str| PassDigest::of(password.as_bytes());
    let written =
        section.take("sync_password", problems, |value| values::text(value).map(|text| digest(&text)));
    let in_file = section.take("sync_password_file", problems, |value| {
        let path = values::absolute_path(value)?;
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("names {}, which cannot be read: {error}", path.display()))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(format!("names {}, which is empty; write the password into it", path.display())),
            password => Ok(digest(password)),
        }
    });
    if let (Some(_), Some((_, place))) = (&written, &in_file) {
        problems.add(*place, "`sync_password` and `sync_password_file` are both given; remove one");
    }
    written.or(in_file).map(|(digest, _)| digest)
}

fn files(sync: &SyncKeys, verify: Verify) -> ClientFiles {
    ClientFiles {
        ca: sync.ca.clone(),
        cert: sync.cert.clone(),
        key: sync.key.clone(),
        verify,
        protocols: sync.mode.protocols(),
    }
}

fn port(value: &DeValue<'_>) -> Result<u16, String> {
    values::number(value, 1, u64::from(u16::MAX)).map(|port| u16::try_from(port).unwrap_or(PORT))
}

fn rate(value: &DeValue<'_>) -> Result<u64, String> {
    match values::size(value)? {
        rate if rate >= RATE_MIN => Ok(rate),
        rate => {
            Err(format!("is {rate} bytes a second; write at least {RATE_MIN}, or remove it for no limit"))
        }
    }
}

fn name(value: &DeValue<'_>) -> Result<String, String> {
    let name = values::text(value)?;
    if name.chars().count() <= NAME_MAX && !name.chars().any(char::is_control) {
        return Ok(name);
    }
    Err(format!("is too long or holds control characters; write at most {NAME_MAX} printable ones"))
}

fn name_of_node(value: &DeValue<'_>) -> Result<String, String> {
    let name = values::text(value)?;
    match format!("tidegate:node/{name}").parse::<tidegate_net::identity::Identity>() {
        Ok(_) => Ok(name),
        Err(error) => Err(format!("is no node's name: {error}")),
    }
}

fn pin(value: &DeValue<'_>) -> Result<Fingerprint, String> {
    values::text(value)?.parse().map_err(|_| {
        "is no fingerprint; write the SHA-256 that `openssl x509 -noout -fingerprint -sha256 -in FILE` prints".into()
    })
}
