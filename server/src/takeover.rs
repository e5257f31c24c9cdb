//! `takeover`: makes a node give its packages to this server and to no other, by raising its epoch by one.
//!
//! Constraints: safe beside a running server, which reads the epoch from the ledger for each connection. The ledger hears
//! of it first: a crash between the two leaves a server that takes over at its next connection, as it was asked to.
//! Nothing is pulled, and nothing is deleted.

use std::path::Path;

use tidegate_proto::relay::{CloseCode, Purpose};

use crate::cli::Failure;
use crate::config::{Config, PullMode, Site};
use crate::ledger::{Beside, LedgerError, Reader};
use crate::pull::{Answer, Fault, greet};
use crate::report;

/// Takes a site over, and says what that changed.
pub(crate) async fn run(config: Config, name: String) -> Result<(), Failure> {
    let Some(site) = config.sites.iter().find(|site| site.name == name) else {
        let known: Vec<_> = config.sites.iter().map(|site| site.name.as_str()).collect();
        return Err(Failure::Usage(format!("no site is called {name:?}; there are: {}", known.join(", "))));
    };
    if site.tls.is_none() || matches!(site.sync.mode, PullMode::Tentacle | PullMode::Move) {
        return Err(Failure::Setting(format!(
            "{name} is pulled over Tentacle, which knows no epoch: there is nothing to take over. Only relay does \
             (pull_mode = \"auto\" or \"relay\", and TLS)"
        )));
    }
    let state = &config.incoming.state;
    let ours = epoch(state, &name).map_err(|error| Failure::ledger(&error))?;
    let node = match ask(site, Purpose::Look, 0).await? {
        Answer::Welcome(welcome) => welcome,
        Answer::Farewell(farewell) => {
            return Err(Failure::Unavailable(format!(
                "{name}: the node does not let itself be looked at: {farewell}"
            )));
        }
    };
    let there = format!("{name} (node {:?}, {})", node.name, node.software);
    // Who would be welcome anyhow has nothing to take over, and hears else whose it is.
    let before = match ask(site, Purpose::List, ours).await? {
        Answer::Welcome(_) => {
            report::say(&format!(
                "{there}: nothing to take over, it gives its packages to this server, under the epoch {ours}.\n"
            ));
            return Ok(());
        }
        Answer::Farewell(farewell) => match farewell.code {
            CloseCode::EpochTooLow | CloseCode::EpochJump | CloseCode::EpochOfAnother => farewell,
            _ => return Err(Failure::Unavailable(format!("{there}: the node refused: {farewell}"))),
        },
    };
    let Some(epoch) = next(before.number) else {
        return Err(Failure::Unavailable(format!(
            "{there}: the node says that its epoch is {}, and there is no higher one: something is wrong with the node or \
             its directory. Look at it, then run `tidegate-buffer-node epoch reset` there",
            before.number
        )));
    };
    set_epoch(state, &name, epoch)?;
    match ask(site, Purpose::Stream, epoch).await {
        Ok(Answer::Welcome(_)) => {}
        // A running server has come under the new epoch in the meantime: the node knows it.
        Ok(Answer::Farewell(farewell)) if farewell.code == CloseCode::Replaced => {}
        Ok(Answer::Farewell(farewell)) => {
            return Err(Failure::Other(format!(
                "{there}: the node refused the epoch {epoch}: {farewell}. The ledger has it; run this again"
            )));
        }
        Err(failure) => {
            return Err(Failure::Unavailable(format!(
                "{there}: the ledger has the epoch {epoch}, and the node may not have heard of it: {failure}. Run this \
                 again, or let the server pull the site: either ends the takeover"
            )));
        }
    }
    let holder =
        if before.text.is_empty() { "of another server; its log says of which" } else { &before.text };
    report::say(&format!(
        "{there}: taken over. It was at the epoch {} ({holder}); from now on this server pulls it under the epoch {epoch}, \
         and every other one is refused. A running server does so from its next connection on.\n",
        before.number,
    ));
    Ok(())
}

/// The epoch under which this server pulls a site; read beside a running server.
pub(crate) fn epoch(state: &Path, site: &str) -> Result<u64, LedgerError> {
    Reader::open(state)?.map_or(Ok(1), |reader| reader.epoch(site))
}

/// The epoch above what a node said: anything may come from there, and the ledger keeps no more than 63 bits.
fn next(there: u64) -> Option<u64> {
    there.checked_add(1).filter(|epoch| i64::try_from(*epoch).is_ok())
}

fn set_epoch(state: &Path, site: &str, epoch: u64) -> Result<(), Failure> {
    let ledger = Beside::open(state).map_err(|error| Failure::ledger(&error))?;
    let Some(mut ledger) = ledger else {
        return Err(Failure::Setting(format!(
            "there is no ledger in {} yet; start the server, or run `tidegate-server pull --once`, and then this again",
            state.display()
        )));
    };
    ledger.write(|batch| batch.set_epoch(site, epoch)).map_err(|error| Failure::ledger(&error))
}

async fn ask(site: &Site, purpose: Purpose, epoch: u64) -> Result<Answer, Failure> {
    greet(site, purpose, epoch).await.map_err(|fault| match fault {
        Fault::Here(trouble) => Failure::Other(trouble.to_string()),
        fault => Failure::Unavailable(format!("{}: {fault}", site.name)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_says_of_its_epoch_is_taken_only_as_far_as_it_can_be_kept() {
        assert_eq!(next(0), Some(1));
        let max = i64::MAX.unsigned_abs();
        assert_eq!(next(max - 1), Some(max));
        assert_eq!((next(max), next(u64::MAX)), (None, None));
    }
}
