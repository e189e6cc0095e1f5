//! Access lists of files (POSIX ACLs, acl(5)), as the kernel keeps them in extended attributes.

/// The attribute that is an object's access list.
pub const ACCESS_LIST_XATTR: &[u8] = b"system.posix_acl_access";

/// The attribute that is the access list of what is made in a folder.
pub const DEFAULT_LIST_XATTR: &[u8] = b"system.posix_acl_default";

/// The tag of an entry for a user who is named.
const USER: u16 = 0x02;

/// The tag of an entry for a group that is named.
const GROUP: u16 = 0x08;

/// The tag of the entry that bounds all groups and all who are named.
const MASK: u16 = 0x10;

/// Returns the permission bits for a file that lacks its access list: nobody has more by them than by the list.
///
/// The list's bytes are those of the attribute (`linux/posix_acl_xattr.h`): a version of 4 bytes, then entries of a tag
/// (2 bytes), permissions (2) and a number (4), little-endian. Bytes that are no list shut out nobody who is named.
pub fn mode_without_list(mode: u32, list: &[u8]) -> u32 {
    let entries = list.get(4..).unwrap_or_default();
    let parse = |entry: &[u8]| {
        let short = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        (short(0), u32::from(short(2)))
    };
    let entries: Vec<(u16, u32)> = entries.chunks_exact(8).map(parse).collect();
    let mask = entries.iter().find(|(tag, _)| *tag == MASK).map_or(0o7, |(_, bits)| *bits);
    let named = entries.iter().filter(|(tag, _)| matches!(*tag, USER | GROUP));
    // Who is named in it is one of all others without it.
    let others = named.fold(mode & 0o007, |others, (_, bits)| others & bits & mask);
    // With the list the bits of the group are its mask.
    (mode & !0o077) | others
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut bytes = 2_u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(bits.to_le_bytes());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    /// Where a list cannot be kept, whom it shut out stays out.
    #[test]
    fn without_its_list_a_file_is_open_to_nobody_more() {
        let list = |named: u16, mask: u16| {
            let none = u32::MAX;
            list(&[(1, 6, none), (2, named, 1001), (4, 0, none), (16, mask, none), (32, 4, none)])
        };
        assert_eq!(mode_without_list(0o1664, &list(6, 6)), 0o1604);
        assert_eq!(mode_without_list(0o664, &list(0, 6)), 0o600, "one who was shut out");
        assert_eq!(mode_without_list(0o604, &list(6, 0)), 0o600, "one whom the mask shut out");
        assert_eq!(mode_without_list(0o670, b""), 0o600);
    }
}
