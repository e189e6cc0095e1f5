//! What is different in two folders: two answers in the same order, gone through side by side.
//!
//! Of each side one entry is held. Entries come in the order of their paths, parents first; one that does not is refused, so that
//! nothing is taken for missing that is there.

use keepshare_base::{FileId, Kind, Meta, Name};
use keepshare_control::{Code, Failure, Outcome, answers::ShownEntry};
use keepshare_versioning::when::When;

/// One difference.
#[derive(Debug)]
pub(super) struct Change {
    /// What kind of.
    pub(super) what: What,
    /// As it was, with its path below the folder; `None` where it was not there.
    pub(super) then: Option<ShownEntry>,
    /// As it is on the other side; `None` where it is not there.
    pub(super) now: Option<ShownEntry>,
}

/// What kind of difference.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its content is another one.
    Changed,
    /// It has another path; its content may be another one, too.
    Renamed(KnownBy, Content),
    /// Its content is the same, and its mode, owner or extended attributes are not.
    Attributes,
    /// Something of another kind is at its path.
    Kind,
    /// A folder that may not be listed: what is in it was not compared.
    NotCompared,
}

/// How it is known that something is the same at another path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum KnownBy {
    /// It is the same file.
    File,
    /// It is another file with the same content.
    Content,
}

/// Whether two have the same content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Content {
    Same,
    Different,
}

impl Change {
    /// Returns its path: on the second side, where it is there.
    pub(super) fn path(&self) -> &[Name] {
        self.now.as_ref().or(self.then.as_ref()).map_or(&[], |entry| &entry.path)
    }

    /// Returns about how many bytes it takes in memory, beside what every change takes.
    pub(super) fn bytes(&self) -> usize {
        let of_entry = |entry: &ShownEntry| {
            let names: usize = entry.path.iter().map(|name| name.as_bytes().len()).sum();
            let xattrs: usize =
                entry.meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
            names + xattrs + entry.meta.symlink.len()
        };
        self.then.iter().chain(&self.now).map(of_entry).sum()
    }
}

/// The entries of one side, in order.
pub(super) struct Side<N> {
    next: N,
    /// How many names of each path are those of the folder itself.
    depth: usize,
    head: Option<ShownEntry>,
}

impl<N: FnMut() -> Outcome<Option<ShownEntry>>> Side<N> {
    /// Returns a side whose first entry is there already: the folder itself.
    pub(super) fn new(folder: ShownEntry, next: N) -> Self {
        let depth = folder.path.len();
        Self { next, depth, head: Some(ShownEntry { path: Vec::new(), ..folder }) }
    }

    fn path(&self) -> Option<&[Name]> {
        self.head.as_ref().map(|head| head.path.as_slice())
    }

    /// Takes the entry, and has the next one come.
    fn take(&mut self) -> Outcome<Option<ShownEntry>> {
        let next = (self.next)()?.map(|mut next| {
            let depth = self.depth.min(next.path.len());
            next.path.drain(..depth);
            next
        });
        if let (Some(head), Some(next)) = (&self.head, &next)
            && next.path <= head.path
        {
            let failure = Failure::new(Code::Failed, "the station's answer is in no order");
            return Err(failure.hint("restart the station after an upgrade"));
        }
        Ok(std::mem::replace(&mut self.head, next))
    }
}

/// Gives out every difference, in the order of paths; `one_set` says that the two are of one set, in which a version's id means one
/// thing. `look` is called with everything that is gone through.
pub(super) fn compare<A, B>(
    (mut then, mut now): (Side<A>, Side<B>),
    one_set: bool,
    mut look: impl FnMut(),
    mut take: impl FnMut(Change) -> Outcome<()>,
) -> Outcome<()>
where
    A: FnMut() -> Outcome<Option<ShownEntry>>,
    B: FnMut() -> Outcome<Option<ShownEntry>>,
{
    // The folder that was not compared last.
    let mut shut: Option<Vec<Name>> = None;
    loop {
        let (a, b) = match (then.path(), now.path()) {
            (None, None) => return Ok(()),
            (Some(_), None) => (true, false),
            (None, Some(_)) => (false, true),
            (Some(a), Some(b)) => (a <= b, b <= a),
        };
        let then = if a { then.take()? } else { None };
        let now = if b { now.take()? } else { None };
        look();
        let what = match (&then, &now) {
            (Some(then), Some(now)) => changed(then, now, one_set),
            (Some(_), None) => Some(What::Removed),
            _ => Some(What::Added),
        };
        let Some(what) = what else { continue };
        let change = Change { what, then, now };
        if shut.as_ref().is_some_and(|shut| change.path().starts_with(shut)) {
            continue;
        }
        if what == What::NotCompared {
            shut = Some(change.path().to_vec());
        }
        take(change)?;
    }
}

/// Returns what is different in two entries of one path.
fn changed(then: &ShownEntry, now: &ShownEntry, one_set: bool) -> Option<What> {
    let both = (then.meta.kind, now.meta.kind);
    let is_shut = then.damaged.is_some() || now.damaged.is_some();
    if both == (Kind::Dir, Kind::Dir) && is_shut {
        Some(What::NotCompared)
    } else if both.0 != both.1 {
        Some(What::Kind)
    } else if content(then, now, one_set) == Content::Different {
        Some(What::Changed)
    } else {
        (!attributes(&then.meta, &now.meta).is_empty()).then_some(What::Attributes)
    }
}

/// Tells whether two of one kind have the same content. Where a hash is not known, as of what is being received, size and time
/// decide.
pub(super) fn content(then: &ShownEntry, now: &ShownEntry, one_set: bool) -> Content {
    let is_same = match then.meta.kind {
        Kind::File => has_same_bytes(then, now, one_set),
        Kind::Symlink => then.meta.symlink == now.meta.symlink,
        Kind::BlockDevice | Kind::CharDevice => then.meta.rdev == now.meta.rdev,
        Kind::Dir | Kind::Fifo | Kind::Socket => true,
    };
    if is_same { Content::Same } else { Content::Different }
}

fn has_same_bytes(then: &ShownEntry, now: &ShownEntry, one_set: bool) -> bool {
    if one_set && then.version.is_some() && then.version == now.version {
        return true;
    }
    // What had no version yet has the attributes that it got later.
    if then.damaged.is_some() != now.damaged.is_some() || then.meta.size != now.meta.size {
        return false;
    }
    match (&then.hash, &now.hash) {
        (Some(then), Some(now)) => then == now,
        _ => then.meta.mtime == now.meta.mtime,
    }
}

/// One attribute that is different.
#[derive(Debug, Eq, PartialEq, serde::Serialize)]
pub(super) struct Attribute {
    /// `mode`, `owner`, `group` or `xattrs`.
    pub(super) what: &'static str,
    /// What it was; not told of extended attributes.
    pub(super) from: Option<String>,
    /// What it is.
    pub(super) to: Option<String>,
}

/// Returns the attributes that are different.
pub(super) fn attributes(then: &Meta, now: &Meta) -> Vec<Attribute> {
    let told = |what, from: String, to: String| Attribute { what, from: Some(from), to: Some(to) };
    let mut found = Vec::new();
    if then.mode != now.mode {
        found.push(told("mode", format!("{:04o}", then.mode), format!("{:04o}", now.mode)));
    }
    for (what, then, now) in
        [("owner", &then.owner, &now.owner), ("group", &then.group, &now.group)]
    {
        if then != now {
            let is_told = then.to_string() != now.to_string();
            let text = |owner: &keepshare_base::Owner| match is_told {
                true => owner.to_string(),
                false => format!("{owner} ({})", owner.id),
            };
            found.push(told(what, text(then), text(now)));
        }
    }
    if then.xattrs != now.xattrs {
        found.push(Attribute { what: "xattrs", from: None, to: None });
    }
    found
}

/// Returns the file that an entry is a version of, as far as the version's id tells.
pub(super) fn file(entry: &ShownEntry) -> Option<FileId> {
    match entry.version.as_deref()?.parse() {
        Ok(When::Version(_, file)) => file,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use keepshare_base::{ContentHash, Owner};

    use super::{
        super::sample::{entry, shown},
        *,
    };

    fn side(entries: Vec<ShownEntry>) -> Side<impl FnMut() -> Outcome<Option<ShownEntry>>> {
        let mut entries = entries.into_iter();
        Side::new(entries.next().unwrap(), move || Ok(entries.next()))
    }

    fn compared(then: Vec<ShownEntry>, now: Vec<ShownEntry>) -> Outcome<Vec<String>> {
        let mut found = Vec::new();
        compare(
            (side(then), side(now)),
            true,
            || {},
            |change| {
                found.push(shown(&change));
                Ok(())
            },
        )?;
        Ok(found)
    }

    #[test]
    fn two_folders_are_gone_through_side_by_side() {
        let then = ["", "a", "b/", "b/x", "b/y", "b!", "d"].map(|path| entry(path, "", path));
        let mut now =
            ["", "a", "b/", "b/y", "b!", "c/", "c/z", "d/"].map(|path| entry(path, "", path));
        now[3] = entry("b/y", "", "another");
        now[4].meta.mode = 0o600;
        let want =
            ["Removed b/x", "Changed b/y", "Attributes b!", "Added c", "Added c/z", "Kind d"];
        assert_eq!(compared(then.into(), now.into()).unwrap(), want);
    }

    /// The folder has its own name on each side, and what is in it is compared all the same.
    #[test]
    fn the_folders_own_names_are_left_out() {
        let then = ["old/", "old/a"].map(|path| entry(path, "", "x"));
        let now = ["", "a", "b"].map(|path| entry(path, "", "x"));
        assert_eq!(compared(then.into(), now.into()).unwrap(), ["Added b"]);
    }

    /// What nobody may list is neither gone nor new.
    #[test]
    fn a_folder_that_may_not_be_listed_is_not_compared() {
        let then = ["", "a/", "a/x", "a/y/", "a/y/z", "b"].map(|path| entry(path, "", "x"));
        let mut now = ["", "a/", "b", "c"].map(|path| entry(path, "", "x"));
        now[1].damaged = Some("you may not list this folder".to_owned());
        let found = compared(then.into(), now.into()).unwrap();
        assert_eq!(found, ["NotCompared a", "Added c"]);
    }

    /// Taken as it comes, it would show what is there as removed and added.
    #[test]
    fn an_answer_in_no_order_is_refused() {
        for wrong in [["", "b", "a"], ["", "a", "a"], ["", "a/x", "a/"]] {
            let wrong: Vec<_> = wrong.iter().map(|path| entry(path, "", "x")).collect();
            let right = vec![entry("", "", "x")];
            assert!(compared(wrong, right).is_err());
        }
    }

    #[test]
    fn content_is_the_same_by_what_is_known() {
        let is = |then: &ShownEntry, now: &ShownEntry, one_set| {
            content(then, now, one_set) == Content::Same
        };
        let known = entry("a", "4-7", "x");
        let unknown = ShownEntry { hash: None, ..known.clone() };
        assert!(is(&known, &entry("a", "5-7", "x"), true));
        assert!(!is(&known, &entry("a", "5-7", "y"), true));
        // One id in two sets means two versions.
        let other = ShownEntry { hash: Some(ContentHash::of(b"y")), ..known.clone() };
        assert!(is(&known, &other, true) && !is(&known, &other, false));
        // Without a hash: the time, and never where one was no version yet.
        let later = ShownEntry { version: None, ..unknown.clone() };
        assert!(is(&unknown, &later, true));
        let damaged = Some("it had no version yet".to_owned());
        assert!(!is(&unknown, &ShownEntry { damaged, ..later.clone() }, true));
        let mut touched = later;
        touched.meta.mtime.secs += 1;
        assert!(!is(&unknown, &touched, true));
    }

    #[test]
    fn attributes_are_told_by_what_is_different() {
        let then = entry("a", "", "x").meta;
        let owner = Owner { id: 7, name: "anna".to_owned() };
        let xattrs = vec![(b"user.a".to_vec(), b"1".to_vec())];
        let now = Meta { mode: 0o600, owner: owner.clone(), xattrs, ..then.clone() };
        let told = |then, now| {
            let one = |one: Attribute| format!("{} {:?} {:?}", one.what, one.from, one.to);
            attributes(then, now).into_iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let want =
            r#"mode Some("0644") Some("0600"), owner Some("0") Some("anna"), xattrs None None"#;
        assert_eq!(told(&then, &now), want);
        let other = Meta { owner: Owner { id: 8, ..owner }, ..now.clone() };
        assert_eq!(told(&now, &other), r#"owner Some("anna (7)") Some("anna (8)")"#);
    }

    #[test]
    fn a_versions_id_tells_its_file() {
        let of = |version: &str| file(&entry("a", version, "x")).map(|file| file.counter);
        assert_eq!((of("42-7"), of("42"), of("")), (Some(7), None, None));
    }
}
