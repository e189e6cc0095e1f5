//! What the commands do: ask the running station and show its answer, or prepare a station that does not run yet.

use std::{io::Write, path::PathBuf};

use clap::CommandFactory;

use crate::{
    cli::{Cli, Command, Global, Set, Token},
    config::{self, Config},
    failure::Outcome,
    output::Screen,
};

mod demo;
pub(crate) use history::kind_word;

mod history;
mod new_station;
mod restore;
mod run;
mod sets;
mod status;
mod tokens;

/// Does what was typed.
pub(crate) fn execute(cli: Cli, screen: &Screen) -> Outcome<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(options) => demo::demo(&options, screen),
        Command::Init(options) => new_station::init(&options, &global, screen),
        Command::Join(options) => new_station::join(&options, &global, screen),
        Command::Run => run::run(&config_path(&global)),
        Command::Status(options) => status::status(&socket(&global)?, options.watch, screen),
        Command::Token(Token::Create { .. }) => tokens::create(&socket(&global)?, screen),
        Command::Token(Token::List) => tokens::list(&socket(&global)?, screen),
        Command::Set(Set::Add { name, source, to }) => {
            sets::add(&socket(&global)?, name, &source, to, screen)
        }
        Command::Set(Set::List) => sets::list(&socket(&global)?, screen),
        Command::Set(Set::Show { name }) => sets::show(&socket(&global)?, &name, screen),
        Command::Versions(options) => {
            history::versions(&socket(&global)?, &options.path, options.limit, screen)
        }
        Command::Show(options) => history::show(&socket(&global)?, &options.path, screen),
        Command::Restore(options) => restore::restore(&socket(&global)?, &options, screen),
        Command::Fsck(options) => history::fsck(&socket(&global)?, options.set, screen),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keepshare", &mut text);
            text.flush().map_err(anyhow::Error::new)?;
            screen.bytes(&text)
        }
    }
}

fn config_path(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(config::default_config)
}

/// Returns the socket that is meant: named itself, by the config that is named, or by the default one.
fn socket(global: &Global) -> Outcome<PathBuf> {
    match (&global.socket, &global.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(config)) => Ok(Config::load(config)?.socket),
        (None, None) => Ok(config::default_socket()),
    }
}
