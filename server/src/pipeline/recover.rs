//! What a start finds, and finishes.
//!
//! | staged file | ledger | it was | so |
//! |---|---|---|---|
//! | there | no row | not recorded; the site still has it | it is removed |
//! | there | held | received, its deletion not proven | it stays; the site's next listing decides |
//! | there | committed | about to be handed over | it is handed over |
//! | there | quarantined | not to be delivered by itself | it stays |
//! | gone | committed | handed over, perhaps consumed | it counts as delivered |
//! | gone | held | taken away by somebody | said aloud; the site may still have it |
//!
//! Two starts are different. After a loss of power, what is committed and there may have been seen by the pipeline:
//! `after_power_loss` decides ([`super::boot`]). After a torn transaction, and with a ledger older than the staging
//! directory, what the ledger does not know may have been recorded: such files are set aside instead of removed.

use std::collections::HashSet;

use super::boot::Boot;
use super::deliver::say_quarantined;
use super::{Pipeline, Trouble};
use crate::config::AfterPowerLoss;
use crate::ledger::{Package, State, fact};

/// Why a package is in quarantine that a consumer may have had.
const PERHAPS_DELIVERED: &str =
    "the power was lost while it was handed over: the pipeline may have had it already";

impl Pipeline {
    pub(super) fn recover(&self, boot: &Boot, policy: AfterPowerLoss) -> Result<(), Trouble> {
        let packages = self.ledger.packages_with_files()?;
        self.crash.point("before-swept");
        let dropped = self.clean(&packages)?;
        let (held, committed): (Vec<_>, Vec<_>) =
            packages.into_iter().partition(|package| package.state == State::Held);
        // What an operator takes out of quarantine meanwhile, the next turn of its site delivers.
        let mut committed: Vec<_> =
            committed.into_iter().filter(|package| package.state == State::Committed).collect();
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
        let power_lost = boot.is_after_power_loss(self.ledger.fact(fact::BOOT)?.as_deref());
        let doubtful = if power_lost { self.doubtful(&committed, policy) } else { HashSet::new() };
        let quarantine = policy == AfterPowerLoss::Quarantine;
        self.ledger.write(|batch| {
            missing.iter().try_for_each(|package| batch.forget(package))?;
            for package in committed.iter().filter(|package| quarantine && doubtful.contains(&package.id)) {
                batch.quarantine(package, PERHAPS_DELIVERED)?;
            }
            batch.no_fact(fact::TORN)?;
            // Only now: a start that gets no further than this one decides the same.
            batch.fact(fact::BOOT, boot.id())
        })?;
        if quarantine {
            committed.retain(|package| !doubtful.contains(&package.id));
        }
        if dropped + committed.len() + missing.len() > 0 {
            tracing::info!(delivered = committed.len(), dropped, "finished what the last run left");
        }
        match self.finish(committed) {
            // Every turn of their site tries again, and what stops them need not stop other sites.
            Err(Trouble::Full(reason) | Trouble::Failed(reason)) => {
                tracing::warn!(reason, "cannot deliver now what the last run left");
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Removes staged files that the ledger does not know, or sets them aside. Returns how many.
    fn clean(&self, packages: &[Package]) -> Result<usize, Trouble> {
        let known: HashSet<&str> = packages.iter().map(|package| package.staged.as_str()).collect();
        let Some(why) = self.ledger.fact(fact::TORN)? else {
            return self.staging.sweep(&known).map_err(Trouble::io("cannot clean the staging directory"));
        };
        let why = if why == fact::OLDER {
            "the ledger is older than the staging directory (restored from a backup, or its log is lost)"
        } else {
            "the ledger's last transaction was torn"
        };
        let aside = self
            .staging
            .set_aside(&known)
            .map_err(Trouble::io("cannot set files in the staging directory aside"))?;
        for file in &aside {
            tracing::warn!(
                file = %file.display(),
                "{why}, so it does not know this file: it was not delivered, and is kept. If its site does not send it \
                 again, it can be rescued here"
            );
        }
        Ok(aside.len())
    }

    /// The packages of `committed` that the pipeline may have had before the power was lost, each said aloud.
    fn doubtful(&self, committed: &[Package], policy: AfterPowerLoss) -> HashSet<i64> {
        let staged = |package: &&Package| self.staging.path(&package.staged).exists();
        let mut doubtful = HashSet::new();
        for package in committed.iter().filter(staged) {
            match policy {
                AfterPowerLoss::Deliver => tracing::warn!(
                    site = package.site,
                    package = %package.name,
                    target = %tidegate_proto::Escaped(&package.target),
                    "the power was lost while it was handed over: it is delivered now, and the pipeline may have had \
                     it already (after_power_loss = \"deliver\")"
                ),
                AfterPowerLoss::Quarantine => say_quarantined(package, PERHAPS_DELIVERED),
            }
            doubtful.insert(package.id);
        }
        doubtful
    }
}
