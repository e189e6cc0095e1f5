//! Who may: tickets, sessions, addresses, uids.

use std::net::Ipv4Addr;

use keepshare_base::FileId;
use keepshare_nfs_wire::{
    Decoder,
    mount::{self, MountError},
    nfs3::{AccessArgs, Call, DirOpArgs, Handle, ReadDirArgs, ReadDirPlusArgs, Status},
    portmap::{self, Mapping},
    rpc::Credential,
};

use crate::rig::{
    client::{Client, handle_of, read, status, sys},
    station::{ANNA_AT_HOME, LOCALHOST, Station, now},
};

#[test]
fn a_ticket_mounts_once_and_again_only_while_nothing_was_used() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "a", b"a");
    let mut client = Client::connect(&station);
    let path = format!("/login/{}", station.ticket(LOCALHOST, Some(ANNA_AT_HOME)));
    let root = client.mount(&path).unwrap();
    // The answer may have been lost.
    assert_eq!(client.mount(&format!("{path}/")).unwrap(), root);
    client.attributes(&root).unwrap();
    let object = handle_of(&root);
    for call in [Call::FsStat(object), Call::FsInfo(object), Call::PathConf(object)] {
        assert_eq!(status(&client.nfs(call)), Ok(()));
    }
    assert_eq!(client.mount(&path).unwrap(), root);
    client.lookup(&root, "a").unwrap();
    assert_eq!(client.mount(&path), Err(MountError::Access));
}

/// Whoever reads the ticket in the list of mounts must get nothing, though only the root was looked at.
#[test]
fn a_look_into_the_root_uses_the_ticket_up() {
    let station = Station::new();
    let looks: [for<'a> fn(Handle<'a>) -> Call<'a>; 4] = [
        |object| Call::Access(AccessArgs { object, access: 0x3f }),
        |dir| Call::Lookup(DirOpArgs { dir, name: b"nothing" }),
        |dir| Call::ReadDir(ReadDirArgs { dir, cookie: 0, verifier: [0; 8], count: 4096 }),
        |dir| {
            let (cookie, verifier) = (0, [0; 8]);
            Call::ReadDirPlus(ReadDirPlusArgs {
                dir,
                cookie,
                verifier,
                dir_count: 512,
                max_count: 4096,
            })
        },
    ];
    for look in looks {
        let mut client = Client::connect(&station);
        let path = format!("/login/{}", station.ticket(LOCALHOST, Some(ANNA_AT_HOME)));
        let root = client.mount(&path).unwrap();
        client.nfs(look(handle_of(&root)));
        assert_eq!(client.mount(&path), Err(MountError::Access), "{:?}", look(handle_of(&root)));
    }
}

#[test]
fn wrong_paths_and_tickets_look_the_same() {
    let station = Station::new();
    let mut client = Client::connect(&station);
    let elsewhere = station.ticket("127.0.0.2".parse().unwrap(), Some(ANNA_AT_HOME));
    for path in ["", "/", "/projects", "/login/", "/login/0123456789abcdef0123456789abcdef"] {
        assert_eq!(client.mount(path), Err(MountError::Access), "{path}");
    }
    assert_eq!(client.mount(&format!("/login/{elsewhere}")), Err(MountError::Access));
}

/// Clients that mount for one file go straight to its folder.
#[test]
fn a_folder_below_the_root_can_be_mounted() {
    let station = Station::new();
    let dir = station.tree().dir(FileId::ROOT, "Sales", 0o755);
    station.tree().file(dir, "a", b"a");
    station.tree().dir_of(FileId::ROOT, "shut", 7, 0o700);
    let mut client = Client::connect(&station);
    let login = format!("/login/{}", station.ticket(LOCALHOST, Some(ANNA_AT_HOME)));
    for (path, refusal) in [
        ("/Sales/a", MountError::NotFolder),
        ("/none", MountError::NotFound),
        ("/shut/x", MountError::Access),
    ] {
        assert_eq!(client.mount(&format!("{login}{path}")), Err(refusal), "{path}");
    }
    let sales = client.mount(&format!("{login}/Sales/")).unwrap();
    let a = client.lookup(&sales, "a").unwrap();
    client.attributes(&a).unwrap();
    assert_eq!(client.mount(&login), Err(MountError::Access), "it was used");
}

/// Paths hold tickets: nobody gets to see who mounted what.
#[test]
fn mount_tells_nothing_of_others() {
    let station = Station::new();
    let (_other, _) = Client::mounted(&station);
    let mut client = Client::connect(&station);
    for (procedure, answer) in [(0, &[][..]), (2, &[0; 4]), (4, &[]), (5, &[0; 4])] {
        assert_eq!(client.call(mount::PROGRAM, 3, procedure, |_| ()).unwrap(), answer);
    }
    let answer = client.call(mount::PROGRAM, 3, 3, |e| e.opaque(b"/login/x")).unwrap();
    assert!(answer.is_empty());
}

#[test]
fn the_portmapper_names_the_one_port() {
    let station = Station::new();
    let mut client = Client::connect(&station);
    client.credential = Credential::None;
    let mut port_of = |program, protocol| {
        let asked = Mapping { program, version: 3, protocol, port: 0 };
        let answer = client.call(portmap::PROGRAM, 2, 3, |e| e.value(&asked)).unwrap();
        read::<u32>(&answer)
    };
    let port = u32::from(station.port);
    assert_eq!((port_of(100_003, 6), port_of(100_005, 6)), (port, port));
    assert_eq!((port_of(100_003, 17), port_of(100_021, 6)), (0, 0));
    let answer = client.call(portmap::PROGRAM, 2, 4, |_| ()).unwrap();
    let rows = portmap::decode_mappings(&mut Decoder::new(&answer)).unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.port == port), "{rows:?}");
}

/// The claimed uid opens nothing; it only has to be the one that logged in, so that the client's other users stay out.
#[test]
fn only_the_uid_that_logged_in_gets_in() {
    let station = Station::new();
    let (mut client, root) = Client::mounted(&station);
    let calls = |client: &mut Client| {
        let object = handle_of(&root);
        let look = Call::Lookup(DirOpArgs { dir: object, name: b"." });
        [
            Call::GetAttributes(object),
            Call::FsInfo(object),
            Call::FsStat(object),
            Call::PathConf(object),
            look,
        ]
        .map(|call| status(&client.nfs(call)))
    };
    assert_eq!(calls(&mut client), [Ok(()); 5]);
    // Mounting is done by the client's root.
    client.credential = sys(0);
    let denied = Err(Status::Access);
    assert_eq!(calls(&mut client), [Ok(()), Ok(()), Ok(()), Ok(()), denied]);
    for uid in [1000, ANNA_AT_HOME + 1] {
        client.credential = sys(uid);
        // Linux would take a refusal of the first for a drive that is gone.
        assert_eq!(calls(&mut client), [Ok(()), denied, denied, denied, denied], "{uid}");
    }
    client.credential = Credential::None;
    assert_eq!(calls(&mut client), [denied; 5]);
}

/// The client's root may have logged in itself; that opens nothing to others.
#[test]
fn what_root_may_is_not_everybodys() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "a", b"a");
    let mut client = Client::connect(&station);
    let path = format!("/login/{}", station.ticket(LOCALHOST, Some(0)));
    client.credential = sys(0);
    let root = client.mount(&path).unwrap();
    let file = client.lookup(&root, "a").unwrap();
    client.attributes(&file).unwrap();
    client.credential = sys(1000);
    assert!(client.attributes(&root).is_ok());
    assert_eq!(client.attributes(&file), Err(Status::Access));
    assert_eq!(client.lookup(&root, "a"), Err(Status::Access));
}

#[test]
fn root_may_look_at_nothing_but_the_root() {
    let station = Station::new();
    station.tree().dir(FileId::ROOT, "dir", 0o777);
    let (mut client, root) = Client::mounted(&station);
    let dir = client.lookup(&root, "dir").unwrap();
    for uid in [0, 1000] {
        client.credential = sys(uid);
        assert_eq!(client.attributes(&dir), Err(Status::Access));
    }
}

#[test]
fn a_shared_session_serves_all_users_of_the_client() {
    let station = Station::new();
    let mut client = Client::connect(&station);
    let root = client.mount(&format!("login/{}", station.ticket(LOCALHOST, None))).unwrap();
    for credential in [sys(0), sys(4242), Credential::None] {
        client.credential = credential;
        assert!(client.lookup(&root, ".").is_ok(), "{credential:?}");
    }
}

#[test]
fn a_handle_is_worth_nothing_at_another_address() {
    let station = Station::new();
    let (_client, root) = Client::mounted(&station);
    let mut thief = Client::connect_from(&station, Ipv4Addr::new(127, 0, 0, 7));
    assert_eq!(thief.address().to_string(), "127.0.0.7");
    assert_eq!(thief.attributes(&root), Err(Status::Access));
    // It counts for every connection of its own.
    let mut second = Client::connect(&station);
    assert!(second.attributes(&root).is_ok());
}

/// Stale, at once, and never a refusal of RPC, after which there are clients that try for ever.
#[test]
fn a_revoked_session_is_stale_at_once() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "a", b"a");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "a").unwrap();
    let session = station.newest_session();
    assert!(station.accounts.sessions().revoke(session, now()).unwrap());
    // Its place has ended, too.
    client.wait_for_close();
    let mut client = Client::connect(&station);
    for handle in [&root, &file] {
        assert_eq!(client.attributes(handle), Err(Status::Stale));
        for uid in [0, ANNA_AT_HOME] {
            client.credential = sys(uid);
            assert_eq!(client.lookup(handle, "a"), Err(Status::Stale));
        }
    }
}

#[test]
fn a_share_that_was_taken_away_is_stale_until_it_is_back() {
    let station = Station::new();
    let (mut client, root) = Client::mounted(&station);
    station.shares.remove(keepshare_namespace::ShareId(1));
    assert_eq!(client.attributes(&root), Err(Status::Stale));
    station.shares.insert(station.tree().share());
    assert!(client.attributes(&root).is_ok());
}

/// The decoder's own tests refuse a million; these go the whole way.
#[test]
fn forged_handles_are_refused() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "a", b"a");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "a").unwrap();
    for handle in [&root, &file] {
        for bit in 0..handle.len() * 8 {
            let mut forged = handle.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(client.attributes(&forged), Err(Status::BadHandle), "bit {bit}");
        }
        for len in 0..handle.len() {
            assert_eq!(client.attributes(&handle[..len]), Err(Status::BadHandle));
        }
    }
    assert!(client.attributes(&file).is_ok());
}

#[test]
fn the_status_tells_who_is_connected() {
    let station = Station::new();
    let (mut client, root) = Client::mounted(&station);
    let _stranger = Client::connect(&station);
    client.attributes(&root).unwrap();
    client.null().unwrap();
    let clients = station.server.clients();
    let known = clients.iter().find(|client| client.user.is_some()).unwrap();
    assert_eq!(known.user.as_deref(), Some("anna"));
    assert_eq!(known.set, Some(crate::rig::station::set()));
    assert_eq!((known.address, known.calls), (LOCALHOST, 3));
}
