//! Whether the database of a ledger is whole, found out at every start.
//!
//! `integrity_check` reads every page and compares tables with indexes and with their constraints (`quick_check` does
//! not compare, and would miss a flipped bit in a name). It takes 3 s of CPU time for 1,000,000 rows. What it cannot
//! see, a changed value that no index holds, the sums of the rows show: here of all that are open, and of every other
//! when it is read.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use super::package::COLUMNS;
use super::{LedgerError, OPEN, Package};

/// How long a start looks for damage; beyond it (a slow disk, a very long history) it goes on with what the sums of
/// the open rows say, and says so.
const TIME_MAX: Duration = Duration::from_secs(20);

/// Fails with what is damaged.
pub(super) fn whole(db: &Connection) -> Result<(), LedgerError> {
    match integrity(db, TIME_MAX)? {
        Some(finding) if finding == "ok" => {}
        Some(finding) => return Err(LedgerError::Damaged(finding)),
        None => tracing::warn!(
            seconds = TIME_MAX.as_secs(),
            "the ledger is too big to be checked as a whole in time; only what is open was checked"
        ),
    }
    // Row by row: after a long drain many are open.
    let mut query =
        db.prepare(&format!("SELECT {COLUMNS} FROM package WHERE {OPEN} OR state = 'quarantined'"))?;
    let mut rows = query.query_map([], Package::of)?;
    rows.try_for_each(|row| row.map(drop))?;
    Ok(())
}

/// What SQLite finds first; `None` when the time was over before.
fn integrity(db: &Connection, time: Duration) -> Result<Option<String>, LedgerError> {
    let interrupt = db.get_interrupt_handle();
    let (done, over) = channel::<()>();
    let finding = thread::scope(|threads| {
        threads.spawn(move || {
            if over.recv_timeout(time) == Err(RecvTimeoutError::Timeout) {
                interrupt.interrupt();
            }
        });
        let finding = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0));
        drop(done);
        finding
    });
    match finding {
        Ok(finding) => Ok(Some(finding)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
