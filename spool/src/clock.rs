//! Wall time, as milliseconds since 1970: what arrival times and the record of deletions are written in.
//!
//! The clock of a machine may jump. Nothing here or above may panic on that, and nothing may trust a time so far
//! that a wrong one does lasting harm.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; earlier times count as 1970.
pub(crate) type Millis = u64;

/// Where the spool reads the time.
#[derive(Clone)]
pub(crate) struct Clock(Arc<dyn Fn() -> Millis + Send + Sync>);

impl Clock {
    pub(crate) fn system() -> Self {
        Self::new(|| millis(SystemTime::now()))
    }

    pub(crate) fn new(read: impl Fn() -> Millis + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn now(&self) -> Millis {
        (self.0)()
    }
}

pub(crate) fn millis(time: SystemTime) -> Millis {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

pub(crate) fn system_time(millis: Millis) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

pub(crate) fn millis_of(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
