//! Records of RPC: calls of NFSv3, MOUNT and the port mapper, and the replies to them.

use keepshare_nfs_wire::{
    Decoder, Encoder, Wire, mount,
    nfs3::{
        self, AccessArgs, AccessOk, Attributes, Call, CommitArgs, CommitOk, CreateArgs, CreateHow,
        Created, DirEntry, DirEntryPlus, DirOk, DirOpArgs, Failure, FileKind, FsInfo, FsStat,
        Handle, LinkArgs, LinkFailed, LookupOk, MakeDirArgs, MakeNodeArgs, NodeKind, PathConf,
        ReadArgs, ReadDirArgs, ReadDirPlusArgs, ReadLinkOk, ReadOk, RenameArgs, RenameChange,
        Reply, SetAttributes, SetAttributesArgs, SetTime, Stability, Status, SymlinkArgs, Time,
        WeakCache, WriteArgs, WriteOk, decode_entries,
    },
    portmap,
    record::{Framed, append_record, next_record},
    rpc::{self, AuthStatus, AuthSys, BadCall, CallHead, Credential, Refusal},
};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "rpc",
    run,
    examples,
    words: &[&[0, 0, 0, 1], &[0x80, 0, 0, 0], &[0xff; 4], &[0, 1, 0x86, 0xa3], &[0, 0, 0, 65]],
    cost: 1,
};

/// The longest record that is taken, in bytes.
const RECORD_BYTES_MAX: usize = 64 << 10;

/// Reads a stream of records, each as a call and as a reply.
fn run(bytes: &[u8]) -> bool {
    let (mut stream, mut at, mut is_used) = (bytes.to_vec(), 0, false);
    while let Ok(Framed::Whole { record, consumed }) =
        next_record(&mut stream[at..], RECORD_BYTES_MAX)
    {
        let record = &stream[at..][record];
        is_used |= read_call(record);
        is_used |= read_reply(record);
        at += consumed;
    }
    is_used
}

fn read_call(record: &[u8]) -> bool {
    let mut decoder = Decoder::new(record);
    let head = match CallHead::decode(&mut decoder) {
        Ok(head) => head,
        Err(BadCall::NoCall) => return false,
        Err(BadCall::Refused(xid, refusal)) => {
            let told = written(|encoder| rpc::encode_refused(encoder, xid, refusal));
            assert_eq!(rpc::decode_reply(&mut Decoder::new(&told)), Ok((xid, Err(refusal))));
            return false;
        }
    };
    let again = written(|encoder| head.encode(encoder));
    assert_eq!(CallHead::decode(&mut Decoder::new(&again)), Ok(head));
    match head.program {
        nfs3::PROGRAM => read_nfs(head.procedure, decoder),
        mount::PROGRAM => match mount::Procedure::from_number(head.procedure) {
            Some(mount::Procedure::Mount | mount::Procedure::Unmount) => {
                mount::decode_path(&mut decoder).is_ok()
            }
            procedure => procedure.is_some(),
        },
        portmap::PROGRAM => match portmap::Procedure::from_number(head.procedure) {
            Some(portmap::Procedure::Port) => reads_back::<portmap::Mapping>(decoder),
            procedure => procedure.is_some(),
        },
        _ => false,
    }
}

fn read_nfs(procedure: u32, mut decoder: Decoder<'_>) -> bool {
    let Some(procedure) = nfs3::Procedure::from_number(procedure) else { return false };
    let before = decoder.rest().len();
    let Ok(call) = Call::decode(procedure, &mut decoder) else { return false };
    let mut again = Vec::new();
    assert_eq!(call.encode(&mut Encoder::new(&mut again)), procedure);
    assert_eq!(again.len(), before - decoder.rest().len(), "{call:?} is of another length");
    assert_eq!(Call::decode(procedure, &mut Decoder::new(&again)), Ok(call));
    true
}

/// A reply does not say to which procedure it belongs, so that all results are tried.
fn read_reply<'a>(record: &'a [u8]) -> bool {
    let mut decoder = Decoder::new(record);
    let Ok((xid, answered)) = rpc::decode_reply(&mut decoder) else { return false };
    if let Err(refusal) = answered {
        let again = written(|encoder| rpc::encode_refused(encoder, xid, refusal));
        assert_eq!(rpc::decode_reply(&mut Decoder::new(&again)), Ok((xid, answered)));
        return true;
    }
    type Known = Option<Attributes>;
    let results: [fn(Decoder<'a>) -> bool; 18] = [
        reads_back::<Reply<Attributes, ()>>,
        reads_back::<Reply<WeakCache, WeakCache>>,
        reads_back::<Reply<LookupOk<'a>, Known>>,
        reads_back::<Reply<AccessOk, Known>>,
        reads_back::<Reply<ReadLinkOk<'a>, Known>>,
        reads_back::<Reply<ReadOk<'a>, Known>>,
        reads_back::<Reply<WriteOk, WeakCache>>,
        reads_back::<Reply<Created<'a>, WeakCache>>,
        reads_back::<Reply<RenameChange, RenameChange>>,
        reads_back::<Reply<LinkFailed, LinkFailed>>,
        reads_back::<Reply<FsStat, Known>>,
        reads_back::<Reply<FsInfo, Known>>,
        reads_back::<Reply<PathConf, Known>>,
        reads_back::<Reply<CommitOk, WeakCache>>,
        reads_listed::<DirEntry<'a>>,
        reads_listed::<DirEntryPlus<'a>>,
        |mut decoder: Decoder<'a>| mount::decode_mounted(&mut decoder).is_ok(),
        |mut decoder: Decoder<'a>| portmap::decode_mappings(&mut decoder).is_ok(),
    ];
    results.into_iter().filter(|read| read(decoder.clone())).count() > 0
}

fn reads_listed<'a, T: Wire<'a>>(mut decoder: Decoder<'a>) -> bool {
    let head = decoder.value::<Reply<DirOk, Option<Attributes>>>();
    matches!(head, Ok(Ok(_))) && decode_entries::<T>(&mut decoder).is_ok()
}

/// Reads a value; whatever is read is written as long as it was.
fn reads_back<'a, T: Wire<'a> + std::fmt::Debug>(mut decoder: Decoder<'a>) -> bool {
    let before = decoder.rest().len();
    let Ok(value) = decoder.value::<T>() else { return false };
    let again = written(|encoder| encoder.value(&value));
    assert_eq!(again.len(), before - decoder.rest().len(), "{value:?} is of another length");
    true
}

fn written(write: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut Encoder::new(&mut bytes));
    bytes
}

/// One record of every procedure of every program, and of every result.
fn examples() -> Vec<(String, Vec<u8>)> {
    let mut examples = calls();
    examples.extend(results());
    let refusals = [
        Refusal::RpcMismatch,
        Refusal::Auth(AuthStatus::BadCredential),
        Refusal::ProgramUnavailable,
        Refusal::ProgramMismatch { low: 3, high: 3 },
        Refusal::GarbageArguments,
    ];
    for (number, refusal) in refusals.into_iter().enumerate() {
        let record = recorded(|encoder| rpc::encode_refused(encoder, 7, refusal));
        examples.push((format!("refused-{number}"), record));
    }
    examples
}

fn calls() -> Vec<(String, Vec<u8>)> {
    let (dir, file) = (handle(b"a folder's handle, sealed......."), handle(b"a file's"));
    let place = DirOpArgs { dir, name: b"report.docx" };
    let attributes = SetAttributes {
        mode: Some(0o640),
        uid: Some(0),
        gid: None,
        size: Some(1 << 40),
        atime: SetTime::Server,
        mtime: SetTime::Client(Time { secs: 1, nanos: 2 }),
    };
    let (offset, count, cookie, verifier) = (1 << 33, 4096, 5, [6; 8]);
    let guard = Some(Time { secs: 3, nanos: 4 });
    let device = NodeKind::Device(FileKind::CharDevice, attributes, 5);
    let plus = ReadDirPlusArgs { dir, cookie, verifier, dir_count: 512, max_count: 4096 };
    let calls = [
        Call::Null,
        Call::GetAttributes(file),
        Call::SetAttributes(SetAttributesArgs { object: file, new: attributes, guard }),
        Call::Lookup(place),
        Call::Access(AccessArgs { object: dir, access: 63 }),
        Call::ReadLink(file),
        Call::Read(ReadArgs { file, offset, count }),
        Call::Write(WriteArgs {
            file,
            offset,
            count: 9,
            stable: Stability::FileSync,
            data: &[1; 9],
        }),
        Call::Create(CreateArgs { place, how: CreateHow::Exclusive([1; 8]) }),
        Call::MakeDir(MakeDirArgs { place, attributes }),
        Call::Symlink(SymlinkArgs { place, attributes, target: b"/etc/passwd" }),
        Call::MakeNode(MakeNodeArgs { place, node: device }),
        Call::Remove(place),
        Call::RemoveDir(place),
        Call::Rename(RenameArgs { from: place, to: DirOpArgs { dir, name: b"b" } }),
        Call::Link(LinkArgs { file, link: place }),
        Call::ReadDir(ReadDirArgs { dir, cookie, verifier, count }),
        Call::ReadDirPlus(plus),
        Call::FsStat(dir),
        Call::FsInfo(dir),
        Call::PathConf(dir),
        Call::Commit(CommitArgs { file, offset, count }),
    ];
    let mut examples = Vec::new();
    for call in calls {
        let procedure = call.encode(&mut Encoder::new(&mut Vec::new())).number();
        let record = recorded(|encoder| {
            head(nfs3::PROGRAM, 3, procedure).encode(encoder);
            call.encode(encoder);
        });
        examples.push((format!("nfs-{procedure:02}"), record));
    }
    for procedure in 0..=5 {
        let record = recorded(|encoder| {
            head(mount::PROGRAM, 3, procedure).encode(encoder);
            encoder.opaque(b"/login/0123456789abcdef0123456789abcdef");
        });
        examples.push((format!("mount-{procedure}"), record));
    }
    for procedure in [0, 3, 4] {
        let asked = portmap::Mapping { program: 100_003, version: 3, protocol: 6, port: 0 };
        let record = recorded(|encoder| {
            head(portmap::PROGRAM, 2, procedure).encode(encoder);
            encoder.value(&asked);
        });
        examples.push((format!("portmap-{procedure}"), record));
    }
    examples
}

fn results() -> Vec<(String, Vec<u8>)> {
    type Known = Option<Attributes>;
    let (time, verifier, data) = (Time { secs: 5, nanos: 6 }, [7; 8], &b"some bytes"[..]);
    let attributes = Attributes {
        kind: FileKind::File,
        mode: 0o644,
        links: 1,
        uid: 2,
        gid: 3,
        size: 4,
        used: 5,
        device: 6,
        fsid: 7,
        id: 8,
        atime: time,
        mtime: time,
        ctime: time,
    };
    let known = Some(attributes);
    let object = handle(b"a file's");
    let weak = WeakCache { before: None, after: known };
    let plus =
        DirEntryPlus { id: 1, name: data, cookie: 2, attributes: known, object: Some(object) };
    let mut examples = Vec::new();
    let mut add = |name: &str, write: &dyn Fn(&mut Encoder<'_>)| {
        let record = recorded(|encoder| {
            rpc::encode_accepted(encoder, 7);
            write(encoder);
        });
        examples.push((format!("result-{name}"), record));
    };
    add("attributes", &|e| e.value(&Reply::<_, ()>::Ok(attributes)));
    add("failed", &|e| {
        e.value(&Reply::<(), WeakCache>::Err(Failure { status: Status::ReadOnly, known: weak }));
    });
    let found = LookupOk { object, attributes: known, dir: None };
    add("lookup", &|e| e.value(&Reply::<_, Known>::Ok(found)));
    let read = ReadOk { attributes: known, count: 10, end: true, data };
    add("read", &|e| e.value(&Reply::<_, Known>::Ok(read)));
    let made = Created { object: Some(object), attributes: known, dir: weak };
    add("created", &|e| e.value(&Reply::<_, WeakCache>::Ok(made)));
    add("listed", &|e| {
        e.value(&Reply::<_, Known>::Ok(DirOk { attributes: known, verifier }));
        e.value(&Some(plus));
        e.value(&Some(plus));
        e.value(&None::<DirEntryPlus<'_>>);
        e.value(&true);
    });
    add("mounted", &|e| mount::encode_mounted(e, Ok(object)));
    let mapping = portmap::Mapping { program: 100_003, version: 3, protocol: 6, port: 2049 };
    add("mappings", &|e| portmap::encode_mappings(e, &[mapping, mapping]));
    examples
}

fn head(program: u32, version: u32, procedure: u32) -> CallHead {
    let sys = AuthSys::new(1000, 100, &[4, 24, 27]).expect("three groups fit");
    CallHead { xid: 7, program, version, procedure, credential: Credential::Sys(sys) }
}

fn handle(bytes: &[u8]) -> Handle<'_> {
    Handle::new(bytes).expect("a handle has up to 64 bytes")
}

fn recorded(write: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut record = Vec::new();
    append_record(&mut record, write);
    record
}
