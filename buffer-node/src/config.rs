//! The configuration file: raw TOML becomes a [`Config`], or everything that is wrong with it at once.
//!
//! Only this module and its children see raw strings. A password becomes its digest right here, so that nothing
//! can print it. The certificates and the directory that it names are looked at, too: what is wrong with them is
//! reported with the rest.

mod classes;
mod on_disk;
mod reader;
mod values;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_net::accept;
use tidegate_net::identity::Fingerprint;
use tidegate_net::tls::ServerFiles;
use tidegate_proto::{BodyRate, PassDigest, ResponderSettings, limits};
use tidegate_spool::Duplicates;

use crate::filters::{self, Filters};
use crate::layout;
use crate::pairs::Pairs;
use on_disk::{Named, NamedTls};
pub(crate) use reader::Problems;
use reader::{Place, Section};

/// IANA's port of Tentacle.
const PORT: u64 = 41121;

/// The most threads a batch may have: more would wait for each other, and every one costs a stack.
const SYNC_THREADS_MAX: u64 = 256;

/// Everything the node was told.
#[derive(Debug)]
pub(crate) struct Config {
    /// The storage root.
    pub(crate) directory: PathBuf,
    pub(crate) listen: Listen,
    /// The certificate and who may present one; absent where TLS is not spoken.
    pub(crate) tls: Option<ServerFiles>,
    /// Plain Tentacle is accepted.
    pub(crate) plain: bool,
    /// Listing and moving without a server role, as a stock server's `-I` allows.
    pub(crate) insecure: bool,
    pub(crate) filters: Filters,
    /// Shared files may be replaced by other bytes.
    pub(crate) overwrite: bool,
    /// What every session insists on.
    pub(crate) session: ResponderSettings,
    /// From accepting a connection to its first byte and, with TLS, to the end of the handshake. Beyond it the
    /// connection closes.
    pub(crate) handshake: Duration,
    /// Bytes of unfinished uploads held in memory, all connections together. Beyond it they go to disk early.
    pub(crate) buffered_bytes: u64,
    pub(crate) spool: tidegate_spool::Settings,
    pub(crate) shared: SharedLimits,
    /// The sync server keeps shared files in step with its own; absent where it may not.
    pub(crate) sync_shared: Option<SyncShared>,
}

/// Where the node listens and how many connections it holds.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Nobody asked for these addresses, so a host without IPv6 is no error.
    pub(crate) by_default: bool,
    pub(crate) limits: accept::Limits,
}

/// The most that shared files may take. Beyond it: `SEND ERR (storage full)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SharedLimits {
    pub(crate) max_bytes: u64,
    pub(crate) max_files: u64,
}

/// What the sync server may do with shared files.
#[derive(Debug, Clone)]
pub(crate) struct SyncShared {
    pub(crate) pairs: Pairs,
    /// The largest that it may place. Beyond it: refused, with a word to the server.
    pub(crate) max_size: u64,
    /// What the file system keeps free. Beyond it: likewise.
    pub(crate) reserve_bytes: u64,
}

impl Config {
    /// Reads and checks a file.
    pub(crate) fn load(file: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| Problems::unreadable(file, &error))?;
        Self::parse(file, &text, on_disk::look)
    }

    /// The storage root alone, for commands that only look: whatever else is wrong with the file, or with what it names,
    /// is no reason not to show what is there.
    pub(crate) fn directory_of(file: &Path) -> Result<PathBuf, Problems> {
        let text = std::fs::read_to_string(file).map_err(|error| Problems::unreadable(file, &error))?;
        let mut problems = Problems::new(file, &text);
        let directory =
            Section::document(&text, &mut problems).take("directory", &mut problems, values::absolute_path);
        match directory {
            Some((directory, _)) => Ok(directory),
            None => {
                problems.add(Place::FILE, "`directory` is missing; write where the node keeps its files");
                problems.or(PathBuf::new())
            }
        }
    }

    /// `look` adds what is wrong with the paths that are named.
    fn parse(file: &Path, text: &str, look: fn(&Named, &mut Problems)) -> Result<Self, Problems> {
        let mut problems = Problems::new(file, text);
        let mut root = Section::document(text, &mut problems);
        let mut named = Named::default();
        let config = Self::read(&mut root, &mut named, &mut problems);
        root.finish(&mut problems);
        look(&named, &mut problems);
        problems.or(config)
    }

    fn read(root: &mut Section<'_>, named: &mut Named, problems: &mut Problems) -> Self {
        named.directory = root.take("directory", problems, values::absolute_path);
        let directory = named.directory.as_ref().map(|(path, _)| path.clone());
        if directory.is_none() && !root.was_given("directory") {
            problems.add(Place::FILE, "`directory` is missing; write where the node keeps its files");
        }
        let directory = directory.unwrap_or_default();
        let session = session(root, problems);
        let (tls, plain) = transport(root, problems);
        let tls = tls.map(|tls| {
            let files = tls.files.clone();
            named.tls = Some(tls);
            files
        });
        let mut section = root.table("limits", problems);
        let handshake =
            section.take_or("handshake", Duration::from_secs(10), problems, values::positive_duration);
        let buffered_bytes = section.take_or("buffered_bytes", 64 << 20, problems, values::size);
        let session = session_limits(session, &mut section, problems);
        section.finish(problems);
        let filters = shared_filters(root, problems);
        let spool = spool(&directory, session.max_size, root, problems);
        let (shared, sync_shared) = shared(&filters, spool.reserve_bytes, root, problems);
        Self {
            listen: listen(root, problems),
            tls,
            plain,
            insecure: root.take_or("insecure", false, problems, values::boolean),
            filters,
            overwrite: root.take_or("overwrite", false, problems, values::boolean),
            handshake,
            buffered_bytes,
            spool,
            shared,
            sync_shared,
            session,
            directory,
        }
    }

    /// What works, but deserves a second look.
    pub(crate) fn warnings(&self) -> Vec<&'static str> {
        let puller = self.tls.as_ref().is_some_and(|tls| tls.ca.is_some() || !tls.pinned.is_empty());
        if self.insecure {
            vec!["`insecure = true`: whoever reaches the port can list, read and delete data packages"]
        } else if !puller {
            vec![
                "nobody can pull: set ssl_cert, ssl_key and ssl_ca, so that a server certificate can be told",
            ]
        } else {
            Vec::new()
        }
    }
}

fn listen(root: &mut Section<'_>, problems: &mut Problems) -> Listen {
    let port = root.take_or("port", PORT, problems, |value| values::number(value, 0, u64::from(u16::MAX)));
    let port = u16::try_from(port).unwrap_or_default();
    let given = root.take("addresses", problems, values::addresses).map(|(addresses, _)| addresses);
    let by_default = given.is_none();
    let addresses: Vec<IpAddr> =
        given.unwrap_or_else(|| vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]);
    let mut connections = |key, default| {
        root.take_or(key, default, problems, |value| values::number(value, 1, 1_000_000)) as usize
    };
    let total = connections("max_connections", 10_000);
    let per_address = connections("max_connections_per_address", 1_000);
    Listen {
        addresses: addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect(),
        by_default,
        limits: accept::Limits { total, per_address },
    }
}

fn session(root: &mut Section<'_>, problems: &mut Problems) -> ResponderSettings {
    let digest = |value: &_| values::text(value).map(|password| PassDigest::of(password.as_bytes()));
    ResponderSettings {
        password: root.take("password", problems, digest).map(|(digest, _)| digest),
        max_size: root.take_or("max_size", limits::MAX_SIZE, problems, values::positive_size),
        ..ResponderSettings::default()
    }
}

fn session_limits(
    session: ResponderSettings,
    section: &mut Section<'_>,
    problems: &mut Problems,
) -> ResponderSettings {
    let rate = session.body_rate;
    ResponderSettings {
        line: section.take_or("line", session.line as u64, problems, line) as usize,
        idle: section.take_or("idle", session.idle, problems, values::positive_duration),
        body_rate: BodyRate {
            bytes_per_second: section.take_or("body_rate", rate.bytes_per_second, problems, values::size),
            window: section.take_or("body_window", rate.window, problems, values::positive_duration),
        },
        ..session
    }
}

/// Shorter lines have no room for the longest name; longer ones only cost memory.
fn line(value: &toml::de::DeValue<'_>) -> Result<u64, String> {
    values::number(value, 256, 65_536)
}

/// The TLS files and whether plain connections are accepted.
fn transport(root: &mut Section<'_>, problems: &mut Problems) -> (Option<NamedTls>, bool) {
    let mut path = |key| root.take(key, problems, values::absolute_path);
    let (cert, key, ca) = (path("ssl_cert"), path("ssl_key"), path("ssl_ca"));
    let (ca, ca_place) = ca.map_or((None, Place::FILE), |(path, place)| (Some(path), place));
    let require = root.take("ssl_require_client_cert", problems, values::boolean);
    let pinned = root.take("puller_fingerprints", problems, fingerprints).map(|(list, _)| list);
    let accepted = root.take("accept", problems, accepted);
    let pinned = pinned.unwrap_or_default();

    let files = match (cert, key) {
        (Some((cert, cert_place)), Some((key, key_place))) => {
            let require_client_cert = require.is_some_and(|(require, _)| require);
            if let Some((true, place)) = require
                && ca.is_none()
                && pinned.is_empty()
            {
                let text = "`ssl_require_client_cert` lacks somebody to accept; set `ssl_ca` or `puller_fingerprints`";
                problems.add(place, text);
            }
            let files = ServerFiles { cert, key, ca, require_client_cert, pinned };
            Some(NamedTls { files, cert: cert_place, key: key_place, ca: ca_place })
        }
        (Some((_, place)), None) => {
            problems.add(place, "`ssl_cert` needs its private key; set `ssl_key`");
            None
        }
        (None, Some((_, place))) => {
            problems.add(place, "`ssl_key` needs its certificate; set `ssl_cert`");
            None
        }
        (None, None) => {
            if ca.is_some() || !pinned.is_empty() {
                let text = "`ssl_ca` and `puller_fingerprints` need TLS; set `ssl_cert` and `ssl_key`";
                problems.add(Place::FILE, text);
            }
            None
        }
    };
    match accepted {
        Some((accepted, place)) => {
            if accepted.contains("tls") && files.is_none() {
                problems.add(place, "`accept` names \"tls\"; set `ssl_cert` and `ssl_key`, or remove it");
            }
            (files.filter(|_| accepted.contains("tls")), accepted.contains("plain"))
        }
        None => (files, true),
    }
}

fn accepted(value: &toml::de::DeValue<'_>) -> Result<BTreeSet<String>, String> {
    let wanted: BTreeSet<String> = values::list(value)?.into_iter().collect();
    match wanted.iter().find(|word| !matches!(word.as_str(), "plain" | "tls")) {
        Some(word) => Err(format!("names {word:?}; write \"plain\", \"tls\" or both")),
        None => Ok(wanted),
    }
}

fn fingerprints(value: &toml::de::DeValue<'_>) -> Result<Vec<Fingerprint>, String> {
    let parse = |text: String| {
        text.parse().map_err(|_| {
            format!(
                "holds {text:?}; write the SHA-256 that `openssl x509 -noout -fingerprint -sha256` prints"
            )
        })
    };
    values::list(value)?.into_iter().map(parse).collect()
}

fn shared_filters(root: &mut Section<'_>, problems: &mut Problems) -> Filters {
    let text = |value: &toml::de::DeValue<'_>| {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| "is no text; write `regexp:dir;regexp:dir`".to_owned())
    };
    let (text, place) =
        root.take("filters", problems, text).unwrap_or((filters::INSTALLED.to_owned(), Place::FILE));
    Filters::parse(&text).unwrap_or_else(|errors| {
        for error in errors {
            problems.add(place, error.to_string());
        }
        Filters::parse("").expect("no filter is a valid filter string")
    })
}

fn spool(
    directory: &Path,
    max_size: u64,
    root: &mut Section<'_>,
    problems: &mut Problems,
) -> tidegate_spool::Settings {
    let mut section = root.table("spool", problems);
    let max_bytes = section.take("max_bytes", problems, values::size);
    if let Some((max_bytes, place)) = max_bytes
        && max_bytes < max_size
    {
        problems.add(place, "`spool.max_bytes` is below `max_size`; the spool must hold at least one file");
    }
    let settings = tidegate_spool::Settings {
        root: layout::spool(directory),
        max_bytes: max_bytes.map_or(20_000_000_000, |(bytes, _)| bytes),
        max_files: section
            .take_or("max_files", 2_000_000, problems, |value| values::number(value, 1, u64::MAX)),
        reserve_bytes: section.take_or("reserve", 500_000_000, problems, values::size),
        duplicates: duplicates(root, problems),
        sync_threads: section.take_or(
            "sync_threads",
            tidegate_spool::SYNC_THREADS as u64,
            problems,
            |value| values::number(value, 1, SYNC_THREADS_MAX),
        ) as usize,
        overflow: classes::overflow(&mut section, root, max_size, problems),
    };
    section.finish(problems);
    settings
}

fn duplicates(root: &mut Section<'_>, problems: &mut Problems) -> Duplicates {
    let default = Duplicates::default();
    let mut section = root.table("duplicates", problems);
    let most = |value: &toml::de::DeValue<'_>| values::number(value, 0, 100_000_000);
    let duplicates = Duplicates {
        timed: section.take_or("timed", default.timed, problems, values::duration),
        other: section.take_or("other", default.other, problems, values::duration),
        max_entries: section.take_or("max_entries", default.max_entries as u64, problems, most) as usize,
    };
    section.finish(problems);
    duplicates
}

/// The limits of shared files, and what the sync server may do with them, if anything.
fn shared(
    filters: &Filters,
    reserve_bytes: u64,
    root: &mut Section<'_>,
    problems: &mut Problems,
) -> (SharedLimits, Option<SyncShared>) {
    let sync = root.take("sync_shared", problems, values::boolean);
    let mut section = root.table("shared", problems);
    let limits = SharedLimits {
        max_bytes: section.take_or("max_bytes", 1_000_000_000, problems, values::size),
        max_files: section
            .take_or("max_files", 100_000, problems, |value| values::number(value, 1, u64::MAX)),
    };
    let max_size = section.take("max_size", problems, values::positive_size);
    section.finish(problems);
    if let Some((max_size, place)) = max_size
        && max_size > limits.max_bytes
    {
        problems.add(
            place,
            "`shared.max_size` is above `shared.max_bytes`; one file must not be larger than all",
        );
    }
    let (is_on, place) = sync.unwrap_or((false, Place::FILE));
    let pairs = Pairs::of(filters);
    if is_on && pairs.is_none() {
        let text =
            "`sync_shared` needs filters for `.md5` and for one of `.conf`, `.zip` and `.rcmd`; add them";
        problems.add(place, text);
    }
    let max_size = max_size.map_or(100_000_000, |(max_size, _)| max_size);
    (limits, pairs.filter(|_| is_on).map(|pairs| SyncShared { pairs, max_size, reserve_bytes }))
}

#[cfg(test)]
mod tests;
