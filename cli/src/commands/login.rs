//! `keepshare login`.
//!
//! [`log_in`] gets the ticket, from the station of this machine over its socket or from another one over HTTPS; what is
//! printed here others may mount.

use std::{
    fmt::Write,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use keepshare_control::{
    Code, Failure, Outcome,
    client::Client,
    login::{LoginAnswer, LoginQuestion, ResumeQuestion, SessionAnswer},
    questions::{GetTicket, Secret, SessionRevoke, Which},
};
use keepshare_identity::tls::SeenStation;
use keepshare_versioning::when::machine_zone;
use keepshare_web::client::{ClientError, LoginClient, probe};

use crate::{
    asked::{as_user, find_login},
    cli::LoginOptions,
    commands::run::runtime,
    known::Known,
    nfs_mount,
    output::Screen,
    output::safe,
    output::time_text,
    password,
    who::Who,
};

/// Gets a ticket and says how to mount with it, or takes a mounted drive along.
pub(crate) fn login(
    local: impl FnOnce() -> Outcome<Client>,
    options: &LoginOptions,
    screen: &Screen,
) -> Outcome<()> {
    let who: Who = options.who.parse()?;
    if options.resume {
        let session = resume(&who, options)?;
        return screen.value(&session, |session| resumed_text(session, is_drive_here()));
    }
    let answer = log_in(local, &who, options, Wants::TheLogin)?;
    let commands = Commands::new(who.host(), &answer, None);
    let value = serde_json::json!({ "station": who.host(), "login": answer, "commands": commands });
    match screen.is_json() {
        true => screen.json(&flat(value)),
        false => screen.bytes(render(&answer, commands.as_ref()).as_bytes()),
    }
}

/// Ends all logins of a user at a station that are remembered here, there and here. Where the station cannot be reached they are
/// forgotten all the same, and that they live on is told.
pub(crate) fn logout(who: Option<&str>, screen: &Screen) -> Outcome<()> {
    let who = match who {
        Some(who) => find_login(who, None)?.who,
        None => Known::of_user().newest(None, None)?.map(|login| login.who).ok_or_else(|| {
            Failure::not_found("no login is remembered here").hint("keepshare login USER@STATION")
        })?,
    };
    let (mut ended, mut unreached) = (0, None);
    for login in Known::of_user().logins_of(&who)? {
        let question = SessionRevoke { which: Which::This, dry_run: false };
        match as_user(&login).and_then(|station| station.ask_one(&question)) {
            Ok(_) => ended += 1,
            // It had ended already, or the station is another one now.
            Err(failure) if failure.code != Code::Unavailable => {}
            Err(failure) => unreached = Some(failure),
        }
        Known::of_user().forget(&login)?;
    }
    if let Some(failure) = unreached {
        return Err(failure
            .context(format!("{who} is forgotten here, and not logged out at the station"))
            .hint("ask the station's admin for keepshare session revoke; else the login ends after 30 days"));
    }
    screen.value(&serde_json::json!({ "logged_out": who, "logins_ended": ended }), |_| {
        format!("{who} is logged out; a drive that was mounted with a login of this machine has ended.\n")
    })
}

/// What somebody logs in for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wants {
    /// To ask, above all: which set could be mounted with it need not be said.
    TheLogin,
    /// To mount a set.
    TheDrive,
}

/// Logs in with a password and returns the ticket.
pub(crate) fn log_in(
    local: impl FnOnce() -> Outcome<Client>,
    who: &Who,
    options: &LoginOptions,
    wants: Wants,
) -> Outcome<LoginAnswer> {
    let any_set = wants == Wants::TheLogin && options.set.is_none();
    let client_uid = (!options.shared).then(|| options.uid.unwrap_or_else(own_uid));
    match &who.station {
        None => {
            let station = local()?;
            let password = Secret(password::password(&who.user, options.password_stdin)?);
            let request = GetTicket {
                user: who.user.clone(),
                password,
                set: options.set.clone(),
                any_set,
                client_address: options.address.unwrap_or(Ipv4Addr::LOCALHOST.into()),
                client_uid,
                any_port: options.any_port,
            };
            station.ask_one(&request)
        }
        Some(station) => {
            let (known, trusted) = trusted(station, options)?;
            let question = LoginQuestion {
                user: who.user.clone(),
                password: password::password(&who.to_string(), options.password_stdin)?,
                set: options.set.as_ref().map(ToString::to_string),
                any_set,
                client_address: options.address,
                client_uid,
                shared: options.shared,
                any_port: options.any_port,
            };
            let client = LoginClient::new(station, &trusted).map_err(ClientError::failure)?;
            let answer =
                runtime()?.block_on(client.login(&question)).map_err(ClientError::failure)?;
            known.remember_secret(&who.to_string(), &answer.set, &answer.resume_secret)?;
            Ok(answer)
        }
    }
}

/// Takes the drive of the newest login that the station still knows to another address.
fn resume(who: &Who, options: &LoginOptions) -> Outcome<SessionAnswer> {
    let Some(station) = &who.station else {
        return Err(Failure::usage("a drive is taken along at a station's HTTPS door")
            .hint("name the station: keepshare login USER@STATION --resume"));
    };
    let (known, trusted) = trusted(station, options)?;
    let set = options.set.as_ref().map(ToString::to_string);
    let secrets = known.secrets(&who.to_string(), set.as_deref())?;
    let client = LoginClient::new(station, &trusted).map_err(ClientError::failure)?;
    let runtime = runtime()?;
    for secret in secrets {
        let resume_secret = secret.reveal();
        let question = ResumeQuestion { resume_secret, client_address: options.address };
        match runtime.block_on(client.resume(&question)) {
            Ok(session) => return Ok(session),
            // A login that was never mounted, or a session that has ended: an older one may live.
            Err(ClientError::Refused { status: UNAUTHORIZED, .. }) => {}
            Err(error) => return Err(error.failure()),
        }
    }
    Err(Failure::not_found(format!(
        "no login of {who} that is remembered here has a session at the station"
    ))
    .hint("a session begins when a drive is mounted: log in without --resume, and mount"))
}

/// Says what a session that was taken along is worth: whether a drive is mounted under it only its machine knows.
fn resumed_text(session: &SessionAnswer, is_drive_here: Option<bool>) -> String {
    let SessionAnswer { set, client_address, last_used, .. } = session;
    let used = time_text(last_used, machine_zone());
    let mounted = match is_drive_here {
        Some(false) => {
            "\nNo drive is mounted on this machine: where none is, log in without --resume and mount."
        }
        Some(true) | None => "",
    };
    format!(
        "The session of {set}, used last at {used}, counts from {client_address} now, and from there alone.\n\
         A drive that is mounted under it goes on by itself.{mounted}\n"
    )
}

/// Tells whether any drive is mounted on this machine, where that is known.
fn is_drive_here() -> Option<bool> {
    let mounts = std::fs::read("/proc/self/mounts").ok()?;
    Some(nfs_mount::has_drive(&mounts))
}

/// Returns the station that must be at an address: known, named, or accepted now.
fn trusted(address: &str, options: &LoginOptions) -> Outcome<(Known, SeenStation)> {
    let known = Known::of_user();
    let remembered = known.station(address)?;
    if let (None, Some((ca, Some(name)))) = (options.ca, &remembered) {
        return Ok((known, SeenStation { ca: *ca, name: name.clone() }));
    }
    let seen = runtime()?.block_on(probe(address)).map_err(ClientError::failure)?;
    match (options.ca, remembered) {
        (Some(named), _) if named != seen.ca => return Err(ClientError::other_station(address)),
        (None, Some((ca, _))) if ca != seen.ca => return Err(ClientError::other_station(address)),
        // Another member of the cluster, and nobody said that it took the place of the first.
        (Some(_), Some((ca, Some(name)))) if ca == seen.ca && name != seen.name => {
            return Err(ClientError::other_station(address));
        }
        (None, None) if !options.accept_new && !accepts(address, &seen)? => {
            return Err(Failure::refused(format!("the station {address} is not known here")).hint(
                "compare its CA with what keepshare status shows there, then give it with --ca",
            ));
        }
        _ => {}
    }
    known.remember_station(address, &seen)?;
    Ok((known, seen))
}

fn accepts(address: &str, seen: &SeenStation) -> Outcome<bool> {
    let (address, SeenStation { ca, name }) = (safe(address), seen);
    password::confirm(&format!(
        "The station {address} is new here. It is {name}, and its cluster's CA is\n\n  {ca}\n\n\
         Both must be what keepshare status shows there. Are they?"
    ))
}

/// Returns the uid of whoever types: behind sudo the one who did.
fn own_uid() -> u32 {
    let sudo = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    let own = rustix::process::getuid().as_raw();
    if own == 0 { sudo.unwrap_or(0) } else { own }
}

/// How a ticket is mounted on each system.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Commands {
    linux: String,
    macos: String,
    windows: String,
}

impl Commands {
    /// Returns them, to mount at `folder` where one is named; none where the station serves no drive.
    pub(crate) fn new(host: &str, answer: &LoginAnswer, folder: Option<&Path>) -> Option<Self> {
        let (nfs, mount) = (answer.nfs_port?, answer.mount_port?);
        let (path, set) = (&answer.mount_path, &answer.set);
        let v6 = matches!(host.trim_matches(['[', ']']).parse(), Ok(IpAddr::V6(_)));
        let proto = if v6 { "tcp6" } else { "tcp" };
        let options = nfs_mount::options(proto);
        let options = format!("{options},port={nfs},mountport={mount},nosuid,nodev");
        let quoted = |folder: &Path| quote(&folder.to_string_lossy());
        let at = folder.map_or_else(|| format!("/mnt/{set}"), quoted);
        let at_home = folder.map_or_else(|| format!("~/{set}"), quoted);
        let from = format!("{host}:{path}");
        let linux = format!("sudo mkdir -p {at} && sudo mount -t nfs -o {options} {from} {at}");
        Some(Self {
            macos: format!(
                "mkdir -p {at_home} && sudo mount -t nfs -o vers=3,tcp,resvport,port={nfs},mountport={mount},nolocks {from} {at_home}"
            ),
            windows: format!(r"mount -o anon,nolock \\{host}{} X:", path.replace('/', r"\")),
            linux,
        })
    }

    /// Returns the command for the system that this runs on.
    pub(crate) fn here(&self) -> &str {
        if cfg!(target_os = "macos") { &self.macos } else { &self.linux }
    }
}

/// Writes a path so that a shell takes it as one word.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:~".contains(c);
    if text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn render(answer: &LoginAnswer, commands: Option<&Commands>) -> String {
    let expires = time_text(&answer.expires, machine_zone());
    let LoginAnswer { user, set, client_address, .. } = answer;
    let users = match answer.client_uid {
        Some(uid) if answer.any_port => {
            format!("by the user with number {uid} there alone, from any port")
        }
        Some(uid) => format!("by the user with number {uid} there alone"),
        None => "by all users there".to_owned(),
    };
    let mut text = format!(
        "{user} may mount {set} once, until {expires}, from {client_address}; it can be used {users}.\n"
    );
    match commands {
        Some(Commands { linux, macos, windows, .. }) => {
            let _ = write!(
                text,
                "\n  Linux    {linux}\n  macOS    {macos}\n  Windows  {windows}\n\n\
                 Windows needs a login with --shared, and a station that answers on port 111.\n"
            );
        }
        None => text += "The station serves no network drive: nfs is off in its config.\n",
    }
    text
}

/// Puts the fields of the login beside the others.
fn flat(mut value: serde_json::Value) -> serde_json::Value {
    if let Some(object) = value.as_object_mut()
        && let Some(serde_json::Value::Object(login)) = object.remove("login")
    {
        object.extend(login);
    }
    value
}

/// What a station says to a secret that it does not know.
const UNAUTHORIZED: u16 = 401;

#[cfg(test)]
mod tests {
    use super::*;

    /// What was not looked at is not told.
    #[test]
    fn a_resumed_session_is_no_mounted_drive() {
        let session = SessionAnswer {
            id: "0123456789abcdef".into(),
            user: "anna".into(),
            set: "projects".into(),
            client_address: "10.0.0.7".parse().unwrap(),
            client_uid: Some(1000),
            shared: false,
            any_port: false,
            mounted: true,
            created: "2026-11-20T14:00:00Z".into(),
            last_used: "2026-11-20T14:32:07Z".into(),
            revoked: None,
        };
        let nothing = resumed_text(&session, Some(false));
        assert!(nothing.contains("No drive is mounted on this machine"), "{nothing}");
        assert!(nothing.contains("counts from 10.0.0.7 now"), "{nothing}");
        for known in [Some(true), None] {
            let text = resumed_text(&session, known);
            assert!(!text.contains("No drive") && !text.contains("is mounted can"), "{text}");
        }
    }
}
