//! `keepshare session`.

use std::path::Path;

use keepshare_auth::UserName;
use keepshare_namespace::when::machine_zone;
use keepshare_web::messages::SessionAnswer;

use crate::{
    api::{
        Request,
        accounts::{AccountRequest, Ended, Which},
        client,
    },
    commands::users::sessions_text,
    failure::{Failure, Outcome},
    output::{Screen, Table, time_text},
};

/// Lists the sessions.
pub(crate) fn list(socket: &Path, screen: &Screen) -> Outcome<()> {
    let request = Request::Account(AccountRequest::SessionList);
    let sessions: Vec<SessionAnswer> = client::ask_all(socket, &request)?;
    screen.value(&sessions, |sessions| {
        if sessions.is_empty() {
            return "No drive is mounted; keepshare login USER@STATION begins one.\n".to_owned();
        }
        let zone = machine_zone();
        let headings = ["SESSION", "USER", "SET", "FROM", "CLIENT UID", "MOUNTED", "USED", ""];
        let mut table = Table::new(&headings);
        for session in sessions {
            let uid = session.client_uid.map_or_else(|| "shared".to_owned(), |uid| uid.to_string());
            let revoked = session.revoked.as_deref();
            table.row(vec![
                session.id.clone(),
                session.user.clone(),
                session.set.clone(),
                session.client_address.to_string(),
                uid,
                time_text(&session.created, zone),
                time_text(&session.last_used, zone),
                revoked.map_or_else(String::new, |at| format!("revoked {}", time_text(at, zone))),
            ]);
        }
        table.render(0)
    })
}

/// Ends one session, or all of a user.
pub(crate) fn revoke(
    socket: &Path,
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
    let request = Request::Account(AccountRequest::SessionRevoke { which, dry_run });
    let ended: Ended = client::ask_one(socket, &request)?;
    screen.value(&ended, |ended| format!("{}\n", sessions_text(ended)))
}
