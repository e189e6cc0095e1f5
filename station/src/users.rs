//! Names of the users and groups of this machine, from its own files.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
};

/// Returns a user's name, or the number where it has none.
pub(crate) fn name_of(uid: u32) -> String {
    let users = users();
    let known = users.into_iter().find(|(_, number)| *number == uid);
    known.map_or_else(|| uid.to_string(), |(name, _)| name)
}

/// Returns the users' numbers by name.
pub(crate) fn users() -> HashMap<String, u32> {
    read_numbers("/etc/passwd")
}

/// Returns the groups' numbers by name.
pub(crate) fn groups() -> HashMap<String, u32> {
    read_numbers("/etc/group")
}

/// Returns the users' home folders.
pub(crate) fn homes() -> BTreeSet<PathBuf> {
    parse_homes(&fs::read_to_string("/etc/passwd").unwrap_or_default())
}

fn parse_homes(text: &str) -> BTreeSet<PathBuf> {
    let home = |line: &str| line.split(':').nth(5).map(PathBuf::from);
    text.lines().filter_map(home).filter(|home| home.is_absolute()).collect()
}

/// Reads `name:…:number:…` lines.
fn read_numbers(path: &str) -> HashMap<String, u32> {
    parse_numbers(&fs::read_to_string(path).unwrap_or_default())
}

fn parse_numbers(text: &str) -> HashMap<String, u32> {
    let number = |line: &str| {
        let mut parts = line.split(':');
        let name = parts.next().filter(|name| !name.is_empty())?.to_owned();
        Some((name, parts.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_users_are_passed_over() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\n\n# a comment\n+::::\nanna:x:1000:1000::/:\nhalf:x\n";
        let numbers = parse_numbers(text);
        assert_eq!((numbers.len(), numbers["root"], numbers["anna"]), (2, 0, 1000));
        assert_eq!(parse_homes(text), BTreeSet::from([PathBuf::from("/"), PathBuf::from("/root")]));
    }
}
