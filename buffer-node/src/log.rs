//! Log lines: to stderr, as text or JSON, with priorities where the journal reads them, and with a limit on repeats.
//!
//! Peers cause most lines, so a peer must not be able to fill the disk with them: such lines pass through
//! [`repeats`](crate::repeats). What a peer wrote is escaped by the caller (`proto::Escaped`, `proto::Quoted`).

use std::fmt;
use std::io::{self, IsTerminal};

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
