//! What a station answers about users and sessions on its Unix socket.

use std::net::{IpAddr, Ipv4Addr};

use keepshare_auth::{
    AccountError, Accounts, Binding, HostGrant, HostSession, LoginRefusal, LoginRequest, SessionId,
    SessionInfo, User, UserName, UserSets,
};
use keepshare_control::login::{LoginAnswer, NO_SET_HINT};
use keepshare_control::{
    Code, Failure, Outcome,
    accounts::{AccountRequest, AnySession, Ended, HostInfo, Secret, UserInfo, Which},
    server::Reply,
};
use keepshare_host::clock;

use crate::{service::Station, users_door};

/// Where commands on the station itself come from, as the limits on passwords see it.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Answers a request.
pub(crate) fn answer(station: &Station, request: AccountRequest, reply: &mut Reply) -> Outcome<()> {
    let accounts = &*station.accounts;
    match request {
        AccountRequest::UserAdd { user, password } => reply.item(&add(station, user, &password)?),
        AccountRequest::UserList => {
            let users = accounts.users().map_err(failure)?;
            users.into_iter().try_for_each(|user| reply.item(&UserInfo::from(user)))
        }
        AccountRequest::UserRemove { name, dry_run: true } => {
            let name = known_user(accounts, &name)?;
            reply.item(&would_end(accounts, |session| session.user == name))
        }
        AccountRequest::UserRemove { name, dry_run: false } => {
            let ended = accounts.remove_user(&user_name(&name)?, clock::now()).map_err(failure)?;
            reply.item(&ended_of(ended, &name)?)
        }
        AccountRequest::UserPassword { name, password: Secret(password) } => {
            let changed = accounts.set_password(&user_name(&name)?, &password, clock::now());
            reply.item(&ended_of(changed.map_err(failure)?, &name)?)
        }
        AccountRequest::SessionList => {
            let hosts = accounts.sessions().hosts().into_iter();
            let hosts = hosts.map(|host| AnySession::Host(host.into()));
            let logins = accounts.sessions().list().into_iter();
            let logins = logins.map(|login| AnySession::Login(login.into()));
            hosts.chain(logins).try_for_each(|session| reply.item(&session))
        }
        AccountRequest::SessionGrant { host, set, may_write, any_port } => {
            let asked = HostGrant { range: host, set, may_write, any_port };
            reply.item(&grant(station, asked)?)
        }
        AccountRequest::SessionRevoke { which, dry_run } => {
            reply.item(&revoke(accounts, &which, dry_run)?)
        }
        AccountRequest::Login { user, password, set, client_address, client_uid, any_port } => {
            let Secret(password) = password;
            let binding = Binding { address: client_address, uid: client_uid, any_port };
            let request = LoginRequest { user, password, set, binding };
            let login = accounts.login(&request, HERE, &station.mountable(), clock::now());
            let login = login.map_err(login_failure)?;
            let ports = users_door::ports(station).map(|ports| (ports.nfs, ports.mount));
            reply.item(&LoginAnswer::new(&login, ports))
        }
    }
}

fn add(station: &Station, info: UserInfo, password: &Secret) -> Outcome<UserInfo> {
    let accounts = &*station.accounts;
    let UserInfo { name, uid, gid, groups, may_write, sets } = info;
    let kept = station.kept();
    if let Some(unknown) = sets.iter().flatten().find(|set| !kept.contains(set)) {
        let known: Vec<String> = kept.iter().map(ToString::to_string).collect();
        let hint = match known.as_slice() {
            [] => {
                "this station keeps no set yet: add one first, keepshare status says how".to_owned()
            }
            _ => format!("this station keeps {}", known.join(", ")),
        };
        return Err(Failure::not_found(format!(
            "there is no set '{unknown}' that a user could mount here"
        ))
        .hint(hint));
    }
    let name = user_name(&name)?;
    let sets = sets.map_or(UserSets::All, UserSets::Only);
    let user = User { name, uid, gid, groups, may_write, sets, disabled: false };
    accounts.add_user(user.clone(), &password.0, clock::now()).map_err(failure)?;
    Ok(user.into())
}

fn grant(station: &Station, asked: HostGrant) -> Outcome<HostInfo> {
    if !station.mountable().contains(&asked.set) {
        return Err(Failure::not_found(format!(
            "there is no set '{}' here that can be mounted",
            asked.set
        ))
        .hint("keepshare set list shows the sets; a drive shows those that a station receives"));
    }
    let created = clock::now();
    let granted = station.accounts.sessions().grant_host(asked.clone(), created);
    let id = granted.map_err(failure)?;
    let HostGrant { range, set, may_write, any_port } = asked;
    Ok(HostSession { id, range, set, may_write, any_port, created }.into())
}

fn revoke(accounts: &Accounts, which: &Which, dry_run: bool) -> Outcome<Ended> {
    let (sessions, now) = (accounts.sessions(), clock::now());
    match which {
        Which::User(name) => {
            let name = known_user(accounts, name)?;
            if dry_run {
                return Ok(would_end(accounts, |session| session.user == name));
            }
            Ok(done(sessions.revoke_user(&name, now).map_err(failure)?))
        }
        Which::Session(id) => {
            let hint = "keepshare session list shows the sessions";
            let id: SessionId =
                id.parse().map_err(|error| Failure::because(Code::Usage, error).hint(hint))?;
            let ended = match dry_run {
                true => {
                    let is_host = accounts.sessions().hosts().iter().any(|host| host.id == id);
                    let mut ended = would_end(accounts, |session| session.id == id);
                    ended.sessions_ended += usize::from(is_host);
                    ended
                }
                false => done(usize::from(sessions.revoke(id, now).map_err(failure)?)),
            };
            if ended.sessions_ended == 0 {
                return Err(
                    Failure::not_found(format!("there is no living session {id}")).hint(hint)
                );
            }
            Ok(ended)
        }
    }
}

fn done(sessions_ended: usize) -> Ended {
    Ended { sessions_ended, dry_run: false }
}

/// Counts what would end.
fn would_end(accounts: &Accounts, which: impl Fn(&SessionInfo) -> bool) -> Ended {
    let sessions = accounts.sessions().list();
    let living = sessions.iter().filter(|session| session.revoked.is_none());
    Ended { sessions_ended: living.filter(|session| which(session)).count(), dry_run: true }
}

fn known_user(accounts: &Accounts, name: &str) -> Outcome<UserName> {
    let name = user_name(name)?;
    let is_known = accounts.users().map_err(failure)?.iter().any(|user| user.name == name);
    if is_known { Ok(name) } else { Err(no_user(name.as_str())) }
}

fn ended_of(sessions_ended: Option<usize>, name: &str) -> Outcome<Ended> {
    sessions_ended.map(done).ok_or_else(|| no_user(name))
}

fn no_user(name: &str) -> Failure {
    Failure::not_found(format!("there is no user '{name}'"))
        .hint("keepshare user list shows the users of this station")
}

fn user_name(name: &str) -> Outcome<UserName> {
    name.parse().map_err(|error| Failure::because(Code::Usage, anyhow::Error::new(error)))
}

fn failure(error: AccountError) -> Failure {
    let code = match &error {
        AccountError::Exists(_)
        | AccountError::TooMany
        | AccountError::HostGranted(_)
        | AccountError::TooManyHosts => Code::Refused,
        AccountError::PasswordShort | AccountError::PasswordLong => Code::Usage,
        AccountError::Busy => Code::Unavailable,
        _ => Code::Failed,
    };
    let hint = match &error {
        AccountError::Exists(_) => {
            Some("keepshare user password changes a password, keepshare user remove removes a user")
        }
        AccountError::HostGranted(_) | AccountError::TooManyHosts => {
            Some("keepshare session list shows them, keepshare session revoke ID ends one")
        }
        AccountError::Busy => Some("try again"),
        _ => None,
    };
    let failure = Failure::because(code, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Returns what a login that was refused is to whoever typed it.
fn login_failure(refusal: LoginRefusal) -> Failure {
    match &refusal {
        LoginRefusal::TooSoon { .. } | LoginRefusal::Busy => {
            Failure::new(Code::Unavailable, refusal)
        }
        LoginRefusal::NoSuchSet(_) => Failure::not_found(refusal)
            .hint("keepshare set list shows the sets; keepshare user list who may mount which"),
        LoginRefusal::WhichSet(sets) if !sets.is_empty() => {
            Failure::usage(refusal).hint("say which with --set")
        }
        LoginRefusal::WhichSet(_) => Failure::not_found(refusal).hint(NO_SET_HINT),
        LoginRefusal::Failed(_) => Failure::because(Code::Failed, refusal),
        _ => Failure::refused(refusal).hint(
            "keepshare user list shows the users, keepshare user password changes a password",
        ),
    }
}
