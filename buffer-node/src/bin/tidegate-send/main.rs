//! Sends files to a Tentacle server, or gets them: a work-alike of `tentacle_client` for hosts without Perl.
//!
//! Options, exit codes (0, or 1 for every failure) and messages are those of the stock client; where this one
//! differs, it is stricter: a file that is got appears whole or not at all, and a name that no server would take is
//! refused here. It never pipelines, because stock servers hang on it.

#[path = "../../archive.rs"]
mod archive;
mod connect;
mod options;
mod say;
mod transfer;

use std::io::{self, Write};
use std::process::ExitCode;

use options::{Options, Stop};
use say::Say;
use transfer::Failure;

fn main() -> ExitCode {
    match Options::from_arguments() {
        Ok(options) => run(&options),
        Err(Stop::Words(words)) => {
            let status = if words.kind() == clap::error::ErrorKind::DisplayVersion { 0 } else { 1 };
            // Nowhere to say that the words could not be said.
            let _ = words.print();
            ExitCode::from(status)
        }
        Err(Stop::Invalid { reason, quiet }) => {
            Say { quiet, verbose: false }.error(&reason);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> ExitCode {
    let say = options.say;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say.error(&format!("Cannot start: {error}."));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(transfer_all(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say.error(&failure.to_string());
            if let Some(details) = failure.details() {
                say.log(&details);
            }
            let _ = io::stdout().flush();
            ExitCode::FAILURE
        }
    }
}

async fn transfer_all(options: &Options) -> Result<(), Failure> {
    transfer::check(options)?;
    let (stream, local) = connect::connect(options).await?;
    transfer::run(options, stream, local).await
}
