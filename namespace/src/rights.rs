//! What a principal may do with one thing, by its attributes alone: mode bits and POSIX access lists.
//!
//! Everything here is pure. The owner's class comes first, then the group's, then all others'; the first class that the
//! principal is in decides, so an owner without a bit is denied though everybody else has it. No number is special,
//! 0 neither. What folders above add is [`crate::reach`]'s part.

use std::sync::Arc;

use keepshare_auth::Principal;
use keepshare_base::{Kind, Meta};

use crate::Who;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Want {
    /// Read a file, list a folder.
    Read,
    /// Change a file, or the names of a folder.
    Write,
    /// Execute a file, look up names in a folder.
    Search,
}

impl Want {
    /// Returns what it takes to see a thing of this kind in the past.
    pub(crate) fn to_see(kind: Kind) -> Self {
        if kind == Kind::Dir { Self::Search } else { Self::Read }
    }

    fn bit(self) -> u32 {
        match self {
            Self::Read => 4,
            Self::Write => 2,
            Self::Search => 1,
        }
    }
}

/// Who may do what with one thing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Rights {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    list: List,
}

/// A thing's access list.
#[derive(Clone, Debug, Eq, PartialEq)]
enum List {
    /// It has none: the mode says all.
    None,
    /// This one.
    Acl(Arc<Acl>),
    /// One that does not read: nobody but the owner.
    Broken,
}

impl Rights {
    /// Returns the rights that attributes give.
    pub(crate) fn of(meta: &Meta) -> Self {
        let list = match meta.xattrs.iter().find(|(name, _)| name == ACL_XATTR) {
            None => List::None,
            Some((_, value)) => Acl::parse(value).map_or(List::Broken, |acl| List::Acl(acl.into())),
        };
        let Meta { kind, mode, owner, group, .. } = meta;
        Self { kind: *kind, mode: *mode, uid: owner.id, gid: group.id, list }
    }

    /// Returns what kind of thing it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Tells whether whoever asks may.
    ///
    /// A link can always be read: its own bits mean nothing (POSIX, `symlink(7)`).
    pub(crate) fn allow(&self, who: Who<'_>, want: Want) -> bool {
        let Who::User(who) = who else { return true };
        if self.kind == Kind::Symlink {
            return want == Want::Read;
        }
        self.bits(who) & want.bit() != 0
    }

    /// Tells whether somebody owns it.
    pub(crate) fn is_of(&self, who: &Principal) -> bool {
        who.uid == self.uid
    }

    /// Tells whether names in this folder are their owners' alone to take away, though others may write it.
    pub(crate) fn is_sticky(&self) -> bool {
        self.mode & 0o1000 != 0
    }

    fn bits(&self, who: &Principal) -> u32 {
        if who.uid == self.uid {
            return (self.mode >> 6) & 7;
        }
        match &self.list {
            List::None if who.is_in(self.gid) => (self.mode >> 3) & 7,
            List::None => self.mode & 7,
            List::Acl(acl) => acl.bits(who, self.gid),
            List::Broken => 0,
        }
    }
}

/// A POSIX access list, but for its owner's entry, which the mode holds as well (`acl(5)`).
#[derive(Debug, Eq, PartialEq)]
struct Acl {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
    group: u32,
    mask: u32,
    other: u32,
}

impl Acl {
    /// Reads the value of `system.posix_acl_access`: a version, and entries of tag, bits and id, all little-endian
    /// (Linux, `uapi/linux/posix_acl_xattr.h`).
    fn parse(value: &[u8]) -> Option<Self> {
        let (version, entries) = value.split_first_chunk::<4>()?;
        let (entries, rest) = entries.as_chunks::<8>();
        if u32::from_le_bytes(*version) != ACL_VERSION || !rest.is_empty() {
            return None;
        }
        let (mut users, mut groups) = (vec![], vec![]);
        let (mut owner, mut group, mut mask, mut other) = (None, None, None, None);
        for [tag, tag_high, bits, bits_high, id @ ..] in entries {
            let bits = u32::from(u16::from_le_bytes([*bits, *bits_high]));
            if bits > 7 {
                return None;
            }
            let id = u32::from_le_bytes(*id);
            let once = match u16::from_le_bytes([*tag, *tag_high]) {
                TAG_OWNER => owner.replace(bits),
                TAG_GROUP => group.replace(bits),
                TAG_MASK => mask.replace(bits),
                TAG_OTHER => other.replace(bits),
                TAG_NAMED_USER => {
                    users.push((id, bits));
                    None
                }
                TAG_NAMED_GROUP => {
                    groups.push((id, bits));
                    None
                }
                _ => return None,
            };
            if once.is_some() {
                return None;
            }
        }
        owner?;
        if mask.is_none() && !(users.is_empty() && groups.is_empty()) {
            return None;
        }
        Some(Self { users, groups, group: group?, mask: mask.unwrap_or(7), other: other? })
    }

    /// Returns the bits of a principal that is not the owner.
    ///
    /// Bits of several groups add up, as they do where each is asked for alone.
    fn bits(&self, who: &Principal, gid: u32) -> u32 {
        if let Some((_, bits)) = self.users.iter().find(|(id, _)| *id == who.uid) {
            return bits & self.mask;
        }
        let own = who.is_in(gid).then_some(self.group);
        let named = self.groups.iter().filter(|(id, _)| who.is_in(*id)).map(|(_, bits)| *bits);
        match own.into_iter().chain(named).reduce(|all, bits| all | bits) {
            Some(bits) => bits & self.mask,
            None => self.other,
        }
    }
}

const ACL_XATTR: &[u8] = b"system.posix_acl_access";
const ACL_VERSION: u32 = 2;
const TAG_OWNER: u16 = 0x01;
const TAG_NAMED_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x04;
const TAG_NAMED_GROUP: u16 = 0x08;
const TAG_MASK: u16 = 0x10;
const TAG_OTHER: u16 = 0x20;

#[cfg(test)]
mod tests {
    use keepshare_base::{FileTime, Owner};

    use super::*;

    fn who(uid: u32, gid: u32, groups: &[u32]) -> Principal {
        let groups = groups.to_vec();
        Principal { user: "anna".into(), uid, gid, groups, may_write: true }
    }

    fn rights(mode: u32, acl: Option<Vec<u8>>) -> Rights {
        let owner = |id| Owner { id, name: String::new() };
        Rights::of(&Meta {
            kind: Kind::File,
            size: 0,
            mode,
            owner: owner(1000),
            group: owner(100),
            mtime: FileTime::default(),
            symlink: vec![],
            rdev: 0,
            xattrs: acl.map(|acl| (ACL_XATTR.to_vec(), acl)).into_iter().collect(),
        })
    }

    fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend_from_slice(&tag.to_le_bytes());
            bytes.extend_from_slice(&bits.to_le_bytes());
            bytes.extend_from_slice(&id.to_le_bytes());
        }
        bytes
    }

    /// The first class that fits decides: falling through to a later one would undo a chmod.
    #[test]
    fn the_first_class_decides() {
        let owner_shut = rights(0o077, None);
        assert_eq!(owner_shut.bits(&who(1000, 100, &[])), 0);
        assert_eq!(owner_shut.bits(&who(1001, 100, &[])), 7);
        let group_shut = rights(0o707, None);
        assert_eq!(group_shut.bits(&who(1001, 5, &[7, 100])), 0);
        assert_eq!(group_shut.bits(&who(1001, 5, &[7])), 7);
    }

    #[test]
    fn nobody_is_root() {
        assert_eq!(rights(0o700, None).bits(&who(0, 0, &[])), 0);
    }

    #[test]
    fn an_access_list_is_masked_but_for_owner_and_others() {
        let list = acl(&[
            (TAG_OWNER, 6, u32::MAX),
            (TAG_NAMED_USER, 6, 2000),
            (TAG_GROUP, 6, u32::MAX),
            (TAG_NAMED_GROUP, 2, 200),
            (TAG_NAMED_GROUP, 5, 201),
            (TAG_MASK, 4, u32::MAX),
            (TAG_OTHER, 2, u32::MAX),
        ]);
        let rights = rights(0o642, Some(list));
        let cases = [
            (who(1000, 1, &[200]), 6),
            (who(2000, 100, &[]), 4),
            (who(3000, 100, &[]), 4),
            (who(3000, 200, &[]), 0),
            (who(3000, 200, &[201]), 4),
            (who(3000, 1, &[]), 2),
        ];
        for (who, bits) in cases {
            assert_eq!(rights.bits(&who), bits, "{who:?}");
        }
    }

    /// With a list, the mode's group bits are the mask: the owning group may have less.
    #[test]
    fn the_groups_bits_of_the_mode_are_not_the_groups() {
        let list = acl(&[
            (TAG_OWNER, 6, 0),
            (TAG_NAMED_USER, 6, 2000),
            (TAG_GROUP, 0, 0),
            (TAG_MASK, 6, 0),
            (TAG_OTHER, 0, 0),
        ]);
        assert_eq!(rights(0o660, Some(list)).bits(&who(3000, 100, &[])), 0);
    }

    #[test]
    fn a_broken_list_leaves_the_owner_alone() {
        let good = acl(&[(TAG_OWNER, 6, 0), (TAG_GROUP, 4, 0), (TAG_OTHER, 4, 0)]);
        assert_eq!(rights(0o644, Some(good.clone())).bits(&who(9, 9, &[])), 4);
        let mut wrong = vec![
            vec![],
            vec![2],
            acl(&[]),
            good[..good.len() - 1].to_vec(),
            acl(&[(TAG_OWNER, 6, 0), (TAG_GROUP, 4, 0)]),
            acl(&[(TAG_OWNER, 6, 0), (TAG_GROUP, 4, 0), (TAG_OTHER, 8, 0)]),
            acl(&[(TAG_OWNER, 6, 0), (TAG_GROUP, 4, 0), (TAG_OTHER, 4, 0), (TAG_OTHER, 4, 0)]),
            acl(&[(TAG_OWNER, 6, 0), (TAG_GROUP, 4, 0), (TAG_OTHER, 4, 0), (0x40, 4, 0)]),
            acl(&[(TAG_OWNER, 6, 0), (TAG_NAMED_USER, 4, 9), (TAG_GROUP, 4, 0), (TAG_OTHER, 4, 0)]),
        ];
        wrong.push([&3_u32.to_le_bytes()[..], &good[4..]].concat());
        for list in wrong {
            let rights = rights(0o644, Some(list.clone()));
            assert_eq!(rights.bits(&who(9, 100, &[])), 0, "{list:?}");
            assert_eq!(rights.bits(&who(1000, 9, &[])), 6, "{list:?}");
        }
    }
}
