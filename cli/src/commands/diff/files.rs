//! What is different in two files: line by line where both are text, else what is known of them.

use std::io::{self, IsTerminal};

use serde::Serialize;

use keepshare_base::Kind;
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{ShownEntry, Uncut, kind_word},
    client::Piece,
    questions::Show,
};

use super::{
    State,
    rows::attribute_text,
    text::{self, LINES_MAX, TEXT_BYTES_MAX, TextDiff},
    tree::{self, Attribute, Content},
};
use crate::{
    commands::{history::station_zone, uncut},
    output::{Screen, Times, bytes_text, safe},
};

/// What is to be said of two that are no folders, for programs.
#[derive(Debug, Serialize)]
struct Comparison {
    from: String,
    to: String,
    /// Whether the content is the same.
    equal: bool,
    kind_from: &'static str,
    kind_to: &'static str,
    /// Line by line, where both are text and differ.
    diff: Option<String>,
    /// Why there is no `diff` though the content differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    no_diff: Option<String>,
    size_from: u64,
    size_to: u64,
    mtime_from: String,
    mtime_to: String,
    hash_from: Option<String>,
    hash_to: Option<String>,
    version_from: Option<String>,
    version_to: Option<String>,
    attributes: Vec<Attribute>,
    uncut: bool,
}

/// Two that are no folders, or not both.
pub(super) struct Pair<'s> {
    /// As they were typed.
    pub(super) states: [&'s State; 2],
    /// What is there.
    pub(super) entries: [ShownEntry; 2],
    /// They are of one set.
    pub(super) one_set: bool,
}

/// What came of looking at the content.
enum Looked {
    Equal,
    Text(TextDiff),
    /// It is different, and not shown, because of this.
    Unshown(String),
}

impl Pair<'_> {
    /// Compares them, and tells whether they differ.
    pub(super) fn compare(mut self, screen: &Screen) -> Outcome<bool> {
        let looked = self.look()?;
        let [then, now] = &self.entries;
        let attributes = match then.meta.kind == now.meta.kind {
            true => tree::attributes(&then.meta, &now.meta),
            false => Vec::new(),
        };
        let differ = !matches!(looked, Looked::Equal) || !attributes.is_empty();
        if screen.is_json() {
            screen.json(&self.comparison(looked, attributes))?;
            return Ok(differ);
        }
        if !attributes.is_empty() {
            let told: Vec<String> = attributes.iter().map(attribute_text).collect();
            screen.line(&format!("attributes: {}", told.join(", ")))?;
        }
        match &looked {
            Looked::Text(diff) if io::stdout().is_terminal() => {
                screen.bytes(text::for_terminal(&diff.bytes).as_bytes())?;
            }
            Looked::Text(diff) => screen.bytes(&diff.bytes)?,
            Looked::Unshown(why) => screen.line(&self.summary(why))?,
            // What reads a diff gets none.
            Looked::Equal => screen.notes("the content is the same", &[]),
        }
        if matches!(&looked, Looked::Text(TextDiff { is_rough: true, .. })) {
            screen.notes("they are so different that more is shown as changed than needs be", &[]);
        }
        let told: Vec<(String, Option<Uncut>)> = self
            .entries
            .iter()
            .zip(self.states)
            .map(|(entry, state)| (state.shown(), entry.uncut.clone()))
            .collect();
        uncut::tell(&told, screen);
        Ok(differ)
    }

    fn look(&mut self) -> Outcome<Looked> {
        let [then, now] = &self.entries;
        let kinds = (then.meta.kind, now.meta.kind);
        if kinds.0 != kinds.1 {
            return Ok(Looked::Unshown("they are of two kinds".to_owned()));
        }
        if tree::content(then, now, self.one_set) == Content::Same {
            return Ok(Looked::Equal);
        }
        if kinds.0 != Kind::File {
            return Ok(Looked::Unshown("they differ".to_owned()));
        }
        let too_large = || {
            let most = bytes_text(TEXT_BYTES_MAX);
            Looked::Unshown(format!("the content differs, and is not shown: more than {most}"))
        };
        if self.entries.iter().any(|entry| entry.meta.size > TEXT_BYTES_MAX) {
            return Ok(too_large());
        }
        let mut contents = [Vec::new(), Vec::new()];
        for ((entry, state), content) in self.entries.iter_mut().zip(self.states).zip(&mut contents)
        {
            match read(state)? {
                (read, Some(bytes)) => (*entry, *content) = (read, bytes),
                (_, None) => return Ok(too_large()),
            }
        }
        let [then, now] = &contents;
        if then == now {
            return Ok(Looked::Equal);
        }
        if !text::is_text(then) || !text::is_text(now) {
            return Ok(Looked::Unshown("the content differs, and is no text".to_owned()));
        }
        let names = self.states.map(State::shown);
        let found = text::compare((then, now), (&names[0], &names[1]), self.states[0].context);
        Ok(found.map_or_else(
            || {
                let why =
                    format!("the content differs, and is not shown: more than {LINES_MAX} lines");
                Looked::Unshown(why)
            },
            Looked::Text,
        ))
    }

    /// Says in a line what each of them is.
    fn summary(&self, why: &str) -> String {
        let mtime = |entry: &ShownEntry| entry.meta.mtime.to_stamp().to_string();
        let [then, now] = self.entries.each_ref().map(mtime);
        let times = Times::new(station_zone(&self.states[0].station), [then.as_str(), &now]);
        let one = |state: &State, entry: &ShownEntry, mtime: &str| {
            let (name, kind) = (safe(&state.shown()), kind_word(entry.meta.kind));
            let what = match entry.meta.kind {
                Kind::File => format!("{kind}, {}", bytes_text(entry.meta.size)),
                Kind::Symlink => {
                    format!("{kind} to {}", safe(&String::from_utf8_lossy(&entry.meta.symlink)))
                }
                _ => kind.to_owned(),
            };
            format!("{name}: {what}, {}", times.text(mtime))
        };
        let ([a, b], [then_entry, now_entry]) = (self.states, &self.entries);
        format!("{}; {}; {why}", one(a, then_entry, &then), one(b, now_entry, &now))
    }

    fn comparison(&self, looked: Looked, attributes: Vec<Attribute>) -> Comparison {
        let ([a, b], [then, now]) = (self.states, &self.entries);
        let mtime = |entry: &ShownEntry| entry.meta.mtime.to_stamp().to_string();
        let hash = |entry: &ShownEntry| entry.hash.map(|hash| hash.to_string());
        let equal = matches!(looked, Looked::Equal);
        let (diff, no_diff) = match looked {
            Looked::Equal => (None, None),
            Looked::Text(diff) => (Some(String::from_utf8_lossy(&diff.bytes).into_owned()), None),
            Looked::Unshown(why) => (None, Some(why)),
        };
        Comparison {
            from: a.shown(),
            to: b.shown(),
            equal,
            kind_from: kind_word(then.meta.kind),
            kind_to: kind_word(now.meta.kind),
            diff,
            no_diff,
            size_from: then.meta.size,
            size_to: now.meta.size,
            mtime_from: mtime(then),
            mtime_to: mtime(now),
            hash_from: hash(then),
            hash_to: hash(now),
            version_from: then.version.clone(),
            version_to: now.version.clone(),
            attributes,
            uncut: then.uncut.is_some() || now.uncut.is_some(),
        }
    }
}

/// Reads a file with its content; none where it is too large to be compared line by line, which bounds what is held.
fn read(state: &State) -> Outcome<(ShownEntry, Option<Vec<u8>>)> {
    let question = Show { place: state.typed.place.clone(), when: state.typed.when.clone() };
    let mut answer = state.station.ask(&question)?;
    let changed = || {
        Failure::new(Code::Failed, format!("{} changed while it was looked at", state.shown()))
            .hint("try again")
    };
    let (mut entry, mut content) = (None::<ShownEntry>, Vec::new());
    while let Some(piece) = answer.next_piece()? {
        match piece {
            Piece::Item(shown) => {
                if shown.meta.kind != Kind::File || entry.is_some() {
                    return Err(changed());
                }
                entry = Some(shown);
            }
            Piece::Data(bytes) => content.extend(bytes),
            Piece::Progress(_) => {}
        }
        if content.len() as u64 > TEXT_BYTES_MAX {
            return Ok((entry.ok_or_else(changed)?, None));
        }
    }
    let entry = entry.ok_or_else(changed)?;
    if content.len() as u64 != entry.meta.size {
        let (read, size) = (content.len(), entry.meta.size);
        let failure = Failure::new(
            Code::Failed,
            format!("{read} of {size} bytes of {} could be read", state.shown()),
        );
        return Err(failure.hint("keepshare fsck checks the set"));
    }
    Ok((entry, Some(content)))
}
