//! Throw-away certificates: an authority and what it issues.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    date_time_ymd,
};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: PathBuf,
    pub(crate) ca: PathBuf,
}

/// A certificate and its key, as files.
pub(crate) struct Issued {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signs");
        fs::create_dir_all(directory).expect("makes");
        let ca = directory.join("ca.pem");
        fs::write(&ca, certificate.pem()).expect("writes");
        Self { issuer: Issuer::new(params, key), directory: directory.into(), ca }
    }

    pub(crate) fn node(&self) -> Issued {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.subject_alt_names = vec![uri("node/test"), SanType::IpAddress(IpAddr::from([127, 0, 0, 1]))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue("node", params)
    }

    /// A client certificate; `identity` as in `server/central-1`, or empty for none.
    pub(crate) fn client(&self, file: &str, identity: &str, expired: bool) -> Issued {
        let mut params = CertificateParams::new(vec!["client.example".into()]).expect("parameters");
        if !identity.is_empty() {
            params.subject_alt_names.push(uri(identity));
        }
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(file, params)
    }

    fn issue(&self, file: &str, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs");
        let issued = Issued {
            cert: self.directory.join(format!("{file}.pem")),
            key: self.directory.join(format!("{file}.key")),
        };
        fs::write(&issued.cert, certificate.pem()).expect("writes");
        fs::write(&issued.key, key.serialize_pem()).expect("writes");
        issued
    }
}

fn uri(identity: &str) -> SanType {
    SanType::URI(format!("tidegate:{identity}").try_into().expect("ASCII"))
}
