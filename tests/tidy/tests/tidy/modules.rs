//! The modules of a crate, and which of them uses which, read from their text.
//!
//! A *room* is a module with everything below it: a file, and the folder of the same name. What a parent and its own
//! children take from each other stays inside a room. Tests are not looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The path of a module from the root of its crate: empty for the root itself.
pub(crate) type Module = Vec<String>;

/// The modules of one crate.
pub(crate) struct Modules {
    files: BTreeMap<Module, (PathBuf, String)>,
    /// Where a module has a name from that it shows as its own.
    shown: BTreeMap<Module, BTreeMap<String, Module>>,
}

/// Rooms of one folder that reach each other in a circle.
pub(crate) type Ring = (Module, BTreeSet<String>);

impl Modules {
    /// Reads the sources of a crate.
    pub(crate) fn read(source: &Path) -> Self {
        let mut files = BTreeMap::new();
        read_folder(source, &Vec::new(), &mut files);
        let mut modules = Self { files, shown: BTreeMap::new() };
        let shown = modules.files.keys().map(|module| (module.clone(), modules.shown_by(module)));
        modules.shown = shown.collect();
        modules
    }

    /// Returns every file with its text, tests left out.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.files.values().map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// Returns which modules a module uses.
    pub(crate) fn used_by(&self, module: &Module) -> BTreeSet<Module> {
        let mut used = BTreeSet::new();
        for path in paths(&self.files[module].1) {
            let Some(from) = absolute(module, &path) else { continue };
            if let Some(target) = self.resolve(&from, 4) {
                used.insert(target);
            }
        }
        used.remove(module);
        used
    }

    /// Returns the rings: no room of any of them can be read, tested or moved without all others.
    pub(crate) fn rings(&self) -> Vec<Ring> {
        let mut folders: BTreeMap<Module, BTreeSet<(String, String)>> = BTreeMap::new();
        for module in self.files.keys() {
            for used in self.used_by(module) {
                let common = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
                if let (Some(ours), Some(theirs)) = (module.get(common), used.get(common)) {
                    let edge = (ours.clone(), theirs.clone());
                    folders.entry(module[..common].to_vec()).or_default().insert(edge);
                }
            }
        }
        let of_folder = |(folder, edges): (Module, BTreeSet<(String, String)>)| {
            circles(&edges).into_iter().map(move |rooms| (folder.clone(), rooms))
        };
        folders.into_iter().flat_map(of_folder).collect()
    }

    /// Follows a path to the module that has what it names.
    fn resolve(&self, path: &[String], depth: u8) -> Option<Module> {
        let known = (0..=path.len()).rev().find(|len| self.files.contains_key(&path[..*len]))?;
        let module = path[..known].to_vec();
        let shown = path.get(known).and_then(|name| self.shown.get(&module)?.get(name));
        match shown {
            Some(from) if depth > 0 && *from != module => self.resolve(from, depth - 1),
            _ => Some(module),
        }
    }

    /// Returns what a module shows as its own, and from where.
    fn shown_by(&self, module: &Module) -> BTreeMap<String, Module> {
        let mut shown = BTreeMap::new();
        for line in statements(&self.files[module].1) {
            let Some((_, tree)) = line.split_once("use ") else { continue };
            for path in expand(tree) {
                let Some(name) = path.last() else { continue };
                let relative = absolute(module, &path).or_else(|| {
                    let child: Module = module.iter().chain(&path).cloned().collect();
                    self.files.contains_key(&child[..module.len() + 1]).then_some(child)
                });
                if let Some(from) = relative {
                    shown.insert(name.clone(), from);
                }
            }
        }
        shown
    }
}

/// Makes a path that begins with `crate`, `self` or `super` one from the crate's root.
fn absolute(module: &Module, path: &[String]) -> Option<Module> {
    let mut from = match path.first()?.as_str() {
        "crate" => Vec::new(),
        "self" | "super" => module.clone(),
        _ => return None,
    };
    for name in path {
        match name.as_str() {
            "crate" | "self" => {}
            "super" => {
                from.pop();
            }
            _ => from.push(name.clone()),
        }
    }
    Some(from)
}

/// Returns the paths in a text that say where they begin.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let before = text[..at].chars().next_back();
            let is_inside = before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':');
            if !is_inside {
                found.extend(expand(&text[at..]));
            }
        }
    }
    found
}

/// Returns the statements of a text that bring names in.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').filter(|statement| {
        let first = statement.trim_start().lines().rfind(|line| line.contains("use "));
        first.is_some()
    })
}

/// Writes out a path with everything in its braces: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<Vec<String>> {
    let mut chars = tree.chars().peekable();
    let mut found = Vec::new();
    expand_into(&mut chars, &mut Vec::new(), &mut found);
    found
}

fn expand_into(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    before: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    let depth = before.len();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if !name.is_empty() {
            before.push(name);
            let mut colons = 0;
            while chars.next_if_eq(&':').is_some() {
                colons += 1;
            }
            if colons == 2 {
                continue;
            }
            found.push(before.clone());
        } else if chars.next_if_eq(&'{').is_some() {
            loop {
                let len = before.len();
                expand_into(chars, before, found);
                before.truncate(len);
                while chars.next_if(|c| c.is_whitespace()).is_some() {}
                if chars.next_if_eq(&',').is_none() {
                    // What is renamed keeps the name that it has there.
                    while chars.next_if(|c| *c != ',' && *c != '}').is_some() {}
                    if chars.next_if_eq(&',').is_none() {
                        chars.next_if_eq(&'}');
                        break;
                    }
                }
            }
        } else if !before.is_empty() {
            found.push(before.clone());
        }
        before.truncate(depth);
        return;
    }
}

/// Returns the circles in a graph: sets of nodes that all reach each other.
fn circles(edges: &BTreeSet<(String, String)>) -> Vec<BTreeSet<String>> {
    let nodes: BTreeSet<&String> = edges.iter().flat_map(|(from, to)| [from, to]).collect();
    let reached = |from: &String| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(node) = next.pop() {
            for (_, to) in edges.iter().filter(|(from, _)| from == node) {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let all: BTreeMap<_, _> = nodes.iter().map(|node| (*node, reached(node))).collect();
    let mut circles = BTreeSet::new();
    for (node, reached) in &all {
        let circle: BTreeSet<String> = reached
            .iter()
            .filter(|other| all[**other].contains(node))
            .map(|n| (*n).clone())
            .collect();
        if !circle.is_empty() {
            circles.insert(circle);
        }
    }
    circles.into_iter().collect()
}

fn read_folder(folder: &Path, module: &Module, files: &mut BTreeMap<Module, (PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap().to_owned();
        if name == "tests" {
            continue;
        }
        let is_root = module.is_empty() && matches!(name.as_str(), "lib" | "main");
        let mut below = module.clone();
        if !is_root {
            below.push(name);
        }
        if path.is_dir() {
            read_folder(&path, &below, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.insert(below, (path, without_tests_and_comments(&text)));
        }
    }
}

fn without_tests_and_comments(text: &str) -> String {
    let of_product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let lines = of_product.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &str) -> Vec<String> {
        path.split("::").map(ToOwned::to_owned).collect()
    }

    #[test]
    fn braces_are_written_out() {
        let found = expand("crate::{a, b::{self, C as D, e::*}, f}; x");
        let expected = ["crate::a", "crate::b::self", "crate::b::C", "crate::b::e", "crate::f"];
        assert_eq!(found, expected.map(words));
        assert_eq!(
            paths("let x = crate::a::f(super::y); mycrate::z"),
            [words("crate::a::f"), words("super::y")]
        );
    }

    #[test]
    fn circles_are_found_and_chains_are_none() {
        let edges =
            [("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d"), ("f", "a")];
        let edges = edges.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let circle = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(circles(&edges), [circle(&["a", "b", "c"]), circle(&["d", "e"])]);
    }
}
