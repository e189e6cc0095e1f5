//! What the commands do: ask the running station and show its answer, or prepare a station that does not run yet.

use std::{io::Write, path::PathBuf};

use clap::CommandFactory;

use keepshare_control::{Outcome, questions::Request};
use keepshare_station::config::{self, Config};

use crate::{
    cli::{self, Cli, Command, Global, Session, Set, Token, User},
    output::Screen,
};

mod demo;
mod find;
mod history;
mod login;
mod mount;
mod new_station;
mod restore;
mod run;
mod sessions;
mod sets;
mod stations;
mod status;
mod tokens;
mod uncut;
mod users;

/// Does what was typed.
pub(crate) fn execute(cli: Cli, screen: &Screen) -> Outcome<()> {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(options) => demo::demo(&options, screen),
        Command::Init(options) => new_station::init(&options, &global, screen),
        Command::Join(options) => new_station::join(&options, &global, screen),
        Command::Run => run::run(&config_path(&global)),
        Command::Status(options) => status::status(&socket(&global)?, &options, screen),
        Command::Station(cli::Station::SetAddress { name, address }) => {
            stations::set_address(&socket(&global)?, &name, &address, screen)
        }
        Command::Token(Token::Create { .. }) => tokens::create(&socket(&global)?, screen),
        Command::Token(Token::List) => tokens::list(&socket(&global)?, screen),
        Command::Set(Set::Add { name, source, to }) => {
            sets::add(&socket(&global)?, name, &source, to, screen)
        }
        Command::Set(Set::Mirror { name, to, new_epoch, take_over, new_source }) => {
            let request = Request::SetMirror { name, to, new_epoch, take_over, new_source };
            sets::mirror(&socket(&global)?, &request, screen)
        }
        Command::Set(Set::List) => sets::list(&socket(&global)?, screen),
        Command::Set(Set::Show { name }) => sets::show(&socket(&global)?, &name, screen),
        Command::User(User::Add(options)) => users::add(&socket(&global)?, options, screen),
        Command::User(User::List) => users::list(&socket(&global)?, screen),
        Command::User(User::Remove { name, dry_run }) => {
            users::remove(&socket(&global)?, &name, dry_run, screen)
        }
        Command::User(User::Password { name, password_stdin }) => {
            users::password(&socket(&global)?, &name, password_stdin, screen)
        }
        Command::Login(cli::Login { login: options, mount: None }) => {
            login::login(|| socket(&global), &options, screen)
        }
        Command::Login(cli::Login { login: options, mount: Some(folder) })
        | Command::Mount(cli::Mount { login: options, folder }) => {
            mount::mount(|| socket(&global), &options, &folder, screen)
        }
        Command::Unmount(options) => mount::unmount(&options, screen),
        Command::Session(Session::List) => sessions::list(&socket(&global)?, screen),
        Command::Session(Session::Grant(options)) => {
            sessions::grant(&socket(&global)?, options, screen)
        }
        Command::Session(Session::Revoke { id, user, dry_run }) => {
            sessions::revoke(&socket(&global)?, id, user.as_ref(), dry_run, screen)
        }
        Command::Versions(options) => {
            history::versions(&socket(&global)?, &options.path, options.limit, screen)
        }
        Command::Show(options) => history::show(&socket(&global)?, &options.path, screen),
        Command::Restore(options) => restore::restore(&socket(&global)?, &options, screen),
        Command::Find(options) => find::find(&socket(&global)?, &options, screen),
        Command::Fsck(options) => history::fsck(&socket(&global)?, options, screen),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keepshare", &mut text);
            text.flush().map_err(anyhow::Error::new)?;
            screen.bytes(&text)
        }
    }
}

/// Returns the config that is meant: named itself, by the environment, or the default one.
fn config_path(global: &Global) -> PathBuf {
    global
        .config
        .clone()
        .or_else(|| from_environment(CONFIG_VARIABLE))
        .unwrap_or_else(config::default_config)
}

/// Returns the socket that is meant: named itself or by the config that is named, both rather on the command line than in
/// the environment; else by the default config.
fn socket(global: &Global) -> Outcome<PathBuf> {
    let of_config = |path: PathBuf| Config::load(&path).map(|config| config.socket);
    if let Some(socket) = &global.socket {
        return Ok(socket.clone());
    }
    if let Some(config) = &global.config {
        return of_config(config.clone());
    }
    if let Some(socket) = from_environment(SOCKET_VARIABLE) {
        return Ok(socket);
    }
    from_environment(CONFIG_VARIABLE).map_or_else(|| Ok(config::default_socket()), of_config)
}

/// Returns a path that the environment names.
fn from_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Names the socket where `--socket` does not.
const SOCKET_VARIABLE: &str = "KEEPSHARE_SOCKET";

/// Names the config where `--config` does not.
const CONFIG_VARIABLE: &str = "KEEPSHARE_CONFIG";
