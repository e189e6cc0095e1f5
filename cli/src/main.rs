//! The one binary of Keepshare: the station, and the commands that talk to it.

mod addresses;
mod allocator;
mod archive;
mod asked;
mod cli;
mod commands;
mod extract;
mod known;
mod nfs_mount;
mod output;
mod password;
mod place;
mod who;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use keepshare_control::Failure;
use keepshare_sets::sync_tree;

use crate::{
    cli::{Cli, Command},
    output::Screen,
};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == sync_tree::ARGUMENT) {
        return sync_tree::child();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    if matches!(cli.command, Command::Run | Command::Demo(_)) {
        allocator::set_up();
    }
    let screen = Screen::new(cli.global.json);
    match commands::execute(cli, &screen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            screen.failure(&failure);
            ExitCode::from(failure.code as u8)
        }
    }
}

/// Answers what cannot be understood; help and version, too, come as such.
fn usage(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().any(|argument| argument == "--json");
    if !json || matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        error.exit();
    }
    // The first paragraph says what is wrong, the rest how it is done.
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).take_while(|line| !line.is_empty());
    let wrong = lines.collect::<Vec<_>>().join(" ");
    let failure = Failure::usage(wrong.trim_start_matches("error: "))
        .hint("keepshare --help shows what can be typed");
    Screen::new(true).failure(&failure);
    ExitCode::from(failure.code as u8)
}
