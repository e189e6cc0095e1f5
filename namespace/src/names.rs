//! Names of versions: how they are written, and how typed ones are read.
//!
//! A version is called `2026-11-20_15.32.07+0100_anna.docx`: when it was cut, in the share's zone with its offset, by
//! whom, and what opens it. Of several versions of one second all but the oldest carry a number after the time:
//! `2026-11-20_15.32.07+0100-2_anna.docx`. Names are made of letters, digits and `-_.+` alone, so that every system can
//! show them.

use chrono_tz::Tz;

use keepshare_base::{Kind, NAME_BYTES_MAX, Name, Stamp};

use crate::when::{When, typed};

/// The longest part that says who made a version, in characters.
const USER_CHARS_MAX: usize = 20;

/// The longest extension that a version keeps, in characters.
const EXTENSION_CHARS_MAX: usize = 10;

/// What follows a name where its versions are meant.
const SUFFIX: &[u8] = b"@";

/// What a version is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Label<'a> {
    /// When it was cut.
    pub(crate) stamp: Stamp,
    /// Its number among those of this second, from 1.
    pub(crate) number: u32,
    /// Who made it.
    pub(crate) user: Option<&'a str>,
    /// What opens it.
    pub(crate) extension: Option<&'a str>,
}

impl Label<'_> {
    /// Writes it.
    pub(crate) fn write(&self, zone: Tz) -> String {
        let mut text = second(self.stamp, zone);
        if self.number > 1 {
            text.push_str(&format!("-{}", self.number));
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

/// Writes a moment's second as it stands in names: those of one second are numbered.
pub(crate) fn second(stamp: Stamp, zone: Tz) -> String {
    plain(&typed(stamp, zone))
}

/// Returns what opens a file of this name: up to ten letters and digits after its last dot.
pub(crate) fn extension(name: &Name) -> Option<&str> {
    let bytes = name.as_bytes();
    let dot = bytes.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0)?;
    let text = std::str::from_utf8(&bytes[dot + 1..]).ok()?;
    is_extension(text).then_some(text)
}

/// Writes a text with every other character as `-`.
pub(crate) fn plain(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    text.chars().map(|c| if fits(c) { c } else { '-' }).collect()
}

/// Returns what the folder of a name's versions is called: `NAME@`, and `NAME` itself where that would be too long.
///
/// A name of 255 bytes that ends with `@` has none, since it would be that of a shorter name; its past is in the views
/// of times.
pub(crate) fn history_name(name: &Name) -> Option<Vec<u8>> {
    let bytes = name.as_bytes();
    if bytes.len() < NAME_BYTES_MAX {
        return Some([bytes, SUFFIX].concat());
    }
    (!bytes.ends_with(SUFFIX)).then(|| bytes.to_vec())
}

/// Reads `NAME@`.
pub(crate) fn history_of(shown: &[u8]) -> Option<Name> {
    Name::new(shown.strip_suffix(SUFFIX)?).ok()
}

/// Reads a typed time, whatever the case of its letters.
pub(crate) fn typed_time(text: &[u8]) -> Option<When> {
    let text = std::str::from_utf8(text).ok()?;
    let lower = text.to_ascii_lowercase();
    let gmt = || lower.strip_prefix("@gmt-").map(|rest| format!("@GMT-{rest}"));
    text.parse().or_else(|_| lower.parse()).ok().or_else(|| gmt()?.parse().ok())
}

/// The ways to read a typed time with or without an extension.
pub(crate) fn typed_times(text: &[u8]) -> impl Iterator<Item = (When, Option<&str>)> {
    let bare = typed_time(text).map(|when| (when, None));
    let split = std::str::from_utf8(text).ok().and_then(|text| text.rsplit_once('.'));
    let with = split.and_then(|(time, extension)| {
        let when = typed_time(time.as_bytes()).filter(|_| is_extension(extension))?;
        Some((when, Some(extension)))
    });
    [bare, with].into_iter().flatten()
}

/// Tells whether a version of this kind is in the history of a name; folders have their own `@versions`.
pub(crate) fn has_versions(kind: Kind) -> bool {
    matches!(kind, Kind::File | Kind::Symlink)
}

fn is_extension(text: &str) -> bool {
    (1..=EXTENSION_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn plain_user(user: &str) -> String {
    let own = user.rsplit('\\').next().unwrap_or_default();
    plain(own).chars().take(USER_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u32, user: Option<&str>, name: &[u8]) -> String {
        let name = Name::new(name).unwrap();
        let stamp = Stamp(1_795_185_127_500_000);
        Label { stamp, number, user, extension: extension(&name) }.write(Tz::Europe__Berlin)
    }

    #[test]
    fn versions_are_called_by_time_user_and_extension() {
        let time = "2026-11-20_15.32.07+0100";
        let cases = [
            (1, Some("anna"), &b"report.docx"[..], "_anna.docx"),
            (2, Some("anna"), b"report.docx", "-2_anna.docx"),
            (1, None, b"report", ""),
            (1, Some("CORP\\bob smith"), b"a.tar.gz", "_bob-smith.gz"),
            (1, Some("\u{202e}x/..\n"), b"a.b c", "_-x-..-"),
            (1, Some("a\\"), b".bashrc", ""),
            (1, Some("abcdefghijklmnopqrstuvwxyz"), b"a.12345678901", "_abcdefghijklmnopqrst"),
            (3, Some("anna"), b"a.\xff", "-3_anna"),
        ];
        for (number, user, name, rest) in cases {
            assert_eq!(written(number, user, name), format!("{time}{rest}"));
        }
    }

    /// A stamp is a master's: no name may hold what a system cannot show.
    #[test]
    fn wild_stamps_make_plain_names() {
        for stamp in [Stamp(i64::MIN), Stamp::MAX, Stamp(-1), Stamp(i64::MAX / 2)] {
            let text = Label { stamp, number: 1, user: None, extension: None }.write(Tz::UTC);
            assert_eq!(plain(&text), text);
        }
    }

    #[test]
    fn times_are_read_in_any_case_and_with_the_extension() {
        for text in ["latest", "LATEST", "Yesterday", "2H", "@gmt-2026.11.20-14.32.07", "V1.1.3"] {
            assert!(typed_time(text.as_bytes()).is_some(), "{text}");
        }
        let read = |text: &'static str| -> Vec<_> {
            typed_times(text.as_bytes()).map(|(_, extension)| extension).collect()
        };
        assert_eq!(read("2026-11-20_15.30.docx"), [Some("docx")]);
        assert_eq!(read("2026-11-20_15.30"), [None, Some("30")]);
        assert_eq!(read("latest.docx"), [Some("docx")]);
        assert_eq!(read("report.docx"), []);
    }

    #[test]
    fn a_folder_of_versions_reads_back() {
        let long = [b'x'; 255];
        for name in [&b"a"[..], b"a@", b"2026-11-20", &long[1..]] {
            let name = Name::new(name).unwrap();
            assert_eq!(history_of(&history_name(&name).unwrap()), Some(name));
        }
        assert_eq!(history_name(&Name::new(&long).unwrap()).unwrap(), long);
        let mut clashing = long;
        clashing[254] = b'@';
        assert_eq!(history_name(&Name::new(&clashing).unwrap()), None);
        assert_eq!(history_of(b"@"), None);
        assert_eq!(history_of(b"plain"), None);
    }
}
