//! `tidegate-server`: dials out to the buffer nodes of isolated networks and hands their packages to the pipeline.
//!
//! It may touch: its state directory, `incomingdir` and the staging directory, the certificate files of its
//! configuration, and connections that it opens itself. It listens on nothing, and it never writes, by a name that
//! a site chose, anywhere but in `incomingdir`.

mod board;
mod body;
mod cli;
mod commands;
mod config;
mod crash;
mod descriptors;
mod desk;
mod find;
mod ledger;
mod log;
mod losses;
mod names;
mod once;
mod pipeline;
mod pull;
mod quarantine;
mod report;
mod reset;
mod schedule;
mod shared;
mod staging;
mod status;
mod takeover;
mod user;
mod verify;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command, Failure, LedgerCommand};
use find::Question;
use verify::Scope;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("tidegate-server: {failure}");
            failure.exit_code()
        }
    }
}

fn run() -> Result<(), Failure> {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) if matches!(asked.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            // A reader that went away is no failure.
            let _ = asked.print();
            return Ok(());
        }
        Err(wrong) => {
            let text = wrong.render().to_string();
            return Err(Failure::Usage(text.trim_start_matches("error: ").trim_end().to_owned()));
        }
    };
    match cli.command {
        Command::Run { config, log_format } => commands::run(&config, log_format),
        Command::Pull { config, once: _, site, log_format } => {
            commands::pull(&config, site.as_deref(), log_format)
        }
        Command::Status { config, site, json } => commands::status(&config, site.as_deref(), json),
        Command::Find { name, config, site, limit, json } => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            commands::find(&config, &Question { name, site, limit, json })
        }
        Command::Verify { config, site, json, offline } => {
            commands::verify(&config, &Scope { site, json, offline })
        }
        Command::Quarantine { command } => commands::quarantine(&command),
        Command::Shared { command } => commands::shared(&command),
        Command::Losses { config, site, json } => commands::losses(&config, site.as_deref(), json),
        Command::Ledger { command: LedgerCommand::Reset { config, yes } } => commands::reset(&config, yes),
        Command::Takeover { site, config } => commands::takeover(&config, site),
        Command::Validate { config } => commands::validate(&config),
    }
}
