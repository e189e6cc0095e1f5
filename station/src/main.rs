//! The one binary of Keepshare: the station, and the commands that talk to it.

mod account_answers;
mod addresses;
mod allocator;
mod announce;
mod answers;
mod api;
mod attention;
mod backlog;
mod catalog;
mod cli;
mod clock;
mod commands;
mod config;
mod database;
mod door;
mod drive;
mod drivers;
mod extract;
mod failure;
mod files;
mod find;
mod fsck;
mod hidden_names;
mod known;
mod master;
mod near;
mod nfs_mount;
mod output;
mod panics;
mod password;
mod peers;
mod place;
mod pseudo;
mod renewal;
mod reopening;
mod replica;
mod sample;
mod schedule;
mod service;
mod standing;
mod state;
mod sync_tree;
mod turns;
mod users;
mod users_door;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

use crate::{
    cli::{Cli, Command},
    failure::Failure,
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
