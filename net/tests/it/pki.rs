//! Certificates for tests, good and bad, as files in a temporary directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};
use tidegate_net::identity::Fingerprint;
use tidegate_net::pem;

/// A directory of files that is removed at the end.
pub(crate) struct Pki {
    pub(crate) dir: tempfile::TempDir,
    authorities: Vec<(CertificateParams, KeyPair)>,
}

/// A certificate file and its key file.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Pair {
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&pem::certificates(&self.cert).unwrap()[0])
    }
}

impl Pki {
    /// Two authorities, `ca0.pem` and `ca1.pem`.
    pub(crate) fn new() -> Self {
        let mut pki = Self { dir: tempfile::tempdir().unwrap(), authorities: Vec::new() };
        for name in ["ca0", "ca1"] {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            let key = KeyPair::generate().unwrap();
            fs::write(pki.path(&format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
            pki.authorities.push((params, key));
        }
        pki
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca0.pem")
    }

    /// A node's certificate: identity, `localhost`, 127.0.0.1, serverAuth.
    pub(crate) fn node(&self) -> Pair {
        self.issue("node", 0, |params| {
            name(params, "tidegate:node/plant-7");
            params.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()));
            params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        })
    }

    /// A sync server's certificate.
    pub(crate) fn server(&self) -> Pair {
        self.issue("server", 0, |params| {
            name(params, "tidegate:server/central-1");
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        })
    }

    /// A certificate of the numbered authority, as `change` makes it.
    pub(crate) fn issue(
        &self,
        prefix: &str,
        authority: usize,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, prefix);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let (issuer, signer) = &self.authorities[authority];
        let certificate = params.signed_by(&key, &Issuer::from_params(issuer, signer)).unwrap();
        let pair =
            Pair { cert: self.path(&format!("{prefix}.pem")), key: self.path(&format!("{prefix}.key")) };
        fs::write(&pair.cert, certificate.pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// A self-signed X.509 v1 certificate with an RSA key, as old recipes make them.
    pub(crate) fn version_1(&self) -> Pair {
        let pair = Pair { cert: self.path("v1.pem"), key: self.path("v1.key") };
        openssl(self.dir.path(), "genrsa -out v1.key 2048");
        openssl(self.dir.path(), "req -new -key v1.key -subj /CN=old -out v1.csr");
        openssl(self.dir.path(), "x509 -req -in v1.csr -signkey v1.key -days 30 -out v1.pem");
        pair
    }
}

/// Gives a certificate a URI.
pub(crate) fn name(params: &mut CertificateParams, uri: &str) {
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
}

/// Makes a certificate one of the past.
pub(crate) fn expired(params: &mut CertificateParams) {
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2021, 2, 3);
}

/// Runs `openssl` with arguments that hold no blanks.
pub(crate) fn openssl(dir: &Path, arguments: &str) -> String {
    let mut command = Command::new("openssl");
    let output = command.args(arguments.split(' ')).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
