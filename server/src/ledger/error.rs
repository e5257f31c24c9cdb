//! Why the ledger cannot be used, and what that means for whoever wanted it.

use rusqlite::ErrorCode;

/// Why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    /// Another process has it.
    #[error(
        "another tidegate-server uses the ledger in {0}. A running server pulls all its sites by itself; to pull by hand, \
         stop it first (systemctl stop tidegate-server). A `quarantine` or `ledger` command is done in a moment: try again"
    )]
    Locked(String),
    /// Written by a later version.
    #[error(
        "the ledger has version {found}, this program knows {known}: install the version that wrote it, or a later one"
    )]
    Newer { found: usize, known: usize },
    /// Its directory or lock file.
    #[error("{what}: {source}")]
    File { what: String, source: std::io::Error },
    /// Something in it cannot be what was written.
    #[error(
        "the ledger is damaged: {0}. Nothing is delivered or deleted any more, the sites keep what they have. Restore \
         the disk's state if it can be had; else `tidegate-server ledger reset --config FILE` says what a new ledger \
         would cost, and makes one"
    )]
    Damaged(String),
    /// Written by an earlier version, which may be running.
    #[error(
        "the ledger is of an earlier version: restart the server first, so that it brings the ledger up to date"
    )]
    Older,
    /// No server runs, and the last one left what only a start can look into.
    #[error("the last server was stopped in the middle of a transaction: start it again first")]
    Unfinished,
    /// Between the old ledger and the new one.
    #[error(
        "`tidegate-server ledger reset` was begun and not ended: run it again (with --yes). It goes on where it was, and \
         nothing that was received is touched meanwhile"
    )]
    ResetUnfinished,
    /// The database.
    #[error("ledger: {0}")]
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error;

        let damaged = match &error {
            Error::SqliteFailure(..) => {
                matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
                )
            }
            Error::FromSqlConversionFailure(_, _, row) => return Self::Damaged(row.to_string()),
            // No such value was ever written.
            Error::InvalidColumnType(..) | Error::IntegralValueOutOfRange(..) | Error::Utf8Error(..) => true,
            _ => false,
        };
        if damaged { Self::Damaged(error.to_string()) } else { Self::Sql(error) }
    }
}

impl LedgerError {
    /// Whether there is no room for it: waiting may help. Nothing was recorded.
    pub(crate) fn is_full(&self) -> bool {
        self.is(ErrorCode::DiskFull)
    }

    /// Whether another process (a command beside the server) has it for longer than a moment. Nothing was recorded.
    pub(crate) fn is_busy(&self) -> bool {
        self.is(ErrorCode::DatabaseBusy) || self.is(ErrorCode::DatabaseLocked)
    }

    /// Whether this user may not use its files.
    pub(crate) fn is_barred(&self) -> bool {
        [ErrorCode::CannotOpen, ErrorCode::ReadOnly, ErrorCode::PermissionDenied]
            .into_iter()
            .any(|code| self.is(code))
    }

    /// Whether a restart would not help either.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_))
    }

    fn is(&self, code: ErrorCode) -> bool {
        matches!(self, Self::Sql(error) if error.sqlite_error_code() == Some(code))
    }
}
