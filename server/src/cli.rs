//! The command line, and what the process says with its exit code.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
        /// All about this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// What helps when the ledger itself is in trouble.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Says where a file is: which site, how far it got, delivered when and as what, size and digest. Answered from the
    /// ledger, safe beside a running server. Exit code 1: nothing is known of it.
    Find {
        /// A file's name, as the site lists it or as the pipeline got it; or an agent's, for its files
        /// `AGENT.<number>.data` and `AGENT_<number>.data`, newest first.
        #[arg(value_name = "NAME|AGENT")]
        name: OsString,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only of this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// How many are shown; that there are more is said.
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Compares the ledger with the staging directory and, by asking each site for its listing, with the sites; says
    /// what does not add up, what it means and what to do. Changes nothing, safe beside a running server. Exit code
    /// 0: all adds up; 1: something does not; 69: a site could not be asked; 75: the ledger is in use for longer than
    /// a moment; 77: the ledger may not be read by this user.
    Verify {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
        /// Asks no site: only what lies here is compared.
        #[arg(long)]
        offline: bool,
    },
    /// Packages that could not be delivered: what they are, and what becomes of them. Works beside a running server.
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
    /// Files that agents fetch from their node, shared with the sites: what is where, what differs, what was kept. Works
    /// beside a running server.
    Shared {
        #[command(subcommand)]
        command: SharedCommand,
    },
    /// Shows what was lost here or thrown away by an operator, and why.
    Losses {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only of this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Makes a site give its packages to this server and to no other: raises the epoch of its node, and this server's with
    /// it. For a server that stands in for another one, after that one was stopped. Works beside a running server. Exit
    /// code 69: the site could not be asked.
    Takeover {
        /// The site.
        #[arg(long, value_name = "NAME")]
        site: String,
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/tidegate/server.toml")]
        config: PathBuf,
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

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Lists them, oldest first.
    List {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only of this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows all that is known of some: why, since when, which file, and whether its bytes are those received.
    Show(Selection),
    /// Lets the server deliver them again, at the next turn of their site. First remove what kept them back.
    Requeue(Selection),
    /// Throws them away for good, and records the loss. They are lost to the pipeline: needs --yes.
    Purge {
        #[command(flatten)]
        selection: Selection,
        /// Yes, the packages are to be lost.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SharedCommand {
    /// Lists every shared file with its state at its site, as of the last sync, and the versions that are kept.
    List {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only of this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Shows what differs between here, the site, and what both had last; of configurations line by line, where what is
    /// there was fetched.
    Diff {
        /// These files; without any, all that differ.
        #[arg(value_name = "NAME")]
        names: Vec<OsString>,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Only of this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Has what is here placed at a site: lets a withheld file go there, tries a refused one again. What is overwritten or
    /// removed there is kept here, and needs --yes.
    Push {
        /// Main files, as `KEY.conf`, `COLLECTION.zip` or `REFERENCE.rcmd`; a key has 32 digits.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<OsString>,
        /// To this site.
        #[arg(long, value_name = "NAME")]
        site: String,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Yes, what is there is to be overwritten or removed.
        #[arg(long)]
        yes: bool,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Puts a kept version back into the central's directory, from where it goes to its site. What it overwrites here is
    /// kept, and needs --yes.
    Restore {
        /// The number of a kept version, as `list` shows it, or a main file's name for its newest one.
        #[arg(value_name = "KEPT|NAME")]
        which: OsString,
        /// Only of this site.
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Yes, what is here is to be overwritten.
        #[arg(long)]
        yes: bool,
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

impl SharedCommand {
    pub(crate) fn config(&self) -> &Path {
        match self {
            Self::List { config, .. }
            | Self::Diff { config, .. }
            | Self::Push { config, .. }
            | Self::Restore { config, .. } => config,
        }
    }
}

impl QuarantineCommand {
    pub(crate) fn config(&self) -> &Path {
        match self {
            Self::List { config, .. } => config,
            Self::Show(selection) | Self::Requeue(selection) | Self::Purge { selection, .. } => {
                &selection.config
            }
        }
    }
}

/// Which packages in quarantine.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// The name or the number of one, as `list` shows it.
    #[arg(value_name = "NAME|ID", required_unless_present = "all", conflicts_with = "all")]
    pub(crate) which: Option<OsString>,
    /// All of them.
    #[arg(long)]
    pub(crate) all: bool,
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Only of this site.
    #[arg(long, value_name = "NAME")]
    pub(crate) site: Option<String>,
    /// As JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
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

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        Self::ledger(&error)
    }
}

impl Failure {
    /// The ledger cannot be used.
    pub(crate) fn ledger(error: &LedgerError) -> Self {
        let text = error.to_string();
        match error {
            LedgerError::Locked(_) | LedgerError::Unfinished | LedgerError::Older => Self::Temporary(text),
            // A restart mends none of them.
            LedgerError::Newer { .. } | LedgerError::Damaged(_) | LedgerError::ResetUnfinished => {
                Self::Setting(text)
            }
            LedgerError::File { source, .. } => Self::io(text, source),
            LedgerError::Sql(_) if error.is_busy() || error.is_full() => Self::Temporary(text),
            LedgerError::Sql(_) if error.is_barred() => {
                Self::Permission(format!("{text}; run as the user of the service, or mend the permissions"))
            }
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

    /// A file or directory cannot be used.
    pub(crate) fn io(text: String, source: &std::io::Error) -> Self {
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

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn a_ledger_in_use_may_be_tried_again_and_one_of_another_user_may_not() {
        let failure = |code| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            Failure::ledger(&LedgerError::from(error))
        };
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_SNAPSHOT, ffi::SQLITE_LOCKED, ffi::SQLITE_FULL] {
            assert!(matches!(failure(code), Failure::Temporary(_)), "{code}");
        }
        for code in [ffi::SQLITE_CANTOPEN, ffi::SQLITE_READONLY, ffi::SQLITE_PERM] {
            assert!(matches!(failure(code), Failure::Permission(_)), "{code}");
        }
        assert!(matches!(failure(ffi::SQLITE_CORRUPT), Failure::Setting(_)));
        assert!(matches!(failure(ffi::SQLITE_IOERR), Failure::Other(_)));
    }
}
