//! Certificates: what `tidegate-certs` issues, and bad ones that it would not.

use std::fs::File;
use std::io::BufReader;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

use crate::binary;
use crate::clock::WallClock;

const QUARTER_OF_A_CENTURY: i64 = 25 * 365 * 86_400;
const CENTURY_DAYS: &str = "36500";

/// An authority in a temporary directory, which lives as long as anybody who holds it.
#[derive(Debug, Clone)]
pub struct Authority {
    directory: Arc<TempDir>,
    /// A clock under which it works, if not the system's.
    clock: Option<Arc<WallClock>>,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Pair {
    /// The chain and the key, for TLS.
    pub(crate) fn read(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let open = |path: &Path| {
            let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            BufReader::new(file)
        };
        let chain =
            rustls_pemfile::certs(&mut open(&self.certificate)).collect::<Result<_, _>>().expect("PEM");
        let key = rustls_pemfile::private_key(&mut open(&self.key)).expect("PEM").expect("a key");
        (chain, key)
    }
}

impl Authority {
    /// `tidegate-certs init`.
    pub fn new() -> Authority {
        let authority = Authority::unmade();
        authority.certs(&["init"], &[]);
        authority
    }

    /// The same, made long ago and valid for a century, as is all that it issues: for clocks that jump.
    pub fn of_a_century() -> Authority {
        let clock = WallClock::new();
        clock.set(-QUARTER_OF_A_CENTURY);
        let authority = Authority { clock: Some(Arc::new(clock)), ..Authority::unmade() };
        authority.certs(&["init"], &["--days", CENTURY_DAYS]);
        authority
    }

    fn unmade() -> Authority {
        let directory = Arc::new(tempfile::tempdir().expect("a temporary directory"));
        Authority { directory, clock: None }
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    /// A node that is reached at these addresses.
    pub fn node(&self, name: &str, addresses: &[Ipv4Addr]) -> Pair {
        let addresses: Vec<String> =
            addresses.iter().flat_map(|ip| ["--ip".into(), ip.to_string()]).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        self.issue("node", name, &addresses)
    }

    /// A sync server.
    pub fn server(&self, name: &str) -> Pair {
        self.issue("server", name, &[])
    }

    /// An agent.
    pub fn agent(&self, name: &str) -> Pair {
        self.issue("agent", name, &[])
    }

    /// A client certificate with any identity (or none) that ran out yesterday (or not), signed by this authority.
    pub fn client(&self, file: &str, identity: Option<&str>, expired: bool) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if let Some(identity) = identity {
            let uri = identity.try_into().expect("an identity is ASCII");
            params.subject_alt_names = vec![SanType::URI(uri)];
        }
        let day = Duration::from_secs(24 * 60 * 60);
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - 3 * day;
        params.not_after = if expired { now - day } else { now + day };

        let read = |name: &str| std::fs::read_to_string(self.path().join(name)).expect("init wrote it");
        let authority_key = KeyPair::from_pem(&read("ca.key")).expect("init wrote a key");
        let issuer =
            Issuer::from_ca_cert_pem(&read("ca.pem"), authority_key).expect("init wrote an authority");
        let key = KeyPair::generate().expect("keys can be made");
        let certificate = params.signed_by(&key, &issuer).expect("the authority signs");
        let pair = self.pair(file);
        std::fs::write(&pair.certificate, certificate.pem()).expect("the directory is ours");
        std::fs::write(&pair.key, key.serialize_pem()).expect("the directory is ours");
        pair
    }

    fn issue(&self, role: &str, name: &str, options: &[&str]) -> Pair {
        let days: &[&str] = if self.clock.is_some() { &["--days", CENTURY_DAYS] } else { &[] };
        self.certs(&["issue"], &[&[role, name], days, options].concat());
        self.pair(&format!("{role}-{name}"))
    }

    fn pair(&self, stem: &str) -> Pair {
        let file = |extension| self.path().join(format!("{stem}.{extension}"));
        Pair { certificate: file("pem"), key: file("key") }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn certs(&self, command: &[&str], arguments: &[&str]) {
        let mut run = Command::new(binary::workspace("tidegate-certs"));
        run.args(command).arg("--dir").arg(self.path()).args(arguments);
        if let Some(clock) = &self.clock {
            run.envs(clock.environment());
        }
        let output = run.output().expect("tidegate-certs starts");
        assert!(output.status.success(), "{run:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Default for Authority {
    fn default() -> Authority {
        Authority::new()
    }
}
