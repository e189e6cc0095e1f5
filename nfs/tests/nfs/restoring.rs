//! A version moved onto a live name comes back, once, and the client gets to see it.

use std::time::{Duration, Instant};

use keepshare_base::FileId;
use keepshare_namespace::RestoreError;
use keepshare_nfs_wire::nfs3::{
    Attributes, Call, DirOpArgs, ReadArgs, ReadOk, RenameArgs, RenameChange, Reply, Status, Time,
    WeakCache,
};

use crate::rig::{
    client::{Client, Kept, good, handle_of, read, status},
    station::{Answer, Station},
};

/// A file with two versions, and a client that has found the first.
struct Desk {
    station: Station,
    client: Client,
    root: Kept,
    history: Kept,
    first: String,
}

impl Desk {
    fn new() -> Self {
        let station = Station::new();
        let file = station.tree().file(FileId::ROOT, "report.txt", b"first");
        station.tree().save(file, b"the second");
        let (mut client, root) = Client::mounted(&station);
        let (history, first) = first_version(&mut client, &root);
        Self { station, client, root, history, first }
    }

    fn rename(&self) -> Call<'_> {
        rename(&self.root, &self.history, &self.first)
    }

    fn send_rename(&self, client: &mut Client) -> (Vec<u8>, u32) {
        use std::io::Write;
        let record = client.nfs_record(self.rename());
        client.stream.write_all(&record).unwrap();
        (record, client.last_xid())
    }

    fn content(&mut self) -> Vec<u8> {
        let file = self.client.lookup(&self.root, "report.txt").unwrap();
        let args = ReadArgs { file: handle_of(&file), offset: 0, count: 100 };
        let answer = self.client.nfs(Call::Read(args));
        let read = good(read::<Reply<ReadOk<'_>, Option<Attributes>>>(&answer)).unwrap();
        read.data.to_vec()
    }

    fn root_times(&mut self) -> (Time, Time) {
        let root = self.client.attributes(&self.root).unwrap();
        (root.mtime, root.ctime)
    }
}

/// Returns the folder of the report's versions, and the name of the first.
fn first_version(client: &mut Client, root: &[u8]) -> (Kept, String) {
    let versions = client.lookup(root, "@versions").unwrap();
    let history = client.lookup(&versions, "report.txt@").unwrap();
    let mut names = client.names(&history);
    names.retain(|name| name.ends_with(".txt"));
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    (history, names.remove(0))
}

fn rename<'c>(root: &'c [u8], history: &'c [u8], version: &'c str) -> Call<'c> {
    let from = DirOpArgs { dir: handle_of(history), name: version.as_bytes() };
    let to = DirOpArgs { dir: handle_of(root), name: b"report.txt" };
    Call::Rename(RenameArgs { from, to })
}

const NOTHING_SAID: RenameChange = RenameChange { from: WeakCache::NONE, to: WeakCache::NONE };

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Without new times the client would go on to show the old bytes under the live name, and with weak cache data too.
#[test]
fn a_version_moved_onto_its_name_comes_back() {
    let mut desk = Desk::new();
    assert_eq!(desk.content(), b"the second");
    let before = desk.root_times();
    let mut other = Client::connect(&desk.station);
    let (_, xid) = desk.send_rename(&mut other);
    let answer = other.answer(xid).unwrap().unwrap();
    assert_eq!(read::<Reply<RenameChange, RenameChange>>(&answer), Ok(NOTHING_SAID));
    let after = desk.root_times();
    let later = |a: Time, b: Time| (a.secs, a.nanos) > (b.secs, b.nanos);
    assert!(later(after.0, before.0) && later(after.1, before.1), "{before:?} {after:?}");
    assert_eq!(desk.content(), b"first");
    // What was moved is still where it was, and what it replaced has become a version.
    desk.client.lookup(&desk.history, &desk.first).unwrap();
    let asked = desk.station.master.asked.lock().unwrap();
    assert_eq!((asked.len(), asked[0].user.as_str()), (1, "anna"));
    assert_eq!(asked[0].path.to_string(), "report.txt");
}

/// Everything of one client comes over one connection: the drive must not hang while a master is asked.
#[test]
fn a_restore_keeps_no_other_call_waiting() {
    let mut desk = Desk::new();
    desk.station.master.will(Answer::Wait);
    let mut other = Client::connect(&desk.station);
    let (_, xid) = desk.send_rename(&mut other);
    for _ in 0..100 {
        other.attributes(&desk.root).unwrap();
    }
    assert_eq!(desk.content(), b"the second");
    desk.station.master.will(Answer::Restore);
    assert_eq!(status(&other.answer(xid).unwrap().unwrap()), Ok(()));
    assert_eq!(desk.content(), b"first");
}

/// A client that heard nothing asks again, maybe on a new connection: one restore, and an answer on each.
#[test]
fn a_repeated_call_waits_for_the_first() {
    use std::io::Write;
    let desk = Desk::new();
    desk.station.master.will(Answer::Wait);
    let mut first = Client::connect(&desk.station);
    let (record, xid) = desk.send_rename(&mut first);
    wait_until("the master is asked", || desk.station.master.times_asked() == 1);
    let mut second = Client::connect(&desk.station);
    second.stream.write_all(&record).unwrap();
    first.stream.write_all(&record).unwrap();
    first.attributes(&desk.root).unwrap();
    second.attributes(&desk.root).unwrap();
    desk.station.master.will(Answer::Restore);
    for client in [&mut first, &mut second] {
        assert_eq!(status(&client.answer(xid).unwrap().unwrap()), Ok(()));
    }
    assert_eq!(status(&first.answer(xid).unwrap().unwrap()), Ok(()));
    assert_eq!(desk.station.master.times_asked(), 1);
    // Later, the same call has the same name, by which the master's journal knows that it was done.
    first.stream.write_all(&record).unwrap();
    assert_eq!(status(&first.answer(xid).unwrap().unwrap()), Ok(()));
    let asked = desk.station.master.asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].request, asked[1].request);
}

/// A person has to know: none of these may be a word after which clients try again by themselves.
#[test]
fn what_was_not_restored_is_told_once_and_changes_nothing() {
    let mut desk = Desk::new();
    let before = desk.root_times();
    for (answer, word) in [
        (Answer::Fail(RestoreError::Away), Status::NoDevice),
        (Answer::Fail(RestoreError::Refused("it is open".into())), Status::NotPermitted),
        (Answer::Fail(RestoreError::Unknown), Status::Io),
        // But for this one: nothing was asked yet, and there is nothing to know.
        (Answer::Fail(RestoreError::Busy), Status::TryLater),
        (Answer::Panic, Status::Io),
    ] {
        desk.station.master.will(answer.clone());
        let mut client = Client::connect(&desk.station);
        let (_, xid) = desk.send_rename(&mut client);
        let told = client.answer(xid).unwrap().unwrap();
        assert_eq!(status(&told), Err(word), "{answer:?}");
    }
    assert_eq!(desk.root_times(), before);
    assert_eq!(desk.content(), b"the second");
}

#[test]
fn a_user_asks_for_so_many_restores_at_a_time() {
    let desk = Desk::new();
    desk.station.master.will(Answer::Wait);
    let mut client = Client::connect(&desk.station);
    let sent: Vec<_> = (0..8).map(|_| desk.send_rename(&mut client).1).collect();
    let (_, ninth) = desk.send_rename(&mut client);
    assert_eq!(status(&client.answer(ninth).unwrap().unwrap()), Err(Status::TryLater));
    desk.station.master.will(Answer::Restore);
    let mut waiting = sent;
    while !waiting.is_empty() {
        let record = client.next_record().unwrap();
        let xid = u32::from_be_bytes(record[..4].try_into().unwrap());
        assert!(waiting.contains(&xid));
        waiting.retain(|other| *other != xid);
    }
    let (_, xid) = desk.send_rename(&mut client);
    assert_eq!(status(&client.answer(xid).unwrap().unwrap()), Ok(()));
}

/// Another login costs nothing: a user of many sessions must not keep others of the drive from their restores.
#[test]
fn the_sessions_of_a_user_share_restores() {
    use std::io::Write;
    let station = Station::new();
    let file = station.tree().file(FileId::ROOT, "report.txt", b"first");
    station.tree().save(file, b"the second");
    station.master.will(Answer::Wait);
    let asks = |client: &mut Client, root: &[u8]| {
        let (history, first) = first_version(client, root);
        let record = client.nfs_record(rename(root, &history, &first));
        client.stream.write_all(&record).unwrap();
        client.last_xid()
    };
    let mut annas: Vec<_> = (0..4).map(|_| Client::mounted(&station)).collect();
    for (client, root) in &mut annas {
        asks(client, root);
        asks(client, root);
    }
    wait_until("the master is asked", || station.master.times_asked() == 8);
    let (mut client, root) = Client::mounted(&station);
    let xid = asks(&mut client, &root);
    assert_eq!(status(&client.answer(xid).unwrap().unwrap()), Err(Status::TryLater));
    let mut ben = Client::connect(&station);
    let root = ben.mount(&format!("/login/{}", station.ticket_of_another("ben"))).unwrap();
    let xid = asks(&mut ben, &root);
    wait_until("the master is asked for Ben, too", || station.master.times_asked() == 9);
    station.master.will(Answer::Restore);
    assert_eq!(status(&ben.answer(xid).unwrap().unwrap()), Ok(()));
}

#[test]
fn a_client_that_leaves_before_the_answer_is_not_missed() {
    let mut desk = Desk::new();
    desk.station.master.will(Answer::Wait);
    let mut client = Client::connect(&desk.station);
    desk.send_rename(&mut client);
    wait_until("the master is asked", || desk.station.master.times_asked() == 1);
    drop(client);
    desk.station.master.will(Answer::Restore);
    let deadline = Instant::now() + Duration::from_secs(20);
    while desk.content() != b"first" {
        assert!(Instant::now() < deadline, "it was not restored");
    }
}

/// "Another device" would make clients copy and then remove the live file.
#[test]
fn what_is_no_restore_is_read_only() {
    let mut desk = Desk::new();
    let (mut other, other_root) = Client::mounted(&desk.station);
    let history = handle_of(&desk.history);
    let (root, first) = (handle_of(&desk.root), desk.first.as_bytes());
    let live = DirOpArgs { dir: root, name: b"report.txt" };
    let version = DirOpArgs { dir: history, name: first };
    for (from, to) in [
        (live, DirOpArgs { dir: root, name: b"b" }),
        (live, version),
        (DirOpArgs { dir: root, name: b"@versions" }, DirOpArgs { dir: root, name: b"v" }),
        (version, DirOpArgs { dir: history, name: b"report.txt" }),
        (version, DirOpArgs { dir: root, name: b"@versions" }),
        (version, DirOpArgs { dir: handle_of(&other_root), name: b"report.txt" }),
        (DirOpArgs { dir: history, name: b"_history.csv" }, live),
    ] {
        let answer = desk.client.nfs(Call::Rename(RenameArgs { from, to }));
        assert_eq!(status(&answer), Err(Status::ReadOnly), "{from:?} {to:?}");
    }
    let from = DirOpArgs { dir: history, name: b"none" };
    let answer = desk.client.nfs(Call::Rename(RenameArgs { from, to: live }));
    assert_eq!(status(&answer), Err(Status::NotFound));
    let long = DirOpArgs { dir: root, name: &[b'x'; 256] };
    let answer = desk.client.nfs(Call::Rename(RenameArgs { from: version, to: long }));
    assert_eq!(status(&answer), Err(Status::NameTooLong));
    assert_eq!(desk.station.master.times_asked(), 0);
    other.attributes(&other_root).unwrap();
}

#[test]
fn the_past_is_one_file_system_with_the_present() {
    let mut desk = Desk::new();
    let version = desk.client.lookup(&desk.history, &desk.first).unwrap();
    let live = desk.client.lookup(&desk.root, "report.txt").unwrap();
    let (version, live) =
        (desk.client.attributes(&version).unwrap(), desk.client.attributes(&live).unwrap());
    assert_eq!(version.fsid, live.fsid);
    assert_ne!(version.id, live.id);
    assert_eq!((version.size, live.size), (5, 10));
}

/// A folder with something in it, and a client that has found the folder as it was before that went.
struct View {
    station: Station,
    client: Client,
    root: Kept,
    view: Kept,
}

impl View {
    fn new() -> Self {
        let station = Station::new();
        let plan = station.tree().dir(FileId::ROOT, "plan", 0o755);
        station.tree().file(plan, "report.txt", b"first");
        station.tree().dir_of(FileId::ROOT, "theirs", 9, 0o755);
        let (mut client, root) = Client::mounted(&station);
        let versions = client.lookup(&root, "@versions").unwrap();
        let view = client.lookup(&versions, "latest").unwrap();
        Self { station, client, root, view }
    }

    /// Moves the folder, and returns what was sent.
    fn send(&self, client: &mut Client, onto: (&Kept, &str)) -> (Vec<u8>, u32) {
        use std::io::Write;
        let from = DirOpArgs { dir: handle_of(&self.view), name: b"plan" };
        let to = DirOpArgs { dir: handle_of(onto.0), name: onto.1.as_bytes() };
        let record = client.nfs_record(Call::Rename(RenameArgs { from, to }));
        client.stream.write_all(&record).unwrap();
        (record, client.last_xid())
    }

    fn moved(&self, client: &mut Client, onto: (&Kept, &str)) -> Result<(), Status> {
        let (_, xid) = self.send(client, onto);
        status(&client.answer(xid).unwrap().unwrap())
    }
}

/// A folder of a view comes back to where nothing is, and what has that name is never replaced by one.
#[test]
fn a_folder_moved_to_a_free_name_comes_back() {
    let mut view = View::new();
    let before = view.client.attributes(&view.root).unwrap().ctime;
    let other = &mut Client::connect(&view.station);
    assert_eq!(
        view.moved(other, (&view.root, "plan")),
        Err(Status::ReadOnly),
        "its own name is taken"
    );
    assert_eq!(view.moved(other, (&view.root, "theirs")), Err(Status::ReadOnly));
    let theirs = view.client.lookup(&view.root, "theirs").unwrap();
    assert_eq!(view.moved(other, (&theirs, "plan")), Err(Status::Access));
    assert_eq!(view.moved(other, (&view.view, "plan-2")), Err(Status::ReadOnly), "into the past");
    assert_eq!(view.station.master.times_asked(), 0);

    assert_eq!(view.moved(other, (&view.root, "plan-2")), Ok(()));
    let asked = view.station.master.asked.lock().unwrap().clone();
    assert_eq!((asked.len(), asked[0].path.to_string()), (1, "plan-2".to_owned()));
    assert!(asked[0].folder_at.is_some(), "{asked:?}");
    let after = view.client.attributes(&view.root).unwrap().ctime;
    assert!((after.secs, after.nanos) > (before.secs, before.nanos));
    view.client.lookup(&view.root, "plan-2").unwrap();
    view.client.lookup(&view.view, "plan").unwrap();
    assert_eq!(view.moved(other, (&view.root, "plan-2")), Err(Status::ReadOnly), "another request");
}

/// The name of a folder is taken as soon as it begins to come back: whoever asks again, as no answer came, gets the answer of the
/// first, while that goes on and after.
#[test]
fn a_repeated_move_of_a_folder_is_the_first() {
    use std::io::Write;
    let view = View::new();
    view.station.master.will(Answer::Wait);
    let mut first = Client::connect(&view.station);
    let (record, xid) = view.send(&mut first, (&view.root, "plan-2"));
    wait_until("the master is asked", || view.station.master.times_asked() == 1);
    view.station.tree().dir(FileId::ROOT, "plan-2", 0o755);
    let mut second = Client::connect(&view.station);
    second.stream.write_all(&record).unwrap();
    second.attributes(&view.root).unwrap();
    view.station.master.will(Answer::Restore);
    for client in [&mut first, &mut second] {
        assert_eq!(status(&client.answer(xid).unwrap().unwrap()), Ok(()));
    }
    first.stream.write_all(&record).unwrap();
    assert_eq!(status(&first.answer(xid).unwrap().unwrap()), Ok(()));
    assert_eq!(view.station.master.times_asked(), 1);
    // What did not come back is no answer for a repeat.
    view.station.master.will(Answer::Fail(RestoreError::Refused("no".into())));
    let (record, xid) = view.send(&mut first, (&view.root, "plan-3"));
    for _ in 0..2 {
        assert_eq!(status(&first.answer(xid).unwrap().unwrap()), Err(Status::NotPermitted));
        first.stream.write_all(&record).unwrap();
    }
    assert_eq!(status(&first.answer(xid).unwrap().unwrap()), Err(Status::NotPermitted));
    assert_eq!(view.station.master.times_asked(), 4);
}
