//! Patterns of names, as shells have them.

use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder};

use keepshare_base::Name;
use keepshare_versioning::Ended;

/// The longest pattern, in characters.
const PATTERN_CHARS_MAX: usize = 4096;

/// What names are looked for.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// Takes time by the length of a name alone, whatever the pattern.
    regex: Regex,
    /// The longest text that every name has which it fits, in small letters; `None` where they need not have any.
    part: Option<Finder<'static>>,
    /// Leave out what is there.
    deleted_only: bool,
}

/// A pattern that cannot be looked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the pattern is too long")]
pub struct PatternError;

impl Pattern {
    /// Reads a pattern: `*` is anything, `?` one character; without either, a part of the name is enough. Case does not
    /// matter.
    pub fn new(text: &str, deleted_only: bool) -> Result<Self, PatternError> {
        if text.chars().count() > PATTERN_CHARS_MAX {
            return Err(PatternError);
        }
        let mut pattern = String::new();
        for c in text.chars() {
            match c {
                '*' => pattern.push_str(".*"),
                '?' => pattern.push('.'),
                c => pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4]))),
            }
        }
        if text.contains(['*', '?']) {
            pattern = format!("^(?:{pattern})$");
        }
        let mut builder = RegexBuilder::new(&pattern);
        let regex = builder.case_insensitive(true).dot_matches_new_line(true).build();
        let part = longest_part(text).map(|part| Finder::new(&part).into_owned());
        Ok(Self { regex: regex.map_err(|_| PatternError)?, part, deleted_only })
    }

    /// Tells whether what ended so is meant; `None` where it is there.
    pub(super) fn wants(&self, ended: Option<Ended>) -> bool {
        !self.deleted_only || ended == Some(Ended::Deleted)
    }

    /// Tells whether a name fits, as it is shown.
    pub(super) fn fits(&self, name: &Name) -> bool {
        self.fits_text(&name.to_string())
    }

    /// Tells whether some of these names may fit, with anything between them: of those that [`View::names_like`] shows. `room` is used
    /// again and again.
    ///
    /// [`View::names_like`]: keepshare_versioning::View::names_like
    pub(super) fn may_be_in(&self, names: &[u8], room: &mut Vec<u8>) -> bool {
        let Some(part) = &self.part else { return true };
        room.clear();
        room.extend_from_slice(names);
        room.make_ascii_lowercase();
        part.find(room).is_some()
    }

    fn fits_text(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

/// Returns the longest text without a star or a question mark in a pattern, of letters of which only ASCII's have two cases.
fn longest_part(pattern: &str) -> Option<String> {
    let has_one_case = |c: char| c.to_lowercase().eq([c]) && c.to_uppercase().eq([c]);
    let is_end = |c: char| matches!(c, '*' | '?') || !(c.is_ascii() || has_one_case(c));
    let longest = pattern.split(is_end).max_by_key(|part| part.len())?;
    (!longest.is_empty()).then(|| longest.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_shells_do_and_parts_where_there_are_none() {
        for (pattern, name, fits) in [
            ("report", "Old Report.docx", true),
            ("report", "repört.docx", false),
            ("*.docx", "a.docx", true),
            ("*.docx", "a.docx.bak", false),
            ("a?c", "abc", true),
            ("a?c", "aäc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*b*c", "axxbxxbyc", true),
            ("a*b*c", "axxcxxb", false),
            ("**x", "yx", true),
            ("a.**", "a.b", true),
            ("a.**", "ab", false),
            ("", "anything", true),
            ("ÄRGER*", "ärger.txt", true),
            ("[a]", "x[a].txt", true),
            ("日本", "in 日本.txt", true),
            ("Straße 5", "straße 5", true),
            ("ǆ", "ǅ", true),
            ("[a]*", "a.txt", false),
            ("{a,b}", "a", false),
            (r"a\b", r"A\B", true),
        ] {
            let parsed = Pattern::new(pattern, false).unwrap();
            assert_eq!(parsed.fits_text(name), fits, "{pattern} {name}");
            let among = [b"other\0", name.as_bytes(), b"\0\xff\x01more\0"].concat();
            assert!(!fits || parsed.may_be_in(&among, &mut Vec::new()), "{pattern} {name}");
        }
    }

    /// A pattern from the command line must not hold the station up.
    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern::new(&"a*".repeat(200), false).unwrap();
        assert!(!pattern.fits_text(&format!("{}b", "a".repeat(150))));
        let pattern = Pattern::new(&format!("{}c", "a*".repeat(200)), false).unwrap();
        assert!(!pattern.fits_text(&format!("{}b", "a".repeat(150))));
    }

    #[test]
    fn a_pattern_without_end_is_refused() {
        for part in ["?", "ä", "*"] {
            assert!(Pattern::new(&part.repeat(PATTERN_CHARS_MAX), false).is_ok(), "{part}");
            let longer = Pattern::new(&part.repeat(PATTERN_CHARS_MAX + 1), false);
            assert_eq!(longer.err(), Some(PatternError));
        }
    }
}
