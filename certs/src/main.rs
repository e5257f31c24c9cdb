//! `tidegate-certs`: the authority of a Tidegate installation, and the doctor of its certificates.
//!
//! It may write only new files in the directories it is told; it never overwrites, and never sends a key anywhere.
//! It opens a connection only for `check --connect`.

mod authority;
mod check;
mod cli;
mod describe;
mod failure;
mod farewell;
mod files;
mod inspect;
mod issue;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::{Arguments, Command};
use crate::failure::{Failure, USAGE};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Printing can only fail where there is nobody to read it.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if asked { ExitCode::SUCCESS } else { ExitCode::from(USAGE) };
        }
    };
    let mut report = String::new();
    let result = run(arguments.command, &mut report);
    // A reader that went away (`| head`) is no failure of ours.
    let _ = io::stdout().write_all(report.as_bytes());
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "tidegate-certs: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(command: Command, report: &mut String) -> Result<(), Failure> {
    match command {
        Command::Init(arguments) => authority::init(&arguments, report),
        Command::Issue(arguments) => issue::issue(&arguments, report),
        Command::Inspect(arguments) => inspect::inspect(&arguments.files, report),
        Command::Check(arguments) => check::check(&arguments, report),
    }
}
