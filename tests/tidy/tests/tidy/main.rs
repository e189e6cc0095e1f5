//! The rules that no compiler checks.
#![expect(clippy::unwrap_used, reason = "a tree that cannot be read has failed the test")]

mod modules;
mod rooms;
mod table;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// What a pure crate must not depend on.
const WORLDLY: &[&str] =
    &["tokio", "rustix", "redb", "notify", "rustls", "tokio-rustls", "getrandom", "rand"];

/// Licences that link into us.
const FOREIGN_TO_US: &[&str] = &["GPL", "AGPL", "LGPL", "SSPL"];

#[test]
fn crates_use_what_the_architecture_says() {
    let table = table::of_crates();
    let mut seen = BTreeSet::new();
    for manifest in manifests().into_iter().filter(|path| !path.starts_with(root().join("tests"))) {
        let (name, package) = read_manifest(&manifest);
        let row = table.get(&name).unwrap_or_else(|| {
            panic!(
                "{name} has no row in the code map of ARCHITECTURE.md; a new one is a design change"
            )
        });
        let taken = dependencies(&package, "dependencies");
        let ours: BTreeSet<_> =
            taken.iter().filter(|name| name.starts_with("keepshare-")).cloned().collect();
        assert_eq!(ours, row.uses, "{name}: what it uses, and what ARCHITECTURE.md says");
        let worldly = taken.iter().find(|name| WORLDLY.contains(&name.as_str()));
        assert!(!row.is_pure || worldly.is_none(), "{name} is pure, {worldly:?} is not");
        seen.insert(name);
    }
    let missing: Vec<_> = table.keys().filter(|name| !seen.contains(*name)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md has crates that do not exist: {missing:?}");
}

/// What nobody names in the code is built and trusted for nothing.
#[test]
fn every_dependency_is_used() {
    let mut taken = BTreeSet::new();
    for manifest in manifests() {
        let (name, package) = read_manifest(&manifest);
        let folder = manifest.parent().unwrap();
        let used = words_of_code(&folder.join("src"));
        let used_by_tests = words_of_code(&folder.join("tests"));
        for dependency in dependencies(&package, "dependencies") {
            let word = dependency.replace('-', "_");
            assert!(used.contains(&word), "{name} does not use {dependency}");
            taken.insert(dependency);
        }
        for dependency in dependencies(&package, "dev-dependencies") {
            let word = dependency.replace('-', "_");
            // The crate itself, with what is built into it for its tests.
            let is_used = used.contains(&word) || used_by_tests.contains(&word);
            assert!(is_used || dependency == name, "the tests of {name} do not use {dependency}");
            taken.insert(dependency);
        }
    }
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let workspace: toml::Table = text.parse().unwrap();
    let listed = workspace["workspace"]["dependencies"].as_table().unwrap();
    let left: Vec<_> = listed.keys().filter(|name| !taken.contains(*name)).collect();
    assert!(left.is_empty(), "no crate takes {left:?} from the workspace");
}

/// Product crates get their lints from the workspace, so that one place decides.
#[test]
fn every_crate_takes_the_workspace_lints() {
    for manifest in manifests() {
        let (name, package) = read_manifest(&manifest);
        let takes =
            package.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(takes, Some(true), "{name} does not say [lints] workspace = true");
    }
}

#[test]
fn unsafe_code_stands_only_where_a_reason_is_given() {
    for path in files_with("rs") {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let allowed = line.contains("allow(unsafe_code") && !path.ends_with("tidy/main.rs");
            assert!(
                !allowed,
                "{}:{}: expect(unsafe_code, reason = …) instead",
                path.display(),
                number + 1
            );
        }
    }
}

/// The project speaks of itself alone: no paths of a build machine, no hosts of package registries.
#[test]
fn no_text_names_the_machine_it_was_written_on() {
    let words = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["crates", ".io/"].concat(),
        ["TO", "DO"].concat(),
    ];
    for path in ["rs", "md", "toml", "sh", "service"].iter().flat_map(|end| files_with(end)) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let found = words.iter().find(|word| line.contains(word.as_str()));
            assert!(found.is_none(), "{}:{}: {found:?}", path.display(), number + 1);
        }
    }
}

/// Every relative link of the documentation leads somewhere.
#[test]
fn documents_link_to_what_exists() {
    for path in files_with("md") {
        let text = fs::read_to_string(&path).unwrap();
        for part in text.split("](").skip(1) {
            let Some(target) = part.split([')', '#']).next().filter(|t| !t.is_empty()) else {
                continue;
            };
            if target.contains("://") || target.contains(' ') {
                continue;
            }
            let there = path.parent().unwrap().join(target);
            assert!(there.exists(), "{}: {target} does not exist", path.display());
        }
    }
}

#[test]
fn dependencies_carry_no_licence_foreign_to_ours() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let lock: toml::Table = lock.parse().unwrap();
    let packages: BTreeSet<_> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package.get("source").is_some())
        .map(|p| format!("{}-{}", p["name"].as_str().unwrap(), p["version"].as_str().unwrap()))
        .collect();
    let sources = registry_sources();
    let mut read = 0;
    for package in &packages {
        let Some(dir) = sources.iter().map(|s| s.join(package)).find(|d| d.is_dir()) else {
            continue;
        };
        let text = fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let Ok(manifest) = text.parse::<toml::Table>() else { continue };
        let licence =
            manifest["package"].get("license").and_then(toml::Value::as_str).unwrap_or("");
        let choices: Vec<_> = licence.split(" OR ").flat_map(|l| l.split('/')).collect();
        let usable =
            choices.iter().any(|choice| !FOREIGN_TO_US.iter().any(|bad| choice.contains(bad)));
        assert!(usable, "{package} is under {licence}");
        read += 1;
    }
    assert!(read > 20, "only {read} of {} packages were found to read", packages.len());
}

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("tests/tidy lies two folders below the root").to_owned()
}

fn registry_sources() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cargo"),
        PathBuf::from,
    );
    let Ok(entries) = fs::read_dir(home.join("registry/src")) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn manifests() -> Vec<PathBuf> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let workspace: toml::Table = text.parse().unwrap();
    let members = workspace["workspace"]["members"].as_array().unwrap();
    members.iter().map(|m| root().join(m.as_str().unwrap()).join("Cargo.toml")).collect()
}

fn read_manifest(path: &Path) -> (String, toml::Table) {
    let package: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    (package["package"]["name"].as_str().unwrap().to_owned(), package)
}

fn dependencies(package: &toml::Table, section: &str) -> Vec<String> {
    let table = package.get(section).and_then(toml::Value::as_table);
    table.map(|t| t.keys().cloned().collect()).unwrap_or_default()
}

/// Returns every word of the code in a folder, comments left out.
fn words_of_code(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files_in(folder, "rs") {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().filter_map(|line| line.split("//").next());
        let words = code.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
        found.extend(words.map(ToOwned::to_owned));
    }
    found
}

fn files_with(ending: &str) -> Vec<PathBuf> {
    files_in(&root(), ending)
}

fn files_in(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return found;
    }
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() && name != "target" && name != ".git" {
                folders.push(path);
            } else if kind.is_file() && path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    found
}
