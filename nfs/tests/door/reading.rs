//! What a good client gets to see.

use keepshare_base::FileId;
use keepshare_nfs_wire::{
    Decoder, Wire,
    nfs3::{
        AccessArgs, AccessOk, Attributes, Call, CommitArgs, CommitOk, CreateArgs, CreateHow,
        Created, DirEntry, DirEntryPlus, DirOk, DirOpArgs, FileKind, FsInfo, FsStat, LinkArgs,
        LinkFailed, MakeDirArgs, MakeNodeArgs, NodeKind, PathConf, ReadArgs, ReadDirArgs,
        ReadDirPlusArgs, ReadLinkOk, ReadOk, RenameArgs, RenameChange, Reply, SetAttributes,
        SetAttributesArgs, SetTime, Stability, Status, SymlinkArgs, WeakCache, WriteArgs, WriteOk,
        access, decode_entries, properties,
    },
};

use crate::rig::{
    client::{Client, good, handle_of, read, status},
    station::{ANNA, ANNA_AT_HOME, Station},
};

type Known = Option<Attributes>;

fn read_at(client: &mut Client, file: &[u8], offset: u64, count: u32) -> (Vec<u8>, bool) {
    let answer = client.nfs(Call::Read(ReadArgs { file: handle_of(file), offset, count }));
    let read = good(read::<Reply<ReadOk<'_>, Known>>(&answer)).unwrap();
    assert_eq!(usize::try_from(read.count).unwrap(), read.data.len());
    assert_eq!(read.attributes.unwrap().kind, FileKind::File);
    (read.data.to_vec(), read.end)
}

#[test]
fn files_read_as_they_are_and_end_where_they_end() {
    let station = Station::new();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    station.tree().file(FileId::ROOT, "big", &content);
    station.tree().file(FileId::ROOT, "empty", b"");
    let (mut client, root) = Client::mounted(&station);
    let big = client.lookup(&root, "big").unwrap();
    let mut all = vec![];
    loop {
        let (part, end) = read_at(&mut client, &big, all.len() as u64, 300_001);
        all.extend(part);
        if end {
            break;
        }
    }
    assert!(all == content);
    // More than the server gives at once is given in part, and never taken for the end.
    assert_eq!(read_at(&mut client, &big, 0, u32::MAX), (content[..1 << 20].to_vec(), false));
    let last = 2_999_999_usize;
    assert_eq!(read_at(&mut client, &big, last as u64, 100), (content[last..].to_vec(), true));
    for offset in [3_000_000, 3_000_001, u64::MAX] {
        assert_eq!(read_at(&mut client, &big, offset, 100), (vec![], true));
    }
    assert_eq!(read_at(&mut client, &big, 5, 0), (vec![], false));
    let empty = client.lookup(&root, "empty").unwrap();
    assert_eq!(read_at(&mut client, &empty, 0, 100), (vec![], true));
}

#[test]
fn wrong_kinds_and_names_get_their_own_word() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "file", b"x");
    station.tree().link(FileId::ROOT, "link", "file");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "file").unwrap();
    let link = client.lookup(&root, "link").unwrap();
    let answer = client.nfs(Call::ReadLink(handle_of(&link)));
    let target = good(read::<Reply<ReadLinkOk<'_>, Known>>(&answer)).unwrap();
    assert_eq!(target.target, b"file");
    assert_eq!(target.attributes.unwrap().kind, FileKind::Symlink);
    let on = |file| ReadArgs { file: handle_of(file), offset: 0, count: 1 };
    assert_eq!(status(&client.nfs(Call::Read(on(&root)))), Err(Status::IsFolder));
    assert_eq!(status(&client.nfs(Call::Read(on(&link)))), Err(Status::Invalid));
    assert_eq!(status(&client.nfs(Call::ReadLink(handle_of(&file)))), Err(Status::Invalid));
    assert_eq!(client.lookup(&file, "x"), Err(Status::NotFolder));
    assert_eq!(client.lookup(&root, "none"), Err(Status::NotFound));
    assert_eq!(client.lookup_bytes(&root, &[b'x'; 256]), Err(Status::NameTooLong));
    assert_eq!(client.lookup_bytes(&root, &[b'x'; 40_000]), Err(Status::NameTooLong));
    for name in [&b""[..], b"a/b", b"../etc", b"a\0b", b"/"] {
        assert_eq!(client.lookup_bytes(&root, name), Err(Status::NotFound), "{name:?}");
    }
    assert_eq!(client.lookup(&root, "..").unwrap(), root);
    let args = ReadDirArgs { dir: handle_of(&file), cookie: 0, verifier: [0; 8], count: 4096 };
    assert_eq!(status(&client.nfs(Call::ReadDir(args))), Err(Status::NotFolder));
}

/// Holds that a client with signed offsets can seek there, and knows where `.` and `..` are.
fn can_hold(name: &[u8], cookie: u64, id: u64) {
    let expected = match name {
        b"." => 1..2,
        b".." => 2..3,
        _ => 3..1 << 63,
    };
    assert!(expected.contains(&cookie) && id < 1 << 63, "{name:?}: {cookie}, {id}");
}

/// Reads a folder page by page; returns the names and how many pages it took.
fn list(client: &mut Client, dir: &[u8], plus: bool, count: u32) -> (Vec<String>, usize) {
    let (mut names, mut pages) = (vec![], 0);
    let (mut cookie, mut verifier, dir) = (0, [0; 8], handle_of(dir));
    loop {
        let call = if plus {
            let (dir_count, max_count) = (count / 4, count);
            Call::ReadDirPlus(ReadDirPlusArgs { dir, cookie, verifier, dir_count, max_count })
        } else {
            Call::ReadDir(ReadDirArgs { dir, cookie, verifier, count })
        };
        let answer = client.nfs(call);
        assert_eq!(status(&answer), Ok(()));
        assert!(answer.len() <= 4 + usize::try_from(count).unwrap(), "more than asked for");
        let mut decoder = Decoder::new(&answer[4..]);
        let ok: DirOk = decoder.value().unwrap();
        assert_eq!(ok.attributes.unwrap().kind, FileKind::Dir);
        verifier = ok.verifier;
        let end;
        if plus {
            let entries;
            (entries, end) = decode_entries::<DirEntryPlus<'_>>(&mut decoder).unwrap();
            assert!(end || !entries.is_empty());
            for entry in entries {
                assert_eq!(entry.attributes.unwrap().id, entry.id);
                let handle = entry.object.unwrap().as_bytes().to_vec();
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                cookie = entry.cookie;
                can_hold(entry.name, cookie, entry.id);
                if names.len().is_multiple_of(100) {
                    assert_eq!(client.attributes(&handle).unwrap(), entry.attributes.unwrap());
                }
            }
        } else {
            let entries;
            (entries, end) = decode_entries::<DirEntry<'_>>(&mut decoder).unwrap();
            assert!(end || !entries.is_empty());
            for entry in entries {
                names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                cookie = entry.cookie;
                can_hold(entry.name, cookie, entry.id);
            }
        }
        assert!(decoder.rest().is_empty());
        pages += 1;
        if end {
            return (names, pages);
        }
    }
}

#[test]
fn a_folder_is_listed_whole_in_pages_of_any_size() {
    let station = Station::new();
    let dir = station.tree().dir(FileId::ROOT, "dir", 0o755);
    station.tree().files(dir, (0..1000).map(|n| format!("file-{n:04}")));
    let (mut client, root) = Client::mounted(&station);
    let dir = client.lookup(&root, "dir").unwrap();
    let mut expected = vec![".".to_owned(), "..".to_owned()];
    expected.extend((0..1000).map(|n| format!("file-{n:04}")));
    for (plus, count) in
        [(false, 300), (false, 8192), (false, 1 << 20), (true, 600), (true, 4096), (true, 1 << 20)]
    {
        let (mut names, pages) = list(&mut client, &dir, plus, count);
        names.sort();
        assert_eq!(names, expected, "pages of {count}");
        assert_eq!(pages == 1, count == 1 << 20, "pages of {count}");
    }
    // What is always there has places that others never have, too.
    let versions = client.lookup(&root, "@versions").unwrap();
    let (whole, _) = list(&mut client, &versions, false, 1 << 20);
    let (parts, pages) = list(&mut client, &versions, false, 170);
    assert!(parts == whole && pages > 1 && whole.len() >= 5, "{parts:?} in {pages} pages");
    for count in [0, 120] {
        let (dir, verifier) = (handle_of(&dir), [0; 8]);
        let plain = Call::ReadDir(ReadDirArgs { dir, cookie: 0, verifier, count });
        assert_eq!(status(&client.nfs(plain)), Err(Status::TooSmall), "{count}");
    }
}

/// Whoever may list a folder and not search it gets names, and not even the attributes of the folder above.
#[test]
fn names_without_search_come_alone() {
    let station = Station::new();
    let dir = station.tree().dir(FileId::ROOT, "dir", 0o444);
    station.tree().files(dir, ["a".to_owned()].into_iter());
    let (mut client, root) = Client::mounted(&station);
    let dir = client.lookup(&root, "dir").unwrap();
    let (cookie, verifier) = (0, [0; 8]);
    let args = ReadDirPlusArgs {
        dir: handle_of(&dir),
        cookie,
        verifier,
        dir_count: 4096,
        max_count: 4096,
    };
    let answer = client.nfs(Call::ReadDirPlus(args));
    let mut decoder = Decoder::new(&answer[4..]);
    decoder.value::<DirOk>().unwrap();
    let (entries, _) = decode_entries::<DirEntryPlus<'_>>(&mut decoder).unwrap();
    let found: Vec<_> = entries.iter().map(|e| (e.name, e.attributes.is_some())).collect();
    assert_eq!(found, [(&b"."[..], true), (b"..", false), (b"a", false)]);
    assert!(entries[2].object.is_none());
    assert_eq!(client.lookup(&dir, "a"), Err(Status::Access));
}

#[test]
fn a_folder_that_may_not_be_read_is_not_listed_in_part() {
    let station = Station::new();
    station.tree().dir(FileId::ROOT, "dir", 0o111);
    let (mut client, root) = Client::mounted(&station);
    let dir = client.lookup(&root, "dir").unwrap();
    let args = ReadDirArgs { dir: handle_of(&dir), cookie: 0, verifier: [0; 8], count: 4096 };
    assert_eq!(status(&client.nfs(Call::ReadDir(args))), Err(Status::Access));
}

fn granted(client: &mut Client, object: &[u8], access: u32) -> u32 {
    let answer = client.nfs(Call::Access(AccessArgs { object: handle_of(object), access }));
    good(read::<Reply<AccessOk, Known>>(&answer)).unwrap().access
}

#[test]
fn access_grants_what_the_namespace_grants() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "own", b"x");
    station.tree().file_of(FileId::ROOT, "other", 7, b"x");
    let (mut client, root) = Client::mounted(&station);
    let own = client.lookup(&root, "own").unwrap();
    let other = client.lookup(&root, "other").unwrap();
    let change = access::MODIFY | access::EXTEND;
    let all = u32::MAX;
    // A restore needs the folder's; a client that may write a file takes bytes that go nowhere.
    assert_eq!(granted(&mut client, &own, all), access::READ);
    assert_eq!(granted(&mut client, &other, all), access::READ);
    let dir = access::READ | access::LOOKUP | change | access::DELETE;
    assert_eq!(granted(&mut client, &root, all), dir);
    assert_eq!(granted(&mut client, &root, access::LOOKUP), access::LOOKUP);
}

/// Clients check rights by the owner they are shown, before they ask.
#[test]
fn own_files_seem_to_be_the_clients_and_nobody_elses_do() {
    let station = Station::new();
    for (name, owner) in [("own", ANNA), ("alike", ANNA_AT_HOME), ("other", 7)] {
        station.tree().file_of(FileId::ROOT, name, owner, b"x");
    }
    let (mut client, root) = Client::mounted(&station);
    let mut owner = |name| {
        let file = client.lookup(&root, name).unwrap();
        client.attributes(&file).unwrap().uid
    };
    assert_eq!((owner("own"), owner("alike"), owner("other")), (ANNA_AT_HOME, 65_534, 7));
}

#[test]
fn the_drive_says_what_it_can() {
    let station = Station::new();
    let (mut client, root) = Client::mounted(&station);
    let answer = client.nfs(Call::FsInfo(handle_of(&root)));
    let info = good(read::<Reply<FsInfo, Known>>(&answer)).unwrap();
    assert_eq!((info.read_max, info.write_max, info.dir_preferred), (1 << 20, 1 << 20, 1 << 16));
    assert_eq!(info.properties, properties::SYMLINK | properties::HOMOGENEOUS);
    let answer = client.nfs(Call::PathConf(handle_of(&root)));
    let conf = good(read::<Reply<PathConf, Known>>(&answer)).unwrap();
    assert_eq!((conf.name_max, conf.case_insensitive, conf.no_truncation), (255, false, true));
    let answer = client.nfs(Call::FsStat(handle_of(&root)));
    assert!(good(read::<Reply<FsStat, Known>>(&answer)).is_ok());
    client.null().unwrap();
}

/// A change is refused in the words of its own procedure, or clients could not read the refusal.
#[test]
fn every_change_is_refused_as_read_only() {
    fn refused<'a, T: Wire<'a>, F: Wire<'a>>(answer: &'a [u8]) -> F {
        let failure = read::<Reply<T, F>>(answer).err().unwrap();
        assert_eq!(failure.status, Status::ReadOnly);
        failure.known
    }
    let station = Station::new();
    station.tree().file(FileId::ROOT, "a", b"content");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "a").unwrap();
    let before = client.attributes(&file).unwrap();
    let (dir, file) = (handle_of(&root), handle_of(&file));
    let place = DirOpArgs { dir, name: b"b" };
    let (keep, none) = (SetTime::Keep, None);
    let attributes = SetAttributes {
        mode: Some(0o600),
        uid: none,
        gid: none,
        size: None,
        atime: keep,
        mtime: keep,
    };
    let (offset, count) = (0, 1);
    let new = Call::SetAttributes(SetAttributesArgs { object: file, new: attributes, guard: None });
    let after = |weak: WeakCache| (weak.before, weak.after.unwrap().kind);
    assert_eq!(after(refused::<(), _>(&client.nfs(new))), (None, FileKind::File));
    let write = WriteArgs { file, offset, count, stable: Stability::Unstable, data: b"x" };
    after(refused::<WriteOk, _>(&client.nfs(Call::Write(write))));
    after(refused::<CommitOk, _>(&client.nfs(Call::Commit(CommitArgs { file, offset, count }))));
    let how = CreateHow::Unchecked(attributes);
    let node = NodeKind::Pipe(FileKind::Fifo, attributes);
    for call in [
        Call::Create(CreateArgs { place, how }),
        Call::MakeDir(MakeDirArgs { place, attributes }),
        Call::Symlink(SymlinkArgs { place, attributes, target: b"a" }),
        Call::MakeNode(MakeNodeArgs { place, node }),
    ] {
        let made = after(refused::<Created<'_>, _>(&client.nfs(call)));
        assert_eq!(made, (None, FileKind::Dir), "{call:?}");
    }
    let own = DirOpArgs { dir, name: b"a" };
    for call in [Call::Remove(own), Call::RemoveDir(own)] {
        assert_eq!(after(refused::<(), _>(&client.nfs(call))), (None, FileKind::Dir));
    }
    let answer = client.nfs(Call::Rename(RenameArgs { from: own, to: place }));
    let change = refused::<RenameChange, RenameChange>(&answer);
    assert_eq!(
        (after(change.from), after(change.to)),
        ((None, FileKind::Dir), (None, FileKind::Dir))
    );
    let answer = client.nfs(Call::Link(LinkArgs { file, link: place }));
    refused::<LinkFailed, LinkFailed>(&answer);
    assert_eq!(client.attributes(file.as_bytes()).unwrap(), before);
}
