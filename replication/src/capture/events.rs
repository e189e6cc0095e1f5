//! Reads fanotify's event records out of bytes.
//!
//! Layout (fanotify(7)), in the machine's byte order: each event is a 24-byte header (length u32, version u8, reserved
//! u8, header length u16, mask u64, fd i32, pid i32) followed by information records of a 4-byte head (type u8, pad u8,
//! length u16); ours hold a file system id (8 bytes), a file handle (length u32, type i32, bytes) and, some of them, a
//! name that ends in NUL.

/// What one event names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Event<'a> {
    /// What happened, several things merged.
    pub(crate) mask: u64,
    /// The object itself.
    pub(crate) object: Option<Handle<'a>>,
    /// Folders and the names in them.
    pub(crate) names: Vec<(Handle<'a>, &'a [u8])>,
    /// The last of them is where it was moved to.
    pub(crate) moved: bool,
}

/// A file handle as the kernel gave it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Handle<'a> {
    /// Its type; only the file system knows what it means.
    pub(crate) kind: i32,
    /// Its bytes.
    pub(crate) bytes: &'a [u8],
}

const HEADER_BYTES: usize = 24;
const VERSION: u8 = 3;
const INFO_FID: u8 = 1;
const INFO_DFID_NAME: u8 = 2;
const INFO_OLD_DFID_NAME: u8 = 10;
const INFO_NEW_DFID_NAME: u8 = 12;

/// Reads the first event of `bytes` and returns it with the rest; `None` where there is no whole one.
pub(crate) fn next_event(bytes: &[u8]) -> Option<(Event<'_>, &[u8])> {
    let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
    if len < HEADER_BYTES || *bytes.get(4)? != VERSION {
        return None;
    }
    let (event, rest) = bytes.split_at_checked(len)?;
    let header_len = usize::from(u16_at(event, 6)?);
    let mut parsed =
        Event { mask: u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?), ..Event::default() };
    let mut infos = event.get(header_len..)?;
    while let Some((kind, info, after)) = next_info(infos) {
        infos = after;
        match kind {
            INFO_FID => parsed.object = handle(info).map(|(handle, _)| handle),
            INFO_DFID_NAME | INFO_OLD_DFID_NAME | INFO_NEW_DFID_NAME => {
                let Some((folder, name)) = handle(info) else { continue };
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                parsed.names.push((folder, name));
                parsed.moved = kind == INFO_NEW_DFID_NAME;
            }
            _ => {}
        }
    }
    Some((parsed, rest))
}

fn next_info(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let len = usize::from(u16_at(bytes, 2)?);
    if len < 4 {
        return None;
    }
    let (info, rest) = bytes.split_at_checked(len)?;
    Some((info[0], &info[4..], rest))
}

/// Reads the handle of a record and returns it with what follows it.
fn handle(info: &[u8]) -> Option<(Handle<'_>, &[u8])> {
    let len = usize::try_from(u32_at(info, 8)?).ok()?;
    let kind = i32::from_ne_bytes(info.get(12..16)?.try_into().ok()?);
    let (bytes, rest) = info.get(16..)?.split_at_checked(len)?;
    Some((Handle { kind, bytes }, rest))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(kind: u8, handle: &[u8], name: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0];
        bytes.extend([0; 8]);
        bytes.extend(u32::try_from(handle.len()).unwrap().to_ne_bytes());
        bytes.extend(1i32.to_ne_bytes());
        bytes.extend(handle);
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        let len = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&len.to_ne_bytes());
        bytes
    }

    fn event(mask: u64, infos: &[Vec<u8>]) -> Vec<u8> {
        let infos = infos.concat();
        let len = u32::try_from(HEADER_BYTES + infos.len()).unwrap();
        let mut bytes = len.to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        bytes.extend(24u16.to_ne_bytes());
        bytes.extend(mask.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(infos);
        bytes
    }

    #[test]
    fn a_rename_names_both_places_and_the_object() {
        let mut bytes = event(
            1 << 28,
            &[
                info(INFO_OLD_DFID_NAME, b"dir1", b"old\0"),
                info(INFO_NEW_DFID_NAME, b"directory", b"new name\0"),
                info(INFO_FID, b"object", b""),
            ],
        );
        bytes.extend(event(2, &[]));
        let (first, rest) = next_event(&bytes).unwrap();
        let names: Vec<_> = first.names.iter().map(|(dir, name)| (dir.bytes, *name)).collect();
        assert_eq!(names, [(&b"dir1"[..], &b"old"[..]), (b"directory", b"new name")]);
        assert_eq!(first.object.unwrap().bytes, b"object");
        let (second, rest) = next_event(rest).unwrap();
        assert_eq!(second, Event { mask: 2, ..Event::default() });
        assert_eq!(next_event(rest), None);
    }

    /// A kernel that says something unknown must not take the master down.
    #[test]
    fn bytes_that_are_no_events_are_passed_over() {
        let good = event(1, &[info(INFO_FID, b"object", b"")]);
        for len in 0..good.len() {
            assert_eq!(next_event(&good[..len]), None, "cut at {len}");
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = next_event(&bytes);
            }
        }
    }
}
