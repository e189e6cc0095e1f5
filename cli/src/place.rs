//! Which file a person means: `SET:path`, or a local path.
//!
//! The command line only makes a local path absolute and free of links; which source or live tree it lies in, the
//! station knows.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Component, Path, PathBuf},
};

use anyhow::Context;

use keepshare_base::SetName;
use keepshare_control::{Failure, Outcome, questions::Location};
use keepshare_versioning::when::{POINT, WHEN_HINT, split_path_time};

/// Reads `PATH`.
pub(crate) fn parse_place(text: &OsStr) -> Outcome<Location> {
    let bytes = text.as_bytes();
    if let Some(place) = parse_set_path(bytes) {
        return Ok(place);
    }
    if bytes.is_empty() {
        return Err(Failure::usage("the path is empty").hint(PATH_HINT));
    }
    let path = resolve_local(Path::new(text))?;
    Ok(Location::Local(path.into_os_string().into_vec()))
}

/// Reads `PATH@TIME`; the time is given back as it was typed, the station's zone makes it a moment.
pub(crate) fn parse_place_time(text: &OsStr) -> Outcome<(Location, String)> {
    let (path, when) = split_time(text.as_bytes())?;
    Ok((parse_place(OsStr::from_bytes(path))?, when))
}

/// Reads `PATH@TIME` or `PATH`, which means the present state.
pub(crate) fn parse_place_maybe_time(text: &OsStr) -> Outcome<(Location, String)> {
    let (path, when) = split_maybe_time(text.as_bytes())?;
    Ok((parse_place(OsStr::from_bytes(path))?, when))
}

/// A path at a time, and how it was typed.
#[derive(Debug)]
pub(crate) struct Typed {
    /// Which path.
    pub(crate) place: Location,
    /// As of when.
    pub(crate) when: String,
    /// The path, as it was typed.
    pub(crate) path: OsString,
}

impl Typed {
    /// Returns `PATH@TIME`.
    pub(crate) fn text(&self) -> String {
        format!("{}@{}", self.path.to_string_lossy(), self.when)
    }
}

/// Reads two states: `PATH@TIME` or `PATH` each. The second may be `@TIME` of the first one's path, which is at present where there
/// is no second.
pub(crate) fn parse_two(then: &OsStr, now: Option<&OsStr>) -> Outcome<[Typed; 2]> {
    let (path, when) = match now {
        Some(_) => split_maybe_time(then.as_bytes())?,
        // There is nothing else that it can be compared with.
        None => split_time(then.as_bytes())?,
    };
    let now = match now.map(OsStr::as_bytes) {
        None => (path.to_vec(), LATEST.to_owned()),
        Some(time) if time.starts_with(b"@") => {
            let whole = [path, time].concat();
            let (same, when) = split_time(&whole)?;
            if same != path {
                let shown = String::from_utf8_lossy(time);
                let failure = Failure::usage(format!("'{shown}' is not one time"));
                return Err(failure.hint(format!("a file of this name is written './{shown}'")));
            }
            (same.to_vec(), when)
        }
        Some(now) => {
            let (path, when) = split_maybe_time(now)?;
            (path.to_vec(), when)
        }
    };
    Ok([typed(path, when)?, typed(&now.0, now.1)?])
}

fn typed(path: &[u8], when: String) -> Outcome<Typed> {
    let path = OsStr::from_bytes(path);
    Ok(Typed { place: parse_place(path)?, when, path: path.to_owned() })
}

/// The present state, as it is typed.
const LATEST: &str = "latest";

fn has_time(text: &[u8]) -> bool {
    split_path_time(text).is_some() || split_path_point(text).is_some()
}

fn split_maybe_time(text: &[u8]) -> Outcome<(&[u8], String)> {
    if has_time(text) { split_time(text) } else { Ok((text, LATEST.to_owned())) }
}

/// Splits `PATH@TIME`.
fn split_time(text: &[u8]) -> Outcome<(&[u8], String)> {
    if let Some((path, point)) = split_path_point(text) {
        return Ok((path, format!("{POINT}{point}")));
    }
    let shown = String::from_utf8_lossy(text);
    let (path, _) = split_path_time(text).ok_or_else(|| {
        let error = match shown.rsplit_once('@') {
            Some((_, time)) => format!("'{time}' is not a time or a version"),
            None => format!("'{shown}' says no time: write PATH@TIME"),
        };
        match shown.rsplit_once('@') {
            Some((path, time)) if !time.is_empty() && time.bytes().all(|b| b.is_ascii_digit()) => {
                Failure::usage(error).hint(format!(
                    "bare digits are never seconds: '{path}@unix:{time}' says seconds since 1970"
                ))
            }
            _ => Failure::usage(error).hint(WHEN_HINT),
        }
    })?;
    let typed = &text[path.len()..];
    let typed = typed.strip_prefix(b"@").unwrap_or(typed);
    Ok((path, String::from_utf8_lossy(typed).into_owned()))
}

/// Splits `PATH@point:NAME`; a point's name has no `@` and no slash.
fn split_path_point(text: &[u8]) -> Option<(&[u8], &str)> {
    let at = text.iter().rposition(|byte| *byte == b'@')?;
    let name = std::str::from_utf8(&text[at + 1..]).ok()?.strip_prefix(POINT)?;
    (!name.contains('/')).then_some((&text[..at], name))
}

/// `SET:path`; what has a slash before its colon is a local path.
fn parse_set_path(bytes: &[u8]) -> Option<Location> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let set: SetName = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    Some(Location::Set { set, path: bytes[colon + 1..].to_vec() })
}

/// Makes a path absolute and resolves every link but a last one, which is itself what is meant.
///
/// What does not exist any more is kept as it is written: its history is what is asked for.
fn resolve_local(path: &Path) -> Outcome<PathBuf> {
    let absolute = std::path::absolute(path)
        .with_context(|| format!("cannot tell where {} is", path.display()))?;
    let (mut known, last) = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(last)) => (parent.to_path_buf(), Some(last.to_owned())),
        // `/`, or a path that ends in `..`: all of it exists or it means nothing.
        _ => (absolute.clone(), None),
    };
    let mut rest: Vec<OsString> = last.into_iter().collect();
    loop {
        if let Ok(resolved) = known.canonicalize() {
            return Ok(rest.iter().rev().fold(resolved, |path, name| path.join(name)));
        }
        match known.components().next_back() {
            Some(Component::Normal(name)) => rest.push(name.to_owned()),
            _ => {
                return Err(
                    Failure::not_found(format!("there is no {}", path.display())).hint(PATH_HINT)
                );
            }
        }
        known.pop();
    }
}

const PATH_HINT: &str = "write SET:path/inside, or a local path in a source or a live tree; keepshare set list shows the sets";

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str) -> PathBuf {
        match parse_place(OsStr::new(text)).unwrap() {
            Location::Local(bytes) => PathBuf::from(OsString::from_vec(bytes)),
            Location::Set { set, .. } => panic!("{text} was taken for a path of set {set}"),
        }
    }

    #[test]
    fn set_paths_and_local_paths_are_told_apart() {
        let is_set = |text: &str| matches!(parse_place(OsStr::new(text)), Ok(Location::Set { .. }));
        assert!(is_set("projects:a/b.txt") && is_set("projects:") && is_set("projects:a:b"));
        assert!(!is_set("./projects:a") && !is_set("/x:y") && !is_set("Projects:a"));
        assert!(parse_place(OsStr::new("")).is_err());
    }

    /// A file that was deleted, or whose whole folder was, is the one whose history is wanted most.
    #[test]
    fn what_is_gone_still_has_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real, real.join("link")).unwrap();
        let base = real.display();
        assert_eq!(local(&format!("{base}/link/gone/a.txt")), real.join("gone/a.txt"));
        assert_eq!(local(&format!("{base}/link")), real.join("link"), "a link itself is meant");
        assert!(parse_place(OsStr::new(&format!("{base}/gone/../a"))).is_err());
    }

    #[test]
    fn the_time_is_given_back_as_typed() {
        for (text, time) in [
            ("a:b@2h", "2h"),
            ("a:b@unix:1795185127", "unix:1795185127"),
            ("a:b@9:00", "9:00"),
            ("a:b@GMT-2026.11.20-14.32.07", "GMT-2026.11.20-14.32.07"),
        ] {
            assert_eq!(parse_place_time(OsStr::new(text)).unwrap().1, time);
        }
        let failure = parse_place_time(OsStr::new("a:b@sometime")).unwrap_err();
        assert_eq!(failure.to_string(), "'sometime' is not a time or a version");
        assert!(parse_place_time(OsStr::new("a:b")).unwrap_err().hint.is_some());
        let digits = parse_place_time(OsStr::new("a:b@1795185127")).unwrap_err();
        assert!(digits.hint.unwrap().contains("'a:b@unix:1795185127'"));
    }

    #[test]
    fn a_path_without_a_time_may_mean_the_present() {
        let when = |text: &str| parse_place_maybe_time(OsStr::new(text)).unwrap().1;
        assert_eq!((when("a:b").as_str(), when("a:mail@home").as_str()), ("latest", "latest"));
        assert_eq!(when("a:b@2h"), "2h");
    }

    #[test]
    fn two_states_are_of_one_path_or_of_two() {
        let read = |then: &str, now: Option<&str>| {
            let two = parse_two(OsStr::new(then), now.map(OsStr::new))?;
            Ok(two.map(|typed| typed.text()).join(" "))
        };
        let text =
            |then, now| read(then, now).unwrap_or_else(|failure: Failure| panic!("{failure}"));
        assert_eq!(text("a:b@2h", None), "a:b@2h a:b@latest");
        assert_eq!(text("a:b@2h", Some("@1h")), "a:b@2h a:b@1h");
        assert_eq!(text("a:b", Some("@point:x")), "a:b@latest a:b@point:x");
        assert_eq!(text("a:b@point:x", Some("a:c@home")), "a:b@point:x a:c@home@latest");
        assert_eq!(text("a:b@", Some("@1h")), "a:b@@latest a:b@@1h");
        for (then, now) in [("a:b", None), ("a:b@2h", Some("@sometime")), ("a:b@2h", Some("@x@1h"))]
        {
            let failure = read(then, now).unwrap_err();
            assert!(failure.hint.is_some() && failure.code as u8 == 2, "{then} {now:?}: {failure}");
        }
    }
}
