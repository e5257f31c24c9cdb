//! Log lines: to stderr, as text or JSON, with priorities where the journal reads them, and with a limit on repeats.
//!
//! Peers cause most lines, so a peer must not be able to fill the disk with them: lines of one kind from one
//! address pass through [`Repeats`]. What a peer wrote is escaped by the caller (`proto::Escaped`).

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Format {
    /// One readable line; under systemd without a time, with a priority.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `RUST_LOG` chooses the level, `info` by default.
pub(crate) fn start(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    match format {
        Format::Json => lines.json().flatten_event(true).init(),
        Format::Text if std::env::var_os("JOURNAL_STREAM").is_some() => lines.event_format(Journal).init(),
        Format::Text => lines.init(),
    }
}

/// The journal has its own clock and reads the priority from `<n>` at the start of a line.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

/// Lines of one kind from one address in one window; the rest is counted and named by the next line.
const REPEATS_PER_WINDOW: u64 = 10;
const REPEATS_WINDOW: Duration = Duration::from_secs(10);
/// Beyond this many kinds and addresses all are forgotten, and lines flow again.
const REPEATS_REMEMBERED: usize = 4096;

/// Decides which repeated lines are written.
#[derive(Debug, Default)]
pub(crate) struct Repeats(Mutex<HashMap<(&'static str, IpAddr), Window>>);

#[derive(Debug)]
struct Window {
    start: Instant,
    lines: u64,
}

/// The right to write one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Lines of this kind that were not written since the last one.
    pub(crate) suppressed: Option<u64>,
}

impl Repeats {
    /// Whether a line of this kind may be written now.
    pub(crate) fn admit(&self, kind: &'static str, from: IpAddr) -> Option<Line> {
        self.admit_at(kind, from, Instant::now())
    }

    fn admit_at(&self, kind: &'static str, from: IpAddr, now: Instant) -> Option<Line> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= REPEATS_REMEMBERED {
            windows.clear();
        }
        let window = windows.entry((kind, from)).or_insert(Window { start: now, lines: 0 });
        let mut suppressed = None;
        if now.duration_since(window.start) >= REPEATS_WINDOW {
            suppressed = Some(window.lines.saturating_sub(REPEATS_PER_WINDOW)).filter(|lines| *lines > 0);
            *window = Window { start: now, lines: 0 };
        }
        window.lines += 1;
        (window.lines <= REPEATS_PER_WINDOW).then_some(Line { suppressed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_counted_for_each_address() {
        let repeats = Repeats::default();
        let (noisy, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let start = Instant::now();
        let written = (0..100).filter(|_| repeats.admit_at("refused", noisy, start).is_some()).count();
        assert_eq!(written, 10);
        assert_eq!(repeats.admit_at("refused", quiet, start), Some(Line { suppressed: None }));
        assert_eq!(repeats.admit_at("closed", noisy, start), Some(Line { suppressed: None }));
        let later = start + REPEATS_WINDOW;
        assert_eq!(repeats.admit_at("refused", noisy, later), Some(Line { suppressed: Some(90) }));
        assert_eq!(repeats.admit_at("refused", noisy, later), Some(Line { suppressed: None }));
    }
}
