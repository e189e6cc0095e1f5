//! Finds files by name in a set: those that are there, and those that were.
//!
//! The folders are gone through one after the other, the dead ones below the places where they stood last, a page at a
//! time and each through a short view: memory is a page and the folders still to be gone through.

use keepshare_base::{FileId, Kind, Name, SetName, SetPath};
use keepshare_versioning::{Ended, Reader, View};

use crate::{
    api::{FoundName, server::Reply},
    catalog::read_failure,
    commands::kind_word,
    failure::Outcome,
};

/// How many names of a folder are looked at through one view.
const PAGE: usize = 512;

/// What names are looked for.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    /// In lower case.
    parts: Vec<Part>,
    /// Leave out what is there.
    deleted_only: bool,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Char(char),
    One,
    Any,
}

impl Pattern {
    /// Reads a pattern: `*` is anything, `?` one character; without either, a part of the name is enough. Case does not
    /// matter.
    pub(crate) fn new(text: &str, deleted_only: bool) -> Self {
        let lower = text.to_lowercase();
        let whole = lower.contains(['*', '?']);
        let part = |c: char| match c {
            '*' => Part::Any,
            '?' => Part::One,
            c => Part::Char(c),
        };
        let mut parts: Vec<Part> = lower.chars().map(part).collect();
        if !whole {
            parts.insert(0, Part::Any);
            parts.push(Part::Any);
        }
        parts.dedup_by(|a, b| *a == Part::Any && *b == Part::Any);
        Self { parts, deleted_only }
    }

    /// Tells whether a name is meant. Time: the pattern's length times the name's.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.to_lowercase().chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where to go on if what follows the last `*` does not fit.
        let mut again: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    again = Some((part + 1, at));
                    part += 1;
                    continue;
                }
                Some(Part::One) => {}
                Some(Part::Char(c)) if *c == name[at] => {}
                _ => {
                    let Some((after, from)) = again else { return false };
                    (part, at) = (after, from + 1);
                    again = Some((after, at));
                    continue;
                }
            }
            part += 1;
            at += 1;
        }
        self.parts[part..].iter().all(|part| *part == Part::Any)
    }
}

/// Writes what matches in one set, and returns how many there were; stops at `limit`.
pub(crate) fn find(
    set: &SetName,
    reader: &Reader,
    pattern: &Pattern,
    limit: usize,
    reply: &mut Reply,
) -> Outcome<usize> {
    let mut found = 0;
    let mut folders = vec![(FileId::ROOT, SetPath::default(), true)];
    while let Some((folder, path, is_living)) = folders.pop() {
        if is_living {
            let mut after: Option<Name> = None;
            loop {
                let view = reader.view().map_err(read_failure)?;
                let page = view.list(folder, view.latest(), after.as_ref(), PAGE);
                let page = page.map_err(read_failure)?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for entry in page {
                    let path = path.join(entry.name.clone());
                    if !pattern.deleted_only
                        && pattern.matches(&entry.name.to_string())
                        && found < limit
                    {
                        found += 1;
                        reply.item(&living(set, &view, &path, entry.file, entry.kind)?)?;
                    }
                    if entry.kind == Kind::Dir {
                        folders.push((entry.file, path, true));
                    }
                }
            }
        }
        let mut after: Option<Name> = None;
        loop {
            let view = reader.view().map_err(read_failure)?;
            let page = view.deleted_names(folder, after.as_ref(), PAGE).map_err(read_failure)?;
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            for name in page {
                let history = view.history(folder, &name, 1).map_err(read_failure)?;
                let Some(entry) = history.into_iter().next() else { continue };
                // What has another name now is found there.
                let ended = entry.held_until.map(|(_, ended)| ended);
                if ended == Some(Ended::Renamed) {
                    continue;
                }
                let path = path.join(name.clone());
                if pattern.matches(&name.to_string()) && found < limit {
                    found += 1;
                    let deleted = entry.held_until.map(|(until, _)| until.to_string());
                    reply.item(&FoundName {
                        set: set.to_string(),
                        path: path.to_string(),
                        kind: kind_word(entry.state.meta.kind).to_owned(),
                        size: entry.state.meta.size,
                        mtime: entry.state.meta.mtime.to_stamp().to_string(),
                        deleted,
                    })?;
                }
                if entry.state.meta.kind == Kind::Dir && entry.state.file != folder {
                    folders.push((entry.state.file, path, false));
                }
            }
        }
        if found >= limit {
            break;
        }
    }
    Ok(found)
}

fn living(
    set: &SetName,
    view: &View,
    path: &SetPath,
    file: FileId,
    kind: Kind,
) -> Outcome<FoundName> {
    let state = view.file(file, view.latest()).map_err(read_failure)?;
    let (size, mtime) = state.map_or((0, String::new()), |state| {
        (state.meta.size, state.meta.mtime.to_stamp().to_string())
    });
    Ok(FoundName {
        set: set.to_string(),
        path: path.to_string(),
        kind: kind_word(kind).to_owned(),
        size,
        mtime,
        deleted: None,
    })
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
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*b*c", "axxbxxbyc", true),
            ("a*b*c", "axxcxxb", false),
            ("**x", "yx", true),
            ("", "anything", true),
            ("ÄRGER*", "ärger.txt", true),
        ] {
            assert_eq!(Pattern::new(pattern, false).matches(name), fits, "{pattern} {name}");
        }
    }

    /// A pattern from the command line must not hold the station up.
    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Pattern::new(&"a*".repeat(200), false);
        assert!(!pattern.matches(&format!("{}b", "a".repeat(150))));
    }
}
