//! Names of owners and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Users of a directory service have a number only: asking it may block for seconds, and destinations can map numbers.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use keepshare_base::Owner;

/// How long a file is believed before it is looked at again.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// The longest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Looks up owners and groups.
#[derive(Debug)]
pub(crate) struct Owners {
    users: Names,
    groups: Names,
}

#[derive(Debug)]
struct Names {
    path: PathBuf,
    looked_at: Option<Instant>,
    modified: Option<SystemTime>,
    names: HashMap<u32, String>,
}

impl Owners {
    /// Looks into this machine's files.
    pub(crate) fn new() -> Self {
        Self { users: Names::new("/etc/passwd"), groups: Names::new("/etc/group") }
    }

    /// Returns the owner with this number.
    pub(crate) fn user(&mut self, id: u32) -> Owner {
        self.users.owner(id)
    }

    /// Returns the group with this number.
    pub(crate) fn group(&mut self, id: u32) -> Owner {
        self.groups.owner(id)
    }
}

impl Names {
    fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            looked_at: None,
            modified: None,
            names: HashMap::new(),
        }
    }

    fn owner(&mut self, id: u32) -> Owner {
        if self.looked_at.is_none_or(|at| at.elapsed() > FRESH_FOR) {
            self.looked_at = Some(Instant::now());
            self.reload();
        }
        Owner { id, name: self.names.get(&id).cloned().unwrap_or_default() }
    }

    fn reload(&mut self) {
        let Ok(metadata) = std::fs::metadata(&self.path) else { return };
        let modified = metadata.modified().ok();
        if (modified.is_some() && modified == self.modified) || metadata.len() > FILE_BYTES_MAX {
            return;
        }
        if let Ok(text) = std::fs::read(&self.path) {
            self.names = parse(&String::from_utf8_lossy(&text));
            self.modified = modified;
        }
    }
}

/// Reads `name:password:number:…` lines; the first name of a number counts.
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Ok(id) = id.parse()
            && !name.is_empty()
            && name.len() <= 256
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_lines_hide_no_name() {
        let names =
            parse("root:x:0:0::/root:/bin/sh\n\nbroken\nanna:x:1000:1\ntoor:x:0:0\n+::::\n");
        assert_eq!(names.len(), 2);
        assert_eq!(names[&0], "root");
        assert_eq!(names[&1000], "anna");
    }
}
