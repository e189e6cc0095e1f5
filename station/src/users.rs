//! Names of the users and groups of this machine, from its own files.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::PathBuf,
};

/// Returns a user's name, or the number where it has none.
pub fn name_of(uid: u32) -> String {
    let users = users();
    let known = users.into_iter().find(|(_, number)| *number == uid);
    known.map_or_else(|| uid.to_string(), |(name, _)| name)
}

/// Returns the users' numbers by name.
pub fn users() -> HashMap<String, u32> {
    read_numbers("/etc/passwd")
}

/// Returns the groups' numbers by name.
pub fn groups() -> HashMap<String, u32> {
    read_numbers("/etc/group")
}

/// An account of this machine, by its numbers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    /// The number that owns the user's files.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// All further groups.
    pub groups: Vec<u32>,
}

/// Returns the account of this name, where this machine has one.
pub fn account(name: &str) -> Option<Account> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    parse_account(name, &read("/etc/passwd"), &read("/etc/group"))
}

fn parse_account(name: &str, passwd: &str, group: &str) -> Option<Account> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let number = |nth| line.split(':').nth(nth)?.parse::<u32>().ok();
    let (uid, gid) = (number(2)?, number(3)?);
    let of_group = |line: &str| {
        let (number, members) = (line.split(':').nth(2)?, line.split(':').nth(3)?);
        members.split(',').any(|member| member == name).then(|| number.parse().ok())?
    };
    let mut groups: Vec<u32> = group.lines().filter_map(of_group).collect();
    groups.retain(|number| *number != gid);
    groups.sort_unstable();
    groups.dedup();
    Some(Account { uid, gid, groups })
}

/// Returns the users' home folders.
pub fn homes() -> BTreeSet<PathBuf> {
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
    fn an_account_comes_with_its_groups() {
        let passwd = "root:x:0:0::/:\nanna:x:1000:1001:Anna:/home/anna:/bin/sh\nhalf:x:5\n";
        let group = "staff:x:50:ben,anna\nanna:x:1001:anna\nadm:x:4:anna\nannas:x:7:annas\nbad:x\n";
        let anna = Account { uid: 1000, gid: 1001, groups: vec![4, 50] };
        assert_eq!(parse_account("anna", passwd, group), Some(anna));
        assert_eq!(parse_account("half", passwd, group), None);
        assert_eq!(parse_account("ann", passwd, group), None);
        assert_eq!(parse_account("", passwd, group), None);
    }

    #[test]
    fn lines_that_are_no_users_are_passed_over() {
        let text =
            "root:x:0:0:root:/root:/bin/sh\n\n# a comment\n+::::\nanna:x:1000:1000::/:\nhalf:x\n";
        let numbers = parse_numbers(text);
        assert_eq!((numbers.len(), numbers["root"], numbers["anna"]), (2, 0, 1000));
        assert_eq!(parse_homes(text), BTreeSet::from([PathBuf::from("/"), PathBuf::from("/root")]));
    }
}
