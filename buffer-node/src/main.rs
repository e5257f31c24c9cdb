//! Buffer node of Tidegate: takes agents' files inside an isolated network, and keeps them until a sync server that
//! dials in from outside has them.
//!
//! May: listen, write below its storage root, read its configuration and certificates. May not: open a connection to
//! anywhere, or give a data package to somebody who is no puller.

mod archive;
mod cli;
mod committer;
mod config;
mod dead_letters;
mod descriptors;
mod draft_writer;
mod epoch_command;
mod fatal;
mod filters;
mod handover;
mod intake;
mod keeper;
mod layout;
mod limits_hit;
mod listen;
mod log;
mod memory;
mod node;
mod packer;
mod pairs;
mod rates;
mod relay;
mod repeats;
mod report;
mod rights;
mod room;
mod service;
mod session;
mod shared;
mod totals;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, DeadLetterCommand, EpochCommand, Failure};
use config::{Config, Problems};
use fatal::Fatal;
use listen::Door;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(usage)) if !usage.use_stderr() => {
            // `--help` and `--version` are no failures; a closed pipe behind them is none either.
            let _ = usage.print();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(io::stderr(), "tidegate-buffer-node: {failure}");
            failure.exit_code()
        }
    }
}

fn run() -> Result<(), Failure> {
    match Cli::try_parse().map_err(Failure::Usage)?.command {
        Command::Validate { config } => validate(&config),
        Command::Run { config, log_format } => {
            let (config, door) = load(&config)?;
            log::start(log_format);
            service::run(&config, door, &Fatal::default())
        }
        Command::DeadLetter(command) => dead_letters::run(&directory(&command)?, &command),
        Command::Epoch(EpochCommand::Show { config }) => {
            epoch_command::show(&Config::directory_of(&config).map_err(wrong)?)
        }
        Command::Epoch(EpochCommand::Reset { config }) => epoch_command::reset(&read(&config)?.directory),
        Command::Losses { config, json } => {
            dead_letters::losses(&Config::directory_of(&config).map_err(wrong)?, json)
        }
    }
}

fn read(file: &Path) -> Result<Config, Failure> {
    Config::load(file).map_err(wrong)
}

fn wrong(problems: Problems) -> Failure {
    match problems.are_denials() {
        true => Failure::Permission(problems.to_string()),
        false => Failure::Configuration(problems.to_string()),
    }
}

/// The storage root. Who changes something needs a configuration that the node would start with.
fn directory(command: &DeadLetterCommand) -> Result<PathBuf, Failure> {
    match command {
        DeadLetterCommand::List { config, .. } | DeadLetterCommand::Show { config, .. } => {
            Config::directory_of(config).map_err(wrong)
        }
        DeadLetterCommand::Requeue(selection) | DeadLetterCommand::Purge(selection) => {
            Ok(read(&selection.config)?.directory)
        }
    }
}

fn load(file: &Path) -> Result<(Config, Door), Failure> {
    let config = read(file)?;
    let door = Door::new(&config).map_err(|error| Failure::Configuration(error.to_string()))?;
    Ok((config, door))
}

fn validate(file: &Path) -> Result<(), Failure> {
    let (config, _) = load(file)?;
    let mut words = String::new();
    for warning in config.warnings() {
        words.push_str(&format!("{}: warning: {warning}\n", file.display()));
    }
    words.push_str(&format!("{}: valid\n", file.display()));
    io::stdout().write_all(words.as_bytes()).map_err(|error| Failure::io("cannot write", &error))
}
