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
    if let Some((path, point)) = split_path_point(text.as_bytes()) {
        return Ok((parse_place(OsStr::from_bytes(path))?, format!("{POINT}{point}")));
    }
    let shown = text.to_string_lossy();
    let (path, _) = split_path_time(text.as_bytes()).ok_or_else(|| {
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
    let typed = &text.as_bytes()[path.len()..];
    let typed = typed.strip_prefix(b"@").unwrap_or(typed);
    Ok((parse_place(OsStr::from_bytes(path))?, String::from_utf8_lossy(typed).into_owned()))
}

/// Reads `PATH@TIME` or `PATH`, which means the present state.
pub(crate) fn parse_place_maybe_time(text: &OsStr) -> Outcome<(Location, String)> {
    let bytes = text.as_bytes();
    match split_path_time(bytes).is_some() || split_path_point(bytes).is_some() {
        true => parse_place_time(text),
        false => Ok((parse_place(text)?, "latest".to_owned())),
    }
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
}
