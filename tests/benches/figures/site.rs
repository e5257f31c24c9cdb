//! What every figure needs: an authority, a node, a central, and what a process cost.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tidegate_tests::central::Central;
use tidegate_tests::certificates::{Authority, Pair};
use tidegate_tests::node::Node;

/// One address sends everything here, so the limit per address must not be what is measured.
pub(crate) const UNLIMITED: &str = "max_connections_per_address = 10000\n";

/// A node under an authority of its own.
pub(crate) fn node() -> (Authority, Node) {
    let authority = Authority::new();
    let node = Node::start(&authority, UNLIMITED);
    (authority, node)
}

/// An agent that verifies the node and shows a certificate; no resumption, as the stock client has none.
pub(crate) fn agent(authority: &Authority) -> Arc<ClientConfig> {
    let pair = authority.agent("bench");
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&authority.certificate())).expect("the authority is a good root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&pair.certificate)], key(&pair))
        .expect("certificate and key fit");
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn key(pair: &Pair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(&pair.key).unwrap_or_else(|error| panic!("{}: {error}", pair.key.display()))
}

/// CPU seconds a process has used so far, both user and system.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    ticks(pid, 11)
}

/// Seconds of two neighbouring fields of the process's `stat`, counted behind its name.
fn ticks(pid: u32, first: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process runs");
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let fields = after_name.split_ascii_whitespace().skip(first).take(2);
    let ticks: f64 = fields.map(|field| field.parse::<f64>().expect("ticks")).sum();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// CPU seconds of processes that this one started and has seen the end of.
pub(crate) fn cpu_seconds_of_children() -> f64 {
    ticks(std::process::id(), 13)
}

/// One pull of everything, timed from its start to its end: every package in the pipeline's directory, and deleted at its site.
pub(crate) fn pull(central: &Central, files: usize) -> f64 {
    let start = Instant::now();
    let output = central.command(&["pull", "--once"]).output().expect("the sync server starts");
    let seconds = start.elapsed().as_secs_f64();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(count(central.pipeline.directory()), files, "every package arrived");
    seconds
}

/// How many plain files lie in a directory.
pub(crate) fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).expect("the directory is ours");
    entries.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_file())).count()
}

/// Resident memory of a process in KiB.
pub(crate) fn resident_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("VmRSS is a number")
}
