//! Makes room for an upload whose class lets older packages go for it.
//!
//! Dropping waits for the disk, so it happens on a thread that may, and one at a time: whoever waited for its turn
//! mostly finds that the one before has made room enough.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tidegate_spool::{Draft, Dropped, Full, LossReason};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::node::Node;

/// [`tidegate_spool::Spool::begin`], or the same after some drops. Room is made for `size` bytes, if all the
/// `announced` ones are possible.
pub(crate) async fn begin(node: &Arc<Node>, name: &[u8], announced: u64, size: u64) -> Result<Draft, Full> {
    let begun = node.spool.begin(name, announced).and_then(|whole| {
        drop(whole);
        node.spool.begin(name, size)
    });
    match begun {
        Err(full) if may_help(&full) && node.spool.may_drop(name) => {}
        begun => return begun,
    }
    let _turn = node.dropping.acquire().await.expect("the semaphore is never closed");
    let (dropping, name) = (node.clone(), name.to_vec());
    blocking(move || {
        let made = dropping.spool.begin_dropping(&name, announced, size);
        let (draft, dropped) = made.inspect_err(|full| look_at(&dropping, full))?;
        tell(&dropping, &name, dropped);
        Ok(draft)
    })
    .await
}

/// [`Draft::reserve`] after some drops.
pub(crate) async fn grow(node: &Arc<Node>, name: &[u8], mut draft: Draft, more: u64) -> Result<Draft, Full> {
    let _turn = node.dropping.acquire().await.expect("the semaphore is never closed");
    let (node, name) = (node.clone(), name.to_vec());
    blocking(move || {
        grow_now(&node, &name, &mut draft, more)?;
        Ok(draft)
    })
    .await
}

/// The same on a thread that may block.
pub(crate) fn grow_now(node: &Node, name: &[u8], draft: &mut Draft, more: u64) -> Result<(), Full> {
    let dropped = draft.reserve_dropping(more).inspect_err(|full| look_at(node, full))?;
    tell(node, name, dropped);
    Ok(())
}

/// Whether somebody else's going makes a difference.
pub(crate) fn may_help(full: &Full) -> bool {
    !matches!(full, Full::TooLarge { .. } | Full::Poisoned { .. } | Full::NotDropped { .. })
}

fn look_at(node: &Node, full: &Full) {
    if let Full::Poisoned { reason } = full {
        node.fatal.declare(format_args!("the spool stores nothing more since a write failed: {reason}"));
    }
}

fn tell(node: &Node, name: &[u8], dropped: Dropped) {
    if dropped.packages > 0 {
        node.limits_hit.hit(LossReason::Dropped.code());
    }
    // Not one peer's doing: all together have the share of one.
    if dropped.packages > 0
        && let Some(line) = node.repeats.admit("dropped", IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    {
        let (class, suppressed) = (node.spool.class_of(name), line.suppressed);
        let Dropped { packages, bytes } = dropped;
        warn!(class, packages, bytes, suppressed, "the oldest packages went to make room; see `losses`");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Full> + Send + 'static,
) -> Result<T, Full> {
    let panicked = |panic: tokio::task::JoinError| Err(Full::NotDropped { reason: panic.to_string().into() });
    spawn_blocking(work).await.unwrap_or_else(panicked)
}
