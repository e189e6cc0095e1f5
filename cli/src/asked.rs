//! Who is asked: the station of this machine on its socket, or another one as a user who logged in there.
//!
//! What only admins ask goes to the socket. What users ask too goes there as well where this machine has a station that
//! answers whoever types, and else to the station of a login that is remembered here.

use std::{
    io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use keepshare_base::SetName;
use keepshare_control::{Failure, Outcome, client::Client, questions::Location};
use keepshare_host::folders;
use keepshare_identity::tls::SeenStation;
use keepshare_station::config::{self, Config};
use keepshare_web::client::LoginClient;

use crate::{
    cli::Global,
    known::{Known, RememberedLogin},
    who::Who,
};

/// Returns the station of this machine, for what only admins ask. Who is logged in elsewhere and has no station here is refused, as the
/// station would refuse them.
pub(crate) fn station(global: &Global) -> Outcome<Client> {
    let refused = || Failure::refused("only an admin may do this, on the station itself");
    if global.login.is_some() {
        return Err(refused().hint("leave --as out, and type it where the station runs"));
    }
    let socket = socket(global)?;
    if !is_named(global) && is_closed(&socket) {
        let login = match from_environment(LOGIN_VARIABLE) {
            Some(who) => Some(who.to_string_lossy().into_owned()),
            None => Known::of_user().newest(None, None)?.map(|login| login.who),
        };
        if let Some(who) = login {
            return Err(refused().hint(format!(
                "you are logged in as {who}: type it as an admin where the station runs"
            )));
        }
    }
    Client::at_socket(&socket)
}

/// Returns the station of this machine, for logging in at it.
pub(crate) fn own_station(global: &Global) -> Outcome<Client> {
    Client::at_socket(&socket(global)?)
}

/// Returns who is asked about a set, or about the caller's own logins: as an admin here, or as a user elsewhere.
pub(crate) fn station_or_login(global: &Global, set: Option<&SetName>) -> Outcome<Client> {
    let login = match (&global.login, from_environment(LOGIN_VARIABLE)) {
        (Some(who), _) => Some(who.clone()),
        (None, Some(who)) => Some(who.to_string_lossy().into_owned()),
        (None, None) => None,
    };
    if let Some(who) = login {
        return as_user(&find_login(&who, set)?);
    }
    let socket = socket(global)?;
    if is_named(global) || !is_closed(&socket) {
        return Client::at_socket(&socket);
    }
    match Known::of_user().newest(None, set)? {
        Some(login) => as_user(&login),
        None => Err(Failure::unavailable(
            "no station of this machine answers you, and no login is remembered here",
        )
        .hint("keepshare login USER@STATION; an admin starts a station here with keepshare run")),
    }
}

/// Returns the login that is remembered of a user at a station.
pub(crate) fn find_login(who: &str, set: Option<&SetName>) -> Outcome<RememberedLogin> {
    let who: Who = who.parse()?;
    let none = || {
        let hint = match who.is_elsewhere() {
            true => format!("keepshare login {who}"),
            false => "write USER@STATION, as in keepshare login".to_owned(),
        };
        Failure::not_found(format!("no login of {who} is remembered here")).hint(hint)
    };
    Known::of_user().newest(Some(&who.to_string()), set)?.ok_or_else(none)
}

/// Returns who is asked with the secret of a login.
pub(crate) fn as_user(login: &RememberedLogin) -> Outcome<Client> {
    let RememberedLogin { who, address, secret, .. } = login;
    match Known::of_user().station(address)? {
        Some((ca, Some(name))) => {
            let seen = SeenStation { ca, name };
            let client = LoginClient::new(address, &seen).map_err(|error| error.failure())?;
            client.with_secret(secret)
        }
        _ => Err(Failure::refused(format!("which station is at {address} is not known here"))
            .hint(format!("log in again: keepshare login {who}"))),
    }
}

/// Returns the set that somebody named, if it was one.
pub(crate) fn set_of(place: &Location) -> Option<&SetName> {
    match place {
        Location::Set { set, .. } => Some(set),
        Location::Local(_) => None,
    }
}

/// Returns the config that is meant: named itself, by the environment, or the default one.
pub(crate) fn config_path(global: &Global) -> PathBuf {
    global
        .config
        .clone()
        .or_else(|| from_environment(CONFIG_VARIABLE))
        .unwrap_or_else(folders::station_config)
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
    if let Some(config) = from_environment(CONFIG_VARIABLE) {
        return of_config(config);
    }
    let own = config::default_socket();
    // Whoever has no station of their own may be one of the machine's admins.
    let machines = Path::new(MACHINES_SOCKET);
    let is_machines = !own.exists() && UnixStream::connect(machines).is_ok();
    Ok(if is_machines { machines.to_owned() } else { own })
}

/// The socket of the station that root runs.
const MACHINES_SOCKET: &str = "/var/lib/keepshare/keepshare.sock";

/// Tells whether somebody said which station of this machine is meant.
fn is_named(global: &Global) -> bool {
    global.socket.is_some()
        || global.config.is_some()
        || [SOCKET_VARIABLE, CONFIG_VARIABLE].iter().any(|name| from_environment(name).is_some())
}

/// Tells whether there is no station here for whoever types: none at all, or somebody else's. One that does not run now is
/// this machine's all the same.
fn is_closed(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => false,
        Err(error) => match error.kind() {
            io::ErrorKind::PermissionDenied => true,
            io::ErrorKind::NotFound => !folders::station_config().exists(),
            _ => false,
        },
    }
}

/// Returns a path that the environment names.
fn from_environment(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// Names the socket where `--socket` does not.
const SOCKET_VARIABLE: &str = "KEEPSHARE_SOCKET";

/// Names the config where `--config` does not.
const CONFIG_VARIABLE: &str = "KEEPSHARE_CONFIG";

/// Names the login where `--as` does not.
const LOGIN_VARIABLE: &str = "KEEPSHARE_AS";
