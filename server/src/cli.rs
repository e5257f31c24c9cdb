//! The command line, and what the process says with its exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Problems;
use crate::ledger::LedgerError;
use crate::log;
use crate::pipeline::{OpenError, Trouble};
use crate::staging::StagingError;

/// Tidegate sync server: pulls the buffer nodes of isolated networks into the pipeline.
#[derive(Debug, Parser)]
#[command(name = "tidegate-server", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pulls all sites, again and again, until SIGTERM or SIGINT.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How log lines on stderr look.
        #[arg(long, value_enum, default_value_t)]
        log_format: log::Format,
    },
    /// Pulls once by hand. Exit code 0: all sites; 69: some could not be pulled; 75: stopped, the
    /// pipeline is full, or a server is running.
    Pull {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// One turn, then end. `tidegate-server run` is for more.
        #[arg(long, required = true)]
        once: bool,
        /// Only this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// How log lines on stderr look.
        #[arg(long, value_enum, default_value_t)]
        log_format: log::Format,
    },
    /// Shows what is known about every site; safe beside a running server.
    Status {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// What helps when the ledger itself is in trouble.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Checks the configuration and the files it names, and says everything that is wrong.
    #[command(short_flag = 't')]
    Validate {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LedgerCommand {
    /// Moves a damaged ledger aside and begins a new one, with everything that lies in the staging directory in
    /// quarantine. Says first what that costs.
    Reset {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

/// Why the process ends without success.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(Problems),
    /// What the configuration names does not fit.
    #[error("{0}")]
    Setting(String),
    /// A site cannot be pulled.
    #[error("{0}")]
    Unavailable(String),
    /// Something holds what this process needs; later may work.
    #[error("{0}")]
    Temporary(String),
    /// A file may not be used.
    #[error("{0}")]
    Permission(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The ledger cannot be used.
    pub(crate) fn ledger(error: &LedgerError) -> Self {
        let text = error.to_string();
        match error {
            LedgerError::Locked(_) | LedgerError::Unfinished | LedgerError::Older => Self::Temporary(text),
            // A restart mends neither.
            LedgerError::Newer { .. } | LedgerError::Damaged(_) => Self::Setting(text),
            LedgerError::File { source, .. } => Self::io(text, source),
            LedgerError::Sql(_) => Self::Other(text),
        }
    }

    /// The pipeline cannot be opened.
    pub(crate) fn open(error: &OpenError) -> Self {
        match error {
            OpenError::Ledger(error) => Self::ledger(error),
            OpenError::Staging(error) => Self::staging(error),
            OpenError::Recovery(Trouble::Ledger(error)) if error.is_damage() => Self::ledger(error),
            OpenError::Recovery(_) => Self::Temporary(error.to_string()),
        }
    }

    /// The staging directory cannot be used.
    pub(crate) fn staging(error: &StagingError) -> Self {
        match error {
            StagingError::Io { source, .. } => Self::io(error.to_string(), source),
            _ => Self::Setting(error.to_string()),
        }
    }

    fn io(text: String, source: &std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::PermissionDenied => {
                Self::Permission(format!("{text}; run as the user of the service, or mend the permissions"))
            }
            // A file system that is mounted late is there after a restart.
            std::io::ErrorKind::NotFound => Self::Temporary(text),
            _ => Self::Other(text),
        }
    }

    /// The codes of sysexits.h that operators and the units know.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 64,
            Self::Unavailable(_) => 69,
            Self::Temporary(_) => 75,
            Self::Permission(_) => 77,
            Self::Configuration(_) | Self::Setting(_) => 78,
            Self::Other(_) => 1,
        })
    }
}
