//! A file's attributes, set on an open descriptor and only where they differ.
//!
//! As root a live file has its owner, mode (never set-id bits), times, and the extended attributes of the allow-list.
//! Without root a live tree is the station's own: folders are 0700, files 0600, only times and `user.*` attributes are
//! kept, and rights come from the index.

use std::{fmt, io};

use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{Mode, XattrFlags},
    io::Errno,
};

use keepshare_base::{
    ACCESS_LIST_XATTR, FileTime, Kind, LEFT_OUT_XATTR, Meta, Owner, XATTR_BYTES_MAX,
    mode_without_list, xattr_allowed,
};
use keepshare_host::accounts::{Answer, MachineAccounts};

use super::beneath::{Folder, Part, Seen, ids, see_open, step, times};

/// How many attributes that were left out are told one by one.
const LEFT_OUT_NAMED_MAX: usize = 3;

/// How attributes are set here.
#[derive(Debug)]
pub(super) struct Attributes {
    /// Whether owners and modes can be those of the origin.
    pub(super) as_root: bool,
    /// Who is who on this machine.
    accounts: MachineAccounts,
}

impl Attributes {
    /// Sets owners and modes `as_root` or not at all.
    pub(super) fn new(as_root: bool) -> Self {
        Self { as_root, accounts: MachineAccounts::of_this_machine() }
    }

    /// Makes the attributes of an open file or folder those of `meta`; the content must be there already.
    ///
    /// Each is tried, whatever became of the others: one that the file system does not take is left out, so that none
    /// keeps content back.
    pub(super) fn set(&self, fd: impl AsFd, meta: &Meta) -> io::Result<LeftOut> {
        let before = see_open(&fd)?;
        self.set_seen(fd, &before, meta)
    }

    /// Does what [`Self::set`] does to what was seen to be as `before`.
    pub(super) fn set_seen(
        &self,
        fd: impl AsFd,
        before: &Seen,
        meta: &Meta,
    ) -> io::Result<LeftOut> {
        let fd = fd.as_fd();
        let mut left = LeftOut::default();
        let Wanted { uid, gid, unanswered } = self.owner(meta, before);
        left.unanswered |= unanswered;
        let mut owner_changed = false;
        if (uid, gid) != (before.uid, before.gid) {
            owner_changed = uid != before.uid;
            let (uid, gid) = ids(uid, gid);
            left.note("owner", changing(|| Ok(rustix::fs::fchown(fd, uid, gid)?)));
        }
        let lists = self.set_xattrs(fd, meta, &mut left)?;
        let mut mode = self.mode(meta);
        if lists == Lists::LeftOut {
            mode = mode_without_list(mode, meta.access_list());
        }
        let acl_changed = lists != Lists::Same;
        if acl_changed || mode != before.mode || owner_changed {
            let mode = Mode::from_raw_mode(mode);
            left.note("mode", changing(|| Ok(rustix::fs::fchmod(fd, mode)?)));
        }
        if meta.mtime != before.mtime || acl_changed {
            let times = times(meta.mtime);
            let set = changing(|| Ok(rustix::fs::futimens(fd, &times)?));
            left.note("time", set.and_then(|()| took(meta.mtime, || see_open(fd).map(Some))));
        }
        Ok(left)
    }

    /// Makes the attributes of a symlink those of `meta`, as far as the file system takes them.
    pub(super) fn set_symlink(
        &self,
        folder: &Folder,
        name: Part<'_>,
        meta: &Meta,
    ) -> io::Result<LeftOut> {
        let mut left = LeftOut::default();
        let Some(before) = folder.see(name)? else { return Err(Errno::NOENT.into()) };
        let Wanted { uid, gid, unanswered } = self.owner(meta, &before);
        left.unanswered |= unanswered;
        if (uid, gid) != (before.uid, before.gid) {
            left.note("owner", folder.set_owner_of(name, uid, gid));
        }
        if meta.mtime != before.mtime {
            let set = folder.set_mtime_of(name, meta.mtime);
            left.note("time", set.and_then(|()| took(meta.mtime, || folder.see(name))));
        }
        Ok(left)
    }

    /// Tells whether what was seen has the owner, mode and time of `meta`; extended attributes are not looked at.
    pub(super) fn fit(&self, seen: &Seen, meta: &Meta) -> bool {
        let mode_fits = meta.kind == Kind::Symlink || seen.mode == self.mode(meta);
        let Wanted { uid, gid, .. } = self.owner(meta, seen);
        mode_fits && (seen.uid, seen.gid) == (uid, gid) && seen.mtime == meta.mtime
    }

    fn mode(&self, meta: &Meta) -> u32 {
        match (self.as_root, meta.kind) {
            (true, _) => meta.mode & 0o1777,
            (false, Kind::Dir) => 0o700,
            (false, _) => 0o600,
        }
    }

    /// Returns who is to own something: by name where that is known here, else by the origin's number.
    fn owner(&self, meta: &Meta, now: &Seen) -> Wanted {
        if !self.as_root {
            return Wanted { uid: now.uid, gid: now.gid, unanswered: false };
        }
        let (user, group) =
            (self.accounts.uid(&meta.owner.name), self.accounts.gid(&meta.group.name));
        let unanswered = [user, group].contains(&Answer::NotNow);
        let number = |answer, wanted: &Owner, now: u32| match answer {
            Answer::Is(number) => number,
            Answer::Nobody => wanted.id,
            // What is not root's was given to somebody when there was an answer.
            Answer::NotNow if now != 0 => now,
            Answer::NotNow => wanted.id,
        };
        let (uid, gid) = (number(user, &meta.owner, now.uid), number(group, &meta.group, now.gid));
        Wanted { uid, gid, unanswered }
    }

    /// Sets and removes extended attributes, as far as the file system takes them.
    fn set_xattrs(&self, fd: BorrowedFd<'_>, meta: &Meta, left: &mut LeftOut) -> io::Result<Lists> {
        let kept = |name: &[u8]| {
            xattr_allowed(name)
                && name != LEFT_OUT_XATTR
                && (self.as_root || name.starts_with(b"user."))
        };
        let mut lists = Lists::Same;
        for name in names(fd)?.split(|b| *b == 0).filter(|name| kept(name)) {
            if !meta.xattrs.iter().any(|(wanted, _)| wanted == name) {
                let removed = changing(|| Ok(rustix::fs::fremovexattr(fd, name)?));
                if removed.is_err() && name == ACCESS_LIST_XATTR {
                    // It is of another state: bits of the group would widen its mask.
                    lists = Lists::LeftOut;
                } else if removed.is_ok() && is_acl(name) && lists == Lists::Same {
                    lists = Lists::Changed;
                }
                left.note(shown(name), removed);
            }
        }
        for (name, value) in meta.xattrs.iter().filter(|(name, _)| kept(name)) {
            if current(fd, name)?.as_ref() == Some(value) {
                continue;
            }
            match changing(|| set_xattr(fd, name, value)) {
                Ok(()) if is_acl(name) && lists == Lists::Same => lists = Lists::Changed,
                Ok(()) => {}
                Err(error) => {
                    // Without it is right but for what is left out; with an older value it would be wrong.
                    let _ = changing(|| Ok(rustix::fs::fremovexattr(fd, name)?));
                    if name == ACCESS_LIST_XATTR {
                        lists = Lists::LeftOut;
                    }
                    left.note(shown(name), Err(error));
                }
            }
        }
        Ok(lists)
    }
}

/// Who is to own something.
struct Wanted {
    uid: u32,
    gid: u32,
    /// The name services did not say so of both: they are asked again.
    unanswered: bool,
}

/// What became of a file's access lists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Lists {
    Same,
    Changed,
    /// The one that says who has access could not be set, or another could not be removed.
    LeftOut,
}

/// Attributes that a file system did not take.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// Some of them, each with why.
    named: Vec<(String, io::Error)>,
    more: usize,
    /// The name services of the machine did not say who is to own it.
    unanswered: bool,
}

impl LeftOut {
    /// Tells whether all were taken.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && !self.unanswered
    }

    fn note(&mut self, what: impl Into<String>, result: io::Result<()>) {
        let Err(error) = result else { return };
        if self.named.len() < LEFT_OUT_NAMED_MAX {
            self.named.push((what.into(), error));
        } else {
            self.more += 1;
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.unanswered {
            f.write_str("the name services of this machine do not say now who its owner is")?;
            if self.named.is_empty() {
                return Ok(());
            }
            f.write_str("; ")?;
        }
        f.write_str("the file system of the live tree does not take")?;
        for (at, (what, error)) in self.named.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma} its {what} ({error})")?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// Makes one change to the file system.
fn changing(change: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    step()?;
    change()
}

fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> io::Result<()> {
    #[cfg(test)]
    super::beneath::trip::xattr_fits(value)?;
    Ok(rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())?)
}

fn shown(name: &[u8]) -> String {
    format!("attribute {}", String::from_utf8_lossy(name))
}

/// Refuses a time that the file system made another: what it cannot hold it sets to the nearest that it can, and says nothing.
/// The times of these years every one holds.
fn took(mtime: FileTime, see: impl FnOnce() -> io::Result<Option<Seen>>) -> io::Result<()> {
    let is_plain = (0..=i64::from(i32::MAX)).contains(&mtime.secs);
    if is_plain || see()?.is_none_or(|seen| seen.mtime == mtime) {
        return Ok(());
    }
    Err(Errno::OVERFLOW.into())
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}

/// Returns the names of all extended attributes, each ended by a NUL.
fn names(fd: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    match rustix::fs::flistxattr_query(fd) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let mut bytes = vec![0; XATTR_BYTES_MAX];
    let len = rustix::fs::flistxattr(fd, &mut bytes[..])?;
    bytes.truncate(len);
    Ok(bytes)
}

/// Returns the value of an extended attribute, where there is one.
fn current(fd: BorrowedFd<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let len = match rustix::fs::fgetxattr_query(fd, name) {
        Ok(len) => len.min(XATTR_BYTES_MAX),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut value = vec![0; len];
    match rustix::fs::fgetxattr(fd, name, &mut value[..]) {
        Ok(got) => value.truncate(got),
        // It grew meanwhile: it differs.
        Err(Errno::RANGE | Errno::NODATA) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::MetadataExt,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use keepshare_host::accounts::{NameService, Question, Value};

    use super::*;

    fn meta() -> Meta {
        Meta {
            kind: Kind::File,
            size: 0,
            mode: 0o6751,
            owner: Owner { id: 1234, name: String::new() },
            group: Owner { id: 4321, name: String::new() },
            mtime: FileTime { secs: -5, nanos: 7 },
            symlink: vec![],
            rdev: 0,
            xattrs: vec![(b"user.tag".to_vec(), b"red".to_vec())],
        }
    }

    fn rules(as_root: bool) -> Attributes {
        Attributes::new(as_root)
    }

    /// A master must not be able to plant a program that runs as someone else.
    #[test]
    fn set_id_bits_are_never_made() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let file = tempfile::tempfile().unwrap();
        rules(true).set(&file, &meta()).unwrap();
        let about = file.metadata().unwrap();
        assert_eq!(about.mode() & 0o7777, 0o751);
        assert_eq!((about.uid(), about.gid()), (1234, 4321));
        assert_eq!((about.mtime(), about.mtime_nsec()), (-5, 7));
    }

    /// Else a comparison would call a tree damaged that is as right as it can be here.
    #[test]
    fn a_time_that_a_file_system_cannot_hold_is_told() {
        let file = tempfile::tempfile().unwrap();
        let never = FileTime { secs: i64::MAX, nanos: 999_999_999 };
        let left = rules(false).set(&file, &Meta { mtime: never, ..meta() }).unwrap();
        assert!(left.to_string().contains("its time"), "{left}");
        for old in [FileTime { secs: -5, nanos: 7 }, FileTime { secs: 1 << 31, nanos: 7 }] {
            let left = rules(false).set(&file, &Meta { mtime: old, ..meta() }).unwrap();
            assert!(!left.to_string().contains("its time"), "{left}");
        }
    }

    /// A directory of the users 'anna', 1007 here, that answers only sometimes.
    struct Directory(Arc<AtomicBool>);

    impl NameService for Directory {
        fn ask(&self, question: &Question) -> io::Result<Option<Value>> {
            let answers = self.0.load(Ordering::Relaxed);
            let is_anna = *question == Question::UserNumber("anna".to_owned());
            let answer = is_anna.then_some(Value::Number(1007));
            if answers { Ok(answer) } else { Err(io::ErrorKind::NotConnected.into()) }
        }

        fn local(&self, _: &Question) -> Option<Value> {
            None
        }
    }

    /// The same person has another number on every machine, and a directory that is down makes nobody else of them.
    #[test]
    fn names_win_over_numbers() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let answers = Arc::new(AtomicBool::new(true));
        let rules = |answers: &Arc<AtomicBool>| Attributes {
            as_root: true,
            accounts: MachineAccounts::of(Directory(answers.clone())).patient(),
        };
        let named = |name: &str, id| Meta { owner: Owner { id, name: name.into() }, ..meta() };
        let file = tempfile::tempfile().unwrap();
        let owner = || file.metadata().unwrap().uid();
        let before = rules(&answers);
        for (name, id, expected) in [("otto", 500, 500), ("", 7, 7), ("anna", 500, 1007)] {
            assert!(!before.set(&file, &named(name, id)).unwrap().unanswered);
            assert_eq!(owner(), expected, "{name:?} is somebody else");
        }
        answers.store(false, Ordering::Relaxed);
        let after = rules(&answers);
        let left = after.set(&file, &named("anna", 500)).unwrap();
        assert!(left.to_string().contains("do not say now who"), "it is not tried again: {left}");
        assert_eq!(owner(), 1007, "it was taken from her");
        assert!(after.fit(&see_open(&file).unwrap(), &named("anna", 500)));
        let new = tempfile::tempfile().unwrap();
        assert!(!after.set(&new, &named("anna", 500)).unwrap().is_empty());
        assert_eq!(new.metadata().unwrap().uid(), 500);
    }

    #[test]
    fn without_root_files_are_the_stations_own() {
        let file = tempfile::tempfile().unwrap();
        let owner = file.metadata().unwrap().uid();
        rules(false).set(&file, &meta()).unwrap();
        let about = file.metadata().unwrap();
        assert_eq!(about.mode() & 0o7777, 0o600);
        assert_eq!(about.uid(), owner);
        assert_eq!((about.mtime(), about.mtime_nsec()), (-5, 7));
        assert!(rules(false).fit(&see_open(&file).unwrap(), &meta()));
    }

    /// A list that the file system does not take leaves out whom it shut out.
    #[test]
    fn a_list_that_is_not_taken_opens_nothing() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let file = tempfile::tempfile().unwrap();
        let mut list = 2_u32.to_le_bytes().to_vec();
        // The owner, one who is shut out, the group, all others; the kernel wants a mask where somebody is named.
        for (tag, bits, id) in
            [(1_u16, 6_u16, u32::MAX), (2, 0, 1001), (4, 4, u32::MAX), (32, 4, u32::MAX)]
        {
            list.extend(tag.to_le_bytes());
            list.extend(bits.to_le_bytes());
            list.extend(id.to_le_bytes());
        }
        let xattrs = vec![(ACCESS_LIST_XATTR.to_vec(), list)];
        let left = rules(true).set(&file, &Meta { mode: 0o664, xattrs, ..meta() }).unwrap();
        assert!(left.to_string().contains("posix_acl_access"), "{left}");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn extended_attributes_follow_and_go() {
        let file = tempfile::tempfile().unwrap();
        let rules = rules(false);
        rules.set(&file, &meta()).unwrap();
        let Some(value) = current(file.as_fd(), b"user.tag").unwrap() else {
            return; // A file system without them.
        };
        assert_eq!(value, b"red");
        rules.set(&file, &Meta { xattrs: vec![], ..meta() }).unwrap();
        assert_eq!(current(file.as_fd(), b"user.tag").unwrap(), None);
    }
}
