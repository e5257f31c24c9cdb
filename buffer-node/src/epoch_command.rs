//! `epoch …`: what an operator sees of the puller that the node remembers, and how it forgets it.
//!
//! Works beside a running node, which reads the file again whenever a puller comes, and without one.

use std::io::{self, Write};
use std::path::Path;

use crate::cli::Failure;
use crate::layout;
use crate::relay::epoch::{self, Held};

/// Says which puller it is.
pub(crate) fn show(directory: &Path) -> Result<(), Failure> {
    let file = known_file(directory)?;
    let held = epoch::load(&file)
        .map_err(|error| Failure::io(format_args!("cannot read {}", file.display()), &error))?;
    say(&match held {
        Some(held) => describe(&held),
        None => "no epoch: no sync server has pulled by relay; the next one that does is remembered, and until then \
                 plain Tentacle may pull\n"
            .to_owned(),
    });
    Ok(())
}

/// Forgets it.
pub(crate) fn reset(directory: &Path) -> Result<(), Failure> {
    let file = known_file(directory)?;
    let held = epoch::reset(&file)
        .map_err(|error| Failure::io(format_args!("cannot remove {}", file.display()), &error))?;
    say(&match held {
        Some(held) => format!("forgotten: {held}\nthe next sync server that pulls by relay is remembered\n"),
        None => "there is no epoch; the next sync server that pulls by relay is remembered\n".to_owned(),
    });
    Ok(())
}

fn describe(held: &Held) -> String {
    let Held { epoch, puller, since } = held;
    format!("epoch      {epoch}\nheld by    {puller}\nsince      {since}\n")
}

/// The file, in a storage root that must be there: an answer about the wrong place would be no truth.
fn known_file(directory: &Path) -> Result<std::path::PathBuf, Failure> {
    match std::fs::metadata(layout::spool(directory)) {
        Ok(_) => Ok(layout::epoch(directory)),
        Err(error) => Err(Failure::io(
            format_args!(
                "no spool below {}: check `directory`, or let the node run once",
                directory.display()
            ),
            &error,
        )),
    }
}

/// A reader that went away (`| head`) is no failure.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}
