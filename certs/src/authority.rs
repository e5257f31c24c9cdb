//! The authority: a self-signed certificate that signs the ends', and its key.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use tidegate_net::certificate::{Certificate, Moment};
use tidegate_net::pem;
use time::{Duration, OffsetDateTime};

use crate::cli::Init;
use crate::failure::Failure;
use crate::files::Pair;

/// Validity begins this long ago, for ends whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::days(1);

/// Longest organisation name: what a certificate can hold (RFC 5280, ub-organization-name).
const NAME_MAX: usize = 64;

/// `tidegate-certs init`.
pub(crate) fn init(arguments: &Init, report: &mut String) -> Result<(), Failure> {
    let printable = |c: char| !c.is_control();
    if arguments.name.is_empty() || arguments.name.len() > NAME_MAX || !arguments.name.chars().all(printable)
    {
        return Err(Failure::Usage(format!("--name takes 1 to {NAME_MAX} bytes of printable text")));
    }
    let dir = &arguments.dir;
    fs::create_dir_all(dir)
        .map_err(|error| Failure::file(&format!("cannot make {}", dir.display()), &error))?;
    let pair = Pair::at(&dir.join("ca"));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = parameters(&arguments.name, arguments.days, &key).self_signed(&key)?;
    pair.write(&certificate.pem(), &key.serialize_pem())?;
    let _ = writeln!(
        report,
        "made {}: the authority's certificate, for every end\nmade {}: its key; keep it off the nodes, and safe",
        pair.certificate.display(),
        pair.key.display()
    );
    Ok(())
}

fn parameters(organisation: &str, days: u32, key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(days);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Two authorities of one organisation must not share a name: logs and path builders tell them apart by it.
    let mark: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, format!("Tidegate authority {mark}"));
    params
}

/// From a little in the past until `days` from now.
pub(crate) fn validity(days: u32) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - CLOCK_SKEW, now + Duration::days(days.into()))
}

/// An authority that can sign.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) not_after: OffsetDateTime,
}

impl Authority {
    /// The one that `init` made in this directory.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let pair = Pair::at(&dir.join("ca"));
        if !pair.certificate.exists() {
            return Err(Failure::Configuration(format!(
                "there is no authority in {}; make one with: tidegate-certs init --dir {}",
                dir.display(),
                dir.display()
            )));
        }
        let signer = pem::certified_key(&pair.certificate, &pair.key)?;
        let unusable =
            |problem: &str| Failure::Configuration(format!("{}: {problem}", pair.certificate.display()));
        let facts = Certificate::read(&signer.cert[0]).map_err(|error| unusable(&error.to_string()))?;
        if !facts.authority {
            return Err(unusable("is not an authority's certificate (CA:TRUE)"));
        }
        if facts.not_after < Moment::now() {
            return Err(unusable(&format!(
                "expired on {}; make a new authority in another directory",
                facts.not_after
            )));
        }
        let not_after = OffsetDateTime::from_unix_timestamp(facts.not_after.0)
            .map_err(|_| unusable("ends at an impossible date"))?;
        let issuer = Issuer::from_ca_cert_der(&signer.cert[0], key_pair(&pair.key)?)?;
        Ok(Self { issuer, not_after })
    }
}

fn key_pair(path: &Path) -> Result<KeyPair, Failure> {
    let key = pem::private_key(path)?;
    KeyPair::try_from(&key).map_err(|error| {
        Failure::Configuration(format!(
            "{}: cannot sign with this key ({error}); convert it with: openssl pkcs8 -topk8 -nocrypt -in {} -out NEW",
            path.display(),
            path.display()
        ))
    })
}
