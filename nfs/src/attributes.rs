//! Attributes as clients get to see them.

use keepshare_auth::Admitted;
use keepshare_base::{FileTime, Kind, Stamp};
use keepshare_namespace::{Attributes, ShareId};
use keepshare_nfs_wire::nfs3::{self, FileKind, Time};

/// The number under which a file is shown that is not the user's own and would seem to be.
pub(crate) const NOBODY: u32 = 65_534;

/// Returns a node's attributes for this user.
///
/// The file system is one for the present and the past: with two, clients would move between them by copying and then
/// *removing the live file*.
pub(crate) fn shown(attributes: &Attributes, share: ShareId, to: &Admitted) -> nfs3::Attributes {
    let mtime = time(attributes.mtime);
    nfs3::Attributes {
        kind: kind(attributes.kind),
        mode: attributes.mode & 0o777,
        links: attributes.links,
        uid: owner(attributes.uid, to),
        gid: attributes.gid,
        size: attributes.size,
        used: attributes.size,
        device: 0,
        fsid: FSID | u64::from(share.0),
        id: attributes.id,
        atime: mtime,
        mtime,
        ctime: time(attributes.ctime),
    }
}

/// Returns the owner to show: clients check rights by it before they ask, so the user's files must seem to be the
/// user's, and nobody else's may.
fn owner(uid: u32, to: &Admitted) -> u32 {
    match to.client_uid {
        Some(client_uid) if uid == to.principal.uid => client_uid,
        Some(client_uid) if uid == client_uid => NOBODY,
        _ => uid,
    }
}

fn kind(kind: Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::File,
        Kind::Dir => FileKind::Dir,
        Kind::Symlink => FileKind::Symlink,
        Kind::Fifo => FileKind::Fifo,
        Kind::Socket => FileKind::Socket,
        Kind::BlockDevice => FileKind::BlockDevice,
        Kind::CharDevice => FileKind::CharDevice,
    }
}

/// Returns the nearest time that the protocol can tell: 1970 to 2106.
pub(crate) fn time(time: FileTime) -> Time {
    match u32::try_from(time.secs) {
        Ok(secs) => Time { secs, nanos: time.nanos },
        Err(_) if time.secs < 0 => Time { secs: 0, nanos: 0 },
        Err(_) => Time { secs: u32::MAX, nanos: 999_999_999 },
    }
}

/// Returns a moment as the protocol tells it.
pub(crate) fn time_of(stamp: Stamp) -> Time {
    let nanos = u32::try_from(stamp.0.rem_euclid(1_000_000) * 1000).unwrap_or(0);
    time(FileTime { secs: stamp.0.div_euclid(1_000_000), nanos })
}

/// The upper bits of every file system's number, so that it is unlike those of other servers.
const FSID: u64 = 0x4b53_4841_5245_0000;
