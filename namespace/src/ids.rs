//! Numbers for nodes and names: file ids, hashes of names, places in listings.
//!
//! All but the ids of living files are keyed hashes, so that nobody who may write names can make two of them meet. They
//! depend on the share's key alone: the same after a restart, and on every station that has the key.

use std::fmt;

use keepshare_base::{FileId, Position};

use crate::{Cookie, NameHash, Node, PastMoment};

/// The key of a share's hashes.
#[derive(Clone)]
pub(crate) struct Hasher([u8; 32]);

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl Hasher {
    /// Returns the hashes under a key.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Returns the number by which clients tell a node from others: below 2⁶³, as many clients hold it with a sign.
    pub(crate) fn id(&self, node: Node) -> u64 {
        match node {
            Node::Live { file } => packed(file).unwrap_or_else(|| {
                (self.hash(b"live", &file.to_bytes()) & HASH_BITS) | HASHED_BIT | LIVE_BIT
            }),
            _ => (self.hash(b"node", &node_bytes(node)) & HASH_BITS) | HASHED_BIT,
        }
    }

    /// Returns what stands for a name in a node.
    pub(crate) fn name(&self, name: &[u8]) -> NameHash {
        NameHash(self.hash(b"name", name))
    }

    /// Returns the place after the entry with this name: below 2⁶³, as clients seek with signed offsets.
    pub(crate) fn cookie(&self, name: &[u8]) -> Cookie {
        let hash = self.hash(b"cookie", name) & COOKIE_BITS;
        if hash < RESERVED_COOKIES { hash + RESERVED_COOKIES } else { hash }
    }

    fn hash(&self, domain: &[u8], bytes: &[u8]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        // No domain is the beginning of another one: they end with a zero.
        hasher.update(domain).update(&[0]).update(bytes);
        let hash = hasher.finalize();
        let (first, _) = hash.as_bytes().split_first_chunk::<8>().expect("a hash has 32 bytes");
        u64::from_le_bytes(*first)
    }
}

/// Cookies below this are those of entries that are there always, in the order of listings.
pub(crate) const RESERVED_COOKIES: u64 = 16;

/// The first cookie of an entry that is there always; those below are the doors' own, for `.` and `..`.
pub(crate) const FIRST_COOKIE: u64 = 3;

/// What of a hash a cookie has.
const COOKIE_BITS: u64 = (1 << 63) - 1;

/// Set in ids that are hashes: those of everything but what lives, and of living files whose own numbers do not fit.
const HASHED_BIT: u64 = 1 << 62;

/// Set in hashes that are ids of what lives.
const LIVE_BIT: u64 = 1 << 61;

/// What of a hash an id has.
const HASH_BITS: u64 = LIVE_BIT - 1;

const ORIGIN_BITS: u32 = 10;
const EPOCH_BITS: u32 = 12;
const COUNTER_BITS: u32 = 40;

/// Returns a file's own numbers in 62 bits, where they fit: no two files have the same.
fn packed(file: FileId) -> Option<u64> {
    let (origin, epoch) = (u64::from(file.origin.0), file.epoch.number());
    let fits =
        origin >> ORIGIN_BITS == 0 && epoch >> EPOCH_BITS == 0 && file.counter >> COUNTER_BITS == 0;
    fits.then_some((origin << (EPOCH_BITS + COUNTER_BITS)) | (epoch << COUNTER_BITS) | file.counter)
}

/// Returns bytes that no other node has.
fn node_bytes(node: Node) -> Vec<u8> {
    let of = |tag: u8, folder: FileId| [&[tag][..], &folder.to_bytes()].concat();
    match node {
        Node::Live { file } => of(0, file),
        Node::Versions { folder } => of(1, folder),
        Node::Readme { folder } => of(2, folder),
        Node::Deleted { folder } => of(3, folder),
        Node::Points { folder } => of(4, folder),
        Node::History { folder, name } => [of(5, folder), name.0.to_le_bytes().to_vec()].concat(),
        Node::HistoryTable { folder, name } => {
            [of(6, folder), name.0.to_le_bytes().to_vec()].concat()
        }
        Node::Version { folder, file, position } => {
            [&of(7, folder)[..], &file.to_bytes(), &position_bytes(position)].concat()
        }
        Node::Past { folder, file, moment: PastMoment::At(stamp, opened) } => {
            let opened = opened.map(position_bytes).unwrap_or_default();
            [&of(8, folder)[..], &file.to_bytes(), &stamp.0.to_le_bytes(), &opened].concat()
        }
        Node::Past { folder, file, moment: PastMoment::After(position) } => {
            [&of(9, folder)[..], &file.to_bytes(), &position_bytes(position)].concat()
        }
        Node::Past { folder, file, moment: PastMoment::Part(position, at) } => {
            let part = [position_bytes(position), at.0.to_le_bytes().to_vec()].concat();
            [&of(10, folder)[..], &file.to_bytes(), &part].concat()
        }
    }
}

pub(crate) fn position_bytes(position: Position) -> Vec<u8> {
    let Position { origin, epoch, seq } = position;
    [&origin.0.to_le_bytes()[..], &epoch.number().to_le_bytes(), &seq.0.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use keepshare_base::{CommitId, Epoch, OriginId, Seq, Stamp};

    use super::*;

    fn file(origin: u32, epoch: u64, counter: u64) -> FileId {
        FileId { origin: OriginId(origin), epoch: Epoch::new(epoch).unwrap(), counter }
    }

    /// The same id live and past makes clients take one for the other.
    #[test]
    fn no_two_nodes_share_an_id() {
        let hasher = Hasher::new([7; 32]);
        let (a, b) = (file(1, 1, 1), file(1, 1, 2));
        let position = Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(3) };
        let name = NameHash(5);
        let mut nodes = vec![
            Node::Live { file: file(1 << 20, 1, 1) },
            Node::Live { file: file(1, 1 << 30, 1) },
        ];
        for folder in [FileId::ROOT, a, b] {
            nodes.push(Node::Live { file: folder });
            nodes.push(Node::Versions { folder });
            nodes.push(Node::Readme { folder });
            nodes.push(Node::Deleted { folder });
            nodes.push(Node::Points { folder });
            nodes.push(Node::History { folder, name });
            nodes.push(Node::HistoryTable { folder, name });
            for file in [a, b] {
                nodes.push(Node::Version { folder, file, position });
                nodes.push(Node::Past { folder, file, moment: PastMoment::After(position) });
                for part in [1, 2] {
                    let moment = PastMoment::Part(position, CommitId(part));
                    nodes.push(Node::Past { folder, file, moment });
                }
                for opened in [None, Some(position)] {
                    let moment = PastMoment::At(Stamp(3), opened);
                    nodes.push(Node::Past { folder, file, moment });
                }
            }
        }
        let ids: HashSet<u64> = nodes.iter().map(|node| hasher.id(*node)).collect();
        assert_eq!(ids.len(), nodes.len());
        for node in nodes {
            let (id, live) = (hasher.id(node), matches!(node, Node::Live { .. }));
            assert!(id < 1 << 63, "{node:?}");
            assert_eq!(id & HASHED_BIT == 0 || id & LIVE_BIT != 0, live, "{node:?}");
        }
    }

    /// `seekdir` and `lseek` take signed offsets.
    #[test]
    fn places_in_listings_are_numbers_that_clients_can_hold() {
        let hasher = Hasher::new([7; 32]);
        for name in 0..1000_u32 {
            let cookie = hasher.cookie(&name.to_le_bytes());
            assert!((RESERVED_COOKIES..1 << 63).contains(&cookie), "{cookie}");
        }
    }

    /// Handles and cookies outlive the process: what they are made of must not move.
    #[test]
    fn hashes_are_the_same_after_a_restart() {
        let hasher = Hasher::new([7; 32]);
        assert_eq!(hasher.name(b"report.docx"), Hasher::new([7; 32]).name(b"report.docx"));
        assert_ne!(hasher.name(b"report.docx").0, hasher.cookie(b"report.docx"));
        assert_ne!(hasher.cookie(b"a"), Hasher::new([8; 32]).cookie(b"a"));
        assert_eq!(hasher.id(Node::Live { file: file(1, 1, 9) }), (1 << 52) | (1 << 40) | 9);
    }
}
