//! How differences of two folders look: a line each for people, an object each for programs.
//!
//! They are written as they come. What is held are those in a row among which renames are looked for: at most [`HELD_MAX`] of them,
//! and [`HELD_BYTES_MAX`] of their names and attributes, which is some 150 MiB at the most.

use serde::Serialize;

use keepshare_base::{Kind, Name};
use keepshare_control::{
    Outcome,
    answers::{ShownEntry, Uncut, kind_word},
};

use super::{
    renames::paired,
    tree::{self, Attribute, Change, Content, KnownBy, What},
};
use crate::{
    commands::uncut,
    output::{Screen, bytes_text, safe},
};

/// Among how many differences in a row renames are looked for.
const HELD_MAX: usize = 100_000;

/// How many bytes of names and attributes they may have.
const HELD_BYTES_MAX: usize = 32 << 20;

/// How much text is written at once, about.
const WRITTEN_BYTES: usize = 64 << 10;

/// How many are named at most that are no versions yet.
const UNCUT_MAX: usize = 1000;

/// Takes differences in the order of their paths, and writes them.
pub(super) struct Rows<'s> {
    screen: &'s Screen,
    one_set: bool,
    held: Vec<Change>,
    held_bytes: usize,
    text: Vec<u8>,
    counts: Counts,
    uncut: Vec<(String, Option<Uncut>)>,
    uncut_count: usize,
}

/// How many differences there are of each kind.
#[derive(Debug, Default)]
struct Counts {
    /// In the order of [`WORDS`].
    of: [u64; WORDS.len()],
}

/// What differences are called, in the order in which they are counted.
const WORDS: [&str; 7] =
    ["added", "removed", "changed", "renamed", "attributes", "kind", "not-compared"];

impl<'s> Rows<'s> {
    pub(super) fn new(screen: &'s Screen, one_set: bool) -> Self {
        Self {
            screen,
            one_set,
            held: Vec::new(),
            held_bytes: 0,
            text: Vec::new(),
            counts: Counts::default(),
            uncut: Vec::new(),
            uncut_count: 0,
        }
    }

    /// Tells whether the next difference has those written that are held.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= HELD_MAX || self.held_bytes >= HELD_BYTES_MAX
    }

    /// Takes the next difference.
    pub(super) fn take(&mut self, change: Change) -> Outcome<()> {
        if self.is_full() {
            self.write_held()?;
        }
        self.held_bytes += change.bytes();
        self.held.push(change);
        Ok(())
    }

    /// Writes the rest, and tells whether there were differences.
    pub(super) fn finish(mut self) -> Outcome<bool> {
        self.write_held()?;
        if self.screen.is_json() {
            let begin = if self.counts.all() == 0 { "[" } else { "" };
            self.text.extend(format!("{begin}]\n").bytes());
        } else {
            self.text.extend(self.counts.text().bytes());
        }
        self.screen.bytes(&self.text)?;
        match self.uncut_count {
            0..=UNCUT_MAX => uncut::tell(&self.uncut, self.screen),
            count => self.screen.notes(
                &format!("{count} files that differ are no versions yet (they are being received, or their master is away)"),
                &[],
            ),
        }
        Ok(self.counts.differences() > 0)
    }

    fn write_held(&mut self) -> Outcome<()> {
        self.held_bytes = 0;
        for change in paired(std::mem::take(&mut self.held), self.one_set) {
            self.note_uncut(&change);
            if self.screen.is_json() {
                self.text.push(if self.counts.all() == 0 { b'[' } else { b',' });
                serde_json::to_writer(&mut self.text, &Row::of(&change))
                    .map_err(anyhow::Error::new)?;
            } else {
                self.text.extend(line(&change).bytes());
            }
            self.counts.of[place(change.what)] += 1;
            if self.text.len() >= WRITTEN_BYTES {
                self.screen.bytes(&self.text)?;
                self.text.clear();
            }
        }
        Ok(())
    }

    fn note_uncut(&mut self, change: &Change) {
        for entry in change.then.iter().chain(&change.now) {
            if entry.uncut.is_some() {
                self.uncut_count += 1;
                if self.uncut.len() < UNCUT_MAX {
                    self.uncut.push((uncut::shown(entry), entry.uncut.clone()));
                }
            }
        }
    }
}

impl Counts {
    fn all(&self) -> u64 {
        self.of.iter().sum()
    }

    fn differences(&self) -> u64 {
        self.all() - self.of[place(What::NotCompared)]
    }

    fn text(&self) -> String {
        const TOLD: [&str; WORDS.len()] = [
            "added",
            "removed",
            "changed",
            "renamed",
            "with other attributes",
            "of another kind",
            "not compared",
        ];
        let counted = self.of.iter().zip(TOLD).filter(|(count, _)| **count > 0);
        let told: Vec<String> = counted.map(|(count, told)| format!("{count} {told}")).collect();
        match (told.is_empty(), self.differences()) {
            (true, _) => "No differences.\n".to_owned(),
            (false, 0) => format!("No differences; {}.\n", told.join(", ")),
            (false, _) => format!("{}.\n", told.join(", ")),
        }
    }
}

/// Returns where in [`WORDS`] the word of a difference is.
fn place(what: What) -> usize {
    match what {
        What::Added => 0,
        What::Removed => 1,
        What::Changed => 2,
        What::Renamed(..) => 3,
        What::Attributes => 4,
        What::Kind => 5,
        What::NotCompared => 6,
    }
}

/// A difference for programs: what ends in `_from` is of the first side, and null where it was not there.
#[derive(Debug, Serialize)]
struct Row {
    path: String,
    change: &'static str,
    from: Option<String>,
    to: Option<String>,
    kind_from: Option<&'static str>,
    kind_to: Option<&'static str>,
    size_from: Option<u64>,
    size_to: Option<u64>,
    version_from: Option<String>,
    version_to: Option<String>,
    /// Those that are different.
    attributes: Vec<Attribute>,
    /// Of what was renamed: `file` or `content`.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_by: Option<&'static str>,
    /// Of what was renamed: whether its content is another one, too.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<bool>,
    /// One of them is no version yet.
    uncut: bool,
}

impl Row {
    fn of(change: &Change) -> Self {
        let Change { what, then, now } = change;
        let (then, now) = (then.as_ref(), now.as_ref());
        let path = |entry: Option<&ShownEntry>| Some(path_text(&entry?.path));
        let kind = |entry: Option<&ShownEntry>| Some(kind_word(entry?.meta.kind));
        let version = |entry: Option<&ShownEntry>| entry?.version.clone();
        let renamed = match what {
            What::Renamed(KnownBy::File, content) => Some(("file", *content)),
            What::Renamed(KnownBy::Content, content) => Some(("content", *content)),
            _ => None,
        };
        Self {
            path: path_text(change.path()),
            change: WORDS[place(*what)],
            from: path(then),
            to: path(now),
            kind_from: kind(then),
            kind_to: kind(now),
            size_from: then.and_then(size),
            size_to: now.and_then(size),
            version_from: version(then),
            version_to: version(now),
            attributes: attributes(change),
            known_by: renamed.map(|(known_by, _)| known_by),
            changed: renamed.map(|(_, content)| content == Content::Different),
            uncut: then.into_iter().chain(now).any(|entry| entry.uncut.is_some()),
        }
    }
}

fn path_text(path: &[Name]) -> String {
    // The folder itself has no name.
    if path.is_empty() {
        return ".".to_owned();
    }
    let names: Vec<String> = path.iter().map(ToString::to_string).collect();
    names.join("/")
}

/// Returns the size of a file, where it is known.
fn size(entry: &ShownEntry) -> Option<u64> {
    (entry.meta.kind == Kind::File && entry.damaged.is_none()).then_some(entry.meta.size)
}

/// Returns the attributes that are different in what is on both sides.
fn attributes(change: &Change) -> Vec<Attribute> {
    match (change.what, &change.then, &change.now) {
        // Something else has attributes of its own.
        (What::Kind | What::NotCompared, ..) => Vec::new(),
        (_, Some(then), Some(now)) => tree::attributes(&then.meta, &now.meta),
        _ => Vec::new(),
    }
}

/// Returns the line of a difference.
fn line(change: &Change) -> String {
    let path = |entry: Option<&ShownEntry>| {
        let path = safe(&entry.map(|entry| path_text(&entry.path)).unwrap_or_default());
        let is_folder = entry.is_some_and(|entry| entry.meta.kind == Kind::Dir);
        if is_folder && path != "." { path + "/" } else { path }
    };
    let (then, now) = (change.then.as_ref(), change.now.as_ref());
    let path = match change.what {
        What::Removed => path(then),
        What::Renamed(..) => format!("{} → {}", path(then), path(now)),
        _ => path(now),
    };
    let mut told = match (change.what, then, now) {
        (What::Added | What::Removed, then, now) => {
            then.or(now).and_then(size).map(bytes_text).into_iter().collect()
        }
        (What::Changed, Some(then), Some(now)) => vec![content_text(then, now)],
        (What::Renamed(known_by, content), Some(then), Some(now)) => {
            let changed = (content == Content::Different)
                .then(|| format!("changed {}", content_text(then, now)));
            let same = (known_by == KnownBy::Content)
                .then(|| "moved or copied, by its content".to_owned());
            changed.into_iter().chain(same).collect()
        }
        (What::Kind, Some(then), Some(now)) => {
            vec![format!("{} → {}", kind_word(then.meta.kind), kind_word(now.meta.kind))]
        }
        (What::NotCompared, ..) => vec!["may not be listed".to_owned()],
        _ => Vec::new(),
    };
    told.extend(attributes(change).iter().map(attribute_text));
    let line = format!("{:<13}{path}  {}", WORDS[place(change.what)], told.join(", "));
    format!("{}\n", line.trim_end())
}

/// Says what became of the content.
fn content_text(then: &ShownEntry, now: &ShownEntry) -> String {
    if then.meta.kind == Kind::Symlink {
        let target = |entry: &ShownEntry| safe(&String::from_utf8_lossy(&entry.meta.symlink));
        return format!("{} → {}", target(then), target(now));
    }
    let text = |entry| size(entry).map_or_else(|| "no version yet".to_owned(), bytes_text);
    format!("{} → {}", text(then), text(now))
}

/// Says what an attribute was and is.
pub(super) fn attribute_text(attribute: &Attribute) -> String {
    let Attribute { what, from, to } = attribute;
    match (from, to) {
        (Some(from), Some(to)) => format!("{what} {} → {}", safe(from), safe(to)),
        _ => "extended attributes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::sample::entry, *};

    fn change(what: What, then: Option<ShownEntry>, now: Option<ShownEntry>) -> Change {
        Change { what, then, now }
    }

    #[test]
    fn each_difference_is_a_line() {
        let mut other = entry("b", "2-2", "xyz");
        other.meta.mode = 0o600;
        let file = |path, content| Some(entry(path, "1-2", content));
        let by = |known_by, content| What::Renamed(known_by, content);
        for (change, line_wanted) in [
            (change(What::Added, None, file("d/", "")), "added        d/"),
            (change(What::Removed, file("d/a", "xy"), None), "removed      d/a  2 B"),
            (
                change(What::Changed, file("b", "x"), Some(other.clone())),
                "changed      b  1 B → 3 B, mode 0644 → 0600",
            ),
            (
                change(What::Attributes, file("b", "xyz"), Some(other)),
                "attributes   b  mode 0644 → 0600",
            ),
            (change(What::Attributes, file("", ""), file("", "")), "attributes   ."),
            (
                change(by(KnownBy::File, Content::Different), file("a", "x"), file("b", "xy")),
                "renamed      a → b  changed 1 B → 2 B",
            ),
            (
                change(by(KnownBy::Content, Content::Same), file("a", "x"), file("b", "x")),
                "renamed      a → b  moved or copied, by its content",
            ),
            (change(What::Kind, file("a", "x"), file("a/", "")), "kind         a/  file → folder"),
            (
                change(What::NotCompared, file("a/", ""), file("a/", "")),
                "not-compared a/  may not be listed",
            ),
            (change(What::Added, None, file("a\n\u{202e}", "")), "added        a\\n\\u{202e}  0 B"),
        ] {
            assert_eq!(line(&change), format!("{line_wanted}\n"));
        }
    }

    /// Scripts are written against these keys.
    #[test]
    fn a_row_has_what_was_promised() {
        let what = What::Renamed(KnownBy::File, Content::Same);
        let row =
            Row::of(&change(what, Some(entry("a", "1-7", "x")), Some(entry("b", "2-7", "x"))));
        let want = serde_json::json!({
            "path": "b", "change": "renamed", "from": "a", "to": "b", "kind_from": "file", "kind_to": "file",
            "size_from": 1, "size_to": 1, "version_from": "v1.1.1-7", "version_to": "v1.1.2-7",
            "attributes": [], "known_by": "file", "changed": false, "uncut": false,
        });
        assert_eq!(serde_json::to_value(row).unwrap(), want);
        let row = Row::of(&change(What::Added, None, Some(entry("d/", "", ""))));
        let row = serde_json::to_value(row).unwrap();
        assert!(row["from"].is_null() && row["size_to"].is_null() && row["kind_to"] == "folder");
        assert!(row.get("known_by").is_none(), "{row}");
    }

    #[test]
    fn what_was_counted_is_told() {
        let counts = |of| Counts { of }.text();
        assert_eq!(counts([0; 7]), "No differences.\n");
        assert_eq!(counts([2, 0, 1, 0, 1, 0, 0]), "2 added, 1 changed, 1 with other attributes.\n");
        assert_eq!(counts([0, 0, 0, 0, 0, 0, 1]), "No differences; 1 not compared.\n");
    }
}
