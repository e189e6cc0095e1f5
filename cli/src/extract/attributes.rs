//! Attributes of what is brought back: owner, access lists, further attributes, mode and time.
//!
//! A folder's file system may take none of them, and may add access lists of its own to what is made in it. What is not
//! taken is told; it never opens to anybody what was closed to them.

use rustix::{
    fd::AsFd,
    fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use keepshare_base::{FileTime, LEFT_OUT_XATTR, Meta, Owner};
use keepshare_host::accounts::{Answer, MachineAccounts};

use crate::output::safe;

/// The attribute that is an object's access list.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";

/// The attribute that is the access list of what is made in a folder.
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// Who is who on this machine, and whether files are given to them.
pub(super) struct Owners {
    accounts: MachineAccounts,
    /// Only root gives files away.
    pub(super) are_given: bool,
}

impl Owners {
    pub(super) fn load() -> Self {
        let are_given = rustix::process::geteuid().is_root();
        Self { accounts: MachineAccounts::of_this_machine().patient(), are_given }
    }

    /// Returns the numbers of a file's owner and group: by name where the machine knows the name.
    fn of(&self, meta: &Meta) -> (u32, u32) {
        let number = |answer: Answer<u32>, owner: &Owner| answer.known().unwrap_or(owner.id);
        let (user, group) = (&meta.owner, &meta.group);
        (number(self.accounts.uid(&user.name), user), number(self.accounts.gid(&group.name), group))
    }

    /// Tells whether the machine's name services did not say who is who: by number it may be given to somebody else.
    fn are_unanswered(&self, meta: &Meta) -> bool {
        let (user, group) = (&meta.owner.name, &meta.group.name);
        let answers = [self.accounts.uid(user), self.accounts.gid(group)];
        self.are_given && answers.contains(&Answer::NotNow)
    }

    /// Returns who a file is to be given to; nobody where none are.
    pub(super) fn given(&self, meta: &Meta) -> Option<(Option<Uid>, Option<Gid>)> {
        let (user, group) = self.of(meta);
        // The number that means "leave it" to the kernel does.
        let user = (user != u32::MAX).then(|| Uid::from_raw(user));
        let group = (group != u32::MAX).then(|| Gid::from_raw(group));
        self.are_given.then_some((user, group))
    }
}

/// Gives an open file or folder its attributes, the mode last; returns those that were not taken, with why.
///
/// It must be open to nobody else before.
pub(super) fn give(fd: impl AsFd, meta: &Meta, owners: &Owners) -> Vec<String> {
    let fd = fd.as_fd();
    let mut left = Vec::new();
    let mut note = |what: &str, result: Result<(), Errno>| {
        if let Err(error) = result {
            left.push(format!("{what} ({error})"));
        }
    };
    if let Some((user, group)) = owners.given(meta) {
        note("owner", rustix::fs::fchown(fd, user, group));
    }
    if owners.are_unanswered(meta) {
        note(
            "owner by name: the name services of this machine do not answer",
            Err(Errno::TIMEDOUT),
        );
    }
    let mut mode = meta.mode;
    let now = rustix::fs::fstat(fd).map(|now| (now.st_uid, now.st_gid)).ok();
    let (user, group) = owners.of(meta);
    if !owners.are_given || now != Some((user, group)) {
        // Set-id bits would hand the rights of whoever has the file now to everybody.
        mode &= 0o1777;
    }
    if now.is_none_or(|(_, now)| now != group) {
        // Another group gets what everybody has.
        mode &= !0o070 | ((mode & 0o007) << 3);
    }
    if let Err(error) = remove_foreign_lists(fd, meta) {
        note("mode for its group: an access list of the folder stays", Err(error));
        mode &= !0o070;
    }
    for (name, value) in meta.xattrs.iter().filter(|(name, _)| name != LEFT_OUT_XATTR) {
        let set = rustix::fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty());
        if set.is_err() {
            // Without it is right but for what is left out; with an older value it would be wrong.
            let _ = rustix::fs::fremovexattr(fd, name.as_slice());
            if name == ACCESS_LIST {
                mode = without_list(mode, value);
            }
        }
        note(&shown(name), set);
    }
    note("mode", rustix::fs::fchmod(fd, Mode::from_raw_mode(mode)));
    note("time", rustix::fs::futimens(fd, &times(meta.mtime)));
    left.extend(meta.left_out().map(|said| format!("{} (not taken by its master)", safe(&said))));
    left
}

/// Removes the access lists that are not the version's: those that a folder gives to all that is made in it.
pub(super) fn remove_foreign_lists(fd: impl AsFd, meta: &Meta) -> Result<(), Errno> {
    let is_foreign = |list: &&[u8]| !meta.xattrs.iter().any(|(name, _)| name == list);
    for list in [ACCESS_LIST, DEFAULT_LIST].into_iter().filter(is_foreign) {
        match rustix::fs::fremovexattr(&fd, list) {
            Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Returns times that set both.
pub(super) fn times(mtime: FileTime) -> Timestamps {
    let time = Timespec { tv_sec: mtime.secs, tv_nsec: mtime.nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Returns the mode for a file that lacks its access list: nobody has more by it than by the list.
fn without_list(mode: u32, list: &[u8]) -> u32 {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    const MASK: u16 = 0x10;
    // A version, then entries of a tag, permissions and a number.
    let entries = list.get(4..).unwrap_or_default();
    let parse = |entry: &[u8]| {
        let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        (short(0), u32::from(short(2)))
    };
    let entries: Vec<(u16, u32)> = entries.chunks_exact(8).map(parse).collect();
    let mask = entries.iter().find(|(tag, _)| *tag == MASK).map_or(0o7, |(_, bits)| *bits);
    let named = entries.iter().filter(|(tag, _)| matches!(*tag, USER | GROUP));
    // Who is named in it is one of all others without it.
    let others = named.fold(mode & 0o007, |others, (_, bits)| others & bits & mask);
    // With the list the bits of the group are its mask.
    (mode & !0o077) | others
}

fn shown(name: &[u8]) -> String {
    match name {
        ACCESS_LIST => "access list".to_owned(),
        DEFAULT_LIST => "access list for what is made in it".to_owned(),
        name => format!("attribute {}", safe(&String::from_utf8_lossy(name))),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Returns an access list as the kernel has it: tags, permissions and numbers.
    pub(in super::super) fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    /// Where a list cannot be kept, whom it shut out stays out.
    #[test]
    fn without_its_list_a_file_is_open_to_nobody_more() {
        let list = |named: u16, mask: u16| {
            let none = u32::MAX;
            list(&[(1, 6, none), (2, named, 1001), (4, 0, none), (16, mask, none), (32, 4, none)])
        };
        assert_eq!(without_list(0o1664, &list(6, 6)), 0o1604);
        assert_eq!(without_list(0o664, &list(0, 6)), 0o600, "one who was shut out");
        assert_eq!(without_list(0o604, &list(6, 0)), 0o600, "one whom the mask shut out");
        assert_eq!(without_list(0o670, b""), 0o600);
    }
}
