//! Finds files by name in a set: those that are there, and those that were.
//!
//! The folders are gone through one after the other, the dead ones below the places where they stood last, a page at a
//! time and each through a short view: memory is a page and the folders still to be gone through.

use keepshare_base::{FileId, Kind, Name, SetName, SetPath, Stamp};
use keepshare_control::{
    Outcome, Reply,
    answers::{FoundName, kind_word},
};
use keepshare_versioning::{Ended, FileState, Reader};

use crate::catalog::read_failure;

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
    let mut search = Search { set, reader, pattern, limit, reply, found: 0, folders: vec![] };
    search.folders.push(Folder { file: FileId::ROOT, path: SetPath::default(), gone: None });
    while search.found < limit
        && let Some(folder) = search.folders.pop()
    {
        search.present(&folder)?;
        search.past(&folder)?;
    }
    Ok(search.found)
}

struct Search<'a> {
    set: &'a SetName,
    reader: &'a Reader,
    pattern: &'a Pattern,
    limit: usize,
    reply: &'a mut Reply,
    found: usize,
    folders: Vec<Folder>,
}

/// A folder that is still to be gone through.
struct Folder {
    file: FileId,
    path: SetPath,
    /// When it went, and how, where it is not there any more.
    gone: Option<(Stamp, Ended)>,
}

impl Search<'_> {
    /// Goes through the names that a folder holds, or held when it went.
    fn present(&mut self, folder: &Folder) -> Outcome<()> {
        let mut after: Option<Name> = None;
        loop {
            let view = self.reader.view().map_err(read_failure)?;
            let page = view.list(folder.file, view.latest(), after.as_ref(), PAGE);
            let page = page.map_err(read_failure)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.name.clone());
            for entry in page {
                let path = folder.path.join(entry.name.clone());
                if self.is_meant(&entry.name, folder.gone) {
                    let state = view.file(entry.file, view.latest()).map_err(read_failure)?;
                    self.tell(&path, entry.kind, state.as_ref(), folder.gone)?;
                }
                if entry.kind == Kind::Dir {
                    self.folders.push(Folder { file: entry.file, path, gone: folder.gone });
                }
            }
        }
    }

    /// Goes through the names that a folder held once and does not any more.
    fn past(&mut self, folder: &Folder) -> Outcome<()> {
        let mut after: Option<Name> = None;
        loop {
            let view = self.reader.view().map_err(read_failure)?;
            let page = view.deleted_names(folder.file, after.as_ref(), PAGE);
            let page = page.map_err(read_failure)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for name in page {
                let history = view.history(folder.file, &name, 1).map_err(read_failure)?;
                let Some(entry) = history.into_iter().next() else { continue };
                let path = folder.path.join(name.clone());
                if self.is_meant(&name, entry.held_until) {
                    let kind = entry.state.meta.kind;
                    self.tell(&path, kind, Some(&entry.state), entry.held_until)?;
                }
                // What is in a folder that has another name now is found there.
                let is_gone = entry.held_until.is_some_and(|(_, ended)| ended != Ended::Renamed);
                if entry.state.meta.kind == Kind::Dir && is_gone {
                    let (file, gone) = (entry.state.file, entry.held_until);
                    self.folders.push(Folder { file, path, gone });
                }
            }
        }
    }

    fn is_meant(&self, name: &Name, gone: Option<(Stamp, Ended)>) -> bool {
        let is_deleted = gone.is_some_and(|(_, ended)| ended == Ended::Deleted);
        self.found < self.limit
            && (is_deleted || !self.pattern.deleted_only)
            && self.pattern.matches(&name.to_string())
    }

    fn tell(
        &mut self,
        path: &SetPath,
        kind: Kind,
        state: Option<&FileState>,
        gone: Option<(Stamp, Ended)>,
    ) -> Outcome<()> {
        self.found += 1;
        let meta = state.map(|state| &state.meta);
        self.reply.item(&FoundName {
            set: self.set.to_string(),
            path: path.to_string(),
            kind: kind_word(kind).to_owned(),
            size: meta.map_or(0, |meta| meta.size),
            mtime: meta.map_or_else(String::new, |meta| meta.mtime.to_stamp().to_string()),
            until: gone.map(|(until, _)| until.to_string()),
            ended: gone.map(|(_, ended)| ended.word().to_owned()),
        })
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
