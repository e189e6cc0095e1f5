//! What is typed below `@versions`, and what the folders of names are called there.

use keepshare_base::{Kind, NAME_BYTES_MAX, Name};
use keepshare_versioning::{names::is_extension, when::When};

/// What follows a name where its versions are meant.
const SUFFIX: &[u8] = b"@";

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

#[cfg(test)]
mod tests {
    use super::*;

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
