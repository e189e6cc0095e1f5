//! Attributes of what is brought back: owner, access lists, further attributes, mode and time.
//!
//! A folder's file system may take none of them, and may add access lists of its own to what is made in it. What is not
//! taken is told; it never opens to anybody what was closed to them.

use rustix::{
    fd::AsFd,
    fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno,
};

use keepshare_base::{
    ACCESS_LIST_XATTR, DEFAULT_LIST_XATTR, FileTime, LEFT_OUT_XATTR, Meta, Owner, mode_without_list,
};
use keepshare_host::accounts::{Answer, MachineAccounts};

use crate::output::safe;

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
            if name == ACCESS_LIST_XATTR {
                mode = mode_without_list(mode, value);
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
    for list in [ACCESS_LIST_XATTR, DEFAULT_LIST_XATTR].into_iter().filter(is_foreign) {
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

fn shown(name: &[u8]) -> String {
    match name {
        ACCESS_LIST_XATTR => "access list".to_owned(),
        DEFAULT_LIST_XATTR => "access list for what is made in it".to_owned(),
        name => format!("attribute {}", safe(&String::from_utf8_lossy(name))),
    }
}

#[cfg(test)]
pub(super) mod tests {
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
}
