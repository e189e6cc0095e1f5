use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use redb::Database;

use super::*;
use crate::{AUDIT_FILE, Accounts, Audit};

const MACHINE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 7));
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 1, 7));
const ANNA: Claim<'_> = Claim { uid: 1000, gid: 100, groups: &[4, 27] };

fn at(seconds: i64) -> Stamp {
    Stamp(1_800_000_000_000_000 + seconds * 1_000_000)
}

fn open(dir: &Path) -> Accounts {
    let db = Database::create(dir.join("auth.redb")).unwrap();
    Accounts::open(Arc::new(db), Audit::open(dir).unwrap()).unwrap()
}

fn set() -> SetName {
    "office".parse().unwrap()
}

fn range(text: &str) -> HostRange {
    text.parse().unwrap()
}

fn grant(text: &str, set: SetName, may_write: bool) -> HostGrant {
    HostGrant { range: range(text), set, may_write, any_port: false }
}

/// A machine's kernel, as it calls.
fn from(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 700)
}

fn granted(sessions: &Sessions, text: &str, may_write: bool) -> SessionId {
    sessions.grant_host(grant(text, set(), may_write), at(0)).unwrap()
}

#[test]
fn a_machine_of_the_range_is_believed_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    assert_eq!(
        sessions.host_for(from(MACHINE), &set(), at(0)),
        None,
        "there are none by themselves"
    );
    let id = granted(sessions, "10.0.0.0/24", true);
    assert_eq!(sessions.host_for(from(MACHINE), &set(), at(1)), Some(id));
    assert_eq!(sessions.host_for(from(ELSEWHERE), &set(), at(1)), None);
    assert_eq!(sessions.host_for(from(MACHINE), &"other".parse().unwrap(), at(1)), None);
    let mapped = "::ffff:10.0.0.7".parse().unwrap();
    assert_eq!(sessions.host_for(from(mapped), &set(), at(1)), Some(id));

    let admitted = sessions.check_host(id, from(MACHINE), Some(ANNA)).unwrap();
    assert_eq!(sessions.check_host(id, from(mapped), Some(ANNA)).unwrap(), admitted);
    let user = "host 10.0.0.7 uid 1000".to_owned();
    let anna = Principal { user, uid: 1000, gid: 100, groups: vec![4, 27], may_write: true };
    assert_eq!(*admitted.principal, anna);
    assert_eq!((admitted.client_uid, admitted.set), (None, set()));
    let elsewhere = sessions.check_host(id, from(ELSEWHERE), Some(ANNA));
    assert_eq!(elsewhere, Err(SessionRefusal::WrongAddress));
    let unknown = sessions.check_host(SessionId(id.0 ^ 1), from(MACHINE), Some(ANNA));
    assert_eq!(unknown, Err(SessionRefusal::Unknown));
    // Its number is no login's.
    let logged_in = sessions.check(id, from(MACHINE), Some(1000), at(1));
    assert_eq!(logged_in, Err(SessionRefusal::Unknown));
}

/// The root of a machine is not the station's root, whatever it writes into its calls.
#[test]
fn root_and_its_group_are_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    let id = granted(sessions, "10.0.0.7", false);
    let of = |claim| {
        let admitted = sessions.check_host(id, from(MACHINE), claim).unwrap();
        let Principal { user, uid, gid, groups, may_write } = (*admitted.principal).clone();
        assert!(!may_write && user == format!("host 10.0.0.7 uid {uid}"), "{user}");
        (uid, gid, groups)
    };
    let root = Claim { uid: 0, gid: 0, groups: &[0, 4, 0] };
    assert_eq!(of(Some(root)), (NOBODY, NOBODY, vec![4]));
    assert_eq!(of(Some(Claim { uid: 1000, ..root })), (1000, NOBODY, vec![4]));
    assert_eq!(of(Some(Claim { gid: 100, ..root })), (NOBODY, 100, vec![4]));
    assert_eq!(of(None), (NOBODY, NOBODY, vec![]), "AUTH_NONE");
    let many: Vec<_> = (1..100).collect();
    let claim = Claim { groups: &many, ..ANNA };
    assert_eq!(of(Some(claim)), (1000, 100, (1..=16).collect()));
}

#[test]
fn host_sessions_outlive_a_restart_until_they_are_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let kept = granted(accounts.sessions(), "10.0.0.0/24", true);
    let revoked = granted(accounts.sessions(), "10.0.1.0/24", false);
    assert!(accounts.sessions().revoke(revoked, at(1)).unwrap());
    assert!(!accounts.sessions().revoke(revoked, at(1)).unwrap(), "once is enough");
    let refused = accounts.sessions().check_host(revoked, from(ELSEWHERE), Some(ANNA));
    assert_eq!(refused, Err(SessionRefusal::Unknown));
    drop(accounts);
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    let (range, set, created) = (range("10.0.0.0/24"), set(), at(0));
    let kept = HostSession { id: kept, range, set, may_write: true, any_port: false, created };
    assert_eq!(sessions.hosts(), std::slice::from_ref(&kept));
    assert!(sessions.check_host(kept.id, from(MACHINE), Some(ANNA)).is_ok());
    assert_eq!(sessions.host_for(from(ELSEWHERE), &kept.set, at(2)), None);
    assert!(sessions.list().is_empty(), "they are no user's");
}

/// A disk that fails while a host session is ended must not bring it back with the next start.
#[test]
fn an_end_that_could_not_be_stored_is_stored_later() {
    for flushes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let accounts = open(dir.path());
        let sessions = accounts.sessions();
        let id = granted(sessions, "10.0.0.7", false);
        // What is left in memory when the transaction fails.
        sessions.hosts_mut().get_mut(&id).unwrap().is_revoked = true;
        let refused = sessions.check_host(id, from(MACHINE), Some(ANNA));
        assert_eq!(refused, Err(SessionRefusal::Revoked));
        assert_eq!(
            (sessions.host_for(from(MACHINE), &set(), at(1)), sessions.hosts()),
            (None, vec![])
        );
        if flushes {
            sessions.flush(at(2)).unwrap();
        } else {
            assert!(sessions.revoke(id, at(2)).unwrap());
        }
        drop(accounts);
        assert_eq!(open(dir.path()).sessions().hosts(), [], "flushed: {flushes}");
    }
}

#[test]
fn the_narrowest_range_counts_and_each_is_granted_once() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    let narrow = granted(sessions, "10.0.0.7", true);
    let wide = granted(sessions, "10.0.0.0/8", false);
    assert_eq!(sessions.host_for(from(MACHINE), &set(), at(1)), Some(narrow));
    assert_eq!(sessions.host_for(from(ELSEWHERE), &set(), at(1)), Some(wide));
    let again = sessions.grant_host(grant("10.0.0.7", set(), false), at(1));
    assert!(matches!(again, Err(AccountError::HostGranted(_))), "{again:?}");
    let other: SetName = "other".parse().unwrap();
    sessions.grant_host(grant("10.0.0.7", other.clone(), false), at(1)).unwrap();
    sessions.revoke(narrow, at(2)).unwrap();
    assert_eq!(sessions.host_for(from(MACHINE), &set(), at(3)), Some(wide));
    granted(sessions, "10.0.0.7", false);
}

#[test]
fn host_sessions_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    let template = granted(sessions, "10.0.0.7", false);
    let record = sessions.live_hosts()[&template].record.clone();
    for n in 1..HOSTS_MAX {
        let id = SessionId(u64::try_from(n).unwrap());
        sessions.hosts_mut().insert(id, Host::from(record.clone()));
    }
    let refused = sessions.grant_host(grant("10.0.0.8", set(), false), at(1));
    assert!(matches!(refused, Err(AccountError::TooManyHosts)), "{refused:?}");
}

#[test]
fn the_audit_log_tells_who_was_trusted_and_who_mounted() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    let id = granted(sessions, "10.0.0.0/24", true);
    sessions.host_for(from(MACHINE), &set(), at(1));
    // A ticket in the wrong place.
    let ticket: SetName = "0123456789abcdef0123456789abcdef".parse().unwrap();
    sessions.host_for(from(ELSEWHERE), &ticket, at(1));
    sessions.revoke(id, at(2)).unwrap();
    let log = || fs::read_to_string(dir.path().join(AUDIT_FILE)).unwrap();
    let text = log();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, told) in [
        (lines[0], &["\"session-grant\"", "10.0.0.0/24, write", "office"][..]),
        (lines[1], &["\"mount\"", "\"ok\":true", "\"10.0.0.7\"", "host session", "office"]),
        (lines[2], &["\"mount\"", "\"ok\":false", "\"10.0.1.7\""]),
        (lines[3], &["\"revoke\"", "10.0.0.0/24"]),
    ] {
        assert!(told.iter().all(|told| line.contains(told)), "{line}");
    }
    assert!(lines[..2].iter().chain([&lines[3]]).all(|line| line.contains(&id.to_string())));
    assert!(!text.contains(ticket.as_str()), "tickets are not logged");
    // Whoever can mount at will must not push the history out.
    for _ in 0..1000 {
        sessions.host_for(from(MACHINE), &set(), at(3));
    }
    assert!(log().lines().count() < 200);
}

/// A trusted machine is believed, and not everybody who has a program there.
#[test]
fn a_trusted_machine_calls_from_its_own_ports() {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    let id = granted(sessions, "10.0.0.0/24", false);
    let high = SocketAddr::new(MACHINE, 1025);
    assert_eq!(sessions.host_for(high, &set(), at(1)), None);
    for is_first in [true, false] {
        let refused = sessions.check_host(id, high, Some(ANNA));
        assert_eq!(refused, Err(SessionRefusal::UserPort { is_first }));
    }
    assert!(sessions.check_host(id, SocketAddr::new(MACHINE, 1023), Some(ANNA)).is_ok());
    let any = HostGrant { any_port: true, ..grant("10.0.0.7", set(), false) };
    let any = sessions.grant_host(any, at(1)).unwrap();
    assert_eq!(sessions.host_for(high, &set(), at(1)), Some(any));
    drop(accounts);
    let accounts = open(dir.path());
    let sessions = accounts.sessions();
    assert!(sessions.check_host(any, high, Some(ANNA)).is_ok());
    let ports: Vec<_> = sessions.hosts().iter().map(|host| (host.id, host.any_port)).collect();
    assert_eq!(ports, [(any, true), (id, false)]);
}
