//! File descriptors: the process takes all that it may have, and says when that is too few.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Descriptors that no connection accounts for: ports, the spool's own, the runtime's.
const OTHERS: u64 = 128;

/// Raises the soft limit to the hard one. The soft limit exists for programs that use `select`; this is none.
pub(crate) fn raise(max_connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let mut limit = current;
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => limit = maximum,
            Err(error) => warn!(%error, "cannot raise the limit of open files to the hard limit"),
        }
    }
    if let Some(words) = shortage(limit, max_connections) {
        warn!("{words}");
    }
}

/// A connection may need two: its own, and one for the file that it sends or gets. `None` is no limit.
fn shortage(limit: Option<u64>, max_connections: usize) -> Option<String> {
    let needed = (max_connections as u64).saturating_mul(2).saturating_add(OTHERS);
    let limit = limit.filter(|limit| *limit < needed)?;
    Some(format!(
        "at most {limit} files can be open, and `max_connections = {max_connections}` may need {needed}: raise \
         LimitNOFILE in the unit (or `ulimit -Hn`), or lower `max_connections`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_for_the_connections_is_said() {
        assert_eq!(shortage(None, 10_000), None);
        assert_eq!(shortage(Some(20_128), 10_000), None);
        let words = shortage(Some(20_127), 10_000).expect("too few");
        assert!(
            words.contains("20127") && words.contains("20128") && words.contains("LimitNOFILE"),
            "{words}"
        );
    }
}
