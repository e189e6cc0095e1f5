//! Names of versions, as a drive and everything else shows them.
//!
//! A version is called `2026-11-20_15.32.07+0100_anna.docx`: when it was cut, in the share's zone with its offset, by
//! whom, and what opens it. Where several have one second, removed ones too, each carries its microseconds:
//! `2026-11-20_15.32.07.250000+0100_anna.docx`; and where they have those in common, its id as well. So a name means one
//! version for ever, or nothing. Names are made of letters, digits and `-_.+` alone, so that every system can show them.

use std::collections::{HashMap, HashSet};

use chrono_tz::Tz;

use keepshare_base::{Name, Stamp, VersionId};

use crate::state::{FileState, HistoryEntry};

use super::when::{Moment, typed, typed_exactly};

/// The longest part that says who made a version, in characters, all of them ASCII: `host`, an IPv6 address and a uid
/// have room.
const USER_CHARS_MAX: usize = 64;

/// The longest extension that a version keeps, in characters.
const EXTENSION_CHARS_MAX: usize = 10;

/// Returns the id of the version that a state is, with its file: what it is called wherever ids are typed.
pub fn id(state: &FileState) -> Moment {
    Moment::Version(VersionId(state.position), Some(state.file))
}

/// What the versions of a history are called.
#[derive(Debug)]
pub struct Called {
    /// The name of each entry, in the history's order.
    pub names: Vec<String>,
    /// What versions were called that others have come to share a time with: these mean none any more.
    pub shared: HashSet<String>,
}

/// Calls the versions of a whole history by names that never change their meaning, in whatever order versions come and
/// whichever go.
pub fn called(history: &[&HistoryEntry], zone: Tz) -> Called {
    let mut seen = HashSet::new();
    let (mut seconds, mut micros) = (HashMap::new(), HashMap::new());
    for state in history.iter().map(|entry| &entry.state) {
        if seen.insert((state.file, state.commit)) {
            *seconds.entry(second(state.stamp, zone)).or_insert(0_u32) += 1;
            *micros.entry(state.stamp).or_insert(0_u32) += 1;
        }
    }
    let removed = Removed::of(history);
    let mut shared = HashSet::new();
    let names = history.iter().map(|HistoryEntry { state, name, .. }| {
        let (stamp, user) = (state.stamp, state.user.as_deref());
        let called = |told| Label { stamp, told, user, extension: extension(name) }.write(zone);
        let mut shown = called(Told::Second);
        if seconds.get(&second(stamp, zone)).is_some_and(|count| *count > 1) {
            shared.insert(shown);
            shown = called(Told::Exactly);
        }
        let is_removed = removed.may_have(stamp);
        if is_removed {
            shared.insert(std::mem::replace(&mut shown, called(Told::Exactly)));
        }
        if is_removed || micros.get(&stamp).is_some_and(|count| *count > 1) {
            shared.insert(shown);
            shown = called(Told::ById(id(state)));
        }
        shown
    });
    Called { names: names.collect(), shared }
}

/// The times of versions that may have been and have no row any more: they stood between two of one file that retention removed. A
/// version that has such a time, as after a clock was set back, is not called by it alone.
struct Removed(Vec<(Stamp, Stamp)>);

impl Removed {
    fn of(history: &[&HistoryEntry]) -> Self {
        let between = history.windows(2).filter_map(|pair| {
            let (newer, older) = (&pair[0].state, &pair[1].state);
            let (from, to) = (older.position, newer.position);
            let is_of_one = newer.file == older.file && from.origin == to.origin;
            let is_it = newer.expired && older.expired && is_of_one && from < to;
            is_it.then_some((older.stamp, newer.stamp))
        });
        let mut between: Vec<_> = between.filter(|(from, to)| from < to).collect();
        between.sort_unstable();
        // Each ends where the last of all up to it does.
        let mut last = Stamp(i64::MIN);
        for (_, to) in &mut between {
            last = last.max(*to);
            *to = last;
        }
        Self(between)
    }

    fn may_have(&self, stamp: Stamp) -> bool {
        let after = self.0.partition_point(|(from, _)| *from < stamp);
        after.checked_sub(1).is_some_and(|last| self.0[last].1 > stamp)
    }
}

/// Returns what a folder is called that went at this time, by whose hand.
pub fn of_gone_folder(stamp: Stamp, user: Option<&str>, zone: Tz) -> String {
    Label { stamp, told: Told::Second, user, extension: None }.write(zone)
}

/// What a version is called.
#[derive(Clone, Copy, Debug)]
struct Label<'a> {
    /// When it was cut.
    stamp: Stamp,
    /// How much of that it takes to tell it from others.
    told: Told,
    /// Who made it.
    user: Option<&'a str>,
    /// What opens it.
    extension: Option<&'a str>,
}

impl Label<'_> {
    /// Writes it.
    fn write(&self, zone: Tz) -> String {
        let mut text = match self.told {
            Told::Second => second(self.stamp, zone),
            Told::Exactly | Told::ById(_) => exactly(self.stamp, zone),
        };
        if let Told::ById(id) = self.told {
            text.push_str(&plain(&format!("-{id}")));
        }
        let user = self.user.map(plain_user).unwrap_or_default();
        if !user.is_empty() {
            text.push('_');
            text.push_str(&user);
        }
        if let Some(extension) = self.extension {
            text.push('.');
            text.push_str(extension);
        }
        text
    }
}

/// What tells a version from the others of its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Told {
    /// The second: no other has it.
    Second,
    /// The microsecond.
    Exactly,
    /// Its id.
    ById(Moment),
}

/// Writes a moment's second as it stands in names.
fn second(stamp: Stamp, zone: Tz) -> String {
    plain(&typed(stamp, zone))
}

/// Writes a moment's microsecond as it stands in names.
fn exactly(stamp: Stamp, zone: Tz) -> String {
    plain(&typed_exactly(stamp, zone))
}

/// Returns what opens a file of this name: up to ten letters and digits after its last dot.
pub fn extension(name: &Name) -> Option<&str> {
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    let text = std::str::from_utf8(&bytes[dot + 1..]).ok()?;
    is_extension(text).then_some(text)
}

/// Writes a text with every other character as `-`.
pub fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    text.chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

/// Tells whether a text may be what opens a file.
pub fn is_extension(text: &str) -> bool {
    (1..=EXTENSION_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn plain_user(user: &str) -> String {
    let own = user.rsplit('\\').next().unwrap_or_default();
    plain(own).chars().take(USER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use keepshare_base::FileId;

    use super::*;

    fn written(told: Told, user: Option<&str>, name: &[u8]) -> String {
        let name = Name::new(name).unwrap();
        let stamp = Stamp(1_795_185_127_500_000);
        Label { stamp, told, user, extension: extension(&name) }.write(Tz::Europe__Berlin)
    }

    #[test]
    fn versions_are_called_by_time_user_and_extension() {
        let version: VersionId = "v1.1.42".parse().unwrap();
        let file = FileId { counter: 7, origin: version.0.origin, epoch: version.0.epoch };
        let (second, exactly, by_id) =
            (Told::Second, Told::Exactly, Told::ById(Moment::Version(version, Some(file))));
        let cases = [
            (second, Some("anna"), &b"report.docx"[..], "+0100_anna.docx"),
            (exactly, Some("anna"), b"report.docx", ".500000+0100_anna.docx"),
            (by_id, Some("anna"), b"report.docx", ".500000+0100-v1.1.42-7_anna.docx"),
            (second, None, b"report", "+0100"),
            (second, Some("CORP\\bob smith"), b"a.tar.gz", "+0100_bob-smith.gz"),
            (second, Some("\u{202e}x/..\n"), b"a.b c", "+0100_-x-..-"),
            (second, Some("a\\"), b".bashrc", "+0100"),
            (
                second,
                Some("host 2001:db8:1234:5678:9abc:def0:1234:5678 uid 4294967294"),
                b"a.12345678901",
                "+0100_host-2001-db8-1234-5678-9abc-def0-1234-5678-uid-4294967294",
            ),
            (second, Some(&"é".repeat(70)), b"a", &format!("+0100_{}", "-".repeat(64))),
            (exactly, Some("anna"), b"a.\xff", ".500000+0100_anna"),
        ];
        for (told, user, name, rest) in cases {
            assert_eq!(written(told, user, name), format!("2026-11-20_15.32.07{rest}"));
        }
    }

    /// A stamp is a master's: no name may hold what a system cannot show.
    #[test]
    fn wild_stamps_make_plain_names() {
        for stamp in [Stamp(i64::MIN), Stamp::MAX, Stamp(-1), Stamp(i64::MAX / 2)] {
            for told in [Told::Second, Told::Exactly] {
                let text = Label { stamp, told, user: None, extension: None }.write(Tz::UTC);
                assert_eq!(plain(&text), text);
            }
        }
    }
}
