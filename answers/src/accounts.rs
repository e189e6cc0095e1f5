//! What a station answers about users and sessions.

use std::net::{IpAddr, Ipv4Addr};

use keepshare_auth::{
    AccountError, Accounts, Binding, HostGrant, HostSession, LoginRefusal, LoginRequest, SessionId,
    SessionInfo, User, UserName, UserSets,
};
use keepshare_control::login::{LoginAnswer, NO_SET_HINT};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    accounts::{AnySession, Ended, HostInfo, UserInfo},
    caller::Caller,
    questions::{
        GetTicket, Passwd, Secret, SessionGrant, SessionList, SessionRevoke, UserAdd, UserList,
        UserPassword, UserRemove, Which,
    },
    router::Answers,
};
use keepshare_host::clock;

use super::StationAnswers;
use keepshare_station::station::Station;

/// Where commands on the station itself come from, as the limits on passwords see it.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Answers<UserAdd> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        UserAdd { user, password }: UserAdd,
        reply: &mut Reply,
    ) -> Outcome<()> {
        reply.item(&add(self.first()?, user, &password)?)
    }
}

impl Answers<UserList> for StationAnswers {
    fn answer(&self, _: &Caller, _: UserList, reply: &mut Reply) -> Outcome<()> {
        let accounts = &*self.first()?.accounts;
        let users = accounts.users().map_err(failure)?;
        users.into_iter().try_for_each(|user| reply.item(&UserInfo::from(user)))
    }
}

impl Answers<UserRemove> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        UserRemove { name, dry_run }: UserRemove,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let accounts = &*self.first()?.accounts;
        if dry_run {
            let name = known_user(accounts, &name)?;
            return reply.item(&would_end(accounts, |session| session.user == name));
        }
        let ended = accounts.remove_user(&user_name(&name)?, clock::now()).map_err(failure)?;
        reply.item(&ended_of(ended, &name)?)
    }
}

impl Answers<UserPassword> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        UserPassword { name, password: Secret(password) }: UserPassword,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let accounts = &*self.first()?.accounts;
        let changed = accounts.set_password(&user_name(&name)?, &password, clock::now());
        reply.item(&ended_of(changed.map_err(failure)?, &name)?)
    }
}

impl Answers<Passwd> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: Passwd, reply: &mut Reply) -> Outcome<()> {
        let Caller::User(user) = caller else {
            return Err(Failure::usage("passwd is for a user who logged in")
                .hint("keepshare user password NAME changes a user's password"));
        };
        let accounts = &*self.first()?.accounts;
        let (name, Passwd { old: Secret(old), new: Secret(new) }) = (&user.principal.user, asked);
        let checked = accounts.verify(name, &old, user.address, clock::now());
        let checked = checked.map_err(|refusal| match refusal {
            LoginRefusal::Wrong => Failure::refused("the present password is wrong"),
            refusal => login_failure(refusal),
        })?;
        let changed = accounts.set_password(&checked.name, &new, clock::now());
        let ended = ended_of(changed.map_err(failure)?, name);
        reply.item(&ended.map_err(|failure| failure.hint("ask the station's admin"))?)
    }
}

impl Answers<SessionList> for StationAnswers {
    fn answer(&self, caller: &Caller, _: SessionList, reply: &mut Reply) -> Outcome<()> {
        let sessions = self.first()?.accounts.sessions();
        let (hosts, logins) = match own_name(caller)? {
            Some(user) => (Vec::new(), sessions.list_of(&user)),
            None => (sessions.hosts(), sessions.list()),
        };
        let hosts = hosts.into_iter().map(|host| AnySession::Host(host.into()));
        let logins = logins.into_iter().map(|login| AnySession::Login(login.into()));
        hosts.chain(logins).try_for_each(|session| reply.item(&session))
    }
}

impl Answers<SessionGrant> for StationAnswers {
    fn answer(
        &self,
        _: &Caller,
        SessionGrant { host, set, may_write, any_port }: SessionGrant,
        reply: &mut Reply,
    ) -> Outcome<()> {
        let asked = HostGrant { range: host, set, may_write, any_port };
        reply.item(&grant(self.first()?, asked)?)
    }
}

impl Answers<SessionRevoke> for StationAnswers {
    fn answer(&self, caller: &Caller, asked: SessionRevoke, reply: &mut Reply) -> Outcome<()> {
        let accounts = &*self.first()?.accounts;
        reply.item(&revoke(accounts, &own_alone(accounts, caller, asked.which)?, asked.dry_run)?)
    }
}

impl Answers<GetTicket> for StationAnswers {
    fn answer(&self, _: &Caller, asked: GetTicket, reply: &mut Reply) -> Outcome<()> {
        let GetTicket { user, password, set, any_set, client_address, client_uid, any_port } =
            asked;
        let (station, Secret(password)) = (self.first()?, password);
        let binding = Binding { address: client_address, uid: client_uid, any_port };
        let request = LoginRequest { user, password, set, any_set, binding };
        let login = station.accounts.login(&request, HERE, &station.mountable(), clock::now());
        let login = login.map_err(login_failure)?;
        let ports = station.drive_ports().map(|ports| (ports.nfs, ports.mount));
        reply.item(&LoginAnswer::new(&login, ports))
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

/// Returns the name of a user who asks for what is theirs; none where an admin asks for everybody's.
fn own_name(caller: &Caller) -> Outcome<Option<UserName>> {
    match caller {
        Caller::User(user) => user_name(&user.principal.user).map(Some),
        Caller::Admin { .. } | Caller::Member(_) => Ok(None),
    }
}

/// Returns which sessions are meant, if the caller may end them. Somebody else's are answered like none.
fn own_alone(accounts: &Accounts, caller: &Caller, which: Which) -> Outcome<Which> {
    let Caller::User(user) = caller else {
        return match which {
            Which::This => {
                Err(Failure::usage("there is no login to end: this is the station itself"))
            }
            which => Ok(which),
        };
    };
    let own = user_name(&user.principal.user)?;
    match which {
        Which::This => Ok(Which::Session(user.session.to_string())),
        Which::User(name) if name == own.as_str() => Ok(Which::User(name)),
        Which::User(name) => Err(no_user(&name).hint(SESSIONS_HINT)),
        Which::Session(id) => {
            let sessions = accounts.sessions().list_of(&own);
            match sessions.iter().any(|session| session.id.to_string() == id) {
                true => Ok(Which::Session(id)),
                false => Err(no_session(&id)),
            }
        }
    }
}

fn no_session(id: &str) -> Failure {
    Failure::not_found(format!("there is no living session {id}")).hint(SESSIONS_HINT)
}

const SESSIONS_HINT: &str = "keepshare session list shows the sessions";

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
            let id: SessionId = id
                .parse()
                .map_err(|error| Failure::because(Code::Usage, error).hint(SESSIONS_HINT))?;
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
                return Err(no_session(&id.to_string()));
            }
            Ok(ended)
        }
        Which::This => Err(Failure::usage("which session is meant is not known")),
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
