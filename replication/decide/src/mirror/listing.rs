//! What a destination says it has, as the base of a mirror.
//!
//! It comes sorted and is kept so: rows one after the other, each without what its key has in common with the one before.
//! A row is found by its stretch, of which the first key is whole. Memory: about 15 bytes and what is new in its name for a
//! name, and 25 bytes for a file.

use keepshare_base::{Epoch, FileId, Kind, Name, Seq};
use keepshare_proto::StateDigest;

/// So many rows have one whole key.
const STRETCH: usize = 32;

/// Every present name of a destination, and every present file.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    names: Sorted,
    files: Sorted,
}

/// A name and what it stands for.
pub type ListedName = ((FileId, Name), (FileId, Kind));

/// A file, the digest of its state, and where the origin made that a version, as far as it said so.
pub type ListedFile = (FileId, (StateDigest, Option<(Epoch, Seq)>));

impl Listing {
    /// Takes the next name; tells whether it comes after the one before.
    #[must_use]
    pub fn push_name(&mut self, ((parent, name), (file, kind)): &ListedName) -> bool {
        let mut value = file.to_short();
        value.push(kind.to_byte());
        self.names.push(&name_key(*parent, name), &value)
    }

    /// Takes the next file; tells whether it comes after the one before.
    #[must_use]
    pub fn push_file(&mut self, (file, (digest, version)): &ListedFile) -> bool {
        let mut value = digest.0.to_vec();
        if let Some((epoch, seq)) = version {
            value.extend(epoch.number().to_le_bytes());
            value.extend(seq.0.to_le_bytes());
        }
        self.files.push(&file.to_short(), &value)
    }

    /// Returns what a name stands for there.
    pub fn name(&self, parent: FileId, name: &Name) -> Option<(FileId, Kind)> {
        self.names.get(&name_key(parent, name)).and_then(read_target)
    }

    /// Returns what is there of a file.
    pub fn file(&self, file: FileId) -> Option<(StateDigest, Option<(Epoch, Seq)>)> {
        let value = self.files.get(&file.to_short())?;
        let (digest, version) = value.split_first_chunk()?;
        let version = version.split_first_chunk::<8>().and_then(|(epoch, seq)| {
            let seq = Seq(u64::from_le_bytes(seq.try_into().ok()?));
            Some((Epoch::new(u64::from_le_bytes(*epoch))?, seq))
        });
        Some((StateDigest(*digest), version))
    }

    /// Returns how much memory it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.names.bytes.len() + self.files.bytes.len()
    }

    /// Returns all names, in order.
    pub fn names(&self) -> impl Iterator<Item = ListedName> + '_ {
        let mut rows = Rows { bytes: &self.names.bytes, key: Vec::new() };
        std::iter::from_fn(move || {
            let value = rows.next()?;
            let (parent, name) = FileId::split_short(&rows.key)?;
            Some(((parent, Name::new(name).ok()?), read_target(value)?))
        })
    }

    /// Returns how many names and files there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.names.count, self.files.count)
    }
}

impl Extend<ListedName> for Listing {
    /// Takes names in any order, beside those that are there: of what comes twice, the first. For few.
    fn extend<T: IntoIterator<Item = ListedName>>(&mut self, names: T) {
        let mut all: Vec<ListedName> = self.names().chain(names).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.dedup_by(|later, first| later.0 == first.0);
        self.names = Sorted::default();
        for name in all {
            assert!(self.push_name(&name), "they were sorted");
        }
    }
}

/// Rows in the order of their keys.
#[derive(Clone, Debug, Default)]
struct Sorted {
    bytes: Vec<u8>,
    /// Where each stretch begins.
    stretches: Vec<usize>,
    last: Vec<u8>,
    count: usize,
}

impl Sorted {
    fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        if self.count > 0 && key <= self.last.as_slice() {
            return false;
        }
        let shared = if self.count.is_multiple_of(STRETCH) {
            self.stretches.push(self.bytes.len());
            0
        } else {
            key.iter().zip(&self.last).take_while(|(key, last)| key == last).count()
        };
        for len in [shared, key.len() - shared, value.len()] {
            push_len(&mut self.bytes, len);
        }
        self.bytes.extend_from_slice(&key[shared..]);
        self.bytes.extend_from_slice(value);
        self.last.clear();
        self.last.extend_from_slice(key);
        self.count += 1;
        true
    }

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let after = self.stretches.partition_point(|start| {
            let mut rows = Rows { bytes: &self.bytes[*start..], key: Vec::new() };
            rows.next().is_some() && rows.key.as_slice() <= key
        });
        let start = *self.stretches.get(after.checked_sub(1)?)?;
        let mut rows = Rows { bytes: &self.bytes[start..], key: Vec::new() };
        for _ in 0..STRETCH {
            let value = rows.next()?;
            match rows.key.as_slice().cmp(key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Some(value),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}

/// Rows from the beginning of a stretch on.
struct Rows<'a> {
    bytes: &'a [u8],
    key: Vec<u8>,
}

impl<'a> Rows<'a> {
    /// Goes to the next row and returns its value.
    fn next(&mut self) -> Option<&'a [u8]> {
        let shared = self.len()?;
        let (rest, value) = (self.len()?, self.len()?);
        self.key.truncate(shared);
        self.key.extend_from_slice(self.bytes.get(..rest)?);
        let found = self.bytes.get(rest..rest + value)?;
        self.bytes = &self.bytes[rest + value..];
        Some(found)
    }

    fn len(&mut self) -> Option<usize> {
        let (&low, rest) = self.bytes.split_first()?;
        if low < 0x80 {
            self.bytes = rest;
            return Some(low.into());
        }
        let (&high, rest) = rest.split_first()?;
        self.bytes = rest;
        Some(usize::from(low & 0x7f) | usize::from(high) << 7)
    }
}

/// Appends a length below 2^15: names, ids and digests are shorter.
fn push_len(bytes: &mut Vec<u8>, len: usize) {
    let [low, high] = u16::try_from(len).expect("keys and values are short").to_le_bytes();
    match high << 1 | low >> 7 {
        0 => bytes.push(low),
        more => bytes.extend([low | 0x80, more]),
    }
}

fn name_key(parent: FileId, name: &Name) -> Vec<u8> {
    [&parent.to_short()[..], name.as_bytes()].concat()
}

fn read_target(value: &[u8]) -> Option<(FileId, Kind)> {
    let (file, kind) = FileId::split_short(value)?;
    Some((file, Kind::from_byte(*kind.first()?)?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keepshare_base::{ContentHash, OriginId};

    use super::*;

    /// It answers as two maps would, in a fifth of their memory.
    #[test]
    fn it_is_two_maps() {
        let id = |counter| FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter };
        let (mut names, mut files) = (BTreeMap::new(), BTreeMap::new());
        for counter in 1..5000_u64 {
            let parent = if counter % 3 == 0 { FileId::ROOT } else { id(counter % 7 * 100) };
            let name = Name::new(format!("name-{:05}", counter * 7919 % 5000).as_bytes()).unwrap();
            let kind = Kind::ALL.into_iter().cycle().nth(files.len() % 7).unwrap();
            names.insert((parent, name), (id(counter), kind));
            let version = (counter % 2 == 0).then_some((Epoch::FIRST, Seq(counter << 20)));
            let digest = ContentHash::of(&counter.to_le_bytes()).0;
            let digest = StateDigest(*digest.first_chunk().unwrap());
            files.insert(id(counter * 3), (digest, version));
        }
        names.insert((FileId::ROOT, Name::new(&[b'x'; 255]).unwrap()), (id(9), Kind::Dir));
        let mut listing = Listing::default();
        assert!(names.iter().all(|(key, value)| listing.push_name(&(key.clone(), *value))));
        assert!(files.iter().all(|(key, value)| listing.push_file(&(*key, *value))));
        assert_eq!(listing.counts(), (names.len(), files.len()));
        for ((parent, name), target) in &names {
            assert_eq!(listing.name(*parent, name), Some(*target));
            assert_eq!(listing.name(id(1 << 40), name), None);
        }
        for counter in 0..20_000 {
            assert_eq!(listing.file(id(counter)), files.get(&id(counter)).copied());
        }
        assert!(listing.names().eq(names.clone()));
        let bytes = listing.names.bytes.len() + listing.files.bytes.len();
        assert!(bytes < 60 * names.len(), "{bytes}");
        let mut again = Listing::default();
        again.extend(names.clone().into_iter().rev());
        assert!(again.names().eq(names));
        assert_eq!(Listing::default().file(id(1)), None);
    }

    /// A station that lists in another order is not believed half of it.
    #[test]
    fn another_order_is_told() {
        let name =
            |text: &[u8]| ((FileId::ROOT, Name::new(text).unwrap()), (FileId::ROOT, Kind::Dir));
        let mut listing = Listing::default();
        assert!(listing.push_name(&name(b"b")));
        assert!(!listing.push_name(&name(b"b")) && !listing.push_name(&name(b"a")));
        assert!(listing.push_name(&name(b"bb")));
    }
}
