//! The command line, and what the process says with its exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::log;

/// Tidegate buffer node: accepts agents' files over Tentacle and holds them for the sync server.
#[derive(Debug, Parser)]
#[command(name = "tidegate-buffer-node", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How log lines on stderr look.
        #[arg(long, value_enum, default_value_t)]
        log_format: log::Format,
    },
    /// Checks the configuration and the certificates it names, and says everything that is wrong.
    #[command(short_flag = 't')]
    Validate {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Shows packages that were set aside because they are damaged or no packages, and sends them on their way.
    #[command(subcommand)]
    DeadLetter(DeadLetterCommand),
    /// Shows, or forgets, which sync server this node lets pull.
    ///
    /// A sync server that pulls by relay comes with an epoch, a number that an operator raises by one when another
    /// server takes over (`tidegate-server takeover`). The node remembers the highest one and whose it is, and refuses
    /// everybody who comes with a lower one, so that a server that was replaced can neither read nor delete packages.
    /// From then on packages are given away by relay only, no longer over plain Tentacle.
    #[command(subcommand)]
    Epoch(EpochCommand),
    /// Shows the loss records: what did not get in, or is gone without having been pulled.
    Losses {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum EpochCommand {
    /// Shows the epoch, the sync server that holds it, and since when.
    Show {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Forgets it: the next sync server that comes is accepted, whatever its epoch, and plain Tentacle may pull again.
    ///
    /// For a node whose sync server was set up anew, or that is to be pulled over plain Tentacle again. Make sure first
    /// that no other server still pulls. Works beside a running node, which notices with the next connection.
    Reset {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetterCommand {
    /// Lists them: name, size, times, and what is wrong.
    List {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows one: its digests, where it lies, and what it would be requeued as.
    Show {
        /// As `list` shows it.
        name: String,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Makes packages of them again, with the bytes that they have now.
    Requeue(Selection),
    /// Removes them. What was not recorded as lost before is recorded.
    Purge(Selection),
}

#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// As `list` shows it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub(crate) name: Option<String>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

/// Why the process ends without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong; clap words it.
    #[error("{0}")]
    Usage(clap::Error),
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(String),
    /// Something holds what this process needs; later may work.
    #[error("{0}")]
    Temporary(String),
    /// A file or a port may not be used.
    #[error("{0}")]
    Permission(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// An I/O error with its story, as permission or other failure.
    pub(crate) fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        let text = format!("{what}: {error}");
        match error.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Permission(text),
            _ => Self::Other(text),
        }
    }

    /// The codes of sysexits.h that operators and the units know.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 64,
            Self::Configuration(_) => 78,
            Self::Temporary(_) => 75,
            Self::Permission(_) => 77,
            Self::Other(_) => 1,
        })
    }
}
