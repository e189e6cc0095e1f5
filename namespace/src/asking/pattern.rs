//! Patterns of names, as shells have them.

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
        Ok(Self { regex: regex.map_err(|_| PatternError)?, deleted_only })
    }

    /// Tells whether a name is meant that ended so; `None` where it is there.
    pub(super) fn matches(&self, name: &Name, ended: Option<Ended>) -> bool {
        (!self.deleted_only || ended == Some(Ended::Deleted)) && self.fits(&name.to_string())
    }

    fn fits(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
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
            ("[a]*", "a.txt", false),
            ("{a,b}", "a", false),
            (r"a\b", r"A\B", true),
        ] {
            assert_eq!(Pattern::new(pattern, false).unwrap().fits(name), fits, "{pattern} {name}");
        }
    }

    /// A pattern from the command line must not hold the station up.
    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern::new(&"a*".repeat(200), false).unwrap();
        assert!(!pattern.fits(&format!("{}b", "a".repeat(150))));
        let pattern = Pattern::new(&format!("{}c", "a*".repeat(200)), false).unwrap();
        assert!(!pattern.fits(&format!("{}b", "a".repeat(150))));
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
