//! `pull --once`: one turn of every site, for people and scripts.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate_net::shutdown::Shutdown;
use tokio::task::JoinSet;

use crate::cli::Failure;
use crate::config::Site;
use crate::desk::Desk;
use crate::pipeline::Trouble;
use crate::pull::Tally;
use crate::schedule::{self, Puller, Turn};
use crate::shared::task;

/// How often the progress bar is drawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Pulls the sites once, all at the same time, and prints a line for each. Fails if one of them failed.
pub(crate) async fn pull(sites: Vec<Site>, desk: &Arc<Desk>, stop: &Shutdown) -> Result<(), Failure> {
    let mut tasks = JoinSet::new();
    let mut tallies = Vec::new();
    let sharing: Vec<_> = sites.iter().filter(|site| desk.shares(&site.name)).cloned().collect();
    for mut site in sites {
        site.sync.standing = false;
        let mut puller = Puller::new(site, Arc::clone(desk), stop.clone());
        tallies.push(Arc::clone(&puller.tally));
        tasks.spawn(async move {
            let turn = puller.turn().await;
            (puller.site.name, puller.tally, turn)
        });
    }
    let bar = progress_bar();
    let mut redraw = tokio::time::interval(REDRAW);
    let mut done = Vec::new();
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => break,
                Some(ended) => done.push(ended.map_err(|error| Failure::Other(error.to_string()))?),
            },
            _ = redraw.tick() => draw(&bar, &tallies),
            () = stop.aborting() => return Err(Failure::Temporary("stopped before all sites were pulled".into())),
        }
    }
    bar.finish_and_clear();
    schedule::last_flush(desk).await.map_err(|trouble| Failure::Temporary(trouble.to_string()))?;
    done.sort_by(|a, b| a.0.cmp(&b.0));
    let pulled = summary(&done);
    // Of a site that cannot be reached nothing more is to be learned.
    let is_fine =
        |site: &Site| done.iter().any(|(name, _, turn)| *name == site.name && matches!(turn, Turn::Fine));
    let sharing = sharing.into_iter().filter(is_fine).collect();
    let synced = tokio::select! {
        synced = sync(sharing, desk, stop) => synced,
        () = stop.aborting() => Err(Failure::Temporary("stopped before all shared files were synced".into())),
    };
    pulled.and(synced)
}

/// Syncs shared files once, and prints a line for each site. Fails if one of them failed.
async fn sync(sites: Vec<Site>, desk: &Arc<Desk>, stop: &Shutdown) -> Result<(), Failure> {
    let Some(shared) = desk.shared().filter(|_| !sites.is_empty()) else { return Ok(()) };
    let done = task::once(shared, sites, desk, stop).await;
    let failed = done.iter().filter(|(_, result)| result.is_err()).count();
    let mut out = io::stdout().lock();
    for (site, result) in &done {
        // Nobody reads it: no reason to fail.
        let _ = match result {
            Ok(words) => writeln!(out, "{site}: shared files: {words}"),
            Err(fault) => writeln!(out, "{site}: shared files: not synced: {fault}"),
        };
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::Unavailable(format!("shared files of {failed} of {} sites could not be synced", done.len())))
}

fn progress_bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = "{bar:30} {pos}/{len} packages, {msg}, {elapsed}";
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style)
}

fn draw(bar: &ProgressBar, tallies: &[Arc<Tally>]) {
    bar.set_length(tallies.iter().fold(0, |sum: u64, tally| sum.saturating_add(tally.known())));
    bar.set_position(tallies.iter().map(|tally| tally.packages()).sum());
    bar.set_message(format!("{} kB", tallies.iter().map(|tally| tally.bytes()).sum::<u64>() / 1000));
}

/// Prints a line for each site; the worst of them decides the exit code.
fn summary(done: &[(String, Arc<Tally>, Turn)]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let (mut unreachable, mut later, mut troubled) = (0, 0, 0);
    for (site, tally, turn) in done {
        let verdict = match turn {
            Turn::Fine => "ok".to_owned(),
            Turn::Stopped => {
                later += 1;
                "stopped; there may be more".to_owned()
            }
            Turn::Unreachable(error) => {
                unreachable += 1;
                format!("unreachable: {error}")
            }
            Turn::Refused(error) => {
                unreachable += 1;
                format!("refused: {error}")
            }
            Turn::Trouble(trouble @ Trouble::Full(_)) => {
                later += 1;
                format!("not taken: {trouble}")
            }
            Turn::Trouble(trouble) => {
                troubled += 1;
                format!("not taken: {trouble}")
            }
        };
        let (packages, bytes) = (tally.packages(), tally.bytes());
        let left = match tally.left_behind() {
            0 => String::new(),
            names => format!(" ({names} that cannot be taken stay there)"),
        };
        // Nobody reads it: no reason to fail.
        let _ = writeln!(out, "{site}: {packages} packages, {bytes} bytes, {verdict}{left}");
    }
    match (troubled, later, unreachable) {
        (0, 0, 0) => Ok(()),
        (0, 0, sites) => {
            Err(Failure::Unavailable(format!("{sites} of {} sites could not be pulled", done.len())))
        }
        (0, sites, _) => {
            Err(Failure::Temporary(format!("{sites} of {} sites were not pulled to the end", done.len())))
        }
        (sites, _, _) => Err(Failure::Other(format!("packages of {sites} sites could not be taken here"))),
    }
}
