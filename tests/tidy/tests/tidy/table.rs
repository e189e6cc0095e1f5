//! The code map of ARCHITECTURE.md, which says what a crate may use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use crate::{read_manifest, root};

/// What the map says of a crate.
#[derive(Debug)]
pub(crate) struct Row {
    /// Which crates of ours it uses.
    pub(crate) uses: BTreeSet<String>,
    /// It decides, and touches no clock, file or socket.
    pub(crate) is_pure: bool,
}

/// Returns the rows of the product's crates.
pub(crate) fn of_crates() -> BTreeMap<String, Row> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let map = text.split("\n## Code map\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut rows = BTreeMap::new();
    for line in map.lines().filter(|line| line.starts_with("| `")) {
        let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [folder, _, uses, world] = columns[..] else { panic!("not four columns: {line}") };
        // What is no crate of the product uses nothing of ours, or everything.
        let Some(name) = crate_in(folder.trim_matches('`')).filter(|_| !world.is_empty()) else {
            continue;
        };
        let used = |folder: &str| crate_in(folder).unwrap_or_else(|| panic!("{folder}: {line}"));
        let uses = uses.split(", ").filter(|uses| *uses != "–").map(used).collect();
        rows.insert(name, Row { uses, is_pure: world.starts_with("pure") });
    }
    assert!(rows.len() > 10, "the map is written otherwise");
    rows
}

/// Returns what the crate in a folder is called.
fn crate_in(folder: &str) -> Option<String> {
    let manifest = root().join(folder).join("Cargo.toml");
    manifest.exists().then(|| read_manifest(&manifest).0)
}
