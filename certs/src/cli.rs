//! The command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_net::identity::{Fingerprint, Role};

/// Makes the certificates of a Tidegate installation, and explains what is wrong with others.
///
/// One authority signs three kinds of certificates: `server` for a sync server (it dials, and may pull packages),
/// `node` for a buffer node (it is dialled, so it needs the names or addresses it is dialled by), and `agent` for
/// senders. The kind stands in the certificate as a URI such as tidegate:node/plant-7.
#[derive(Debug, Parser)]
#[command(name = "tidegate-certs", version, after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tidegate-certs init --dir /etc/tidegate/pki --name 'Example Ltd'
  tidegate-certs issue --dir /etc/tidegate/pki server central-1
  tidegate-certs issue --dir /etc/tidegate/pki node plant-7 --ip 10.7.0.5 --dns plant-7.example.org
  tidegate-certs inspect /etc/tidegate/pki/*.pem
  tidegate-certs check --connect 10.7.0.5:41121 --ca ca.pem --cert server-central-1.pem --key server-central-1.key

Exit codes: 0 good, 1 bad or in the way, 64 usage, 69 cannot be reached, 77 permission, 78 a file that cannot be used.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    // Their help is the documentation of the arguments.
    Init(Init),
    Issue(Issue),
    Inspect(Inspect),
    Check(Check),
}

/// Make an authority: ca.pem for every end, ca.key for nobody but you.
///
/// Keep ca.key off the nodes, best on a machine without network: who has it can make itself a sync server.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  tidegate-certs init --dir /etc/tidegate/pki --name 'Example Ltd'")]
pub(crate) struct Init {
    /// Where ca.pem and ca.key go; made if absent.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The organisation, for the authority's name.
    #[arg(long, default_value = "Tidegate")]
    pub(crate) name: String,
    /// How long the authority is valid.
    #[arg(long, default_value_t = 7300, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

/// Make a certificate and its key, signed by the authority.
///
/// Nothing is ever overwritten: to renew, issue to another place with --out and swap the files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate-certs issue --dir /etc/tidegate/pki server central-1
  tidegate-certs issue --dir /etc/tidegate/pki node plant-7 --ip 10.7.0.5 --dns plant-7.example.org
  tidegate-certs issue --dir /etc/tidegate/pki agent web01 --out /root/web01")]
pub(crate) struct Issue {
    /// What the certificate is for.
    #[arg(value_enum)]
    pub(crate) role: Kind,
    /// The holder's name: letters, digits, dot, underscore and hyphen.
    pub(crate) name: String,
    /// The authority's directory.
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// A host name the node is dialled by (repeatable).
    #[arg(long, value_name = "HOST")]
    pub(crate) dns: Vec<String>,
    /// An IP address the node is dialled by (repeatable). Stock clients and servers check the address, not the name.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Vec<IpAddr>,
    /// Write PREFIX.pem and PREFIX.key instead of DIR/ROLE-NAME.pem and .key.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) out: Option<PathBuf>,
    /// How long it is valid; never longer than its authority.
    #[arg(long, default_value_t = 825, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A sync server: dials nodes and may pull packages.
    Server,
    /// A buffer node: is dialled.
    Node,
    /// A sender of data files.
    Agent,
}

impl Kind {
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Server => Role::Server,
            Self::Node => Role::Node,
            Self::Agent => Role::Agent,
        }
    }
}

/// Say in plain words what PEM files hold, what is wrong with it and how to fix it.
///
/// Certificates, private keys of all kinds, certificate requests. Given together, keys are matched with certificates.
/// Exit code 1 if something is bad.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  tidegate-certs inspect /etc/tidegate/node-plant-7.pem /etc/tidegate/node-plant-7.key"
)]
pub(crate) struct Inspect {
    /// The files.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Try a handshake, in memory or for real, and say why it fails.
///
/// --ca, --cert and --key belong to the end that dials (a sync server, an agent). The other end is a real one
/// (--connect), or the files of one (--node-cert, --node-key, --node-ca).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  Would central-1 be let in at plant-7, both ends' files at hand?
    tidegate-certs check --ca ca.pem --cert server-central-1.pem --key server-central-1.key --role server \\
        --node-ca ca.pem --node-cert node-plant-7.pem --node-key node-plant-7.key --address 10.7.0.5
  And for real, over the network:
    tidegate-certs check --connect 10.7.0.5:41121 --ca ca.pem --cert server-central-1.pem --key server-central-1.key
  What certificate does that site have?
    tidegate-certs check --connect 10.7.0.5:41121 --no-verify")]
pub(crate) struct Check {
    /// The authorities that the dialling end trusts.
    #[arg(long)]
    pub(crate) ca: Option<PathBuf>,
    /// The dialling end's certificate.
    #[arg(long, requires = "key")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// The role that the dialling end's certificate must have.
    #[arg(long, value_enum, requires = "cert")]
    pub(crate) role: Option<Kind>,
    /// Dial a real node or Tentacle server: host or host:port, an IPv6 address in brackets.
    #[arg(
        long,
        value_name = "HOST:PORT",
        required_unless_present = "node_cert",
        conflicts_with = "node_cert"
    )]
    pub(crate) connect: Option<String>,
    /// The listening end's certificate.
    #[arg(long, requires = "node_key")]
    pub(crate) node_cert: Option<PathBuf>,
    /// Its key.
    #[arg(long, requires = "node_cert")]
    pub(crate) node_key: Option<PathBuf>,
    /// The authorities that the listening end trusts; without it, it asks for no client certificate.
    #[arg(long, requires = "node_cert")]
    pub(crate) node_ca: Option<PathBuf>,
    /// Expect a certificate for this host name or IP address (default: the host of --connect).
    #[arg(long, value_name = "HOST", group = "expected")]
    pub(crate) address: Option<String>,
    /// Expect the certificate of the node of this name, whatever its address.
    #[arg(long, value_name = "NAME", group = "expected")]
    pub(crate) node: Option<String>,
    /// Expect exactly the certificate with this SHA-256 fingerprint.
    #[arg(long, value_name = "HEX", group = "expected")]
    pub(crate) fingerprint: Option<Fingerprint>,
    /// Expect nothing: take any certificate.
    #[arg(long, group = "expected")]
    pub(crate) no_verify: bool,
}
