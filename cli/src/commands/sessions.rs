//! `keepshare session`.

use chrono_tz::Tz;

use keepshare_auth::UserName;
use keepshare_control::login::SessionAnswer;
use keepshare_control::{
    Failure, Outcome,
    accounts::{AnySession, Ended, HostInfo},
    client::Client,
    questions::{SessionGrant, SessionList, SessionRevoke, Which},
};
use keepshare_versioning::when::machine_zone;

use crate::{
    cli::session::Grant, commands::users::sessions_text, output::Screen, output::Table,
    output::time_text, password,
};

/// Lists the sessions.
pub(crate) fn list(station: &Client, screen: &Screen) -> Outcome<()> {
    let request = SessionList {};
    let sessions: Vec<AnySession> = station.ask_all(&request)?;
    screen.value(&sessions, |sessions| {
        if sessions.is_empty() {
            return "Nobody is logged in; keepshare login USER@STATION begins a session.\n"
                .to_owned();
        }
        let zone = machine_zone();
        let headings = ["SESSION", "USER", "SET", "FROM", "CLIENT UID", "MOUNTED", "USED", ""];
        let mut table = Table::new(&headings);
        for session in sessions {
            table.row(match session {
                AnySession::Login(session) => login_row(session, zone),
                AnySession::Host(host) => host_row(host, zone),
            });
        }
        table.render(0)
    })
}

fn login_row(session: &SessionAnswer, zone: Tz) -> Vec<String> {
    let uid = match session.client_uid {
        None => "shared".to_owned(),
        Some(uid) if session.any_port => format!("{uid}, any port"),
        Some(uid) => uid.to_string(),
    };
    let revoked = session.revoked.as_deref();
    vec![
        session.id.clone(),
        session.user.clone(),
        session.set.clone(),
        session.client_address.to_string(),
        uid,
        match session.mounted {
            true => time_text(&session.created, zone),
            false => "not mounted".to_owned(),
        },
        time_text(&session.last_used, zone),
        revoked.map_or_else(String::new, |at| format!("revoked {}", time_text(at, zone))),
    ]
}

fn host_row(session: &HostInfo, zone: Tz) -> Vec<String> {
    let HostInfo { id, host, set, may_write, any_port, created } = session;
    let may = if *may_write { "write" } else { "read" };
    let ports = if *any_port { ", any port" } else { "" };
    vec![
        id.clone(),
        "any".to_owned(),
        set.to_string(),
        format!("host {host}, {may}"),
        format!("as claimed{ports}"),
        String::new(),
        String::new(),
        format!("granted {}", time_text(created, zone)),
    ]
}

/// Trusts machines, when whoever types it has been told what that means.
pub(crate) fn grant(station: &Client, options: Grant, screen: &Screen) -> Outcome<()> {
    let Grant { range, set, write, any_port, yes } = options;
    let may = if write { "read, and restore from," } else { "read" };
    let ports = match any_port {
        true => " Calls are taken from any port: every program there can be any of them.",
        false => "",
    };
    let meaning = format!(
        "All users of {range} are believed who they say they are, without a password: each may {may} \
         the set {set} with the rights of whatever user they name, but root.{ports}"
    );
    if !yes && !password::confirm(&format!("{meaning}\nIs that meant?"))? {
        return Err(Failure::refused(meaning).hint("if that is meant, say --yes"));
    }
    let request = SessionGrant { host: range, set, may_write: write, any_port };
    let granted: HostInfo = station.ask_one(&request)?;
    screen.value(&granted, |HostInfo { id, set, .. }| {
        format!("{meaning}\nThey mount STATION:/{set}; keepshare session revoke {id} ends it.\n")
    })
}

/// Ends one session, or all of a user.
pub(crate) fn revoke(
    station: &Client,
    id: Option<String>,
    user: Option<&UserName>,
    dry_run: bool,
    screen: &Screen,
) -> Outcome<()> {
    let which = match (id, user) {
        (Some(id), None) => Which::Session(id),
        (None, Some(user)) => Which::User(user.to_string()),
        _ => return Err(Failure::usage("name one session, or all of a user with --user")),
    };
    let request = SessionRevoke { which, dry_run };
    let ended: Ended = station.ask_one(&request)?;
    screen.value(&ended, |ended| format!("{}\n", sessions_text(ended)))
}
