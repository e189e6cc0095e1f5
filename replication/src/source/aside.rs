//! The private folder of a source: where restores write, and where what they replace waits until nobody can write to it.
//!
//! It lies in the source's own folder, on the same file system, so that files can be exchanged with live ones; its name
//! cannot be foreseen, it is closed to everybody else, and it is not part of the set. It is made when it is needed and
//! removed when it is empty. Everything in it is noted in the journal first ([`Note`]), so that whoever starts after a
//! crash knows what it was.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use keepshare_base::{FileId, FileTime, Name, PRIVATE_XATTR, SetPath};
use keepshare_host::beneath::{self, Mounts};
use rustix::{
    fs::{self, AtFlags, Mode, OFlags, RenameFlags, XattrFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use keepshare_decide::{Inode, restores::Kept};

use super::{
    RESTORE_PREFIX,
    tree::{Seen, Tree},
};

/// How many random digits end a name.
const DIGITS: usize = 32;

/// Where the private folder is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Home {
    /// Its name in the source's folder, unless somebody renamed it.
    name: String,
    /// Which folder it is.
    inode: Inode,
}

/// What a file in the private folder is.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The name that is restored.
    pub(crate) place: (FileId, Name),
    /// Where that is, to be shown.
    pub(crate) path: SetPath,
    /// What stood at the name and was kept already.
    pub(crate) kept: Option<Kept>,
    /// The object that a restore puts at the name, once it is whole: what lies here instead was replaced by it. `None`:
    /// it is being written. [`REMOVED`]: nothing is put there.
    pub(crate) restored: Option<Inode>,
}

/// Stands, in a note, for an object that is at no name: what lies here was removed.
pub(crate) const REMOVED: Inode = Inode { number: u64::MAX, birth: FileTime { secs: 0, nanos: 0 } };

impl Note {
    /// Tells whether what lies here was removed, and not replaced.
    pub(crate) fn is_of_removal(&self) -> bool {
        self.restored == Some(REMOVED)
    }
}

/// The private folder, open.
#[derive(Debug)]
pub(crate) struct Aside {
    tree: Arc<Tree>,
    folder: OwnedFd,
    home: Home,
}

/// How an exchange went.
#[derive(Debug)]
pub(crate) enum Exchanged {
    /// What stood at the name lies in the private folder now.
    Done,
    /// Something else is there by now, or nothing: look again.
    Moved,
    /// It cannot be done on this file system, or not from this folder.
    Impossible(io::Error),
    /// It was not done, and may be later: the disk is full, or failed.
    Failed(io::Error),
}

impl Aside {
    /// Finds the folder that was noted, or one of ours that no note speaks of; `None` where there is none.
    pub(crate) fn find(tree: &Arc<Tree>, noted: Option<&Home>) -> io::Result<Option<Self>> {
        if let Some(home) = noted
            && let Some(folder) = open_own(tree, &home.name)?
            && folder.1 == home.inode
        {
            return Ok(Some(Self { tree: tree.clone(), folder: folder.0, home: home.clone() }));
        }
        // Renamed, or made by a process whose journal is lost. Whoever may write to the source's folder can call any
        // folder as ours are called, but put our mark onto none that is not theirs.
        for name in names(tree.root())? {
            if noted.is_none() && !is_ours(&name) {
                continue;
            }
            if let Some((folder, inode)) = open_own(tree, &name)?
                && noted.map_or_else(|| is_marked(&folder), |home| home.inode == inode)
            {
                let home = Home { name, inode };
                return Ok(Some(Self { tree: tree.clone(), folder, home }));
            }
        }
        Ok(None)
    }

    /// Makes the folder.
    pub(crate) fn make(tree: &Arc<Tree>) -> io::Result<Self> {
        let name = random_name()?;
        fs::mkdirat(tree.root(), &name, Mode::from_raw_mode(0o700))?;
        let opened = open_own(tree, &name)?;
        let (folder, inode) =
            opened.ok_or_else(|| io::Error::other("it was taken away at once"))?;
        if let Err(error) = fs::fsetxattr(&folder, PRIVATE_XATTR, b"1", XattrFlags::empty()) {
            // Without its journal nobody would know it again; with it, its number tells.
            tracing::debug!(%error, "the private folder of a source has no mark");
        }
        fs::fsync(tree.root())?;
        Ok(Self { tree: tree.clone(), folder, home: Home { name, inode } })
    }

    /// Returns where it is.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Returns which folder it is.
    pub(crate) fn inode(&self) -> Inode {
        self.home.inode
    }

    /// Returns the folder.
    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// Returns the names in it.
    pub(crate) fn names(&self) -> io::Result<Vec<String>> {
        names(&self.folder)
    }

    /// Removes the folder where it is empty; tells whether it is gone.
    pub(crate) fn remove(&self) -> bool {
        let remove = |name: &str| fs::unlinkat(self.tree.root(), name, AtFlags::REMOVEDIR).is_ok();
        if self.is_removed() || remove(&self.home.name) {
            return true;
        }
        // Somebody may have renamed it.
        let found = Self::find(&self.tree, Some(&self.home)).ok().flatten();
        found.is_some_and(|found| found.home.name != self.home.name && remove(&found.home.name))
    }

    /// Tells whether somebody took the folder away: nothing can be put into it any more.
    pub(crate) fn is_removed(&self) -> bool {
        fs::fstat(&self.folder).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Makes a file that nobody else can open.
    pub(crate) fn create(&self, name: &str) -> io::Result<OwnedFd> {
        Ok(beneath::make_file(&self.folder, name, OFlags::WRONLY)?.into())
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, name: &str) -> io::Result<OwnedFd> {
        Ok(beneath::open_file(&self.folder, name, OFlags::RDONLY, Mounts::Stay)?.into())
    }

    /// Looks at what lies there; `None`: nothing.
    pub(crate) fn look(&self, name: &str) -> io::Result<Option<Seen>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        match fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(object) => self.tree.look_at(object.as_fd()).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a file; tells whether it is gone, and only then is it forgotten.
    pub(crate) fn discard(&self, name: &str) -> bool {
        if let Err(error) = fs::unlinkat(&self.folder, name, AtFlags::empty())
            && error != Errno::NOENT
        {
            tracing::warn!(%error, "cannot remove what a restore left in its private folder");
        }
        matches!(self.look(name), Ok(None))
    }

    /// Exchanges a file with what stands at a live name.
    pub(crate) fn exchange(&self, name: &str, folder: BorrowedFd<'_>, live: &[u8]) -> Exchanged {
        self.rename(name, folder, live, RenameFlags::EXCHANGE)
    }

    /// Moves a file to a live name that stands for nothing.
    pub(crate) fn place(&self, name: &str, folder: BorrowedFd<'_>, live: &[u8]) -> Exchanged {
        match self.rename(name, folder, live, RenameFlags::NOREPLACE) {
            // A link is never put over anything either.
            Exchanged::Impossible(_) => {
                match fs::linkat(&self.folder, name, folder, live, AtFlags::empty()) {
                    Ok(()) => Exchanged::Done,
                    Err(Errno::EXIST) => Exchanged::Moved,
                    Err(error) => not_exchanged(error),
                }
            }
            exchanged => exchanged,
        }
    }

    /// Takes what stands at a live name; nothing can be called as it is called here.
    pub(crate) fn take(&self, name: &str, folder: BorrowedFd<'_>, live: &[u8]) -> Exchanged {
        let flags = RenameFlags::NOREPLACE;
        let taken = match fs::renameat_with(folder, live, &self.folder, name, flags) {
            Err(Errno::INVAL | Errno::NOSYS) => fs::renameat(folder, live, &self.folder, name),
            taken => taken,
        };
        match taken {
            Ok(()) => Exchanged::Done,
            Err(Errno::NOENT) => Exchanged::Moved,
            Err(error) => not_exchanged(error),
        }
    }

    fn rename(
        &self,
        name: &str,
        folder: BorrowedFd<'_>,
        live: &[u8],
        flags: RenameFlags,
    ) -> Exchanged {
        match fs::renameat_with(&self.folder, name, folder, live, flags) {
            Ok(()) => Exchanged::Done,
            Err(Errno::NOENT | Errno::EXIST) => Exchanged::Moved,
            Err(error) => not_exchanged(error),
        }
    }
}

/// Tells whether it can never be done here, as opposed to not just now.
pub(crate) fn is_impossible(error: &io::Error) -> bool {
    let never = [Errno::ROFS, Errno::ACCESS, Errno::PERM, Errno::OPNOTSUPP];
    never.iter().any(|never| error.raw_os_error() == Some(never.raw_os_error()))
}

fn not_exchanged(error: Errno) -> Exchanged {
    let unknown_here = matches!(error, Errno::INVAL | Errno::NOSYS | Errno::XDEV);
    let error = io::Error::from(error);
    if unknown_here || is_impossible(&error) {
        Exchanged::Impossible(error)
    } else {
        Exchanged::Failed(error)
    }
}

/// Returns a name that nobody can have foreseen.
pub(crate) fn random_name() -> io::Result<String> {
    let mut random = [0; DIGITS / 2];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{RESTORE_PREFIX}{:032x}", u128::from_le_bytes(random)))
}

/// Returns the names in a folder that are text.
fn names(folder: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    beneath::each_name(folder, |name| {
        names.extend(std::str::from_utf8(name).ok().map(ToOwned::to_owned));
        Ok::<_, io::Error>(true)
    })?;
    Ok(names)
}

/// Tells whether a folder has the mark that we alone can have put there: it belongs to us.
fn is_marked(folder: &OwnedFd) -> bool {
    fs::fgetxattr(folder, PRIVATE_XATTR, &mut [0_u8; 8]).is_ok()
}

fn is_ours(name: &str) -> bool {
    name.strip_prefix(RESTORE_PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Opens a folder that is closed to everybody but us; `None` where there is none.
fn open_own(tree: &Tree, name: &str) -> io::Result<Option<(OwnedFd, Inode)>> {
    let folder = match beneath::open_folder(tree.root(), name, Mounts::Stay) {
        Ok(folder) => folder,
        Err(error) => {
            let none = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::ACCESS, Errno::XDEV];
            let is_none = none.iter().any(|none| error.raw_os_error() == Some(none.raw_os_error()));
            return if is_none { Ok(None) } else { Err(error) };
        }
    };
    let Ok(seen) = tree.look_at(folder.as_fd()) else { return Ok(None) };
    let is_own = seen.is_private_to(rustix::process::geteuid().as_raw());
    Ok(is_own.then_some((folder, seen.inode)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where files cannot be exchanged a version is written into the live file itself: a disk that is full just now is no reason
    /// for that.
    #[test]
    fn only_what_can_never_be_exchanged_is_told_as_impossible() {
        for error in [Errno::INVAL, Errno::NOSYS, Errno::XDEV, Errno::OPNOTSUPP] {
            assert!(matches!(not_exchanged(error), Exchanged::Impossible(_)), "{error}");
        }
        for error in [Errno::NOSPC, Errno::DQUOT, Errno::IO] {
            assert!(matches!(not_exchanged(error), Exchanged::Failed(_)), "{error}");
        }
    }
}
