//! What is written down of a set: this station's part of it.
//!
//! A station masters a set, keeps a copy of it, or both. Where the records are stored is not decided here.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use keepshare_base::{OriginId, SetName, StationName};
use keepshare_control::{Failure, Outcome};

/// A set that this station masters or keeps.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "WrittenRecord")]
pub struct SetRecord {
    /// What it is called.
    pub name: SetName,
    /// Its number as a network drive, part of every handle and never used again; none where it is no drive yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<u16>,
    /// What this station does with it.
    #[serde(flatten)]
    pub part: SetPart,
}

/// A station's part of a set: at least one of the two.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct SetPart {
    /// The set's users write here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourcePart>,
    /// Its versions are kept here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<CopyPart>,
}

/// The folder of a set that this station masters.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourcePart {
    /// Its slot of the set.
    #[serde(default = "former_origin")]
    pub origin: OriginId,
    /// The folder.
    pub folder: PathBuf,
    /// The other stations that receive it.
    pub to: Vec<StationName>,
}

/// The copy of a set that this station keeps.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyPart {
    /// The slot that is received.
    #[serde(default = "former_origin")]
    pub origin: OriginId,
    /// The station that masters the set: this one, where it has the source as well.
    pub from: StationName,
    /// Where its live tree is.
    #[serde(default)]
    pub live: LivePart,
}

/// Where the live tree of a copy is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LivePart {
    /// A folder in the station's state, which the copy fills.
    #[default]
    Own,
    /// The source folder of the same set, which the copy never writes.
    InPlace,
}

impl SetRecord {
    /// Returns the record of a set that is no drive yet.
    pub fn new(name: SetName, part: SetPart) -> Self {
        Self { name, share: None, part }
    }
}

impl SetPart {
    /// Returns the part of a station that only sends the set.
    pub fn sent(origin: OriginId, folder: PathBuf, to: Vec<StationName>) -> Self {
        Self { source: Some(SourcePart { origin, folder, to }), copy: None }
    }

    /// Returns the part of a station that only receives the set.
    pub fn received(origin: OriginId, from: StationName) -> Self {
        Self { source: None, copy: Some(CopyPart { origin, from, live: LivePart::Own }) }
    }

    /// Returns the part of a station that masters the set and keeps its versions in place; other stations may, too.
    pub fn kept_in_place(
        origin: OriginId,
        here: StationName,
        folder: PathBuf,
        to: Vec<StationName>,
    ) -> Self {
        let copy = CopyPart { origin, from: here, live: LivePart::InPlace };
        Self { source: Some(SourcePart { origin, folder, to }), copy: Some(copy) }
    }

    /// Returns the folder that the set's users write to, where that is here.
    pub fn folder(&self) -> Option<&Path> {
        self.source.as_ref().map(|source| source.folder.as_path())
    }

    /// Returns the word for what this station is to the set.
    pub fn role(&self) -> &'static str {
        if self.source.is_some() { "master" } else { "replica" }
    }
}

/// A record as it may be written, the form of former builds included.
#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenRecord {
    // First: it has a role, which tells it from the present form.
    Former {
        name: SetName,
        #[serde(default)]
        share: Option<u16>,
        #[serde(flatten)]
        part: FormerPart,
    },
    Present {
        name: SetName,
        #[serde(default)]
        share: Option<u16>,
        #[serde(default)]
        source: Option<SourcePart>,
        #[serde(default)]
        copy: Option<CopyPart>,
    },
}

/// A station was either master or replica of a set.
#[derive(Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
enum FormerPart {
    Master { source: PathBuf, to: Vec<StationName> },
    Replica { from: StationName },
}

/// Returns the slot of a set in the records of builds that did not name it: sets had one.
fn former_origin() -> OriginId {
    OriginId(1)
}

impl TryFrom<WrittenRecord> for SetRecord {
    type Error = String;

    fn try_from(written: WrittenRecord) -> Result<Self, String> {
        let (name, share, part) = match written {
            WrittenRecord::Former { name, share, part } => match part {
                FormerPart::Master { source, to } => {
                    (name, share, SetPart::sent(former_origin(), source, to))
                }
                FormerPart::Replica { from } => {
                    (name, share, SetPart::received(former_origin(), from))
                }
            },
            WrittenRecord::Present { name, share, source, copy } => {
                (name, share, SetPart { source, copy })
            }
        };
        if part == SetPart::default() {
            return Err(format!("set {name} has neither a source nor a copy"));
        }
        Ok(Self { name, share, part })
    }
}

/// Gives every set that is kept here its number, and tells whether one was missing.
pub fn number(records: &mut [SetRecord]) -> Outcome<bool> {
    let mut last = records.iter().filter_map(|record| record.share).max().unwrap_or(0);
    let mut changed = false;
    for record in records {
        if record.share.is_none() && record.part.copy.is_some() {
            last = last.checked_add(1).ok_or_else(|| {
                Failure::refused("there are as many sets as a station can have had, 65535")
            })?;
            record.share = Some(last);
            changed = true;
        }
    }
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SetRecord, toml::de::Error> {
        toml::from_str(text)
    }

    /// Whoever updates has the same sets.
    #[test]
    fn records_of_former_builds_are_read() {
        let master = read("name = 'work'\nrole = 'master'\nsource = '/srv/a b'\nto = ['store']");
        let folder = PathBuf::from("/srv/a b");
        let expected = SetPart::sent(OriginId(1), folder, vec!["store".parse().unwrap()]);
        assert_eq!(master.unwrap(), SetRecord::new("work".parse().unwrap(), expected));
        let replica = read("name = 'mail'\nshare = 3\nrole = 'replica'\nfrom = 'office'").unwrap();
        assert_eq!(replica.share, Some(3));
        assert_eq!(replica.part, SetPart::received(OriginId(1), "office".parse().unwrap()));
    }

    #[test]
    fn a_record_says_both_and_is_read_as_it_was_written() {
        let both = SetPart::kept_in_place(
            OriginId(2),
            "office".parse().unwrap(),
            "/srv".into(),
            Vec::new(),
        );
        let records = [
            SetRecord { share: Some(1), ..SetRecord::new("files".parse().unwrap(), both) },
            SetRecord::new(
                "work".parse().unwrap(),
                SetPart::sent(OriginId(1), "/w".into(), Vec::new()),
            ),
        ];
        for record in records {
            let text = toml::to_string(&record).unwrap();
            assert_eq!(read(&text).unwrap(), record, "{text}");
        }
    }

    /// A set without a part would be listed, and nobody would send or keep it.
    #[test]
    fn a_record_without_a_part_is_refused() {
        assert!(read("name = 'work'").is_err());
        assert!(read("name = 'work'\nrole = 'witness'").is_err());
    }

    /// A number that came to another set would give its files to whoever still has a handle.
    #[test]
    fn numbers_stay_with_their_sets() {
        let replica = |name: &str, share| {
            let part = SetPart::received(OriginId(1), "office".parse().unwrap());
            SetRecord { share, ..SetRecord::new(name.parse().unwrap(), part) }
        };
        let master = SetPart::sent(OriginId(1), "/srv".into(), Vec::new());
        let mut records = vec![
            replica("a", None),
            SetRecord::new("b".parse().unwrap(), master),
            replica("c", Some(7)),
            replica("d", None),
        ];
        assert!(number(&mut records).unwrap());
        let numbers: Vec<_> = records.iter().map(|record| record.share).collect();
        assert_eq!(numbers, [Some(8), None, Some(7), Some(9)]);
        assert!(!number(&mut records).unwrap(), "they are given once");
        records[2].share = Some(u16::MAX);
        records.push(replica("e", None));
        assert!(number(&mut records).is_err());
    }
}
