//! `farpage`: runs jobs on memory that lives in device-private pages.
//! The memory itself is the `farpage-region` library; here are arguments, work and output.

#![forbid(unsafe_code)]

mod args;
mod demo;
mod input;
mod job;
mod output;
mod progress;
mod report;
mod sort;
mod stop;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Cli, Command};

fn main() -> ExitCode {
    let Command::Demo(args) = Cli::parse().command;
    match demo::run(&args) {
        Ok(end) => ExitCode::from(end),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(args::EXIT_FAILED)
        }
    }
}
