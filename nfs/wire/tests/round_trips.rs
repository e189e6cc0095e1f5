//! Every argument and result reads back, and no bytes are too hostile to be read.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use keepshare_nfs_wire::{
    Decoder, Encoder, Wire, mount, nfs3,
    nfs3::*,
    portmap,
    record::{Framed, append_record, next_record},
    rpc::{AuthSys, CallHead, Credential},
};
use proptest::prelude::*;

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator that counts can be had in no other way")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|sum| sum.set(sum.get() + layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocated_by(work: impl FnOnce()) -> usize {
    let before = ALLOCATED.get();
    work();
    ALLOCATED.get() - before
}

const DATA: &[u8; 64] = &[0x5a; 64];

fn bytes() -> impl Strategy<Value = &'static [u8]> {
    (0..=64_usize).prop_map(|len| &DATA[..len])
}

fn handle() -> impl Strategy<Value = Handle<'static>> {
    bytes().prop_map(|bytes| Handle::new(bytes).expect("at most 64 bytes"))
}

fn time() -> impl Strategy<Value = Time> {
    (any::<u32>(), any::<u32>()).prop_map(|(secs, nanos)| Time { secs, nanos })
}

fn kind() -> impl Strategy<Value = FileKind> {
    prop::sample::select(FileKind::ALL)
}

fn attributes() -> impl Strategy<Value = Attributes> {
    (kind(), any::<[u32; 4]>(), any::<[u64; 5]>(), time(), time(), time()).prop_map(
        |(kind, [mode, links, uid, gid], [size, used, device, fsid, id], atime, mtime, ctime)| {
            Attributes {
                kind,
                mode,
                links,
                uid,
                gid,
                size,
                used,
                device,
                fsid,
                id,
                atime,
                mtime,
                ctime,
            }
        },
    )
}

fn some_attributes() -> impl Strategy<Value = Option<Attributes>> {
    prop::option::of(attributes())
}

fn weak_cache() -> impl Strategy<Value = WeakCache> {
    let before = (any::<u64>(), time(), time());
    let before = before.prop_map(|(size, mtime, ctime)| BeforeAttributes { size, mtime, ctime });
    (prop::option::of(before), some_attributes())
        .prop_map(|(before, after)| WeakCache { before, after })
}

fn set_time() -> impl Strategy<Value = SetTime> {
    prop_oneof![Just(SetTime::Keep), Just(SetTime::Server), time().prop_map(SetTime::Client)]
}

fn set_attributes() -> impl Strategy<Value = SetAttributes> {
    let numbers = any::<(Option<u32>, Option<u32>, Option<u32>, Option<u64>)>();
    (numbers, set_time(), set_time()).prop_map(|((mode, uid, gid, size), atime, mtime)| {
        SetAttributes { mode, uid, gid, size, atime, mtime }
    })
}

fn place() -> impl Strategy<Value = DirOpArgs<'static>> {
    (handle(), bytes()).prop_map(|(dir, name)| DirOpArgs { dir, name })
}

fn node() -> impl Strategy<Value = NodeKind> {
    (kind(), set_attributes(), any::<u64>()).prop_map(|(kind, attributes, device)| match kind {
        FileKind::BlockDevice | FileKind::CharDevice => NodeKind::Device(kind, attributes, device),
        FileKind::Socket | FileKind::Fifo => NodeKind::Pipe(kind, attributes),
        FileKind::File | FileKind::Dir | FileKind::Symlink => NodeKind::Other(kind),
    })
}

fn create_how() -> impl Strategy<Value = CreateHow> {
    prop_oneof![
        set_attributes().prop_map(CreateHow::Unchecked),
        set_attributes().prop_map(CreateHow::Guarded),
        any::<[u8; 8]>().prop_map(CreateHow::Exclusive),
    ]
}

fn call() -> impl Strategy<Value = Call<'static>> {
    let stability = || prop::sample::select(Stability::ALL);
    prop_oneof![
        Just(Call::Null),
        handle().prop_map(Call::GetAttributes),
        (handle(), set_attributes(), prop::option::of(time())).prop_map(|(object, new, guard)| {
            Call::SetAttributes(SetAttributesArgs { object, new, guard })
        }),
        place().prop_map(Call::Lookup),
        (handle(), any::<u32>())
            .prop_map(|(object, access)| Call::Access(AccessArgs { object, access })),
        handle().prop_map(Call::ReadLink),
        (handle(), any::<u64>(), any::<u32>())
            .prop_map(|(file, offset, count)| Call::Read(ReadArgs { file, offset, count })),
        (handle(), any::<u64>(), any::<u32>(), stability(), bytes()).prop_map(
            |(file, offset, count, stable, data)| {
                Call::Write(WriteArgs { file, offset, count, stable, data })
            }
        ),
        (place(), create_how()).prop_map(|(place, how)| Call::Create(CreateArgs { place, how })),
        (place(), set_attributes())
            .prop_map(|(place, attributes)| Call::MakeDir(MakeDirArgs { place, attributes })),
        (place(), set_attributes(), bytes()).prop_map(|(place, attributes, target)| {
            Call::Symlink(SymlinkArgs { place, attributes, target })
        }),
        (place(), node()).prop_map(|(place, node)| Call::MakeNode(MakeNodeArgs { place, node })),
        place().prop_map(Call::Remove),
        place().prop_map(Call::RemoveDir),
        (place(), place()).prop_map(|(from, to)| Call::Rename(RenameArgs { from, to })),
        (handle(), place()).prop_map(|(file, link)| Call::Link(LinkArgs { file, link })),
        (handle(), any::<u64>(), any::<[u8; 8]>(), any::<u32>()).prop_map(
            |(dir, cookie, verifier, count)| {
                Call::ReadDir(ReadDirArgs { dir, cookie, verifier, count })
            }
        ),
        (handle(), any::<u64>(), any::<[u8; 8]>(), any::<[u32; 2]>()).prop_map(
            |(dir, cookie, verifier, [dir_count, max_count])| {
                Call::ReadDirPlus(ReadDirPlusArgs { dir, cookie, verifier, dir_count, max_count })
            }
        ),
        handle().prop_map(Call::FsStat),
        handle().prop_map(Call::FsInfo),
        handle().prop_map(Call::PathConf),
        (handle(), any::<u64>(), any::<u32>())
            .prop_map(|(file, offset, count)| Call::Commit(CommitArgs { file, offset, count })),
    ]
}

fn encoded<'a>(value: &impl Wire<'a>) -> Vec<u8> {
    let mut out = vec![];
    Encoder::new(&mut out).value(value);
    out
}

/// Encodes, reads back, and compares; the bytes must all be used.
macro_rules! reads_back {
    ($kind:ty, $value:expr) => {{
        let value: $kind = $value;
        let out = encoded(&value);
        let mut decoder = Decoder::new(&out);
        let back = decoder.value::<$kind>();
        prop_assert_eq!(back, Ok(value));
        prop_assert!(decoder.rest().is_empty());
        for len in 0..out.len() {
            prop_assert!(Decoder::new(&out[..len]).value::<$kind>().is_err());
        }
    }};
}

proptest! {
    #[test]
    fn calls_read_back(call in call()) {
        let mut out = vec![];
        let procedure = call.encode(&mut Encoder::new(&mut out));
        prop_assert_eq!(Procedure::from_number(procedure.number()), Some(procedure));
        let mut decoder = Decoder::new(&out);
        prop_assert_eq!(Call::decode(procedure, &mut decoder), Ok(call));
        prop_assert!(decoder.rest().is_empty());
        for len in 0..out.len() {
            prop_assert!(Call::decode(procedure, &mut Decoder::new(&out[..len])).is_err());
        }
    }

    #[test]
    fn results_read_back(
        status in prop::sample::select(Status::ALL),
        known in some_attributes(),
        more in some_attributes(),
        (weak, other) in (weak_cache(), weak_cache()),
        (object, data) in (handle(), bytes()),
        (n, m) in (any::<[u32; 7]>(), any::<[u64; 6]>()),
        (flag, verifier, delta) in (any::<[bool; 4]>(), any::<[u8; 8]>(), time()),
        good in attributes(),
    ) {
        reads_back!(Reply<Attributes, ()>, Ok(good));
        reads_back!(Reply<Attributes, ()>, Err(Failure { status, known: () }));
        reads_back!(Reply<(), WeakCache>, Err(Failure { status, known: weak }));
        let found = LookupOk { object, attributes: known, dir: more };
        reads_back!(Reply<LookupOk<'_>, Option<Attributes>>, Ok(found));
        reads_back!(Reply<LookupOk<'_>, Option<Attributes>>, Err(Failure { status, known }));
        reads_back!(AccessOk, AccessOk { attributes: known, access: n[0] });
        reads_back!(ReadLinkOk<'_>, ReadLinkOk { attributes: known, target: data });
        let read = ReadOk { attributes: known, count: n[0], end: flag[0], data };
        reads_back!(Reply<ReadOk<'_>, Option<Attributes>>, Ok(read));
        let wrote = WriteOk { file: weak, count: n[0], stable: Stability::FileSync, verifier };
        reads_back!(Reply<WriteOk, WeakCache>, Ok(wrote));
        let made = Created { object: Some(object), attributes: known, dir: weak };
        reads_back!(Reply<Created<'_>, WeakCache>, Ok(made));
        let moved = RenameChange { from: weak, to: other };
        reads_back!(Reply<RenameChange, RenameChange>, Ok(moved));
        reads_back!(Reply<RenameChange, RenameChange>, Err(Failure { status, known: moved }));
        let linked = LinkFailed { file: known, dir: weak };
        reads_back!(Reply<LinkFailed, LinkFailed>, Err(Failure { status, known: linked }));
        reads_back!(FsStat, FsStat {
            attributes: known, bytes: m[0], bytes_free: m[1], bytes_available: m[2],
            files: m[3], files_free: m[4], files_available: m[5], invariant_s: n[0],
        });
        reads_back!(FsInfo, FsInfo {
            attributes: known, read_max: n[0], read_preferred: n[1], read_multiple: n[2],
            write_max: n[3], write_preferred: n[4], write_multiple: n[5], dir_preferred: n[6],
            size_max: m[0], time_delta: delta, properties: n[0],
        });
        reads_back!(PathConf, PathConf {
            attributes: known, links_max: n[0], name_max: n[1], no_truncation: flag[0],
            chown_restricted: flag[1], case_insensitive: flag[2], case_preserving: flag[3],
        });
        reads_back!(Reply<CommitOk, WeakCache>, Ok(CommitOk { file: weak, verifier }));
        reads_back!(DirOk, DirOk { attributes: known, verifier });
        let entry = DirEntry { id: m[0], name: data, cookie: m[1] };
        reads_back!(DirEntry<'_>, entry);
        let plus = DirEntryPlus {
            id: m[0], name: data, cookie: m[1], attributes: known, object: Some(object),
        };
        reads_back!(DirEntryPlus<'_>, plus);
        let mut out = vec![];
        let mut encoder = Encoder::new(&mut out);
        encoder.value(&Some(plus));
        encoder.value(&Some(plus));
        encoder.value(&None::<DirEntryPlus<'_>>);
        encoder.value(&flag[0]);
        let listed = decode_entries::<DirEntryPlus<'_>>(&mut Decoder::new(&out));
        prop_assert_eq!(listed, Ok((vec![plus, plus], flag[0])));
    }

    /// Whatever lengths are announced, reading a call allocates nothing and reads nothing outside.
    #[test]
    fn hostile_arguments_allocate_nothing(
        call in call(),
        at in any::<prop::sample::Index>(),
        number in prop_oneof![any::<u32>(), Just(u32::MAX), Just(1 << 28), Just(65)],
        random in prop::collection::vec(any::<u8>(), 0..300),
        procedure in 0..22_u32,
    ) {
        let procedure = Procedure::from_number(procedure).unwrap();
        let mut out = vec![];
        let sys = AuthSys::new(1, 2, &[3]).unwrap();
        let head = CallHead {
            xid: 1, program: nfs3::PROGRAM, version: 3, procedure: 1,
            credential: Credential::Sys(sys),
        };
        append_record(&mut out, |encoder| {
            head.encode(encoder);
            call.encode(encoder);
        });
        let at = at.index(out.len() - 3);
        out[at..at + 4].copy_from_slice(&number.to_be_bytes());
        let allocated = allocated_by(|| {
            if let Ok(Framed::Whole { record, .. }) = next_record(&mut out, 4096) {
                let mut decoder = Decoder::new(&out[record]);
                if CallHead::decode(&mut decoder).is_ok() {
                    let _ = Call::decode(procedure, &mut decoder.clone());
                    let _ = mount::decode_path(&mut decoder.clone());
                    let _ = decoder.value::<portmap::Mapping>();
                }
            }
            let _ = Call::decode(procedure, &mut Decoder::new(&random));
        });
        prop_assert_eq!(allocated, 0);
        let _ = decode_entries::<DirEntryPlus<'_>>(&mut Decoder::new(&random));
        let _ = mount::decode_mounted(&mut Decoder::new(&random));
    }
}
