use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use redb::{Database, backends::InMemoryBackend};

use super::*;
use crate::UserSets;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const PASSWORD: &str = "correct horse";

fn at(seconds: i64) -> Stamp {
    Stamp(1_800_000_000_000_000 + seconds * 1_000_000)
}

fn sets(names: &[&str]) -> Vec<SetName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn user(name: &str, sets: UserSets) -> User {
    let (uid, gid, groups) = (1000, 1000, Vec::new());
    User { name: name.parse().unwrap(), uid, gid, groups, may_write: true, sets, disabled: false }
}

fn accounts_with(audit: Audit) -> Accounts {
    let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
    let accounts = Accounts::open(Arc::new(db), audit).unwrap();
    accounts.add_user(user("anna", UserSets::All), PASSWORD, at(0)).unwrap();
    accounts
}

fn accounts() -> Accounts {
    accounts_with(Audit::none())
}

fn asks(user: &str, password: &str) -> LoginRequest {
    LoginRequest {
        user: user.to_owned(),
        password: password.to_owned(),
        set: None,
        any_set: false,
        binding: Binding { address: HOME, uid: Some(1000), any_port: false },
    }
}

/// Whoever guesses names must not learn which exist: not from the answer, not from the work done.
#[test]
fn an_unknown_user_is_answered_like_a_wrong_password() {
    let accounts = accounts();
    accounts
        .add_user(User { disabled: true, ..user("carl", UserSets::All) }, PASSWORD, at(0))
        .unwrap();
    let tries = [
        ("anna", "wrong password"),
        ("nobody", "wrong password"),
        ("nobody", PASSWORD),
        ("carl", PASSWORD),
        ("carl", "wrong password"),
        ("", ""),
        ("Anna", PASSWORD),
        ("a\0b/../c", PASSWORD),
    ];
    let mut answers = Vec::new();
    for (n, (user, password)) in (0u32..).zip(tries) {
        let peer = IpAddr::from((10 + n).to_be_bytes());
        let before = accounts.passwords_computed();
        let refused = accounts.login(&asks(user, password), peer, &sets(&["office"]), at(1));
        answers.push(format!("{:?}", refused.unwrap_err()));
        assert_eq!(accounts.passwords_computed() - before, 1, "{user}: one hash each");
    }
    answers.dedup();
    assert_eq!(answers, ["Wrong"]);
}

/// The limits stand before the hash: waiting costs the guesser, not the station.
#[test]
fn whoever_must_wait_costs_no_hash() {
    let accounts = accounts();
    for user in ["anna", "nobody"] {
        let peer = IpAddr::from([10, 1, 1, u8::try_from(user.len()).unwrap()]);
        let mut answers = Vec::new();
        let before = accounts.passwords_computed();
        for _ in 0..50 {
            answers.push(accounts.login(&asks(user, "wrong password"), peer, &[], at(1)));
        }
        let waiting = |answer: &Result<Login, LoginRefusal>| {
            matches!(answer, Err(LoginRefusal::TooSoon { retry_after_s: 1 }))
        };
        assert_eq!(answers.iter().filter(|answer| waiting(answer)).count(), 45, "{user}");
        assert_eq!(accounts.passwords_computed() - before, 5, "{user}");
    }
    let right = accounts.login(&asks("anna", PASSWORD), HOME, &sets(&["office"]), at(2));
    assert!(right.is_ok(), "nobody is locked out for good");
}

/// Guesses from elsewhere must not keep a user from the desk where the drive is mounted.
#[test]
fn users_with_a_mounted_drive_do_not_wait_for_strangers() {
    let accounts = accounts();
    let here = sets(&["office"]);
    let login = accounts.login(&asks("anna", PASSWORD), HOME, &here, at(1)).unwrap();
    let ticket = login.ticket.reveal();
    let (session, _) =
        accounts.sessions().redeem(ticket.as_bytes(), SocketAddr::new(HOME, 700), at(1)).unwrap();
    // More than a user has free from everywhere; none of these addresses guesses twice.
    for n in 0..100u32 {
        let peer = IpAddr::from(n.to_be_bytes());
        accounts.login(&asks("anna", "wrong password"), peer, &here, at(2)).unwrap_err();
    }
    let elsewhere = IpAddr::from([10, 0, 0, 2]);
    let tries = |peer| accounts.login(&asks("anna", PASSWORD), peer, &here, at(2));
    assert!(matches!(tries(elsewhere), Err(LoginRefusal::TooSoon { .. })));
    assert!(tries(HOME).is_ok());
    accounts.sessions().revoke(session, at(3)).unwrap();
    for n in 0..20u32 {
        let peer = IpAddr::from((1000 + n).to_be_bytes());
        let _ = accounts.login(&asks("anna", "wrong password"), peer, &here, at(3));
    }
    assert!(matches!(tries(HOME), Err(LoginRefusal::TooSoon { .. })), "no longer at home");
}

#[test]
fn a_login_gives_a_ticket_for_a_set_that_the_user_has() {
    let accounts = accounts();
    accounts
        .add_user(user("ben", UserSets::Only(sets(&["office", "away"]))), PASSWORD, at(0))
        .unwrap();
    let here = sets(&["office", "private"]);
    let login = |user: &str, set: Option<&str>| {
        let set = set.map(|set| set.parse().unwrap());
        accounts.login(&LoginRequest { set, ..asks(user, PASSWORD) }, HOME, &here, at(1))
    };
    assert_eq!(login("anna", Some("private")).unwrap().set.as_str(), "private");
    assert_eq!(login("ben", None).unwrap().set.as_str(), "office", "there is no choice");
    let Err(LoginRefusal::WhichSet(choice)) = login("anna", None) else { panic!("which?") };
    assert_eq!(choice, here);
    let any = LoginRequest { any_set: true, ..asks("anna", PASSWORD) };
    let any = accounts.login(&any, HOME, &here, at(1)).unwrap();
    assert_eq!(any.set, here[0], "whoever wants to log in need not choose");
    for set in ["private", "away", "nowhere"] {
        assert!(matches!(login("ben", Some(set)), Err(LoginRefusal::NoSuchSet(_))), "{set}");
    }
    let granted = login("anna", Some("office")).unwrap();
    assert_eq!(granted.expires, at(1 + i64::from(TICKET_TTL_S)));
    let mounted = accounts.sessions().redeem(
        granted.ticket.reveal().as_bytes(),
        SocketAddr::new(HOME, 700),
        at(2),
    );
    assert_eq!(mounted.unwrap().1.as_str(), "office");
}

#[test]
fn users_are_kept_as_they_were_added() {
    let accounts = accounts();
    let again = accounts.add_user(user("anna", UserSets::All), PASSWORD, at(1));
    assert!(matches!(again, Err(AccountError::Exists(_))));
    let short = accounts.add_user(user("ben", UserSets::All), "short", at(1));
    assert!(matches!(short, Err(AccountError::PasswordShort)));
    let crowded = User { groups: vec![1; 65], ..user("ben", UserSets::All) };
    let crowded = accounts.add_user(crowded, PASSWORD, at(1));
    assert!(matches!(crowded, Err(AccountError::TooMany)));
    accounts.add_user(user("abel", UserSets::Only(sets(&["a"]))), PASSWORD, at(1)).unwrap();
    let users = accounts.users().unwrap();
    assert_eq!(users, [user("abel", UserSets::Only(sets(&["a"]))), user("anna", UserSets::All)]);
    let abel = accounts.verify("abel", PASSWORD, HOME, at(1)).unwrap();
    assert_eq!(abel, users[0]);
    accounts.set_password(&abel.name, "another password", at(2)).unwrap();
    assert!(accounts.verify("abel", PASSWORD, HOME, at(3)).is_err());
    assert!(accounts.verify("abel", "another password", HOME, at(3)).is_ok());
}

/// What the audit log says must help the admin and nobody who steals it.
#[test]
fn the_audit_log_tells_what_happened_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = accounts_with(Audit::open(dir.path()).unwrap());
    let here = sets(&["office"]);
    accounts.login(&asks("hunter2hunter2", "x"), HOME, &here, at(1)).unwrap_err();
    accounts.login(&asks("anna", "wrong password"), HOME, &here, at(2)).unwrap_err();
    let login = accounts.login(&asks("anna", PASSWORD), HOME, &here, at(3)).unwrap();
    let ticket = login.ticket.reveal();
    let (session, _) =
        accounts.sessions().redeem(ticket.as_bytes(), SocketAddr::new(HOME, 700), at(4)).unwrap();
    accounts.sessions().redeem(b"wrong ticket", SocketAddr::new(HOME, 700), at(5)).unwrap_err();
    accounts.sessions().resume(&login.resume, HOME, at(6)).unwrap();
    accounts.sessions().revoke(session, at(7)).unwrap();
    accounts.set_password(&login.user, "another password", at(8)).unwrap();
    accounts.remove_user(&login.user, at(9)).unwrap();
    let text = std::fs::read_to_string(dir.path().join(crate::AUDIT_FILE)).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = lines
        .iter()
        .map(|line| format!("{} {}", line["event"].as_str().unwrap(), line["ok"]))
        .collect();
    let expected = [
        "user-add true",
        "login false",
        "login false",
        "login true",
        "mount true",
        "mount false",
        "resume true",
        "revoke true",
        "user-password true",
        "user-remove true",
    ];
    assert_eq!(told, expected);
    assert_eq!((&lines[2]["user"], lines[1].get("user")), (&"anna".into(), None));
    assert_eq!(lines[4]["address"], "10.0.0.1");
    assert_eq!(lines[4]["session"], session.to_string());
    let secrets =
        [&ticket, &login.resume.reveal(), PASSWORD, "wrong password", "hunter2", "wrong ticket"];
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in the audit log");
    }
}
