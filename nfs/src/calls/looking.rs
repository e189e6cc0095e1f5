//! What one thing is, and what is in it.

use keepshare_namespace::Room;
use keepshare_nfs_wire::{
    Encoder,
    nfs3::{
        self, AccessArgs, AccessOk, Attributes, DirOpArgs, FileKind, FsInfo, FsStat, Handle,
        LookupOk, PathConf, ReadArgs, ReadLinkOk, ReadOk, Status, Time,
    },
};

use super::{fail, succeed};
use crate::{
    context::{Asking, Opened, denied},
    limits::TRANSFER_BYTES_MAX,
};

/// GETATTR.
pub(super) fn attributes(asking: Asking<'_>, object: Handle<'_>, encoder: &mut Encoder<'_>) {
    match asking.open_to_see(object).and_then(|opened| opened.attributes()) {
        Ok(attributes) => succeed(encoder, &attributes),
        Err(status) => fail(encoder, status, &()),
    }
}

/// LOOKUP.
pub(super) fn lookup(asking: Asking<'_>, place: DirOpArgs<'_>, encoder: &mut Encoder<'_>) {
    let opened = match asking.open(place.dir) {
        Ok(opened) => opened,
        Err(status) => return fail(encoder, status, &None::<Attributes>),
    };
    // Before the name is looked up: a client that gets an old name with a newer ctime keeps it.
    let dir = opened.known();
    let found = opened.lookup(place.name).and_then(|found| {
        let handle = opened.handle(found.node).ok_or(Status::ServerFault)?;
        Ok((handle, opened.shown(found.node, &found.attributes)))
    });
    match found {
        Ok((handle, attributes)) => {
            let (object, attributes) = (handle.wire(), Some(attributes));
            succeed(encoder, &LookupOk { object, attributes, dir });
        }
        Err(status) => fail(encoder, status, &dir),
    }
}

/// ACCESS.
pub(super) fn access(asking: Asking<'_>, args: AccessArgs<'_>, encoder: &mut Encoder<'_>) {
    let opened = match asking.open(args.object) {
        Ok(opened) => opened,
        Err(status) => return fail(encoder, status, &None::<Attributes>),
    };
    let granted = opened.attributes().and_then(|attributes| {
        let granted = granted(&opened, attributes.kind)?;
        Ok(AccessOk { attributes: Some(attributes), access: granted & args.access })
    });
    match granted {
        Ok(granted) => succeed(encoder, &granted),
        Err(status) => fail(encoder, status, &opened.known()),
    }
}

/// Returns all that the user may.
///
/// Where a restore is allowed, changes seem to be: clients would refuse to move a version onto a live name without even
/// asking. What is not a restore is refused when it comes.
fn granted(opened: &Opened<'_>, kind: FileKind) -> Result<u32, Status> {
    use nfs3::access::{DELETE, EXECUTE, EXTEND, LOOKUP, MODIFY, READ};
    let principal = &opened.admitted.principal;
    let may = opened.share.access(principal, opened.node, opened.asking.now).map_err(denied)?;
    let is_dir = kind == FileKind::Dir;
    // Changes are granted for folders alone, where moving a version onto a name needs them. A file is never written here, and
    // a client that were told it may would take the bytes, and find out when nobody looks any more.
    let may_move = may.restore && is_dir;
    let bits = [
        (may.read, READ),
        (may.search && is_dir, LOOKUP),
        (may.execute && !is_dir, EXECUTE),
        (may_move, MODIFY | EXTEND | DELETE),
    ];
    Ok(bits.iter().filter(|(is_granted, _)| *is_granted).fold(0, |all, (_, bit)| all | bit))
}

/// READLINK.
pub(super) fn read_link(asking: Asking<'_>, link: Handle<'_>, encoder: &mut Encoder<'_>) {
    let opened = match asking.open(link) {
        Ok(opened) => opened,
        Err(status) => return fail(encoder, status, &None::<Attributes>),
    };
    let principal = &opened.admitted.principal;
    match opened.share.read_link(principal, opened.node, asking.now) {
        Ok((target, attributes)) => {
            let attributes = Some(opened.shown(opened.node, &attributes));
            succeed(encoder, &ReadLinkOk { attributes, target: &target });
        }
        Err(denial) => fail(encoder, denied(denial), &opened.known()),
    }
}

/// READ.
pub(super) fn read(asking: Asking<'_>, args: ReadArgs<'_>, encoder: &mut Encoder<'_>) {
    let opened = match asking.open(args.file) {
        Ok(opened) => opened,
        Err(status) => return fail(encoder, status, &None::<Attributes>),
    };
    let start = encoder.len();
    if let Err(status) = append_bytes(&opened, args, encoder) {
        encoder.truncate(start);
        fail(encoder, status, &opened.known());
    }
}

/// Appends what was read, with a head of fixed length that is known only afterwards.
fn append_bytes(
    opened: &Opened<'_>,
    args: ReadArgs<'_>,
    encoder: &mut Encoder<'_>,
) -> Result<(), Status> {
    let len = usize::try_from(args.count.min(opened.asking.transfer_max)).unwrap_or(0);
    let (principal, node, now) = (&opened.admitted.principal, opened.node, opened.asking.now);
    let start = encoder.len();
    encoder.array(&[0; READ_HEAD_BYTES]);
    let read =
        encoder.append(|out| opened.share.read_into(principal, node, args.offset, len, now, out));
    let attributes = read.map_err(denied)?;
    encoder.truncate(encoder.len().min(start + READ_HEAD_BYTES + len));
    let read = encoder.len() - start - READ_HEAD_BYTES;
    encoder.array(&[0; 3][..read.next_multiple_of(4) - read]);
    let count = u32::try_from(read).unwrap_or(u32::MAX);
    let end = args.offset.saturating_add(u64::from(count)) >= attributes.size;
    let attributes = Some(opened.shown(opened.node, &attributes));
    let mut head = Vec::with_capacity(READ_HEAD_BYTES);
    succeed(&mut Encoder::new(&mut head), &ReadOk { attributes, count, end, data: &[] });
    assert!(head.len() == READ_HEAD_BYTES, "a head of {} bytes", head.len());
    encoder.patch(start, &head);
    encoder.patch_u32(start + READ_HEAD_BYTES - 4, count);
    Ok(())
}

/// FSSTAT.
pub(super) fn fs_stat(asking: Asking<'_>, object: Handle<'_>, encoder: &mut Encoder<'_>) {
    let opened = asking.open_to_mount(object);
    match opened.and_then(|opened| Ok((opened.attributes()?, opened.share.room()))) {
        Ok((attributes, room)) => {
            let Room { bytes, bytes_free, files, files_free } = room;
            let stat = FsStat {
                attributes: Some(attributes),
                bytes,
                bytes_free,
                bytes_available: bytes_free,
                files,
                files_free,
                files_available: files_free,
                invariant_s: 0,
            };
            succeed(encoder, &stat);
        }
        Err(status) => fail(encoder, status, &None::<Attributes>),
    }
}

/// FSINFO.
pub(super) fn fs_info(asking: Asking<'_>, object: Handle<'_>, encoder: &mut Encoder<'_>) {
    whole(asking, object, encoder, |attributes| FsInfo {
        attributes: Some(attributes),
        read_max: TRANSFER_BYTES_MAX,
        read_preferred: TRANSFER_BYTES_MAX,
        read_multiple: 4096,
        write_max: TRANSFER_BYTES_MAX,
        write_preferred: TRANSFER_BYTES_MAX,
        write_multiple: 4096,
        dir_preferred: 64 * 1024,
        size_max: i64::MAX.unsigned_abs(),
        time_delta: Time { secs: 0, nanos: 1 },
        properties: nfs3::properties::SYMLINK | nfs3::properties::HOMOGENEOUS,
    });
}

/// PATHCONF.
pub(super) fn path_conf(asking: Asking<'_>, object: Handle<'_>, encoder: &mut Encoder<'_>) {
    whole(asking, object, encoder, |attributes| PathConf {
        attributes: Some(attributes),
        links_max: 65_535,
        name_max: 255,
        no_truncation: true,
        chown_restricted: true,
        case_insensitive: false,
        case_preserving: true,
    });
}

/// Answers what is the same for every node of a drive.
fn whole<'a, T: keepshare_nfs_wire::Wire<'a>>(
    asking: Asking<'_>,
    object: Handle<'_>,
    encoder: &mut Encoder<'_>,
    answer: impl FnOnce(Attributes) -> T,
) {
    match asking.open_to_mount(object).and_then(|opened| opened.attributes()) {
        Ok(attributes) => succeed(encoder, &answer(attributes)),
        Err(status) => fail(encoder, status, &None::<Attributes>),
    }
}

/// The bytes of a good READ before its data: status, attributes, count, end and the data's length (RFC 1813 §3.3.6).
const READ_HEAD_BYTES: usize = 4 + (4 + 84) + 4 + 4 + 4;
