//! A client's users are not its kernel: what is bound to one of them takes calls from the client's own ports alone.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use keepshare_auth::{Binding, HostGrant};
use keepshare_base::FileId;
use keepshare_nfs_wire::{
    mount::MountError,
    nfs3::{AccessArgs, Call, DirOpArgs, ReadArgs, Status},
};

use crate::rig::{
    client::{Client, handle_of, status, sys},
    station::{ANNA, ANNA_AT_HOME, LOCALHOST, Station, now, set},
};

/// The highest port that root alone can call from.
const LAST_OWN: u16 = 1023;

/// A port that any user can call from.
const FIRST_OF_USERS: u16 = 1025;

/// Connects from a port of root's at this address; none where we are not root.
fn kernel(station: &Station, from: Ipv4Addr) -> Option<Client> {
    // Something else may have the first.
    for port in (LAST_OWN - 100..=LAST_OWN).rev() {
        match Client::try_connect_from(station, SocketAddrV4::new(from, port)) {
            Ok(client) => return Some(client),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
            Err(_) => {}
        }
    }
    eprintln!("SKIPPED: ports below 1024 are root's");
    None
}

/// Connects as any program there can.
fn user(station: &Station, from: Ipv4Addr) -> Client {
    let any = (FIRST_OF_USERS..FIRST_OF_USERS + 100)
        .find_map(|port| Client::try_connect_from(station, SocketAddrV4::new(from, port)).ok());
    any.unwrap()
}

/// Tries everything that a handle can be asked for.
fn looks(client: &mut Client, root: &[u8], file: &[u8]) -> Vec<Result<(), Status>> {
    let (dir, object) = (handle_of(root), handle_of(file));
    let read = ReadArgs { file: object, offset: 0, count: 100 };
    let calls = [
        Call::GetAttributes(dir),
        Call::FsInfo(dir),
        Call::Lookup(DirOpArgs { dir, name: b"diary" }),
        Call::Access(AccessArgs { object, access: 0x3f }),
        Call::Read(read),
    ];
    calls.map(|call| status(&client.nfs(call))).to_vec()
}

/// Another user of the machine has learnt the handle, and claims the uid that it is bound to.
#[test]
fn a_handle_is_worth_nothing_to_the_other_users_of_its_machine() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "diary", b"dear diary");
    let Some(mut own) = kernel(&station, Ipv4Addr::LOCALHOST) else { return };
    let mut thief = user(&station, Ipv4Addr::LOCALHOST);
    let binding = Binding { address: LOCALHOST, uid: Some(ANNA_AT_HOME), any_port: false };
    let path = format!("/login/{}", station.ticket_bound_to(binding));
    assert_eq!(thief.mount(&path), Err(MountError::Access), "first with the ticket");
    let root = own.mount(&path).unwrap();
    let file = own.lookup(&root, "diary").unwrap();
    assert_eq!(looks(&mut own, &root, &file), [Ok(()); 5]);
    for uid in [ANNA_AT_HOME, 0, ANNA] {
        thief.credential = sys(uid);
        assert_eq!(looks(&mut thief, &root, &file), [Err(Status::Access); 5], "{uid}");
    }
    assert_eq!(looks(&mut own, &root, &file), [Ok(()); 5]);
}

#[test]
fn a_login_for_any_port_and_a_shared_one_take_any() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "diary", b"dear diary");
    for (uid, any_port) in [(Some(ANNA_AT_HOME), true), (None, false)] {
        let mut client = user(&station, Ipv4Addr::LOCALHOST);
        let path = station.ticket_bound_to(Binding { address: LOCALHOST, uid, any_port });
        let root = client.mount(&format!("/login/{path}")).unwrap();
        let file = client.lookup(&root, "diary").unwrap();
        assert_eq!(looks(&mut client, &root, &file), [Ok(()); 5]);
    }
}

/// It is the machine that is trusted, not everybody who has a program there.
#[test]
fn a_trusted_machine_is_its_kernel() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "diary", b"dear diary");
    let there = Ipv4Addr::new(127, 0, 0, 9);
    let Some(mut own) = kernel(&station, there) else { return };
    let mut thief = user(&station, there);
    let grant = |any_port| {
        let range = "127.0.0.9".parse().unwrap();
        let grant = HostGrant { range, set: set(), may_write: false, any_port };
        station.accounts.sessions().grant_host(grant, now()).unwrap()
    };
    let session = grant(false);
    (own.credential, thief.credential) = (sys(ANNA), sys(ANNA));
    assert_eq!(thief.mount("/projects"), Err(MountError::Access));
    let root = own.mount("/projects").unwrap();
    let file = own.lookup(&root, "diary").unwrap();
    assert_eq!(looks(&mut own, &root, &file), [Ok(()); 5]);
    assert_eq!(looks(&mut thief, &root, &file), [Err(Status::Access); 5]);
    assert!(station.accounts.sessions().revoke(session, now()).unwrap());
    grant(true);
    let mut thief = user(&station, there);
    thief.credential = sys(ANNA);
    let root = thief.mount("/projects").unwrap();
    assert!(thief.lookup(&root, "diary").is_ok());
}
