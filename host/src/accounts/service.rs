//! Who answers questions about accounts: the machine's name services, and its own files without them.

use std::{collections::BTreeSet, ffi::CString, fs::File, io, io::Read, path::PathBuf};

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::{Account, Question, Value};

/// The users of the machine's own files.
pub(super) const PASSWD: &str = "/etc/passwd";

/// The groups of the machine's own files.
const GROUP: &str = "/etc/group";

/// The longest such file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Knows accounts.
pub trait NameService: Send + Sync {
    /// Answers a question, however long that takes; `None`: there is no such account.
    fn ask(&self, question: &Question) -> io::Result<Option<Value>>;

    /// Answers without asking anybody else, as far as that can be; `None`: not known.
    fn local(&self, question: &Question) -> Option<Value>;
}

/// The name services that the machine is set up with.
pub(super) struct MachineServices;

impl NameService for MachineServices {
    fn ask(&self, question: &Question) -> io::Result<Option<Value>> {
        Ok(match question {
            Question::UserName(uid) => {
                let user = User::from_uid(Uid::from_raw(*uid))?;
                user.map(|user| user.name).filter(|name| super::is_name(name)).map(Value::Name)
            }
            Question::GroupName(gid) => {
                let group = Group::from_gid(Gid::from_raw(*gid))?;
                group.map(|group| group.name).filter(|name| super::is_name(name)).map(Value::Name)
            }
            Question::UserNumber(name) => {
                User::from_name(name)?.map(|user| Value::Number(user.uid.as_raw()))
            }
            Question::GroupNumber(name) => {
                Group::from_name(name)?.map(|group| Value::Number(group.gid.as_raw()))
            }
            Question::Account(name) => account(name)?.map(Value::Account),
        })
    }

    fn local(&self, question: &Question) -> Option<Value> {
        match question {
            Question::UserName(uid) => name_in(&read(PASSWD), *uid).map(Value::Name),
            Question::GroupName(gid) => name_in(&read(GROUP), *gid).map(Value::Name),
            Question::UserNumber(name) => number_in(&read(PASSWD), name).map(Value::Number),
            Question::GroupNumber(name) => number_in(&read(GROUP), name).map(Value::Number),
            // The groups of a user are in the directory as well: some would be missing.
            Question::Account(_) => None,
        }
    }
}

fn account(name: &str) -> io::Result<Option<Account>> {
    let Some(user) = User::from_name(name)? else { return Ok(None) };
    let gid = user.gid.as_raw();
    let groups = getgrouplist(&CString::new(name)?, user.gid)?;
    let mut groups: Vec<u32> = groups.into_iter().map(Gid::as_raw).collect();
    groups.retain(|number| *number != gid);
    groups.sort_unstable();
    groups.dedup();
    Ok(Some(Account { uid: user.uid.as_raw(), gid, groups }))
}

/// Reads a file of the machine; an empty text where that cannot be.
pub(super) fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let file = File::open(path).map(|file| file.take(FILE_BYTES_MAX));
    match file.and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Returns the names and numbers of lines `name:password:number:…`; the first of a name or number counts.
fn lines(text: &str) -> impl Iterator<Item = (&str, u32)> {
    text.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| super::is_name(name))?;
        Some((name, fields.nth(1)?.parse().ok()?))
    })
}

fn name_in(text: &str, number: u32) -> Option<String> {
    lines(text).find(|(_, of)| *of == number).map(|(name, _)| name.to_owned())
}

fn number_in(text: &str, name: &str) -> Option<u32> {
    lines(text).find(|(of, _)| *of == name).map(|(_, number)| number)
}

/// Returns the home folders of a list of users.
pub(super) fn homes(text: &str) -> BTreeSet<PathBuf> {
    let home = |line: &str| line.split(':').nth(5).map(PathBuf::from);
    text.lines().filter_map(home).filter(|home| home.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n\n# a comment\nbroken\nanna:x:1007:1:Anna:/home/anna:\n\
                         toor:x:0:0::home:\n+::::\n:x:1\nhalf:x\n";

    /// A list of users that somebody broke hides none of the others.
    #[test]
    fn odd_lines_hide_nobody() {
        assert_eq!(lines(USERS).collect::<Vec<_>>(), [("root", 0), ("anna", 1007), ("toor", 0)]);
        assert_eq!(name_in(USERS, 0).as_deref(), Some("root"));
        assert_eq!((number_in(USERS, "anna"), number_in(USERS, "ann")), (Some(1007), None));
        let expected = ["/home/anna", "/root"].map(PathBuf::from);
        assert_eq!(homes(USERS), BTreeSet::from(expected));
    }

    /// What the name services say of the accounts of this machine is what its own files say.
    #[test]
    fn the_machine_knows_its_own_users() {
        for question in [
            Question::UserName(0),
            Question::GroupName(0),
            Question::UserNumber("root".to_owned()),
            Question::GroupNumber("root".to_owned()),
        ] {
            let local = MachineServices.local(&question);
            assert_eq!(MachineServices.ask(&question).unwrap(), local, "{question:?}");
        }
        let account = MachineServices.ask(&Question::Account("root".to_owned())).unwrap();
        assert!(matches!(account, Some(Value::Account(Account { uid: 0, gid: 0, .. }))));
        let nobody = Question::Account("no-such-account".to_owned());
        assert_eq!(MachineServices.ask(&nobody).unwrap(), None);
    }
}
