//! Which local user or group an owner from another machine is.

use std::{collections::HashMap, fs, path::Path, time::SystemTime};

use keepshare_base::Owner;

/// The longest user or group file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The users and groups of this machine, from `/etc/passwd` and `/etc/group`.
///
/// Users of a directory service are not among them; they keep the number they have at their origin.
#[derive(Debug, Default)]
pub(super) struct Owners {
    users: Table,
    groups: Table,
}

impl Owners {
    /// Reads the files again where they changed.
    pub(super) fn refresh(&mut self) {
        self.users.refresh(Path::new("/etc/passwd"));
        self.groups.refresh(Path::new("/etc/group"));
    }

    /// Returns the local number of a user: by name where it is known here, else the origin's number.
    pub(super) fn user(&self, owner: &Owner) -> u32 {
        self.users.number(owner)
    }

    /// Returns the local number of a group: by name where it is known here, else the origin's number.
    pub(super) fn group(&self, owner: &Owner) -> u32 {
        self.groups.number(owner)
    }
}

#[derive(Debug, Default)]
struct Table {
    changed: Option<SystemTime>,
    numbers: HashMap<String, u32>,
}

impl Table {
    fn refresh(&mut self, path: &Path) {
        let Ok(about) = fs::metadata(path) else { return };
        let changed = about.modified().ok();
        if about.len() > FILE_BYTES_MAX || (changed.is_some() && changed == self.changed) {
            return;
        }
        if let Ok(text) = fs::read_to_string(path) {
            self.numbers = parse(&text);
            self.changed = changed;
        }
    }

    fn number(&self, owner: &Owner) -> u32 {
        self.numbers.get(&owner.name).copied().unwrap_or(owner.id)
    }
}

/// Reads `name:password:number:…` lines.
fn parse(text: &str) -> HashMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let number = fields.nth(1)?.parse().ok()?;
        Some((name.to_owned(), number))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same person has another number on every machine.
    #[test]
    fn names_win_over_numbers() {
        let numbers =
            parse("root:x:0:0::/root:/bin/sh\nanna:x:1007:1007::/home/anna:\nbroken\n:x:1\n");
        let table = Table { changed: None, numbers };
        let owner = |name: &str, id| Owner { id, name: name.to_owned() };
        assert_eq!(table.number(&owner("anna", 500)), 1007);
        assert_eq!(table.number(&owner("otto", 500)), 500);
        assert_eq!(table.number(&owner("", 7)), 7);
    }
}
