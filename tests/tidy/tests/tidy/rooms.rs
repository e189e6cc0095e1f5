//! Rooms use each other in one direction.

use std::{collections::BTreeSet, fs, path::Path};

use crate::{files_with, manifests, modules::Modules, read_manifest, root, table};

/// Rings that are still there. The list may only shrink: what it names that is no ring any more is taken out of it.
const RINGS: &[(&str, &str, &[&str])] = &[];

#[test]
fn no_rooms_use_each_other_in_a_ring() {
    let mut found = BTreeSet::new();
    for (name, modules) in products() {
        for (folder, rooms) in modules.rings() {
            found.insert((name.clone(), folder.join("::"), rooms));
        }
    }
    let listed: BTreeSet<_> = RINGS
        .iter()
        .map(|(name, folder, rooms)| {
            let rooms = rooms.iter().map(|room| (*room).to_owned()).collect::<BTreeSet<_>>();
            ((*name).to_owned(), (*folder).to_owned(), rooms)
        })
        .collect();
    let told = |rings: Vec<&(String, String, BTreeSet<String>)>| {
        let line = |(name, folder, rooms): &(String, String, BTreeSet<String>)| {
            format!("    ({name:?}, {folder:?}, &{rooms:?}),").replace('{', "[").replace('}', "]")
        };
        rings.into_iter().map(line).collect::<Vec<_>>().join("\n")
    };
    let new: Vec<_> = found.difference(&listed).collect();
    assert!(new.is_empty(), "rooms use each other in a ring:\n{}", told(new));
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "take out of the list what is no ring any more:\n{}", told(gone));
}

/// The most lines of a file, its tests not counted: as much as can be read at once.
const LINES_MAX: usize = 500;

/// Files that are longer still, and how long they may be. The list may only shrink, and so may the files.
const LONG: &[(&str, usize)] = &[];

#[test]
fn no_file_is_too_long_to_be_read_at_once() {
    let found: Vec<_> = lengths().into_iter().filter(|(_, lines)| *lines > LINES_MAX).collect();
    let told: String =
        found.iter().map(|(path, lines)| format!("    ({path:?}, {lines}),\n")).collect();
    for (path, lines) in &found {
        let allowed = LONG.iter().find(|(long, _)| long == path).map_or(LINES_MAX, |(_, max)| *max);
        assert!(
            *lines <= allowed,
            "{path} has {lines} lines, {allowed} are allowed; all are\n{told}"
        );
    }
    let is_long = |long: &str| found.iter().any(|(path, _)| path == long);
    let gone: Vec<_> = LONG.iter().filter(|(long, _)| !is_long(long)).collect();
    assert!(gone.is_empty(), "take out of the list what is short now: {gone:?}");
}

/// The most lines of `station/`, its tests included: it composes, and what it would decide or do has a home elsewhere.
const STATION_LINES_MAX: usize = 5_000;

#[test]
fn a_station_only_composes() {
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    let folder = root().join("station");
    let files = files_with("rs").into_iter().filter(|path| path.starts_with(&folder));
    let counted: Vec<usize> = files.map(|path| lines(&path)).collect();
    assert!(counted.len() > 10, "its files are somewhere else");
    let all: usize = counted.iter().sum();
    assert!(all <= STATION_LINES_MAX, "station/ has {all} lines");
}

/// Returns how many lines every file of the product has without its tests.
fn lengths() -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (_, modules) in products() {
        for (path, _) in modules.files() {
            let text = fs::read_to_string(path).unwrap();
            let of_product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(&text);
            let path = path.strip_prefix(root()).unwrap().display().to_string();
            found.push((path, of_product.lines().count()));
        }
    }
    found
}

/// What a pure crate does not name: time is passed in, and what decides does no input or output.
const WORLD: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "Local::now",
    "std::fs",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "File::",
    "stdin(",
    "stdout(",
];

#[test]
fn pure_crates_have_no_clock_and_do_no_input_or_output() {
    let mut read = 0;
    let table = table::of_crates();
    let is_pure = |name: &str| table.get(name).is_some_and(|row| row.is_pure);
    for (name, modules) in products().iter().filter(|(name, _)| is_pure(name)) {
        for (path, text) in modules.files() {
            read += 1;
            for word in WORLD {
                // `File::`, and not `PresentFile::`.
                let begins = |at: usize| !text[..at].ends_with(char::is_alphanumeric);
                let is_named = text.match_indices(word).any(|(at, _)| begins(at));
                assert!(!is_named, "{name} is pure: {} has {word}", path.display());
            }
        }
    }
    assert!(read > 20, "only {read} files of pure crates were read");
}

/// How redb's databases are opened.
const OPENS: &[&str] =
    &["create_with_backend(", "Database::create(", "Database::open(", "Database::builder("];

/// redb answers from a page with flipped bits as from a good one, so every database is opened as checked blocks, in `host/`.
#[test]
fn every_database_is_checked_blocks() {
    let elsewhere = |(name, _): &&(String, Modules)| name != "keepshare-host";
    let mut read = 0;
    for (name, modules) in products().iter().filter(elsewhere) {
        for (path, text) in modules.files() {
            read += 1;
            for word in OPENS {
                assert!(!text.contains(word), "{name}: {} has {word}", path.display());
            }
        }
    }
    assert!(read > 100, "only {read} files were read");
}

/// Every crate of the product, with its modules.
fn products() -> Vec<(String, Modules)> {
    let of_product = manifests().into_iter().filter(|path| !path.starts_with(root().join("tests")));
    of_product
        .map(|manifest| {
            (read_manifest(&manifest).0, Modules::read(&manifest.with_file_name("src")))
        })
        .collect()
}
