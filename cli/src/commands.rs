//! What the commands do: ask the running station and show its answer, or prepare a station that does not run yet.

use std::io::Write;

use clap::CommandFactory;

use keepshare_control::{
    Outcome,
    questions::{SetMirror, Show},
};

use crate::{
    asked::{config_path, own_station, set_of, station, station_or_login},
    cli::{
        self, Cli, Command, Set, Token, User, audit::Audit, point::Point, retention::Retention,
        session::Session,
    },
    output::Screen,
    place::{parse_place, parse_place_maybe_time, parse_place_time, parse_two},
};

mod alarms;
mod audit;
mod backups;
mod demo;
mod diff;
mod find;
mod history;
mod login;
mod mount;
mod new_station;
mod points;
mod restore;
mod retention;
mod rollback;
mod run;
mod scrub;
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
        Command::Status(options) => status::status(&station(&global)?, &options, screen),
        Command::Station(cli::station::Station::SetAddress { name, address }) => {
            stations::set_address(&station(&global)?, &name, &address, screen)
        }
        Command::Station(cli::station::Station::Backup(options)) => {
            backups::back_up(&options, &global, screen)
        }
        Command::Station(cli::station::Station::Restore(options)) => {
            backups::restore(&options, &global, screen)
        }
        Command::Token(Token::Create { .. }) => tokens::create(&station(&global)?, screen),
        Command::Token(Token::List) => tokens::list(&station(&global)?, screen),
        Command::Set(Set::Add { name, source, to }) => {
            sets::add(&station(&global)?, name, &source, to, screen)
        }
        Command::Set(Set::Mirror { name, to, new_epoch, take_over, new_source }) => {
            let question = SetMirror { name, to, new_epoch, take_over, new_source };
            sets::mirror(&station(&global)?, &question, screen)
        }
        Command::Set(Set::List) => sets::list(&station(&global)?, screen),
        Command::Set(Set::Show { name }) => sets::show(&station(&global)?, &name, screen),
        Command::User(User::Add(options)) => users::add(&station(&global)?, options, screen),
        Command::User(User::List) => users::list(&station(&global)?, screen),
        Command::User(User::Remove { name, dry_run }) => {
            users::remove(&station(&global)?, &name, dry_run, screen)
        }
        Command::User(User::Password { name, password_stdin }) => {
            users::password(&station(&global)?, &name, password_stdin, screen)
        }
        Command::Login(cli::Login { login: options, mount: None }) => {
            login::login(|| own_station(&global), &options, screen)
        }
        Command::Login(cli::Login { login: options, mount: Some(folder) })
        | Command::Mount(cli::Mount { login: options, folder }) => {
            mount::mount(|| own_station(&global), &options, &folder, screen)
        }
        Command::Unmount(options) => mount::unmount(&options, screen),
        Command::Session(Session::List) => {
            sessions::list(&station_or_login(&global, None)?, screen)
        }
        Command::Session(Session::Grant(options)) => {
            sessions::grant(&station(&global)?, options, screen)
        }
        Command::Session(Session::Revoke { id, user, dry_run }) => {
            let station = station_or_login(&global, None)?;
            sessions::revoke(&station, id, user.as_ref(), dry_run, screen)
        }
        Command::Passwd { password_stdin } => {
            users::passwd(&station_or_login(&global, None)?, password_stdin, screen)
        }
        Command::Logout { who } => {
            login::logout(who.as_deref().or(global.login.as_deref()), screen)
        }
        Command::Versions(options) => {
            let place = parse_place(&options.path)?;
            let station = station_or_login(&global, set_of(&place))?;
            history::versions(&station, place, &options.path, options.limit, screen)
        }
        Command::Show(options) => {
            let (place, when) = parse_place_maybe_time(&options.path)?;
            let station = station_or_login(&global, set_of(&place))?;
            history::show(&station, Show { place, when }, &options.path, screen)
        }
        Command::Diff(options) => {
            let [then, now] = parse_two(&options.then, options.now.as_deref())?;
            let station = station_or_login(&global, set_of(&then.place))?;
            let other = match set_of(&then.place) == set_of(&now.place) {
                true => station.clone(),
                false => station_or_login(&global, set_of(&now.place))?,
            };
            diff::diff([(station, then), (other, now)], &options, screen)
        }
        Command::Restore(options) => {
            let (place, when) = parse_place_time(&options.path)?;
            let station = station_or_login(&global, set_of(&place))?;
            restore::restore(&station, place, when, &options, screen)
        }
        Command::Rollback(options) => {
            let folder = options.folder.as_deref().map(parse_place_time).transpose()?;
            let set = folder.as_ref().map_or(options.set.as_ref(), |(place, _)| set_of(place));
            rollback::rollback(&station_or_login(&global, set)?, folder, options, screen)
        }
        Command::Undelete(cli::rollback::Undelete { folder, since, how }) => {
            let place = parse_place(&folder)?;
            let station = station_or_login(&global, set_of(&place))?;
            rollback::undelete(&station, place, since, &how, screen)
        }
        Command::Find(options) => {
            let within = options.within.as_deref().map(parse_place).transpose()?;
            let set = within.as_ref().and_then(set_of).or(options.set.as_ref());
            find::find(&station_or_login(&global, set)?, within, &options, screen)
        }
        Command::Fsck(options) => history::fsck(&station(&global)?, options, screen),
        Command::Retention(Retention::Explain { path, limit }) => {
            retention::explain(&station(&global)?, parse_place(&path)?, &path, limit, screen)
        }
        Command::Scrub(what) => scrub::scrub(&station(&global)?, what, screen),
        Command::Retention(options) => retention::retention(&station(&global)?, options, screen),
        Command::Point(Point::LastGood { set }) => {
            let station = station_or_login(&global, Some(&set))?;
            points::last_good(&station, set, screen)
        }
        Command::Point(point @ Point::List { set: None }) => {
            points::point(&station_or_login(&global, None)?, point, screen)
        }
        Command::Point(Point::List { set: Some(set) }) => {
            let station = station_or_login(&global, Some(&set))?;
            points::point(&station, Point::List { set: Some(set) }, screen)
        }
        Command::Point(point) => points::point(&station(&global)?, point, screen),
        Command::Alarm(what) => alarms::alarm(&station(&global)?, what, screen),
        Command::Audit(Audit::Show(options)) => audit::show(&station(&global)?, options, screen),
        Command::Audit(Audit::Verify { head, folder }) => {
            audit::verify(|| station(&global), head, folder, screen)
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "keepshare", &mut text);
            text.flush().map_err(anyhow::Error::new)?;
            screen.bytes(&text)
        }
    }
}
