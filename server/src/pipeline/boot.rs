//! Whether the machine lost power (or was reset) since a server ran here last.
//!
//! Between the rename of a package and the fsync of `incomingdir` lies a window that cannot be closed: a consumer may
//! act on the visible file, and when the power goes in that moment, the file is back in the staging directory at the
//! next start as if nothing had happened. After a crash of the process alone the rename stands. So what is found
//! committed *and* staged after another boot is exactly what the pipeline may have had already.

use std::fs;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Which boot of the machine this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Boot(String);

impl Boot {
    /// As the kernel says. Where it says nothing, every start counts as one after a loss of power.
    pub(super) fn current() -> Self {
        match fs::read_to_string(BOOT_ID) {
            Ok(id) => Self(id.trim().to_owned()),
            Err(error) => {
                tracing::warn!(file = BOOT_ID, %error, "cannot tell a restart from a loss of power");
                Self("unknown".into())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn named(id: &str) -> Self {
        Self(id.into())
    }

    pub(super) fn id(&self) -> &str {
        &self.0
    }

    /// Whether power may have been lost since `last`. A ledger that has not seen a start yet has nothing to lose.
    pub(super) fn is_after_power_loss(&self, last: Option<&str>) -> bool {
        last.is_some_and(|last| last != self.0 || self.0 == "unknown")
    }
}
