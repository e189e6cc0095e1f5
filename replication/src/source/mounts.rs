//! The mount table: wakes whoever waits for it when it changes, and tells what is mounted inside a source.
//!
//! A mount made or removed raises no event in any folder.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

/// Where the kernel shows the mounts that this process sees.
const TABLE: &str = "/proc/self/mountinfo";

/// A mount inside a source: its id, and the names from the source's folder down to it.
pub(crate) type Mounted = (u64, Vec<Vec<u8>>);

/// The mount table, and what of it lies in one folder.
#[derive(Debug)]
pub(crate) struct Mounts {
    table: Option<File>,
    root: PathBuf,
    inside: BTreeSet<Mounted>,
}

impl Mounts {
    /// Begins to watch what is mounted inside of `root`.
    pub(crate) fn open(root: &Path) -> Self {
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let inside = read(&root).unwrap_or_default();
        // Where there is no such table, nothing wakes; whoever looks at the folder now and then still does.
        Self { table: File::open(TABLE).ok(), root, inside }
    }

    /// Is ready for `POLLPRI` once after each change of the table.
    pub(crate) fn changed(&self) -> Option<BorrowedFd<'_>> {
        self.table.as_ref().map(File::as_fd)
    }

    /// Reads the table; returns where something was mounted or unmounted since the last call.
    pub(crate) fn look(&mut self) -> BTreeSet<Vec<Vec<u8>>> {
        let Some(now) = read(&self.root) else { return BTreeSet::new() };
        let before = std::mem::replace(&mut self.inside, now);
        before.symmetric_difference(&self.inside).map(|(_, place)| place.clone()).collect()
    }
}

fn read(root: &Path) -> Option<BTreeSet<Mounted>> {
    use std::os::unix::ffi::OsStrExt;
    let table = fs::read(TABLE).ok()?;
    Some(inside(&table, root.as_os_str().as_bytes()))
}

/// Returns the mounts of a table that lie inside of a folder.
fn inside(table: &[u8], root: &[u8]) -> BTreeSet<Mounted> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let mount = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ');
        let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let place = plain(fields.nth(3)?);
        let below = place.strip_prefix(root)?.strip_prefix(b"/")?;
        let names: Vec<Vec<u8>> = below.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        (names != [b""]).then_some((id, names))
    };
    table.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// Undoes the escapes of a field: a backslash and three octal digits stand for a byte.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let escaped = (*first == b'\\').then(|| after.split_at_checked(3)).flatten();
        let byte = escaped.and_then(|(digits, rest)| {
            let byte = u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok()?;
            Some((byte, rest))
        });
        let (byte, after) = byte.unwrap_or((*first, after));
        bytes.push(byte);
        rest = after;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_mounted_inside_is_told() {
        let table = b"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
            30 22 8:2 / /srv rw shared:2 - xfs /dev/sdb1 rw\n\
            31 30 8:2 /x /srv/a/b rw shared:2 - xfs /dev/sdb1 rw\n\
            32 30 0:44 / /srv/with\\040space\\134 rw - tmpfs tmpfs rw\n\
            33 22 0:45 / /srvother/c rw - tmpfs tmpfs rw\n\
            garbage\n\n";
        let place = |names: &[&[u8]]| names.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
        let found: Vec<Mounted> = inside(table, b"/srv").into_iter().collect();
        assert_eq!(found, [(31, place(&[b"a", b"b"])), (32, place(&[b"with space\\"]))]);
        assert_eq!(inside(table, b"/").len(), 4, "everything is in the root but the root itself");
    }

    #[test]
    fn what_is_no_escape_stays() {
        for (field, meant) in [("a\\", "a\\"), ("\\0", "\\0"), ("\\999", "\\999"), ("\\011", "\t")]
        {
            assert_eq!(plain(field.as_bytes()), meant.as_bytes(), "{field}");
        }
    }
}
