//! Machines that are trusted to say which of their users calls.

use std::net::Ipv4Addr;

use keepshare_auth::{HostGrant, SessionId};
use keepshare_base::FileId;
use keepshare_nfs::Limits;
use keepshare_nfs_wire::{
    mount::MountError,
    nfs3::{
        Attributes, Call, DirOpArgs, Failure, ReadArgs, ReadOk, RenameArgs, RenameChange, Reply,
        Status,
    },
    rpc::{AuthSys, Credential},
};

use crate::rig::{
    client::{Client, Kept, good, handle_of, read, status, sys},
    station::{ANNA, ANNA_AT_HOME, LOCALHOST, Station, now, set},
};

/// An address of this machine that is not in the range.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 7);

fn trust(station: &Station, range: &str, may_write: bool) -> SessionId {
    let sessions = station.accounts.sessions();
    let range = range.parse().unwrap();
    let grant = HostGrant { range, set: set(), may_write, any_port: true };
    sessions.grant_host(grant, now()).unwrap()
}

/// A folder of Anna's alone, with a file; and the root as the machine's root mounts it.
fn private(station: &Station, client: &mut Client) -> (Kept, Kept) {
    let folder = station.tree().dir(FileId::ROOT, "private", 0o700);
    station.tree().file(folder, "diary", b"dear diary");
    client.credential = sys(0);
    let root = client.mount("/projects").unwrap();
    client.credential = sys(ANNA);
    let folder = client.lookup(&root, "private").unwrap();
    let file = client.lookup(&folder, "diary").unwrap();
    (root, file)
}

fn content(client: &mut Client, file: &[u8]) -> Result<Vec<u8>, Status> {
    let args = ReadArgs { file: handle_of(file), offset: 0, count: 100 };
    let answer = client.nfs(Call::Read(args));
    good(read::<Reply<ReadOk<'_>, Option<Attributes>>>(&answer)).map(|read| read.data.to_vec())
}

/// Finds the oldest version of the report: the folder that it is in, and its name there.
fn first_version(client: &mut Client, root: &[u8]) -> (Kept, String) {
    let versions = client.lookup(root, "@versions").unwrap();
    let history = client.lookup(&versions, "report.txt@").unwrap();
    let names = client.names(&history).into_iter();
    let first = names.filter(|name| name.ends_with(".txt")).min().unwrap();
    (history, first)
}

/// The claimed uid is believed, and is all that is: others of the machine, and its root, see what the modes let them see.
#[test]
fn the_uid_that_a_trusted_machine_claims_has_its_rights() {
    let station = Station::new();
    trust(&station, "127.0.0.0/24", false);
    let mut client = Client::connect(&station);
    let (root, file) = private(&station, &mut client);
    assert_eq!(content(&mut client, &file).unwrap(), b"dear diary");
    assert_eq!(client.attributes(&file).unwrap().uid, ANNA, "the numbers are the same there");
    for credential in [sys(0), sys(ANNA + 1), sys(65_534), Credential::None] {
        client.credential = credential;
        assert_eq!(content(&mut client, &file), Err(Status::Access), "{credential:?}");
        assert_eq!(client.lookup(&root, "private").map(|_| ()), Ok(()), "the root is everybody's");
        for call in [
            Call::GetAttributes(handle_of(&root)),
            Call::FsInfo(handle_of(&root)),
            Call::FsStat(handle_of(&root)),
            Call::PathConf(handle_of(&root)),
        ] {
            assert_eq!(status(&client.nfs(call)), Ok(()), "{credential:?}");
        }
    }
}

/// Groups are believed like the user, but for root's own.
#[test]
fn the_groups_of_a_claim_count_but_for_roots() {
    let station = Station::new();
    trust(&station, "127.0.0.1", false);
    let shared = station.tree().dir_of(FileId::ROOT, "staff", 7, 0o750);
    station.tree().file_of(shared, "plan", 7, b"plan");
    let mut client = Client::connect(&station);
    let root = client.mount("projects").unwrap();
    let folder = client.lookup(&root, "staff").unwrap();
    for (gid, groups, may) in
        [(100, &[][..], true), (5, &[9, 100], true), (0, &[100], true), (5, &[0, 9], false)]
    {
        client.credential = Credential::Sys(AuthSys::new(4000, gid, groups).unwrap());
        assert_eq!(client.lookup(&folder, "plan").is_ok(), may, "{gid} {groups:?}");
    }
}

#[test]
fn only_the_machines_of_the_range_can_mount_or_use_a_handle() {
    let station = Station::new();
    let mut client = Client::connect(&station);
    assert_eq!(client.mount("/projects"), Err(MountError::Access), "off by default");
    trust(&station, "127.0.0.0/24", false);
    let (root, file) = private(&station, &mut client);
    for path in ["/other", "/", "/login", "/login/projects", "/Projects"] {
        assert_eq!(client.mount(path), Err(MountError::Access), "{path}");
    }
    let mut thief = Client::connect_from(&station, ELSEWHERE);
    thief.credential = sys(ANNA);
    assert_eq!(thief.mount("/projects"), Err(MountError::Access));
    assert_eq!(thief.attributes(&root), Err(Status::Access));
    assert_eq!(content(&mut thief, &file), Err(Status::Access));
    // The handles of a login are what they were: bound to its user.
    let (mut other, _) = Client::mounted(&station);
    other.credential = sys(ANNA_AT_HOME);
    assert_eq!(content(&mut other, &file), Err(Status::Access));
    let path = format!("/login/{}", station.ticket(LOCALHOST, Some(ANNA_AT_HOME)));
    let own = other.mount(&path).unwrap();
    other.credential = sys(ANNA);
    assert_eq!(other.lookup(&own, "private"), Err(Status::Access));
}

#[test]
fn a_folder_below_the_set_can_be_mounted() {
    let station = Station::new();
    trust(&station, "127.0.0.1", false);
    let folder = station.tree().dir(FileId::ROOT, "Sales", 0o755);
    station.tree().file(folder, "a", b"a");
    station.tree().dir(folder, "shut", 0o700);
    let mut client = Client::connect(&station);
    client.credential = sys(0);
    let sales = client.mount("/projects/Sales/").unwrap();
    client.lookup(&sales, "a").unwrap();
    assert_eq!(client.mount("/projects/none"), Err(MountError::NotFound));
    let inside = client.mount("/projects/Sales/shut/x");
    assert_eq!(inside, Err(MountError::Access), "the machine's root is nobody");
}

#[test]
fn a_revoked_host_session_is_stale_at_once() {
    let station = Station::new();
    let session = trust(&station, "127.0.0.1", false);
    let mut client = Client::connect(&station);
    let (root, file) = private(&station, &mut client);
    assert!(station.accounts.sessions().revoke(session, now()).unwrap());
    client.wait_for_close();
    let mut client = Client::connect(&station);
    for uid in [0, ANNA, 7] {
        client.credential = sys(uid);
        assert_eq!(client.attributes(&root), Err(Status::Stale), "{uid}");
        assert_eq!(content(&mut client, &file), Err(Status::Stale), "{uid}");
    }
    assert_eq!(client.mount("/projects"), Err(MountError::Access));
}

/// It takes the admin's leave, and the rights of the user whom the machine names.
#[test]
fn versions_come_back_where_the_grant_and_the_rights_allow_it() {
    for may_write in [false, true] {
        let station = Station::new();
        trust(&station, "127.0.0.1", may_write);
        let file = station.tree().file(FileId::ROOT, "report.txt", b"first");
        station.tree().save(file, b"the second");
        let mut client = Client::connect(&station);
        let root = client.mount("/projects").unwrap();
        let (history, first) = first_version(&mut client, &root);
        let from = DirOpArgs { dir: handle_of(&history), name: first.as_bytes() };
        let to = DirOpArgs { dir: handle_of(&root), name: b"report.txt" };
        let rename = Call::Rename(RenameArgs { from, to });
        let mut outcome_for = |uid| {
            client.credential = sys(uid);
            let answer = client.nfs(rename);
            let reply = read::<Reply<RenameChange, RenameChange>>(&answer);
            reply.map(|_| ()).map_err(|Failure { status, .. }| status)
        };
        let nobodys = if may_write { Status::Access } else { Status::ReadOnly };
        assert_eq!((outcome_for(0), outcome_for(ANNA + 1)), (Err(nobodys), Err(nobodys)));
        let annas = if may_write { Ok(()) } else { Err(Status::ReadOnly) };
        assert_eq!(outcome_for(ANNA), annas);
        let asked = station.master.asked.lock().unwrap();
        let users: Vec<_> = asked.iter().map(|restore| restore.user.as_str()).collect();
        assert_eq!(users, ["host 127.0.0.1 uid 1000"][..usize::from(may_write)]);
    }
}

/// Machines number their calls alike: what one of them asks must not be taken for a repeat of what another did.
#[test]
fn the_same_call_of_two_machines_is_two_restores() {
    let station = Station::new();
    trust(&station, "127.0.0.0/24", true);
    let file = station.tree().file(FileId::ROOT, "report.txt", b"first");
    station.tree().save(file, b"the second");
    let mut calls = vec![];
    for machine in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)] {
        let mut client = Client::connect_from(&station, machine);
        client.credential = sys(ANNA);
        let root = client.mount("/projects").unwrap();
        let (history, first) = first_version(&mut client, &root);
        let from = DirOpArgs { dir: handle_of(&history), name: first.as_bytes() };
        let to = DirOpArgs { dir: handle_of(&root), name: b"report.txt" };
        let rename = Call::Rename(RenameArgs { from, to });
        let answer = client.nfs(rename);
        assert_eq!(status(&answer), Ok(()));
        calls.push((client.last_xid(), history, root, first));
    }
    assert_eq!(calls[0], calls[1], "the calls are the same");
    let asked = station.master.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_ne!(asked[0].request, asked[1].request);
}

/// A room full of machines that one leave lets in: each has its own share of the door, and none pushes another out.
#[test]
fn every_machine_of_a_host_session_has_its_own_share() {
    let station = Station::with(Limits { connections_per_user: 2, ..Limits::default() });
    trust(&station, "127.0.0.0/24", false);
    let (mut root, mut all) = (None, Vec::new());
    for n in 1..=4 {
        let there = Ipv4Addr::new(127, 0, 0, n);
        for _ in 0..2 {
            let mut client = Client::connect_from(&station, there);
            client.credential = sys(ANNA);
            let root = root.get_or_insert_with(|| client.mount("/projects").unwrap());
            client.attributes(root).unwrap();
            all.push(client);
        }
    }
    let root = root.unwrap();
    all.iter_mut().for_each(|client| assert!(client.attributes(&root).is_ok()));
    // One of them that wants more than its share makes room itself.
    let mut third = Client::connect_from(&station, Ipv4Addr::LOCALHOST);
    third.credential = sys(ANNA);
    third.attributes(&root).unwrap();
    all.remove(0).wait_for_close();
    all.iter_mut().for_each(|client| assert!(client.attributes(&root).is_ok()));
}

/// And all of them together leave room for others.
#[test]
fn the_machines_of_a_host_session_have_a_share_together() {
    let limits = Limits { connections_per_host_session: 4, ..Limits::default() };
    let station = Station::with(limits);
    trust(&station, "127.0.0.0/24", false);
    let mut all = Vec::new();
    for n in 1..=6 {
        let mut client = Client::connect_from(&station, Ipv4Addr::new(127, 0, 0, n));
        client.credential = sys(ANNA);
        let root = client.mount("/projects").unwrap();
        client.attributes(&root).unwrap();
        all.push(client);
    }
    all.drain(..2).for_each(|mut first| first.wait_for_close());
    assert_eq!(station.server.clients().len(), 4);
}

#[test]
fn the_status_tells_which_user_of_the_machine_called_last() {
    let station = Station::new();
    trust(&station, "127.0.0.1", false);
    let mut client = Client::connect(&station);
    let root = client.mount("/projects").unwrap();
    for uid in [7, ANNA] {
        client.credential = sys(uid);
        client.attributes(&root).unwrap();
        let user = station.server.clients()[0].user.clone();
        assert_eq!(user, Some(format!("host 127.0.0.1 uid {uid}")));
    }
}
