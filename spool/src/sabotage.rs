//! Promises that can be broken on purpose, one at a time, to see that the tests notice.
//!
//! A debug build reads `TIDEGATE_SABOTAGE=<switch>` once; both daemons ask here. In a release build the question is a
//! constant `false` and nothing of this is left, not even the variable's name.
//!
//! | switch | what is broken |
//! |---|---|
//! | `skip-file-fsync` | no file's bytes are made durable |
//! | `skip-dir-fsync` | no directory's names are made durable |
//! | `ack-early` | the node says `SEND OK` before the package is stored |
//! | `delete-before-ledger` | the server has packages deleted at a node before its ledger knows them: by `MV`, or by an acknowledgement |
//! | `ledger-normal` | the ledger's transactions are not durable when they return |
//! | `forget-duplicates` | neither end recognises what it already has |
//! | `forget-numbers` | the server does not know which numbers came over relay |
//! | `delete-unacknowledged` | the node deletes what was sent over relay when the connection breaks, acknowledged or not |
//! | `deleted-early` | the node says over relay that packages are gone a while before it deletes them |

/// What can be broken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// No file's bytes are made durable.
    SkipFileFsync,
    /// No directory's names are made durable.
    SkipDirFsync,
    /// The node says `SEND OK` before the package is stored.
    AckEarly,
    /// The server has packages deleted at a node before its ledger knows them.
    DeleteBeforeLedger,
    /// The ledger's transactions are not durable when they return.
    LedgerNormal,
    /// Neither end recognises what it already has.
    ForgetDuplicates,
    /// The server does not know which numbers came over relay.
    ForgetNumbers,
    /// The node deletes what was sent over relay when the connection breaks.
    DeleteUnacknowledged,
    /// The node says over relay that packages are gone a while before it deletes them.
    DeletedEarly,
}

/// Whether this promise is broken.
///
/// # Panics
/// When the environment names a switch that does not exist, lest a test pass by mistake.
#[cfg(debug_assertions)]
pub fn breaks(switch: Switch) -> bool {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<Switch>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("TIDEGATE_SABOTAGE").ok()?;
        Some(match name.as_str() {
            "skip-file-fsync" => Switch::SkipFileFsync,
            "skip-dir-fsync" => Switch::SkipDirFsync,
            "ack-early" => Switch::AckEarly,
            "delete-before-ledger" => Switch::DeleteBeforeLedger,
            "ledger-normal" => Switch::LedgerNormal,
            "forget-duplicates" => Switch::ForgetDuplicates,
            "forget-numbers" => Switch::ForgetNumbers,
            "delete-unacknowledged" => Switch::DeleteUnacknowledged,
            "deleted-early" => Switch::DeletedEarly,
            other => panic!("TIDEGATE_SABOTAGE={other}: there is no such switch"),
        })
    });
    *chosen == Some(switch)
}

/// Never: this is a release build.
#[cfg(not(debug_assertions))]
pub const fn breaks(_: Switch) -> bool {
    false
}
