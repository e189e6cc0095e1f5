//! What anyone on the network can send, before a login and after.
//!
//! What looks at how much memory the process takes has one of its own.

use std::{
    io::Write,
    net::{Ipv4Addr, Shutdown},
    sync::atomic::{AtomicBool, Ordering},
};

use keepshare_base::FileId;
use keepshare_nfs_wire::{
    mount, nfs3,
    nfs3::{
        AccessArgs, Call, CommitArgs, CreateArgs, CreateHow, DirOpArgs, LinkArgs, MakeDirArgs,
        MakeNodeArgs, NodeKind, ReadArgs, ReadDirArgs, ReadDirPlusArgs, RenameArgs, SetAttributes,
        SetAttributesArgs, SetTime, Stability, Status, SymlinkArgs, WriteArgs,
    },
    rpc::{AuthStatus, Credential, Refusal},
};
use keepshare_support::in_own_process;
use keepshare_versioning::disk::sim::Dice;

use crate::rig::{
    client::{Client, handle_of, status, sys},
    station::Station,
};

/// Returns how much memory this process takes, in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

const MIB: usize = 1 << 20;

fn with_u32(mut record: Vec<u8>, at: usize, number: u32) -> Vec<u8> {
    record[at..at + 4].copy_from_slice(&number.to_be_bytes());
    record
}

/// Four bytes must not take two gigabytes, however often they come.
#[test]
fn an_announced_record_takes_no_memory() {
    in_own_process("hostile::an_announced_record_takes_no_memory", announce_records);
}

fn announce_records() {
    let station = Station::new();
    let before = resident();
    for n in 0..200 {
        let mut client = Client::connect_from(&station, Ipv4Addr::new(127, 0, 2, n));
        client.stream.write_all(&[0xff; 4]).unwrap();
        client.wait_for_close();
    }
    // As large as a stranger's record may be, and never sent.
    let crowd: Vec<_> = (0..200)
        .map(|n| {
            let mut client = Client::connect_from(&station, Ipv4Addr::new(127, 0, 3, n));
            client.stream.write_all(&[0x80, 0, 0xff, 0xff]).unwrap();
            client
        })
        .collect();
    let (mut good, root) = Client::mounted(&station);
    good.attributes(&root).unwrap();
    assert!(resident() < before + 50 * MIB, "{} MiB", resident().saturating_sub(before) / MIB);
    drop(crowd);
}

#[test]
fn hostile_calls_are_refused_in_words_and_the_connection_lives() {
    let station = Station::new();
    let mut client = Client::connect(&station);
    let bad = Refusal::Auth(AuthStatus::BadCredential);
    // Where in a NULL's record: 4 mark, 4 xid, 8 type, 12 rpc, 16 prog, 20 vers, 24 proc, 28 flavor, 32 length,
    // 36 stamp, 40 machine, 44 uid, 48 gid, 52 gids.
    for (what, at, number, refusal) in [
        ("credential length", 32, u32::MAX, bad),
        ("credential length", 32, 401, bad),
        ("machine name", 40, 256, bad),
        ("gids", 52, 1 << 28, bad),
        ("gids", 52, u32::MAX, bad),
        ("gids", 52, 17, bad),
        ("Kerberos", 28, 6, bad),
        ("TLS", 28, 7, bad),
        ("flavor", 28, 390_000, bad),
        ("verifier length", 60, u32::MAX, Refusal::Auth(AuthStatus::BadVerifier)),
        ("rpc version", 12, 3, Refusal::RpcMismatch),
        ("program", 16, 100_004, Refusal::ProgramUnavailable),
        ("version", 20, 4, Refusal::ProgramMismatch { low: 3, high: 3 }),
        ("version", 20, 2, Refusal::ProgramMismatch { low: 3, high: 3 }),
        ("procedure", 24, 22, Refusal::ProcedureUnavailable),
        ("no arguments", 24, 1, Refusal::GarbageArguments),
    ] {
        let record = client.record(nfs3::PROGRAM, 3, 0, |_| ());
        assert_eq!(record.len(), 64);
        client.stream.write_all(&with_u32(record, at, number)).unwrap();
        let xid = client.last_xid();
        assert_eq!(client.answer(xid).unwrap(), Err(refusal), "{what} {number}");
    }
    for (program, version, procedure, refusal) in [
        (mount::PROGRAM, 1, 0, Refusal::ProgramMismatch { low: 3, high: 3 }),
        (mount::PROGRAM, 3, 6, Refusal::ProcedureUnavailable),
        (100_000, 4, 0, Refusal::ProgramMismatch { low: 2, high: 2 }),
        (100_000, 2, 1, Refusal::ProcedureUnavailable),
        (100_000, 2, 3, Refusal::GarbageArguments),
    ] {
        assert_eq!(client.call(program, version, procedure, |_| ()), Err(refusal));
    }
    let long_handle = client.call(nfs3::PROGRAM, 3, 1, |e| e.u32(0xffff_fff0));
    assert_eq!(long_handle, Err(Refusal::GarbageArguments));
    let long_path = client.call(mount::PROGRAM, 3, 1, |e| e.opaque(&[b'x'; 1025]));
    assert_eq!(long_path, Err(Refusal::GarbageArguments));
    client.null().unwrap();
}

#[test]
fn what_is_no_call_ends_the_connection() {
    let station = Station::new();
    for bytes in [
        &[0x80, 0, 0, 0][..],
        &[0x80, 0, 0, 4, 1, 2, 3, 4],
        &[0x80, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1],
        &[0; 4096],
        b"GET / HTTP/1.1\r\n\r\n",
        // One byte more than a stranger's record may have.
        &[0x80, 1, 0, 1],
    ] {
        let mut client = Client::connect(&station);
        client.stream.write_all(bytes).unwrap();
        client.wait_for_close();
    }
}

#[test]
fn records_may_come_in_pieces_and_in_heaps() {
    let station = Station::new();
    let (mut client, root) = Client::mounted(&station);
    // Byte by byte.
    for byte in client.nfs_record(Call::GetAttributes(handle_of(&root))) {
        client.stream.write_all(&[byte]).unwrap();
    }
    let xid = client.last_xid();
    assert_eq!(status(&client.answer(xid).unwrap().unwrap()), Ok(()));
    // In two fragments, wherever it is cut.
    let len = client.nfs_record(Call::GetAttributes(handle_of(&root))).len();
    for cut in 4..len {
        let record = client.nfs_record(Call::GetAttributes(handle_of(&root)));
        let (first, second) = (&record[4..cut], &record[cut..]);
        let mark = |part: &[u8]| u32::try_from(part.len()).unwrap();
        let mut pieces = mark(first).to_be_bytes().to_vec();
        pieces.extend_from_slice(first);
        pieces.extend((mark(second) | 1 << 31).to_be_bytes());
        pieces.extend_from_slice(second);
        client.stream.write_all(&pieces).unwrap();
        let xid = client.last_xid();
        assert_eq!(status(&client.answer(xid).unwrap().unwrap()), Ok(()), "cut at {cut}");
    }
    // A thousand in one write.
    let mut heap = vec![];
    for _ in 0..1000 {
        heap.extend(client.record(nfs3::PROGRAM, 3, 0, |_| ()));
    }
    client.stream.write_all(&heap).unwrap();
    let last = client.last_xid();
    for xid in last - 999..=last {
        assert_eq!(client.answer(xid).unwrap(), Ok(vec![]));
    }
    // The same call twice is answered twice.
    let twice = client.record(nfs3::PROGRAM, 3, 0, |_| ()).repeat(2);
    client.stream.write_all(&twice).unwrap();
    let xid = client.last_xid();
    assert_eq!(client.answer(xid).unwrap(), Ok(vec![]));
    assert_eq!(client.answer(xid).unwrap(), Ok(vec![]));
}

/// A megabyte is for those who have shown a good handle.
#[test]
fn large_records_are_for_those_who_are_known() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "a", b"a");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "a").unwrap();
    let data = vec![1; MIB];
    let args = |count: u32| WriteArgs {
        file: handle_of(&file),
        offset: 0,
        count,
        stable: Stability::Unstable,
        data: &data[..usize::try_from(count).unwrap()],
    };
    assert_eq!(status(&client.nfs(Call::Write(args(1 << 20)))), Err(Status::ReadOnly));
    let mut stranger = Client::connect(&station);
    let record = stranger.nfs_record(Call::Write(args(1 << 16)));
    let _ = stranger.stream.write_all(&record);
    stranger.wait_for_close();
    client.stream.write_all(&[0x80, 0x10, 0x10, 0x01]).unwrap();
    client.wait_for_close();
}

/// One record of every procedure of every program, with good handles where there are any.
fn valid_records(client: &mut Client, dir: &[u8], file: &[u8]) -> Vec<Vec<u8>> {
    let (dir, file) = (handle_of(dir), handle_of(file));
    let place = DirOpArgs { dir, name: b"report.docx" };
    let keep = SetTime::Keep;
    let (uid, gid, size) = (Some(0), None, Some(1 << 40));
    let attributes = SetAttributes { mode: None, uid, gid, size, atime: keep, mtime: keep };
    let (offset, count, cookie, verifier) = (0, 4096, 0, [0; 8]);
    let calls = [
        Call::Null,
        Call::GetAttributes(file),
        Call::SetAttributes(SetAttributesArgs { object: file, new: attributes, guard: None }),
        Call::Lookup(place),
        Call::Access(AccessArgs { object: dir, access: 63 }),
        Call::ReadLink(file),
        Call::Read(ReadArgs { file, offset, count }),
        Call::Write(WriteArgs { file, offset, count, stable: Stability::FileSync, data: &[1; 99] }),
        Call::Create(CreateArgs { place, how: CreateHow::Exclusive([1; 8]) }),
        Call::MakeDir(MakeDirArgs { place, attributes }),
        Call::Symlink(SymlinkArgs { place, attributes, target: b"/etc/passwd" }),
        Call::MakeNode(MakeNodeArgs {
            place,
            node: NodeKind::Device(nfs3::FileKind::CharDevice, attributes, 5),
        }),
        Call::Remove(place),
        Call::RemoveDir(place),
        Call::Rename(RenameArgs { from: place, to: DirOpArgs { dir, name: b"b" } }),
        Call::Link(LinkArgs { file, link: place }),
        Call::ReadDir(ReadDirArgs { dir, cookie, verifier, count }),
        Call::ReadDirPlus(ReadDirPlusArgs {
            dir,
            cookie,
            verifier,
            dir_count: 512,
            max_count: 4096,
        }),
        Call::FsStat(dir),
        Call::FsInfo(dir),
        Call::PathConf(dir),
        Call::Commit(CommitArgs { file, offset, count }),
    ];
    let mut records: Vec<_> = calls.into_iter().map(|call| client.nfs_record(call)).collect();
    records.push(client.record(mount::PROGRAM, 3, 1, |e| e.opaque(b"/login/0123456789abcdef")));
    records.push(client.record(mount::PROGRAM, 3, 3, |e| e.opaque(b"/login/0123456789abcdef")));
    records.push(
        client.record(100_000, 2, 3, |e| [100_003, 3, 6, 0].into_iter().for_each(|n| e.u32(n))),
    );
    records
}

/// Changes a record here and there: bits, numbers, whole parts.
fn mutated(record: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = record.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(5) {
            0 => bytes[at] ^= 1 << dice.below(8),
            1 => bytes[at] = dice.roll().to_le_bytes()[0],
            2 => {
                let at = (at & !3).min(bytes.len() - 4);
                let numbers = [0, 1, 17, 65, 401, 4096, 1 << 28, u32::MAX - 15, u32::MAX];
                bytes = with_u32(bytes, at, numbers[dice.below(numbers.len())]);
            }
            3 => bytes.truncate(at.max(8)),
            _ => {
                let part = bytes[at..].to_vec();
                bytes.extend(part);
            }
        }
    }
    // Mostly in a record that is as long as it says, or nothing inside would ever be looked at.
    if dice.below(8) > 0 {
        let len = u32::try_from(bytes.len() - 4).unwrap();
        bytes = with_u32(bytes, 0, len | 1 << 31);
    }
    bytes
}

/// Whatever is sent, others are served, memory stays, and the server lives.
fn survives(station: &Station, from: Ipv4Addr, records: &[Vec<u8>]) {
    let seed = std::env::var("KEEPSHARE_SEED").ok().and_then(|seed| seed.parse().ok());
    let now = u64::try_from(crate::rig::station::now().0).unwrap();
    let seed = seed.unwrap_or(now);
    eprintln!("KEEPSHARE_SEED={seed}");
    let mut dice = Dice(seed);
    let (mut good, root) = Client::mounted(station);
    let known = good.attributes(&root).unwrap();
    let (before, is_over) = (resident(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let served = scope.spawn(|| {
            let mut served = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_eq!(good.attributes(&root).unwrap(), known);
                served += 1;
            }
            served
        });
        let mut client = Client::connect_from(station, from);
        for _ in 0..10_000 {
            let record = mutated(&records[dice.below(records.len())], &mut dice);
            let mark = u32::from_be_bytes(record[..4].try_into().unwrap());
            let is_whole = usize::try_from(mark & 0x7fff_ffff).unwrap() + 4 == record.len();
            let lives =
                client.stream.write_all(&record).is_ok() && is_whole && mark >> 31 == 1 && {
                    let null = client.record(nfs3::PROGRAM, 3, 0, |_| ());
                    let xid = client.last_xid();
                    client.stream.write_all(&null).is_ok() && client.answer(xid).is_ok()
                };
            if !lives {
                let _ = client.stream.shutdown(Shutdown::Write);
                client.wait_for_close();
                client = Client::connect_from(station, from);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(served.join().unwrap() > 100, "the good client was hardly served");
    });
    assert!(resident() < before + 50 * MIB, "{} MiB", resident().saturating_sub(before) / MIB);
}

#[test]
fn ten_thousand_mutations_of_a_stranger_harm_nobody() {
    in_own_process(
        "hostile::ten_thousand_mutations_of_a_stranger_harm_nobody",
        mutate_as_a_stranger,
    );
}

fn mutate_as_a_stranger() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "report.docx", b"one");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "report.docx").unwrap();
    // Somebody else's handles, seen on the wire.
    client.credential = Credential::None;
    let mut records = valid_records(&mut client, &root, &file);
    client.credential = sys(0);
    records.extend(valid_records(&mut client, &root, &file));
    survives(&station, Ipv4Addr::new(127, 0, 0, 66), &records);
}

#[test]
fn ten_thousand_mutations_after_a_login_harm_nobody() {
    in_own_process(
        "hostile::ten_thousand_mutations_after_a_login_harm_nobody",
        mutate_after_a_login,
    );
}

fn mutate_after_a_login() {
    let station = Station::new();
    station.tree().file(FileId::ROOT, "report.docx", b"one");
    let (mut client, root) = Client::mounted(&station);
    let file = client.lookup(&root, "report.docx").unwrap();
    let records = valid_records(&mut client, &root, &file);
    survives(&station, Ipv4Addr::LOCALHOST, &records);
    assert_eq!(client.lookup(&root, "report.docx").unwrap(), file);
}
