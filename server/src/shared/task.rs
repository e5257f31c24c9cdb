//! When sites are synced: at the start, and when something rings. A sync is a connection of its own, made only when there
//! is something to do.
//!
//! Constraints, before the design:
//! - Whatever happens here costs the packages nothing: sites have tasks of their own, and one that dies is begun again.
//! - A site is synced no more often than `[shared] interval`, and after failures ever more rarely: nothing that its node
//!   says or does makes it more.
//! - Nothing is synced before the central's own directories have been read: what is not known here must not look removed.

mod bells;
mod rhythm;
mod stock;
mod syncer;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tidegate_net::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use super::blocking::{blocking, here as trouble_here};
use crate::config::Site;
use crate::desk::Desk;
use crate::pull::Fault;
pub(crate) use bells::Bells;
#[cfg(test)]
pub(super) use stock::candidates;
use syncer::Syncer;

/// Syncs all sites that share files, until the shutdown.
pub(crate) async fn run(shared: Arc<Shared>, sites: Vec<Site>, desk: Arc<Desk>, stop: Shutdown) {
    let (scanned, ready) = watch::channel(false);
    let sites = sites.into_iter().filter(|site| shared.bells().has(&site.name)).collect();
    let start =
        |site: &Site, pause| Syncer::new(site.clone(), &shared, &desk, &stop).repeat(ready.clone(), pause);
    tokio::select! {
        () = keep_running(sites, start) => {}
        never = scan(&shared, &scanned) => match never {},
        () = stop.aborting() => {}
    }
}

/// Runs a task for each site until all have ended. A bug that one site brings to light must not cost the others anything:
/// its task is begun again after a while.
async fn keep_running<F>(sites: Vec<Site>, start: impl Fn(&Site, Duration) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    let mut running = HashMap::new();
    for site in sites {
        running.insert(tasks.spawn(start(&site, Duration::ZERO)).id(), site);
    }
    while let Some(ended) = tasks.join_next().await {
        let Err(error) = ended else { continue };
        let site = running.remove(&error.id()).expect("every task has a site");
        tracing::error!(
            site = site.name, %error,
            "the task of the site's shared files died; please report this. Its packages go on"
        );
        running.insert(tasks.spawn(start(&site, site.sync.backoff)).id(), site);
    }
}

/// One sync of each site, for commands that do everything once. Says of each what was done, or why not.
pub(crate) async fn once(
    shared: &Arc<Shared>,
    sites: Vec<Site>,
    desk: &Arc<Desk>,
    stop: &Shutdown,
) -> Vec<(String, Result<String, Fault>)> {
    let here = Arc::clone(shared);
    if let Err(fault) = blocking(move || here.scan()).await {
        let error = fault.to_string();
        return sites.into_iter().map(|site| (site.name, Err(trouble_here(&error)))).collect();
    }
    let mut tasks = JoinSet::new();
    for site in sites {
        let mut syncer = Syncer::new(site, shared, desk, stop);
        tasks.spawn(async move {
            let result = syncer.sync().await;
            (syncer.site.name, result.map(|report| report.told.to_string()))
        });
    }
    let mut done = tasks.join_all().await;
    done.sort_by(|one, other| one.0.cmp(&other.0));
    done
}

/// Looks again and again at what the central's directories hold, and rings for the sites that a change concerns.
async fn scan(shared: &Arc<Shared>, scanned: &watch::Sender<bool>) -> std::convert::Infallible {
    let mut failure = None;
    loop {
        let here = Arc::clone(shared);
        match blocking(move || here.scan()).await {
            Ok(sites) => {
                sites.iter().for_each(|site| shared.bells().ring(site));
                scanned.send_replace(true);
                if failure.take().is_some() {
                    tracing::info!("the directories of shared files can be read again");
                }
            }
            Err(fault) => {
                scanned.send_replace(false);
                let error = fault.to_string();
                if failure.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the directories of shared files cannot be read: none travels until they can"
                    );
                }
                failure = Some(error);
            }
        }
        sleep(shared.interval()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::config::SyncKeys;

    #[tokio::test]
    async fn a_task_that_dies_is_begun_again_later_and_costs_the_others_nothing() {
        let site = |name: &str| {
            let sync = SyncKeys::default();
            Site { name: name.into(), host: "unused".into(), port: 1, tls: None, sync }
        };
        let begun = Arc::new(Mutex::new(Vec::new()));
        let start = |site: &Site, pause: Duration| {
            let (name, begun) = (site.name.clone(), Arc::clone(&begun));
            async move {
                let is_first = pause.is_zero();
                begun.lock().unwrap().push((name.clone(), is_first));
                assert!(name != "bad" || !is_first, "a bug");
            }
        };
        keep_running(vec![site("bad"), site("good")], start).await;
        let mut begun = begun.lock().unwrap().clone();
        begun.sort();
        assert_eq!(begun, [("bad".into(), false), ("bad".into(), true), ("good".into(), true)]);
    }
}
