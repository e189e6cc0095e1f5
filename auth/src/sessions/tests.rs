use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex},
};

use proptest::{prelude::*, test_runner::TestRunner};
use redb::{Database, ReadableTable};

use super::{
    seal::{SEALED_AT_ONCE, gather},
    *,
};
use crate::{Accounts, Binding, Login, User, UserSets};

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
const UID: u32 = 1000;
const PASSWORD: &str = "correct horse";

fn at(seconds: i64) -> Stamp {
    Stamp(1_800_000_000_000_000 + seconds * 1_000_000)
}

/// A client's kernel, as it calls.
fn from(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 700)
}

fn user(name: &str) -> User {
    User {
        name: name.parse().unwrap(),
        uid: 5000,
        gid: 5000,
        groups: vec![100],
        may_write: true,
        sets: UserSets::All,
        disabled: false,
    }
}

fn open(path: &Path) -> Accounts {
    let db = Database::create(path).unwrap();
    Accounts::open(Arc::new(db), Audit::none()).unwrap()
}

fn accounts() -> (tempfile::TempDir, Accounts) {
    let dir = tempfile::tempdir().unwrap();
    let accounts = open(&dir.path().join("auth.redb"));
    accounts.add_user(user("anna"), PASSWORD, at(0)).unwrap();
    (dir, accounts)
}

fn login_as(accounts: &Accounts, name: &str, client_uid: Option<u32>, now: Stamp) -> Login {
    let set = "office".parse().unwrap();
    let binding = Binding { address: HOME, uid: client_uid, any_port: false };
    accounts.ticket_for(&name.parse().unwrap(), &set, binding, now).unwrap().unwrap()
}

fn ticket(accounts: &Accounts, now: Stamp) -> String {
    login_as(accounts, "anna", Some(UID), now).ticket.reveal()
}

fn mount(accounts: &Accounts, now: Stamp) -> SessionId {
    let ticket = ticket(accounts, now);
    accounts.sessions().redeem(ticket.as_bytes(), from(HOME), now).unwrap().0
}

/// A ticket works once: whoever finds one in a shell's history gets nothing.
#[test]
fn a_used_ticket_is_refused_a_thousand_times() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let ticket = ticket(&accounts, at(0));
    let (session, set) = sessions.redeem(ticket.as_bytes(), from(HOME), at(1)).unwrap();
    assert_eq!(set.as_str(), "office");
    sessions.used(session);
    for n in 0..1000 {
        let refused = sessions.redeem(ticket.as_bytes(), from(HOME), at(1 + n / 10));
        assert!(matches!(refused, Err(TicketRefusal::Used)), "{refused:?}");
    }
    assert_eq!(sessions.list().len(), 1);
}

/// A mount that is repeated without end must not push the history out of the audit log.
#[test]
fn a_repeated_mount_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let db = Arc::new(Database::create(dir.path().join("auth.redb")).unwrap());
    let accounts = Accounts::open(db, Audit::open(dir.path()).unwrap()).unwrap();
    accounts.add_user(user("anna"), PASSWORD, at(0)).unwrap();
    let ticket = ticket(&accounts, at(0));
    for _ in 0..1000 {
        accounts.sessions().redeem(ticket.as_bytes(), from(HOME), at(1)).unwrap();
    }
    let log = std::fs::read_to_string(dir.path().join(crate::AUDIT_FILE)).unwrap();
    let events: Vec<_> = log.lines().map(|line| line.contains(r#""event":"mount""#)).collect();
    assert_eq!(events, [false, false, true], "{log}");
}

/// The answer to a mount may be lost; the client's second try must get in, as the same session.
#[test]
fn a_mount_may_be_repeated_until_the_drive_is_used() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let ticket = ticket(&accounts, at(0));
    let first = sessions.redeem(ticket.as_bytes(), from(HOME), at(1)).unwrap();
    for second in [2, 60, 119] {
        assert_eq!(sessions.redeem(ticket.as_bytes(), from(HOME), at(second)).unwrap(), first);
    }
    let late = sessions.redeem(ticket.as_bytes(), from(HOME), at(120));
    assert!(matches!(late, Err(TicketRefusal::Expired)));
    let other = sessions.redeem(ticket.as_bytes(), from(ELSEWHERE), at(2));
    assert!(matches!(other, Err(TicketRefusal::WrongAddress(HOME))));
    sessions.revoke(first.0, at(3)).unwrap();
    let revoked = sessions.redeem(ticket.as_bytes(), from(HOME), at(4));
    assert!(matches!(revoked, Err(TicketRefusal::Used)), "a revoked session comes not back");
}

#[test]
fn expired_truncated_and_flipped_tickets_are_refused() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let text = ticket(&accounts, at(0));
    for n in 0..1000 {
        let expired = sessions.redeem(text.as_bytes(), from(HOME), at(120 + n));
        assert!(matches!(expired, Err(TicketRefusal::Expired)));
        let before = sessions.redeem(text.as_bytes(), from(HOME), at(-2 - n));
        assert!(matches!(before, Err(TicketRefusal::Expired)), "the clock was set back");
    }
    let refused = |bytes: &[u8]| {
        let refused = sessions.redeem(bytes, from(HOME), at(1));
        assert!(matches!(refused, Err(TicketRefusal::Unknown)), "{bytes:?}: {refused:?}");
    };
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone().into_bytes();
        flipped[bit / 8] ^= 1 << (bit % 8);
        refused(&flipped);
    }
    for len in 0..text.len() {
        refused(&text.as_bytes()[..len]);
    }
    let mut runner = TestRunner::new(ProptestConfig { cases: 1000, ..ProptestConfig::default() });
    let any = proptest::collection::vec(any::<u8>(), 0..64);
    runner
        .run(&any, |bytes| {
            prop_assert!(sessions.redeem(&bytes, from(HOME), at(1)).is_err());
            Ok(())
        })
        .unwrap();
    assert!(sessions.list().iter().all(|login| !login.mounted));
    assert!(
        sessions.redeem(text.as_bytes(), from(HOME), at(1)).is_ok(),
        "the true one still works"
    );
}

#[test]
fn a_ticket_works_from_its_address_alone() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let text = ticket(&accounts, at(0));
    let refused = sessions.redeem(text.as_bytes(), from(ELSEWHERE), at(1));
    assert!(matches!(refused, Err(TicketRefusal::WrongAddress(HOME))));
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert!(
        sessions.redeem(text.as_bytes(), from(mapped), at(1)).is_ok(),
        "the same, written as IPv6"
    );
}

/// A password that was changed because somebody knew it must not be good for one more mount.
#[test]
fn tickets_end_with_the_password_they_were_given_for() {
    let (_dir, accounts) = accounts();
    let anna: UserName = "anna".parse().unwrap();
    let before = ticket(&accounts, at(0));
    accounts.set_password(&anna, "another password", at(1)).unwrap();
    let refused = accounts.sessions().redeem(before.as_bytes(), from(HOME), at(2));
    assert!(matches!(refused, Err(TicketRefusal::UserChanged)));
    let before = ticket(&accounts, at(2));
    accounts.remove_user(&anna, at(3)).unwrap();
    accounts.add_user(user("anna"), PASSWORD, at(3)).unwrap();
    let refused = accounts.sessions().redeem(before.as_bytes(), from(HOME), at(4));
    assert!(matches!(refused, Err(TicketRefusal::UserChanged)), "another user of that name");
}

#[test]
fn a_call_needs_the_address_and_the_uid_of_the_login() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let session = mount(&accounts, at(0));
    let admitted = sessions.check(session, from(HOME), Some(UID), at(1)).unwrap();
    assert_eq!((admitted.principal.uid, admitted.client_uid), (5000, Some(UID)));
    assert_eq!(admitted.set.as_str(), "office");
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(sessions.check(session, from(mapped), Some(UID), at(1)).unwrap(), admitted);

    let unknown = sessions.check(SessionId(session.0 ^ 1), from(HOME), Some(UID), at(1));
    assert_eq!(unknown, Err(SessionRefusal::Unknown));
    let elsewhere = sessions.check(session, from(ELSEWHERE), Some(UID), at(1));
    assert_eq!(elsewhere, Err(SessionRefusal::WrongAddress));
    for claimed in [Some(1), Some(999), Some(1001), Some(5000), Some(65_534), Some(u32::MAX), None]
    {
        let refused = sessions.check(session, from(HOME), claimed, at(1));
        assert_eq!(refused, Err(SessionRefusal::WrongUid), "{claimed:?}");
    }
    let root = sessions.check(session, from(HOME), Some(0), at(1));
    assert_eq!(root, Err(SessionRefusal::UnboundRoot(admitted)));
    let root = sessions.check(session, from(ELSEWHERE), Some(0), at(1));
    assert_eq!(root, Err(SessionRefusal::WrongAddress), "the address comes before the uid");
}

#[test]
fn a_bound_root_is_an_ordinary_user_and_a_shared_session_is_everybodys() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let redeem = |uid| {
        let ticket = login_as(&accounts, "anna", uid, at(0)).ticket.reveal();
        sessions.redeem(ticket.as_bytes(), from(HOME), at(0)).unwrap().0
    };
    let roots = redeem(Some(0));
    assert!(sessions.check(roots, from(HOME), Some(0), at(1)).is_ok());
    assert_eq!(sessions.check(roots, from(HOME), Some(1), at(1)), Err(SessionRefusal::WrongUid));
    let shared = redeem(None);
    for claimed in [None, Some(0), Some(1), Some(u32::MAX)] {
        let admitted = sessions.check(shared, from(HOME), claimed, at(1)).unwrap();
        assert_eq!((admitted.principal.uid, admitted.client_uid), (5000, None));
    }
}

/// A mounted drive must outlive a restart of the station, and so must the seals in its handles.
#[test]
fn sessions_seals_and_revocations_survive_a_restart() {
    let (dir, accounts) = accounts();
    let (kept, revoked) = (mount(&accounts, at(0)), mount(&accounts, at(0)));
    accounts.sessions().revoke(revoked, at(1)).unwrap();
    let seal = accounts.sessions().seal(&[b"a", b"b"]);
    let key = accounts.sessions().derived_key("share");
    drop(accounts);
    let accounts = open(&dir.path().join("auth.redb"));
    let sessions = accounts.sessions();
    let admitted = sessions.check(kept, from(HOME), Some(UID), at(2)).unwrap();
    assert_eq!((admitted.principal.user.as_str(), admitted.principal.groups.len()), ("anna", 1));
    assert_eq!(sessions.check(revoked, from(HOME), Some(UID), at(2)), Err(SessionRefusal::Revoked));
    assert_eq!(sessions.seal(&[b"a", b"b"]), seal);
    assert_eq!(sessions.derived_key("share"), key);
}

#[test]
fn seals_differ_by_every_bit_and_every_boundary() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let long = vec![7; 4096];
    let lists: [&[&[u8]]; 9] = [
        &[],
        &[b""],
        &[b"ab"],
        &[b"a", b"b"],
        &[b"", b"ab"],
        &[b"ab", b""],
        &[&long],
        &[&long[1..]],
        &[&long, b""],
    ];
    let mut seals: Vec<_> = lists.iter().map(|parts| sessions.seal(parts)).collect();
    seals.push(sessions.derived_key("share")[..16].try_into().unwrap());
    let (_dir2, others) = self::accounts();
    seals.push(others.sessions().seal(&[b"ab"]));
    let count = seals.len();
    seals.sort_unstable();
    seals.dedup();
    assert_eq!(seals.len(), count);
    // Both ways of working a seal out give the same.
    let mut buffer = [0; SEALED_AT_ONCE];
    let short = [7; SEALED_AT_ONCE - 8];
    assert_eq!(gather(&[&short], &mut buffer), Some(SEALED_AT_ONCE));
    let mut hasher = blake3::Hasher::new_keyed(&sessions.0.key);
    hasher.update(&(short.len() as u64).to_le_bytes()).update(&short);
    assert_eq!(sessions.seal(&[&short]), hasher.finalize().as_bytes()[..16]);
    let shown = format!("{sessions:?}{accounts:?}");
    assert!(!shown.contains("key"), "{shown}");
}

#[test]
fn revocation_acts_at_once_and_on_nobody_else() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    accounts.add_user(user("ben"), PASSWORD, at(0)).unwrap();
    let bens = login_as(&accounts, "ben", Some(UID), at(0)).ticket.reveal();
    let bens = sessions.redeem(bens.as_bytes(), from(HOME), at(0)).unwrap().0;
    let (first, second) = (mount(&accounts, at(0)), mount(&accounts, at(0)));
    assert!(sessions.revoke(first, at(1)).unwrap());
    assert!(!sessions.revoke(first, at(1)).unwrap(), "once is enough");
    assert!(!sessions.revoke(SessionId(1), at(1)).unwrap());
    let check = |session| sessions.check(session, from(HOME), Some(UID), at(2)).map(|_| ());
    assert_eq!(check(first), Err(SessionRefusal::Revoked));
    assert_eq!(check(second), Ok(()));
    let unused = login_as(&accounts, "anna", Some(UID), at(2)).ticket.reveal();
    let ended = sessions.revoke_user(&"anna".parse().unwrap(), at(3)).unwrap();
    assert_eq!(ended, 2, "a drive, and a login without one");
    assert!(
        sessions.redeem(unused.as_bytes(), from(HOME), at(3)).is_err(),
        "a ticket is a way in, too"
    );
    assert_eq!((check(second), check(bens)), (Err(SessionRefusal::Revoked), Ok(())));
}

/// What `keepshare login` keeps is worth as much as the login: it opens the API before and after a mount, is no drive by
/// itself, and ends with the login.
#[test]
fn the_secret_of_a_login_opens_the_api_until_it_ends() {
    let (dir, accounts) = accounts();
    let login = login_as(&accounts, "anna", Some(UID), at(0));
    let bearer = |accounts: &Accounts, now| accounts.bearer(&login.resume, now).unwrap();
    let session = bearer(&accounts, at(1)).unwrap().session;
    assert_eq!(bearer(&accounts, at(1)).unwrap().user, user("anna"));
    let as_drive = accounts.sessions().check(session, from(HOME), Some(UID), at(1));
    assert_eq!(as_drive, Err(SessionRefusal::Unknown), "nothing was mounted");
    assert!(accounts.sessions().resume(&login.resume, ELSEWHERE, at(1)).is_err());
    drop(accounts);
    let accounts = open(&dir.path().join("auth.redb"));
    assert!(bearer(&accounts, at(2)).is_some(), "a restart ends no login");
    let days = |n: i64| at(n * 86_400);
    assert!(bearer(&accounts, days(29)).is_some() && bearer(&accounts, days(58)).is_some());
    assert!(bearer(&accounts, days(89)).is_none(), "not used for 30 days");
    let login = login_as(&accounts, "anna", Some(UID), days(90));
    let mounted =
        accounts.sessions().redeem(login.ticket.reveal().as_bytes(), from(HOME), days(90));
    let session = accounts.bearer(&login.resume, days(90)).unwrap().unwrap().session;
    assert_eq!(mounted.unwrap().0, session, "the drive and the secret are of one login");
    assert!(accounts.sessions().revoke(session, days(91)).unwrap());
    assert!(accounts.bearer(&login.resume, days(91)).unwrap().is_none());
    let other = login_as(&accounts, "anna", Some(UID), days(92));
    accounts.set_password(&"anna".parse().unwrap(), "another horse", days(92)).unwrap();
    assert!(
        accounts.bearer(&other.resume, days(92)).unwrap().is_none(),
        "it was got with the former"
    );
}

/// A removed user whose drive goes on working was not removed.
#[test]
fn removing_a_user_or_changing_the_password_ends_the_sessions() {
    let (dir, accounts) = accounts();
    let anna: UserName = "anna".parse().unwrap();
    let first = mount(&accounts, at(0));
    assert_eq!(accounts.set_password(&anna, "another password", at(1)).unwrap(), Some(1));
    let second = mount(&accounts, at(2));
    assert_eq!(accounts.remove_user(&anna, at(3)).unwrap(), Some(1));
    for session in [first, second] {
        let refused = accounts.sessions().check(session, from(HOME), Some(UID), at(4));
        assert_eq!(refused, Err(SessionRefusal::Revoked));
    }
    assert_eq!(accounts.remove_user(&anna, at(5)).unwrap(), None);
    assert_eq!(accounts.set_password(&anna, "another password", at(5)).unwrap(), None);
    drop(accounts);
    let accounts = open(&dir.path().join("auth.redb"));
    accounts.add_user(user("anna"), PASSWORD, at(6)).unwrap();
    let refused = accounts.sessions().check(second, from(HOME), Some(UID), at(6));
    assert_eq!(refused, Err(SessionRefusal::Unknown));
}

#[test]
fn idle_sessions_expire_and_busy_ones_never() {
    let (dir, accounts) = accounts();
    let (idle, busy) = (mount(&accounts, at(0)), mount(&accounts, at(0)));
    let day = 86_400;
    for n in 0..100 {
        let now = at(n * day);
        accounts.sessions().check(busy, from(HOME), Some(UID), now).unwrap();
        if n == 29 {
            let listed = accounts.sessions().list();
            assert_eq!((listed.len(), listed[0].id, listed[0].last_used), (2, busy, now));
        }
    }
    let refused = accounts.sessions().check(idle, from(HOME), Some(UID), at(30 * day));
    assert_eq!(refused, Err(SessionRefusal::Expired));
    accounts.sessions().flush(at(99 * day)).unwrap();
    assert_eq!(accounts.sessions().list().len(), 1, "what expired is forgotten");
    drop(accounts);
    // The time of use was written down: the restart does not make a busy session an idle one.
    let accounts = open(&dir.path().join("auth.redb"));
    accounts.sessions().check(busy, from(HOME), Some(UID), at(120 * day)).unwrap();
    let refused = accounts.sessions().check(idle, from(HOME), Some(UID), at(120 * day));
    assert_eq!(refused, Err(SessionRefusal::Unknown));
}

/// Refused calls keep nothing alive.
#[test]
fn a_refused_call_is_no_use() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let session = mount(&accounts, at(0));
    for (peer, claimed) in [(ELSEWHERE, Some(UID)), (HOME, Some(UID + 1)), (HOME, Some(0))] {
        assert!(sessions.check(session, from(peer), claimed, at(1000)).is_err());
    }
    assert_eq!(sessions.list()[0].last_used, at(0));
}

#[test]
fn a_session_moves_to_another_address_with_its_secret_alone() {
    let (dir, accounts) = accounts();
    let login = login_as(&accounts, "anna", Some(UID), at(0));
    let unmounted = accounts.sessions().resume(&login.resume, ELSEWHERE, at(0));
    assert!(matches!(unmounted, Err(ResumeRefusal::Unknown)), "there is no session yet");
    let ticket = login.ticket.reveal();
    let session = accounts.sessions().redeem(ticket.as_bytes(), from(HOME), at(0)).unwrap().0;
    let resumed = accounts.sessions().resume(&login.resume, ELSEWHERE, at(1)).unwrap();
    assert_eq!((resumed.id, resumed.address), (session, ELSEWHERE));
    let wrong = ResumeSecret::new().unwrap();
    assert!(accounts.sessions().resume(&wrong, HOME, at(1)).is_err());
    drop(accounts);
    let accounts = open(&dir.path().join("auth.redb"));
    let sessions = accounts.sessions();
    assert!(sessions.check(session, from(ELSEWHERE), Some(UID), at(2)).is_ok());
    let refused = sessions.check(session, from(HOME), Some(UID), at(2));
    assert_eq!(refused, Err(SessionRefusal::WrongAddress), "the old address is none any more");
    sessions.revoke(session, at(3)).unwrap();
    assert!(sessions.resume(&login.resume, HOME, at(4)).is_err(), "what was ended stays ended");
    let text = login.resume.reveal();
    assert_eq!(ResumeSecret::parse(&text), Some(login.resume.clone()));
    assert!(!format!("{login:?}").contains(&text[..8]));
}

/// One user who logs in again and again takes no more than their room, and nobody else's.
#[test]
fn the_idlest_session_of_a_user_makes_room() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let first = mount(&accounts, at(0));
    let second = mount(&accounts, at(1));
    for n in 2..100 {
        mount(&accounts, at(n));
    }
    sessions.check(first, from(HOME), Some(UID), at(200)).unwrap();
    mount(&accounts, at(201));
    assert_eq!(sessions.list().len(), SESSIONS_OF_A_USER_MAX);
    assert!(sessions.check(first, from(HOME), Some(UID), at(202)).is_ok(), "it was used");
    assert_eq!(
        sessions.check(second, from(HOME), Some(UID), at(202)),
        Err(SessionRefusal::Unknown)
    );
}

/// All users together take no more than there is, and whoever is ended goes first.
#[test]
fn sessions_are_bounded_in_all() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let session = mount(&accounts, at(0));
    let template = sessions.live()[&session].record();
    let mut live = sessions.live_mut();
    for n in 1..SESSIONS_MAX {
        let id = SessionId(u64::try_from(n).unwrap());
        let user: UserName = format!("u{}", n / 50).parse().unwrap();
        let last_used = at(10 + i64::try_from(n).unwrap());
        let revoked = (n == 77).then_some(at(5));
        let record = Record { user, last_used, revoked, ..template.clone() };
        live.insert(id, Arc::new(Session::new(id, record, Arc::default())));
    }
    drop(live);
    let known = |id| sessions.live().contains_key(&id);
    mount(&accounts, at(100_000));
    assert!(!known(SessionId(77)) && known(session), "the one that had ended");
    mount(&accounts, at(100_000));
    assert!(!known(session), "the one idle for longest");
    assert_eq!(sessions.list().len(), SESSIONS_MAX);
}

/// A disk that fails while a session is ended must not bring it back with the next start.
#[test]
fn an_end_that_could_not_be_stored_is_stored_later() {
    for flushes in [false, true] {
        let (dir, accounts) = accounts();
        let sessions = accounts.sessions();
        let session = mount(&accounts, at(0));
        // What is left in memory when the transaction fails.
        assert!(sessions.live()[&session].revoke(at(1)));
        let refused = sessions.check(session, from(HOME), Some(UID), at(1));
        assert_eq!(refused, Err(SessionRefusal::Revoked));
        if flushes {
            sessions.flush(at(2)).unwrap();
        } else {
            assert!(sessions.revoke(session, at(2)).unwrap());
            assert!(!sessions.revoke(session, at(2)).unwrap(), "stored once");
        }
        drop(accounts);
        let accounts = open(&dir.path().join("auth.redb"));
        let refused = accounts.sessions().check(session, from(HOME), Some(UID), at(3));
        assert_eq!(refused, Err(SessionRefusal::Revoked), "flushed: {flushes}");
    }
}

/// Two mounts with one ticket at the same time are one session.
#[test]
fn one_ticket_is_one_session_however_many_ask_at_once() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let text = ticket(&accounts, at(0));
    let ids: Vec<_> = std::thread::scope(|scope| {
        let asking = || sessions.redeem(text.as_bytes(), from(HOME), at(1)).unwrap().0;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(asking)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(sessions.list().len(), 1);
}

/// Every user of a client can learn a handle that is used there, claim the uid it is bound to, and be first with a ticket:
/// what they cannot have is one of the client's own ports.
#[test]
fn what_is_bound_to_a_user_takes_calls_from_the_clients_own_ports_alone() {
    let (dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let port = |port| SocketAddr::new(HOME, port);
    let ticket = |uid, any_port| {
        let set = "office".parse().unwrap();
        let binding = Binding { address: HOME, uid, any_port };
        let login = accounts.ticket_for(&"anna".parse().unwrap(), &set, binding, at(0));
        login.unwrap().unwrap().ticket.reveal()
    };
    let bound = ticket(Some(UID), false);
    for is_first in [true, false] {
        let refused = sessions.redeem(bound.as_bytes(), port(1024), at(1)).unwrap_err();
        let told =
            matches!(refused, TicketRefusal::UserPort { is_first: told } if told == is_first);
        assert!(told, "{refused:?}");
    }
    let bound = sessions.redeem(bound.as_bytes(), port(1023), at(1)).unwrap().0;
    assert!(sessions.check(bound, port(1023), Some(UID), at(1)).is_ok());
    for (uid, is_first) in [(Some(UID), true), (Some(0), false), (None, false)] {
        let refused = sessions.check(bound, port(1025), uid, at(1));
        assert_eq!(refused, Err(SessionRefusal::UserPort { is_first }), "{uid:?}");
    }
    let elsewhere = sessions.check(bound, SocketAddr::new(ELSEWHERE, 1025), Some(UID), at(1));
    assert_eq!(elsewhere, Err(SessionRefusal::WrongAddress), "what is told first");
    let mounts = |uid, any_port| {
        sessions.redeem(ticket(uid, any_port).as_bytes(), port(40_000), at(1)).unwrap().0
    };
    let (any, shared) = (mounts(Some(UID), true), mounts(None, false));
    let check = |sessions: &Sessions| {
        assert!(sessions.check(any, port(40_000), Some(UID), at(2)).is_ok());
        assert!(sessions.check(shared, port(40_000), Some(7), at(2)).is_ok());
        let refused = sessions.check(bound, port(1025), Some(UID), at(2));
        assert!(matches!(refused, Err(SessionRefusal::UserPort { .. })));
        let listed = sessions.list();
        let of = |id| listed.iter().find(|info| info.id == id).unwrap().any_port;
        assert_eq!([of(any), of(shared), of(bound)], [true, false, false]);
    };
    check(sessions);
    sessions.flush(at(2)).unwrap();
    drop(accounts);
    check(open(&dir.path().join("auth.redb")).sessions());
}

/// What was stored before a session had a word about ports is opened, and keeps to the client's own.
#[test]
fn sessions_of_an_older_release_are_opened_as_they_were() {
    let (dir, accounts) = accounts();
    let id = mount(&accounts, at(0));
    let before = accounts.sessions().list();
    drop(accounts);
    let path = dir.path().join("auth.redb");
    let db = Database::create(&path).unwrap();
    let table = redb::TableDefinition::<u64, &[u8]>::new("sessions");
    let write = db.begin_write().unwrap();
    {
        let mut table = write.open_table(table).unwrap();
        let row = table.get(id.0).unwrap().unwrap().value().to_vec();
        assert_eq!(row[row.len() - 2..], [0, 1], "no word about ports, and that it is a drive's");
        table.insert(id.0, &row[..row.len() - 2]).unwrap();
    }
    write.commit().unwrap();
    drop(db);
    let accounts = open(&path);
    assert_eq!(accounts.sessions().list(), before);
    assert!(accounts.sessions().check(id, from(HOME), Some(UID), at(1)).is_ok());
}

/// Doors end what they have open, and answers end half way, because they are told: of every end, and of it once.
#[test]
fn whoever_watches_is_told_of_every_end_once() {
    let (_dir, accounts) = accounts();
    let sessions = accounts.sessions();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    sessions.watch_ends(move |ended| {
        heard.lock().unwrap().extend_from_slice(ended);
        true
    });
    let once = Arc::new(Mutex::new(0));
    let count = Arc::clone(&once);
    sessions.watch_ends(move |_| {
        *count.lock().unwrap() += 1;
        false
    });
    let take = || std::mem::take(&mut *told.lock().unwrap());
    let first = mount(&accounts, at(0));
    let login = login_as(&accounts, "anna", Some(UID), at(1));
    let ticket = login.ticket.reveal();
    let (second, _) = sessions.redeem(ticket.as_bytes(), from(HOME), at(1)).unwrap();
    assert_eq!(take(), [], "nothing has ended");

    assert!(sessions.revoke(first, at(2)).unwrap());
    assert_eq!((take(), sessions.lives(first)), (vec![first], false));
    sessions.revoke(first, at(3)).unwrap();
    assert_eq!(take(), [], "it had ended before");
    // What is open at the old address ends, though the session lives.
    sessions.resume(&login.resume, ELSEWHERE, at(4)).unwrap();
    assert_eq!((take(), sessions.lives(second)), (vec![second], true));
    let third = mount(&accounts, at(5));
    assert_eq!(sessions.revoke_user(&"anna".parse().unwrap(), at(6)).unwrap(), 2);
    let mut ended = take();
    ended.sort();
    let mut both = [second, third];
    both.sort();
    assert_eq!(ended, both);
    assert_eq!(*once.lock().unwrap(), 1, "who wants to hear no more is told no more");
}

/// A user is told of their own sessions and of no other's.
#[test]
fn a_users_list_has_their_own_sessions_alone() {
    let (_dir, accounts) = accounts();
    accounts.add_user(user("bob"), PASSWORD, at(0)).unwrap();
    let sessions = accounts.sessions();
    for (name, seconds) in [("anna", 1), ("bob", 2), ("anna", 3)] {
        login_as(&accounts, name, Some(UID), at(seconds));
    }
    let of = |name: &str| {
        let list = sessions.list_of(&name.parse().unwrap());
        list.into_iter().map(|info| (info.user.to_string(), info.last_used)).collect::<Vec<_>>()
    };
    assert_eq!(of("anna"), [("anna".to_owned(), at(3)), ("anna".to_owned(), at(1))]);
    assert_eq!(of("bob"), [("bob".to_owned(), at(2))]);
    assert_eq!(of("eve"), []);
}
