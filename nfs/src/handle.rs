//! File handles: which node, in whose session, sealed.
//!
//! `format · kind · share (2) · session (8) · the node's numbers as varints · MAC (16)`, at most 64 bytes. A handle is
//! good only as its MAC says; the MAC covers all bytes before it. Nothing of a handle is looked at before that.

use keepshare_auth::SessionId;
use keepshare_base::{CommitId, Epoch, FileId, OriginId, Position, Seq, Stamp};
use keepshare_namespace::{NameHash, Node, PastMoment, ShareId};
use keepshare_nfs_wire::nfs3::{HANDLE_BYTES_MAX, Handle};

/// What a handle names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Named {
    pub(crate) share: ShareId,
    pub(crate) session: SessionId,
    pub(crate) node: Node,
}

impl Named {
    /// Returns the handle; `None` where the node's numbers do not fit, which takes epochs and counters beyond 2^40.
    pub(crate) fn seal(&self, mac: impl FnOnce(&[&[u8]]) -> [u8; MAC]) -> Option<Sealed> {
        let mut bytes = Bytes { bytes: [0; HANDLE_BYTES_MAX], len: 0 };
        bytes.push(&[FORMAT, kind(self.node)])?;
        bytes.push(&self.share.0.to_le_bytes())?;
        bytes.push(&self.session.0.to_le_bytes())?;
        push_node(&mut bytes, self.node)?;
        let mac = mac(&[bytes.as_slice()]);
        bytes.push(&mac)?;
        Some(Sealed(bytes))
    }

    /// Reads a handle; `None` where it was not sealed here.
    pub(crate) fn open(handle: &[u8], mac: impl FnOnce(&[&[u8]]) -> [u8; MAC]) -> Option<Self> {
        let (sealed, claimed) = handle.split_last_chunk::<MAC>()?;
        if !same(claimed, &mac(&[sealed])) {
            return None;
        }
        let (head, numbers) = sealed.split_first_chunk::<12>()?;
        let [FORMAT, kind, s0, s1, session @ ..] = *head else { return None };
        let node = read_node(kind, &mut Numbers(numbers))?;
        let share = ShareId(u16::from_le_bytes([s0, s1]));
        Some(Self { share, session: SessionId(u64::from_le_bytes(session)), node })
    }
}

/// A handle with its MAC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed(Bytes);

impl Sealed {
    /// Returns it as it goes over the wire.
    pub(crate) fn wire(&self) -> Handle<'_> {
        Handle::new(self.0.as_slice()).expect("the buffer is as long as a handle may be")
    }
}

/// The length of the MAC in bytes.
const MAC: usize = 16;

const FORMAT: u8 = 1;

const LIVE: u8 = 1;
const VERSIONS: u8 = 2;
const README: u8 = 3;
const DELETED: u8 = 4;
const POINTS: u8 = 5;
const HISTORY: u8 = 6;
const HISTORY_TABLE: u8 = 7;
const VERSION: u8 = 8;
const PAST_AT: u8 = 9;
const PAST_AFTER: u8 = 10;
const PAST_OPENED: u8 = 11;
const PAST_PART: u8 = 12;

fn kind(node: Node) -> u8 {
    match node {
        Node::Live { .. } => LIVE,
        Node::Versions { .. } => VERSIONS,
        Node::Readme { .. } => README,
        Node::Deleted { .. } => DELETED,
        Node::Points { .. } => POINTS,
        Node::History { .. } => HISTORY,
        Node::HistoryTable { .. } => HISTORY_TABLE,
        Node::Version { .. } => VERSION,
        Node::Past { moment: PastMoment::At(_, None), .. } => PAST_AT,
        Node::Past { moment: PastMoment::At(_, Some(_)), .. } => PAST_OPENED,
        Node::Past { moment: PastMoment::After(_), .. } => PAST_AFTER,
        Node::Past { moment: PastMoment::Part(..), .. } => PAST_PART,
    }
}

fn push_node(bytes: &mut Bytes, node: Node) -> Option<()> {
    match node {
        Node::Live { file } => push_file(bytes, file),
        Node::Versions { folder }
        | Node::Readme { folder }
        | Node::Deleted { folder }
        | Node::Points { folder } => push_file(bytes, folder),
        Node::History { folder, name } | Node::HistoryTable { folder, name } => {
            push_file(bytes, folder)?;
            bytes.push(&name.0.to_le_bytes())
        }
        Node::Version { folder, file, position } => {
            push_file(bytes, folder)?;
            push_file(bytes, file)?;
            push_position(bytes, position)
        }
        Node::Past { folder, file, moment } => {
            push_file(bytes, folder)?;
            push_file(bytes, file)?;
            match moment {
                PastMoment::At(time, opened) => {
                    bytes.push_number(zigzag(time.0))?;
                    opened.map_or(Some(()), |opened| push_position(bytes, opened))
                }
                PastMoment::After(position) => push_position(bytes, position),
                PastMoment::Part(position, at) => {
                    push_position(bytes, position)?;
                    bytes.push_number(at.0)
                }
            }
        }
    }
}

fn push_file(bytes: &mut Bytes, file: FileId) -> Option<()> {
    bytes.push_number(u64::from(file.origin.0))?;
    bytes.push_number(file.epoch.number())?;
    bytes.push_number(file.counter)
}

fn push_position(bytes: &mut Bytes, position: Position) -> Option<()> {
    bytes.push_number(u64::from(position.origin.0))?;
    bytes.push_number(position.epoch.number())?;
    bytes.push_number(position.seq.0)
}

fn read_node(kind: u8, numbers: &mut Numbers<'_>) -> Option<Node> {
    let folder = numbers.file()?;
    let node = match kind {
        LIVE => Node::Live { file: folder },
        VERSIONS => Node::Versions { folder },
        README => Node::Readme { folder },
        DELETED => Node::Deleted { folder },
        POINTS => Node::Points { folder },
        HISTORY => Node::History { folder, name: numbers.name()? },
        HISTORY_TABLE => Node::HistoryTable { folder, name: numbers.name()? },
        VERSION => Node::Version { folder, file: numbers.file()?, position: numbers.position()? },
        PAST_AT => {
            let file = numbers.file()?;
            let moment = PastMoment::At(numbers.stamp()?, None);
            Node::Past { folder, file, moment }
        }
        PAST_OPENED => {
            let file = numbers.file()?;
            let moment = PastMoment::At(numbers.stamp()?, Some(numbers.position()?));
            Node::Past { folder, file, moment }
        }
        PAST_AFTER => {
            let file = numbers.file()?;
            Node::Past { folder, file, moment: PastMoment::After(numbers.position()?) }
        }
        PAST_PART => {
            let file = numbers.file()?;
            let moment = PastMoment::Part(numbers.position()?, CommitId(numbers.number()?));
            Node::Past { folder, file, moment }
        }
        _ => return None,
    };
    numbers.0.is_empty().then_some(node)
}

/// Bytes in the making, on the stack.
#[derive(Clone, Copy, Debug)]
struct Bytes {
    bytes: [u8; HANDLE_BYTES_MAX],
    len: usize,
}

impl Bytes {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, more: &[u8]) -> Option<()> {
        let end = self.len + more.len();
        self.bytes.get_mut(self.len..end)?.copy_from_slice(more);
        self.len = end;
        Some(())
    }

    /// Appends seven bits at a time, lowest first; the top bit says that more follow.
    fn push_number(&mut self, mut number: u64) -> Option<()> {
        while number >= 0x80 {
            self.push(&[number.to_le_bytes()[0] | 0x80])?;
            number >>= 7;
        }
        self.push(&[number.to_le_bytes()[0]])
    }
}

struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn origin(&mut self) -> Option<OriginId> {
        self.number().and_then(|number| u32::try_from(number).ok()).map(OriginId)
    }

    fn file(&mut self) -> Option<FileId> {
        let (origin, epoch) = (self.origin()?, Epoch::new(self.number()?)?);
        Some(FileId { origin, epoch, counter: self.number()? })
    }

    fn stamp(&mut self) -> Option<Stamp> {
        self.number().map(|number| Stamp(unzigzag(number)))
    }

    fn position(&mut self) -> Option<Position> {
        let (origin, epoch) = (self.origin()?, Epoch::new(self.number()?)?);
        Some(Position { origin, epoch, seq: Seq(self.number()?) })
    }

    fn name(&mut self) -> Option<NameHash> {
        let (name, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(NameHash(u64::from_le_bytes(*name)))
    }
}

/// Makes small numbers of both signs small.
fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// Compares in the same time wherever the two differ, so that a MAC cannot be found byte by byte.
fn same(a: &[u8; MAC], b: &[u8; MAC]) -> bool {
    let widened = |mac: &[u8; MAC]| {
        let mut wide = [0; 32];
        wide[..MAC].copy_from_slice(mac);
        blake3::Hash::from(wide)
    };
    widened(a) == widened(b)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mac(key: u8) -> impl Fn(&[&[u8]]) -> [u8; MAC] {
        move |parts| {
            let mut hasher = blake3::Hasher::new_keyed(&[key; 32]);
            for part in parts {
                hasher.update(part);
            }
            let mut mac = [0; MAC];
            hasher.finalize_xof().fill(&mut mac);
            mac
        }
    }

    fn file(origin: u32, epoch: u64, counter: u64) -> FileId {
        FileId { origin: OriginId(origin), epoch: Epoch::new(epoch).unwrap(), counter }
    }

    fn any_node() -> impl Strategy<Value = Node> {
        // Numbers of every length, so that the longest that fit and the first that do not are met.
        let number = || (0..64_u32, any::<u64>()).prop_map(|(shift, n)| n >> shift);
        let file = move || {
            (any::<u32>(), number(), number()).prop_map(|(o, e, c)| file(o >> 16, e.max(1), c))
        };
        let position = move || {
            file().prop_map(|f| Position { origin: f.origin, epoch: f.epoch, seq: Seq(f.counter) })
        };
        let history = (file(), any::<u64>().prop_map(NameHash));
        let at = any::<i64>().prop_map(|stamp| PastMoment::At(Stamp(stamp), None));
        let opened = (any::<i64>(), position());
        let opened = opened.prop_map(|(time, opened)| PastMoment::At(Stamp(time), Some(opened)));
        let part = (position(), number());
        let part = part.prop_map(|(position, at)| PastMoment::Part(position, CommitId(at)));
        let moment = prop_oneof![at, opened, position().prop_map(PastMoment::After), part];
        prop_oneof![
            file().prop_map(|file| Node::Live { file }),
            file().prop_map(|folder| Node::Versions { folder }),
            file().prop_map(|folder| Node::Readme { folder }),
            file().prop_map(|folder| Node::Deleted { folder }),
            file().prop_map(|folder| Node::Points { folder }),
            history.clone().prop_map(|(folder, name)| Node::History { folder, name }),
            history.prop_map(|(folder, name)| Node::HistoryTable { folder, name }),
            (file(), file(), position()).prop_map(|(folder, file, position)| Node::Version {
                folder,
                file,
                position
            }),
            (file(), file(), moment).prop_map(|(folder, file, moment)| Node::Past {
                folder,
                file,
                moment
            }),
        ]
    }

    fn sample() -> Named {
        let node = Node::Past {
            folder: file(1, 1, 70_000),
            file: file(1, 2, 123_456),
            moment: PastMoment::At(Stamp(1_763_649_127_000_001), None),
        };
        Named { share: ShareId(3), session: SessionId(0x0123_4567_89ab_cdef), node }
    }

    proptest! {
        #[test]
        fn handles_read_back_or_do_not_exist(
            node in any_node(), share in any::<u16>(), session in any::<u64>(),
        ) {
            let named = Named { share: ShareId(share), session: SessionId(session), node };
            if let Some(sealed) = named.seal(mac(1)) {
                let bytes = sealed.wire().as_bytes();
                prop_assert!(bytes.len() <= 64);
                prop_assert_eq!(Named::open(bytes, mac(1)), Some(named));
                prop_assert_eq!(Named::open(bytes, mac(2)), None);
            }
        }

        /// The MAC stands before this, but it must not be the only thing that does.
        #[test]
        fn sealed_nonsense_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..48)) {
            let sealed = [&[FORMAT, bytes.first().copied().unwrap_or(0) % 14], &bytes[..]].concat();
            let handle = [&sealed[..], &mac(1)(&[&sealed])].concat();
            let _ = Named::open(&handle, mac(1));
        }
    }

    /// Any file of a set with ten billion files, in its ten thousandth epoch, at any moment.
    #[test]
    fn every_node_of_a_large_old_set_has_a_handle() {
        let (folder, file) = (file(9, 10_000, 10_000_000_000), file(9, 10_000, 10_000_000_000));
        let position = Position {
            origin: OriginId(9),
            epoch: Epoch::new(10_000).unwrap(),
            seq: Seq(1_000_000_000_000),
        };
        let moment = PastMoment::At(Stamp(4_000_000_000_000_000), Some(position));
        for node in [
            Node::Version { folder, file, position },
            Node::Past { folder, file, moment },
            Node::Past { folder, file, moment: PastMoment::After(position) },
            Node::Past {
                folder,
                file,
                moment: PastMoment::Part(position, CommitId(1_000_000_000_000)),
            },
        ] {
            assert!(Named { node, ..sample() }.seal(mac(1)).is_some(), "{node:?}");
        }
    }

    #[test]
    fn a_million_random_handles_are_refused() {
        let mut bytes = [0; 64];
        let mut random = blake3::Hasher::new().update(b"handles").finalize_xof();
        for round in 0..1_000_000 {
            random.fill(&mut bytes);
            let len = 17 + usize::from(bytes[0]) % 48;
            // As near to good ones as can be had without the key.
            bytes[0] = FORMAT;
            bytes[1] = 1 + bytes[1] % 12;
            assert_eq!(Named::open(&bytes[..len], mac(1)), None, "round {round}");
        }
        assert_eq!(Named::open(&[], mac(1)), None);
    }

    #[test]
    fn flipped_bits_are_refused() {
        let mut refused = 0;
        for counter in 0..250 {
            let node = Node::Live { file: file(1, 1, 1 << (counter % 60)) };
            for named in [sample(), Named { node, ..sample() }] {
                let sealed = named.seal(mac(1)).unwrap();
                for bit in 0..sealed.wire().as_bytes().len() * 8 {
                    let mut bytes = sealed.wire().as_bytes().to_vec();
                    bytes[bit / 8] ^= 1 << (bit % 8);
                    assert_eq!(Named::open(&bytes, mac(1)), None, "bit {bit} of {named:?}");
                    refused += 1;
                }
            }
        }
        assert!(refused > 100_000, "only {refused}");
    }
}
