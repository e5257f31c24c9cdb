//! The command line, with the stock client's letters and its words for what is wrong.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser};
use tidegate_net::tls::{ALPN_TENTACLE, ClientFiles, Verify};
use tidegate_proto::{Packing, PassDigest};

use crate::say::Say;

/// Tentacle client: sends files to a Tentacle server, or gets them with -g.
#[derive(Debug, Parser)]
#[command(name = "tidegate-send", version, disable_help_flag = true)]
struct Arguments {
    /// Server address: IP address or host name.
    #[arg(short = 'a', value_name = "address", default_value = "127.0.0.1")]
    address: String,
    /// Local address to connect from.
    #[arg(short = 'b', value_name = "localaddress")]
    bind: Option<String>,
    /// TLS without a client certificate. Without -f nothing is verified.
    #[arg(short = 'c')]
    tls: bool,
    /// Client certificate (PEM); enables TLS.
    #[arg(short = 'e', value_name = "cert")]
    cert: Option<PathBuf>,
    /// Verify the server's certificate against this authority, and its name against -a.
    #[arg(short = 'f', value_name = "ca")]
    ca: Option<PathBuf>,
    /// Get files from the server.
    #[arg(short = 'g')]
    get: bool,
    /// Show help.
    #[arg(short = 'h', long = "help", action = ArgAction::Help)]
    help: Option<bool>,
    /// Private key of the client certificate (PEM); by default in the certificate's file.
    #[arg(short = 'k', value_name = "key")]
    key: Option<PathBuf>,
    /// Server port.
    #[arg(short = 'p', value_name = "port", default_value = "41121")]
    port: String,
    /// Quiet: no error messages.
    #[arg(short = 'q')]
    quiet: bool,
    /// Number of retries for network operations.
    #[arg(short = 'r', value_name = "number", default_value = "3")]
    retries: String,
    /// Time-out for network operations in seconds, for each retry.
    #[arg(short = 't', value_name = "time", default_value = "1")]
    timeout: String,
    /// Verbose.
    #[arg(short = 'v')]
    verbose: bool,
    /// Server password.
    #[arg(short = 'x', value_name = "pwd")]
    password: Option<String>,
    /// Compress what is sent or got.
    #[arg(short = 'z')]
    compress: bool,
    /// Files to send, or names to get.
    #[arg(value_name = "file")]
    files: Vec<PathBuf>,
}

/// A command line that makes sense.
pub(crate) struct Options {
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) tls: Option<ClientFiles>,
    pub(crate) password: Option<PassDigest>,
    /// The longest silence of the server.
    pub(crate) patience: Duration,
    pub(crate) get: bool,
    pub(crate) packing: Packing,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) say: Say,
}

/// A command line that makes none, or that asks for words only.
#[derive(Debug)]
pub(crate) enum Stop {
    Words(clap::Error),
    Invalid { reason: String, quiet: bool },
}

impl Options {
    pub(crate) fn from_arguments() -> Result<Self, Stop> {
        Self::from_words(std::env::args_os())
    }

    fn from_words(
        words: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
    ) -> Result<Self, Stop> {
        let arguments = Arguments::try_parse_from(words).map_err(Stop::Words)?;
        let quiet = arguments.quiet;
        Self::check(arguments).map_err(|reason| Stop::Invalid { reason, quiet })
    }

    fn check(arguments: Arguments) -> Result<Self, String> {
        let tls = tls(&arguments)?;
        let Arguments { address, port, bind, retries, timeout, files, get, .. } = arguments;
        if address.is_empty() || address.contains(|letter: char| letter.is_whitespace() || letter == '/') {
            return Err(format!("Address {address} is not valid."));
        }
        let bind = match bind {
            Some(bind) => Some(bind.parse().map_err(|_| format!("Local address {bind} is not valid."))?),
            None => None,
        };
        let port_number: u16 = port.parse().map_err(|_| format!("Port {port} is not valid."))?;
        if port_number == 0 {
            return Err(format!("Port {port} is not valid."));
        }
        let retries = positive(&retries).ok_or("Invalid number of retries for network operations.")?;
        let timeout = positive(&timeout).ok_or("Invalid timeout for network operations.")?;
        if files.is_empty() && !get {
            return Err("No files to send.".into());
        }
        let password = arguments.password.filter(|password| !password.is_empty());
        Ok(Self {
            address,
            port: port_number,
            bind,
            tls,
            password: password.map(|password| PassDigest::of(password.as_bytes())),
            // The stock client waits once more than it retries.
            patience: Duration::from_secs(u64::from(timeout) * (u64::from(retries) + 1)),
            get,
            packing: if arguments.compress { Packing::Zip } else { Packing::Plain },
            files,
            say: Say { quiet: arguments.quiet, verbose: arguments.verbose },
        })
    }
}

fn positive(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number > 0)
}

fn tls(arguments: &Arguments) -> Result<Option<ClientFiles>, String> {
    let Arguments { tls, cert, key, ca, address, .. } = arguments;
    if *tls && cert.is_some() {
        return Err("Flags -c and -e can not be used at the same time.".into());
    }
    if !tls && cert.is_none() {
        return match (ca, key) {
            (Some(_), _) => Err("Flag -e or -c must be set to enable peer certificate verify.".into()),
            (None, Some(_)) => Err("Flag -e must be set to use a private key file.".into()),
            (None, None) => Ok(None),
        };
    }
    if key.is_some() && cert.is_none() {
        return Err("Flag -e must be set to use a private key file.".into());
    }
    if let Some(missing) = [cert, key, ca].into_iter().flatten().find(|file| !file.is_file()) {
        return Err(format!("File {} does not exist.", missing.display()));
    }
    Ok(Some(ClientFiles {
        ca: ca.clone(),
        cert: cert.clone(),
        key: key.clone().or_else(|| cert.clone()),
        verify: match ca {
            Some(_) => Verify::Name { expected: address.clone() },
            None => Verify::None,
        },
        protocols: vec![ALPN_TENTACLE],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, String> {
        let words = std::iter::once("tidegate-send").chain(line.split_whitespace());
        Options::from_words(words).map_err(|stop| match stop {
            Stop::Words(words) => words.to_string(),
            Stop::Invalid { reason, .. } => reason,
        })
    }

    #[test]
    fn the_defaults_are_the_stock_clients() {
        let options = options("a.data b.data").expect("options");
        assert_eq!((options.address.as_str(), options.port), ("127.0.0.1", 41121));
        assert_eq!(options.patience, Duration::from_secs(4));
        assert_eq!(options.packing, Packing::Plain);
        assert_eq!(options.files.len(), 2);
        assert!(options.tls.is_none() && options.password.is_none() && !options.get);
    }

    #[test]
    fn what_is_wrong_is_said_in_the_stock_clients_words() {
        for (line, words) in [
            ("", "No files to send."),
            ("-p 0 a", "Port 0 is not valid."),
            ("-p x a", "Port x is not valid."),
            ("-p 65536 a", "Port 65536 is not valid."),
            ("-r 0 a", "Invalid number of retries for network operations."),
            ("-t 1.5 a", "Invalid timeout for network operations."),
            ("-c -e /nonexistent a", "Flags -c and -e can not be used at the same time."),
            ("-e /nonexistent a", "File /nonexistent does not exist."),
            ("-k key a", "Flag -e must be set to use a private key file."),
            ("-f ca a", "must be set to enable peer certificate verify."),
            ("-b host a", "Local address host is not valid."),
        ] {
            let said = options(line).err().unwrap_or_else(|| panic!("{line} is accepted"));
            assert!(said.contains(words), "{line}: {said}");
        }
    }

    #[test]
    fn getting_nothing_is_allowed_as_in_the_stock_client() {
        assert!(options("-g").expect("options").get);
        assert!(options("-c -g x").expect("options").tls.is_some());
        assert_eq!(options("-t 2 -r 1 -z x").expect("options").patience, Duration::from_secs(4));
    }
}
