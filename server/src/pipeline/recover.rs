//! What a start finds, and finishes.
//!
//! | staged file | ledger | it was | so |
//! |---|---|---|---|
//! | there | no row | not recorded; the site still has it | it is removed |
//! | there | held | received, its deletion not proven | it stays; the site's next listing decides |
//! | there | committed | about to be handed over | it is handed over |
//! | gone | committed | handed over, perhaps consumed | it counts as delivered |
//! | gone | held | taken away by somebody | said aloud; the site may still have it |

use super::{Pipeline, Trouble, staged_names};
use crate::ledger::State;

impl Pipeline {
    pub(super) fn recover(&self) -> Result<(), Trouble> {
        let packages = self.ledger.staged_packages()?;
        let swept = self
            .staging
            .sweep(&staged_names(&packages))
            .map_err(Trouble::io("cannot clean the staging directory"))?;
        let (held, committed): (Vec<_>, Vec<_>) =
            packages.into_iter().partition(|package| package.state == State::Held);
        let missing: Vec<_> =
            held.iter().filter(|package| !self.staging.path(&package.staged).exists()).collect();
        for package in &missing {
            tracing::error!(
                site = package.site,
                package = %package.name,
                "its file is missing from the staging directory, where nobody but this server may delete; \
                 unless the site still lists it, it is lost"
            );
        }
        self.ledger.write(|batch| missing.iter().try_for_each(|package| batch.forget(package)))?;
        if swept + committed.len() + missing.len() > 0 {
            tracing::info!(delivered = committed.len(), dropped = swept, "finished what the last run left");
        }
        match self.finish(committed) {
            // They are delivered as soon as there is room: every turn of their site tries again.
            Err(Trouble::Full(reason)) => {
                tracing::warn!(reason, "cannot deliver now what the last run left");
                Ok(())
            }
            other => other,
        }
    }
}
