//! Certificates for the ends, signed by the authority.

use std::fmt::Write;
use std::net::IpAddr;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::DnsName;
use tidegate_net::certificate::Certificate;
use tidegate_net::identity::{Identity, Role};

use crate::authority::{Authority, validity};
use crate::cli::Issue;
use crate::failure::Failure;
use crate::files::Pair;

/// `tidegate-certs issue`.
pub(crate) fn issue(arguments: &Issue, report: &mut String) -> Result<(), Failure> {
    let role = arguments.role.role();
    let identity = Identity::new(role, &arguments.name).map_err(|error| Failure::Usage(error.to_string()))?;
    let names = alternative_names(&identity, arguments)?;
    let authority = Authority::open(&arguments.dir)?;

    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = validity(arguments.days);
    let shortened = params.not_after > authority.not_after;
    params.not_after = params.not_after.min(authority.not_after);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, identity.name());
    params.subject_alt_names = names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose(role)];
    params.use_authority_key_identifier_extension = true;

    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.signed_by(&key, &authority.issuer)?;
    let default = || arguments.dir.join(format!("{role}-{}", identity.name()));
    let pair = Pair::at(&arguments.out.clone().unwrap_or_else(default));
    pair.write(&certificate.pem(), &key.serialize_pem())?;

    let facts = Certificate::read(certificate.der()).map_err(|error| Failure::Bad(error.to_string()))?;
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let until = facts.not_after;
    let _ = writeln!(
        report,
        "made {certificate}: {identity}, valid until {until}, SHA-256 {}",
        facts.fingerprint
    );
    let _ = writeln!(report, "made {key}: its key, readable by its owner only");
    if role != Role::Agent {
        // The user and group of the systemd units.
        let _ = writeln!(
            report,
            "note: where it lies in the end, let the daemon's group read it: chgrp tidegate {key} && chmod 0640 {key}"
        );
    }
    if shortened {
        let _ = writeln!(report, "note: it ends with its authority, sooner than --days {}", arguments.days);
    }
    Ok(())
}

/// A server and an agent dial, a node is dialled: neither can take the other's place.
fn purpose(role: Role) -> ExtendedKeyUsagePurpose {
    match role {
        Role::Node => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Server | Role::Agent => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

fn alternative_names(identity: &Identity, arguments: &Issue) -> Result<Vec<SanType>, Failure> {
    if identity.role() == Role::Node && arguments.dns.is_empty() && arguments.ip.is_empty() {
        return Err(Failure::Usage(
            "a node needs what it is dialled by: --ip ADDRESS, --dns HOST, or several of both; stock clients with -f \
             check the IP address"
                .to_owned(),
        ));
    }
    let mut names = vec![SanType::URI(identity.to_string().try_into()?)];
    for host in &arguments.dns {
        if host.parse::<IpAddr>().is_ok() {
            return Err(Failure::Usage(format!("{host} is an IP address: use --ip {host}")));
        }
        if DnsName::try_from(host.as_str()).is_err() {
            return Err(Failure::Usage(format!("`{}` is not a host name", host.escape_debug())));
        }
        names.push(SanType::DnsName(host.as_str().try_into()?));
    }
    names.extend(arguments.ip.iter().copied().map(SanType::IpAddress));
    Ok(names)
}
