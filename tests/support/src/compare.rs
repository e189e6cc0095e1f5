//! Two trees side by side: whether they are equal, and if not, in what.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::wait::wait_for;

/// How many differences are told before the rest is only counted.
const DIFFERENCES_TOLD_MAX: usize = 20;

/// What is compared beside names, kinds, sizes, links and symlink targets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Aspects {
    /// Every byte.
    pub contents: bool,
    /// Modification times to the nanosecond.
    pub times: bool,
    /// Permission bits; set-id bits never are, as a station does not make them.
    pub modes: bool,
    /// Owner and group numbers.
    pub owners: bool,
    /// The attributes that users set.
    pub xattrs: bool,
}

impl Aspects {
    /// Everything: what a station that runs as root must keep live.
    pub const ALL: Self =
        Self { contents: true, times: true, modes: true, owners: true, xattrs: true };

    /// What a station that runs as an ordinary user must keep live; the rest is in its history.
    pub const ORDINARY: Self =
        Self { contents: true, times: true, modes: false, owners: false, xattrs: false };

    /// Returns what the station of the user we are must keep live.
    pub fn ours() -> Self {
        if crate::tools::is_root() { Self::ALL } else { Self::ORDINARY }
    }
}

/// What was found at one path.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Found {
    kind: &'static str,
    size: u64,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    target: Vec<u8>,
    /// The first path of the same file, where it has several.
    same_as: Option<Vec<u8>>,
    content: Option<blake3::Hash>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tree at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Snapshot {
    found: BTreeMap<Vec<u8>, Found>,
}

impl Snapshot {
    /// Looks at a tree. What vanishes meanwhile was not there.
    pub fn of(root: &Path, aspects: Aspects) -> Result<Self> {
        let mut look = Look { aspects, first_names: HashMap::new(), found: BTreeMap::new() };
        let meta = fs::symlink_metadata(root)
            .with_context(|| format!("cannot look at {}", root.display()))?;
        look.visit(root, Vec::new(), &meta)?;
        Ok(Self { found: look.found })
    }

    /// Returns how many paths there are, the root included.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Tells whether nothing was there, not even a root.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns how many bytes all regular files of a tree have.
    pub fn bytes_of(root: &Path) -> Result<u64> {
        let aspects = Aspects { contents: false, xattrs: false, ..Aspects::ALL };
        Ok(Self::of(root, aspects)?.found.values().map(|found| found.size).sum())
    }

    /// Returns the paths of all regular files.
    pub fn files(&self) -> impl Iterator<Item = &[u8]> {
        self.found.iter().filter(|(_, found)| found.kind == "file").map(|(path, _)| path.as_slice())
    }

    /// Returns the hashes of all contents that were looked at.
    pub fn contents(&self) -> impl Iterator<Item = blake3::Hash> {
        self.found.values().filter_map(|found| found.content)
    }

    /// Returns in what `other` differs, one line each; nothing when they are equal.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut told = Vec::new();
        for (path, ours) in &self.found {
            match other.found.get(path) {
                None => told.push(format!("{}: missing ({})", show(path), ours.kind)),
                Some(theirs) if ours != theirs => {
                    told.push(format!("{}:{}", show(path), difference(ours, theirs)));
                }
                Some(_) => {}
            }
        }
        let surplus = other.found.iter().filter(|(path, _)| !self.found.contains_key(*path));
        told.extend(
            surplus.map(|(path, found)| format!("{}: surplus ({})", show(path), found.kind)),
        );
        told
    }
}

/// Returns in what the tree at `other` differs from that at `root`.
pub fn differences(root: &Path, other: &Path, aspects: Aspects) -> Result<Vec<String>> {
    // A look without contents is cheap and nearly always enough to see that they are not equal yet.
    let cheap = Aspects { contents: false, xattrs: false, ..aspects };
    let told = Snapshot::of(root, cheap)?.differences(&Snapshot::of(other, cheap)?);
    if !told.is_empty() {
        return Ok(told);
    }
    Ok(Snapshot::of(root, aspects)?.differences(&Snapshot::of(other, aspects)?))
}

/// Returns once the two trees are equal; an error that says how they differ if they are not by `deadline`.
pub fn equal_within(deadline: Duration, root: &Path, other: &Path, aspects: Aspects) -> Result<()> {
    let mut last = Vec::new();
    let waited = wait_for(deadline, "the trees are equal", || {
        last = match differences(root, other, aspects) {
            Ok(told) => told,
            // The other side may not have made its tree yet.
            Err(error) => vec![format!("{error:#}")],
        };
        Ok(last.is_empty().then_some(()))
    });
    match waited {
        Ok(()) => Ok(()),
        Err(error) => {
            let (root, other) = (root.display(), other.display());
            bail!("{error}\n{other} differs from {root}:\n{}", tell(&last))
        }
    }
}

/// Returns differences as text, the first of them in full.
pub fn tell(differences: &[String]) -> String {
    let mut text = String::new();
    for line in differences.iter().take(DIFFERENCES_TOLD_MAX) {
        let _ = writeln!(text, "  {line}");
    }
    if differences.len() > DIFFERENCES_TOLD_MAX {
        let _ = writeln!(text, "  … and {} more", differences.len() - DIFFERENCES_TOLD_MAX);
    }
    text
}

/// Returns the hash of what a reader gives.
pub fn hash_of(mut reader: impl Read) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher.finalize()),
            count => hasher.update(&buffer[..count]),
        };
    }
}

struct Look {
    aspects: Aspects,
    first_names: HashMap<(u64, u64), Vec<u8>>,
    found: BTreeMap<Vec<u8>, Found>,
}

impl Look {
    fn visit(&mut self, path: &Path, below: Vec<u8>, meta: &Metadata) -> Result<()> {
        let Some(found) = vanished(self.look(path, &below, meta))
            .with_context(|| format!("cannot look at {}", path.display()))?
        else {
            return Ok(());
        };
        let is_dir = found.kind == "folder";
        self.found.insert(below.clone(), found);
        if !is_dir {
            return Ok(());
        }
        let Some(entries) = vanished(fs::read_dir(path))? else { return Ok(()) };
        // In order, so that the first of several names of a file is the same on both sides.
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name());
        }
        names.sort();
        for name in names {
            let child = path.join(&name);
            let mut child_below = below.clone();
            if !child_below.is_empty() {
                child_below.push(b'/');
            }
            child_below.extend_from_slice(name.as_bytes());
            if let Some(meta) = vanished(fs::symlink_metadata(&child))? {
                self.visit(&child, child_below, &meta)?;
            }
        }
        Ok(())
    }

    fn look(&mut self, path: &Path, below: &[u8], meta: &Metadata) -> io::Result<Found> {
        let kind = meta.file_type();
        let aspects = self.aspects;
        let same_as = if !kind.is_dir() && meta.nlink() > 1 {
            let first = self.first_names.entry((meta.dev(), meta.ino()));
            Some(first.or_insert_with(|| below.to_vec()).clone())
        } else {
            None
        };
        let content = if kind.is_file() && aspects.contents {
            Some(hash_of(File::open(path)?)?)
        } else {
            None
        };
        Ok(Found {
            kind: match kind {
                kind if kind.is_dir() => "folder",
                kind if kind.is_file() => "file",
                kind if kind.is_symlink() => "symlink",
                _ => "special",
            },
            size: if kind.is_file() { meta.size() } else { 0 },
            mode: if aspects.modes && !kind.is_symlink() { meta.mode() & 0o1777 } else { 0 },
            owner: if aspects.owners { (meta.uid(), meta.gid()) } else { (0, 0) },
            mtime: if aspects.times { (meta.mtime(), meta.mtime_nsec()) } else { (0, 0) },
            target: if kind.is_symlink() {
                fs::read_link(path)?.as_os_str().as_bytes().to_vec()
            } else {
                Vec::new()
            },
            same_as,
            content,
            xattrs: if aspects.xattrs && !kind.is_symlink() {
                xattrs_of(path)?
            } else {
                Vec::new()
            },
        })
    }
}

fn xattrs_of(path: &Path) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = match xattr::list(path) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.filter(|name| name.as_bytes().starts_with(b"user.")) {
        let value = xattr::get(path, &name)?.unwrap_or_default();
        found.push((name.as_bytes().to_vec(), value));
    }
    found.sort();
    Ok(found)
}

fn vanished<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(error),
    }
}

fn difference(ours: &Found, theirs: &Found) -> String {
    let mut text = String::new();
    let mut aspect = |name: &str, ours: String, theirs: String| {
        if ours != theirs {
            let _ = write!(text, " {name} {theirs} instead of {ours};");
        }
    };
    aspect("kind", ours.kind.to_owned(), theirs.kind.to_owned());
    aspect("size", ours.size.to_string(), theirs.size.to_string());
    aspect("mode", format!("{:04o}", ours.mode), format!("{:04o}", theirs.mode));
    aspect("owner", format!("{:?}", ours.owner), format!("{:?}", theirs.owner));
    aspect("mtime", format!("{:?}", ours.mtime), format!("{:?}", theirs.mtime));
    aspect("target", show(&ours.target), show(&theirs.target));
    let same_as = |found: &Found| found.same_as.as_deref().map_or("nothing".to_owned(), show);
    aspect("the same file as", same_as(ours), same_as(theirs));
    aspect("xattrs", format!("{:?}", ours.xattrs), format!("{:?}", theirs.xattrs));
    if ours.content != theirs.content {
        text.push_str(" other bytes;");
    }
    text
}

fn show(path: &[u8]) -> String {
    if path.is_empty() { "(root)".to_owned() } else { path.escape_ascii().to_string() }
}
