use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use keepshare_base::{FileTime, Owner};

use super::{attributes::tests::list, *};

fn meta(kind: Kind, size: u64, mode: u32) -> Meta {
    Meta {
        kind,
        size,
        mode,
        owner: Owner { id: rustix::process::geteuid().as_raw(), name: String::new() },
        group: Owner { id: rustix::process::getegid().as_raw(), name: String::new() },
        mtime: FileTime { secs: 1_000_000_000, nanos: 5 },
        symlink: Vec::new(),
        rdev: 0,
        xattrs: Vec::new(),
    }
}

fn names(path: &str) -> Vec<Name> {
    keepshare_base::SetPath::parse(path.as_bytes()).unwrap().names().to_vec()
}

fn entry(path: &str, meta: Meta) -> ShownEntry {
    let (version, hash, same_as, damaged, uncut) = (None, None, None, None, None);
    ShownEntry { path: names(path), meta, version, hash, same_as, damaged, uncut }
}

fn sample(out: &mut Extractor) -> Outcome<()> {
    out.entry(entry("then", meta(Kind::Dir, 0, 0o755)))?;
    out.entry(entry("then/a", meta(Kind::Dir, 0, 0o500)))?;
    out.entry(entry("then/a/one", meta(Kind::File, 3, 0o640)))?;
    out.data(b"on")?;
    out.data(b"e")?;
    out.entry(ShownEntry {
        same_as: Some(names("then/a/one")),
        ..entry("then/a/two", meta(Kind::File, 3, 0o640))
    })?;
    let target = Meta { symlink: b"a/one".to_vec(), ..meta(Kind::Symlink, 0, 0o777) };
    out.entry(entry("then/link", target))?;
    out.finish()
}

#[test]
fn a_folder_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Extractor::open(dir.path(), false, false).unwrap();
    sample(&mut out).unwrap();
    let one = dir.path().join("then/a/one");
    assert_eq!(fs::read(&one).unwrap(), b"one");
    let stat = fs::metadata(&one).unwrap();
    assert_eq!((stat.nlink(), stat.mtime(), stat.mtime_nsec()), (2, 1_000_000_000, 5));
    assert_eq!(stat.permissions().mode() & 0o7777, 0o640);
    let folder = fs::metadata(dir.path().join("then/a")).unwrap();
    assert_eq!((folder.permissions().mode() & 0o7777, folder.mtime()), (0o500, 1_000_000_000));
    assert_eq!(fs::read_link(dir.path().join("then/link")).unwrap(), Path::new("a/one"));
    assert!(out.problems.is_empty(), "{:?}", out.problems);
    // So that the temporary folder can be removed by an ordinary user.
    fs::set_permissions(dir.path().join("then/a"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn nothing_is_replaced_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "precious").unwrap();
    let mut out = Extractor::open(dir.path(), false, false).unwrap();
    let failure = out.entry(entry("file", meta(Kind::File, 1, 0o600))).unwrap_err();
    assert_eq!(failure.code, keepshare_control::Code::Refused);
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"precious");
    let mut out = Extractor::open(dir.path(), false, true).unwrap();
    out.entry(entry("file", meta(Kind::File, 1, 0o600))).unwrap();
    out.data(b"x").unwrap();
    out.finish().unwrap();
    assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"x");
    assert!(Extractor::open(dir.path(), true, false).is_err(), "a folder that is not empty");
}

/// A link that was restored, or planted, must not lead what is restored after it out of the folder.
#[test]
fn links_are_never_followed() {
    let dir = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), dir.path().join("then")).unwrap();
    let mut out = Extractor::open(dir.path(), true, true).unwrap();
    sample(&mut out).unwrap();
    let shown = dir.path().join("then").display().to_string();
    let expected = format!("{shown}: something that is no folder is in its place");
    assert_eq!((out.problems.as_slice(), out.written), (&[expected][..], 0));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// Half a file must not stand where the file should be.
#[test]
fn content_that_ends_early_is_reported_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Extractor::open(dir.path(), true, false).unwrap();
    out.entry(entry("short", meta(Kind::File, 5, 0o600))).unwrap();
    out.data(b"abc").unwrap();
    let damaged =
        ShownEntry { damaged: Some("damaged".into()), ..entry("bad", meta(Kind::File, 1, 0o600)) };
    out.entry(damaged).unwrap();
    out.entry(entry("pipe", meta(Kind::Fifo, 0, 0o600))).unwrap();
    out.finish().unwrap();
    assert_eq!(out.problems.len(), 2, "{:?}", out.problems);
    assert_eq!((out.is_damaged, out.written), (true, 0));
    assert_eq!(out.skipped, [dir.path().join("pipe").display().to_string()]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// What is in the way of one file must not keep all those back that come after it.
#[test]
fn an_obstacle_keeps_nothing_else_back() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("then/a/one/more")).unwrap();
    let mut out = Extractor::open(dir.path(), false, true).unwrap();
    out.entry(entry("then", meta(Kind::Dir, 0, 0o755))).unwrap();
    out.entry(entry("then/a", meta(Kind::Dir, 0, 0o755))).unwrap();
    for name in ["then/a/one", "then/a/two"] {
        out.entry(entry(name, meta(Kind::File, 3, 0o640))).unwrap();
        out.data(b"one").unwrap();
    }
    // Not a link to what was there before.
    let link = entry("then/b", meta(Kind::File, 3, 0o640));
    out.entry(ShownEntry { same_as: Some(names("then/a/one")), ..link }).unwrap();
    out.entry(entry("then/c", meta(Kind::File, 0, 0o640))).unwrap();
    out.finish().unwrap();
    let shown = |path: &str| dir.path().join(path).display().to_string();
    let one = shown("then/a/one");
    assert_eq!(
        out.problems,
        [
            format!("{one}: a folder is in its place"),
            format!("{}: it is a link to {one}, which is missing", shown("then/b")),
        ]
    );
    assert_eq!((out.is_damaged, out.written), (false, 4));
    assert_eq!(fs::read(dir.path().join("then/a/two")).unwrap(), b"one");
    assert_eq!(listed(&dir.path().join("then")), ["a", "c"]);
    assert_eq!(listed(&dir.path().join("then/a")), ["one", "two"]);
}

/// A full disk ends it at once, names the file, and is not left fuller.
#[test]
fn what_ends_a_restore_leaves_no_half_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Extractor::open(dir.path(), false, false).unwrap();
    out.entry(entry("then", meta(Kind::Dir, 0, 0o755))).unwrap();
    out.entry(entry("then/one", meta(Kind::File, 3, 0o640))).unwrap();
    out.data(b"on").unwrap();
    assert_eq!(listed(&dir.path().join("then")).len(), 1);
    let path = out.file.as_ref().map(|open| open.path.clone()).unwrap();
    for fatal in [Errno::NOSPC, Errno::DQUOT, Errno::ROFS] {
        let failure = out.obstacle(path.clone(), fatal.into()).unwrap_err();
        assert!(failure.to_string().contains("/then/one:"), "{failure}");
    }
    drop(out);
    assert_eq!(listed(&dir.path().join("then")), [""; 0]);
}

/// Whom the folder's own access list lets into what is made in it must not get what was closed to them.
#[test]
fn the_folders_access_list_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let none = u32::MAX;
    let list = list(&[(1, 7, none), (2, 7, 1001), (4, 7, none), (16, 7, none), (32, 0, none)]);
    let flags = rustix::fs::XattrFlags::empty();
    if rustix::fs::setxattr(dir.path(), "system.posix_acl_default", &list, flags).is_err() {
        return; // A file system without them.
    }
    let out_dir = dir.path().join("out");
    let mut out = Extractor::open(&out_dir, true, false).unwrap();
    out.entry(entry("", meta(Kind::Dir, 0, 0o750))).unwrap();
    sample(&mut out).unwrap();
    assert!(out.left_out.is_empty() && out.problems.is_empty(), "{:?}", out.left_out);
    for path in ["", "then", "then/a", "then/a/one"] {
        for name in ["system.posix_acl_access", "system.posix_acl_default"] {
            let got = rustix::fs::getxattr(out_dir.join(path), name, &mut [0; 256][..]);
            assert_eq!(got, Err(Errno::NODATA), "{name} of out/{path}");
        }
    }
    let mode = |path: &str| fs::metadata(out_dir.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode(""), mode("then/a"), mode("then/a/one")), (0o750, 0o500, 0o640));
    fs::set_permissions(out_dir.join("then/a"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// Without its access list, a file's mode would give its group what the list gave somebody else.
#[test]
fn what_cannot_be_set_opens_nothing_and_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Extractor::open(dir.path(), false, false).unwrap();
    let none = u32::MAX;
    // No file system takes it: it has no mask.
    let list = list(&[(1, 6, none), (2, 6, 1001), (4, 0, none), (32, 0, none)]);
    let xattrs = vec![(b"system.posix_acl_access".to_vec(), list)];
    out.entry(entry("one", Meta { xattrs, ..meta(Kind::File, 0, 0o660) })).unwrap();
    out.finish().unwrap();
    let one = dir.path().join("one");
    assert_eq!(fs::metadata(&one).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(out.left_out.len(), 1);
    assert!(out.left_out[0].starts_with(&format!("{}: access list (", one.display())));
}

/// The group that a file cannot be given to must not be replaced by another one that reads it.
#[test]
fn a_group_that_is_not_given_opens_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut out = Extractor::open(dir.path(), false, false).unwrap();
    out.owners.are_given = false;
    let group = Owner { id: meta(Kind::File, 0, 0).group.id + 1, name: String::new() };
    for (name, mode) in [("a", 0o640), ("b", 0o2775)] {
        let meta = Meta { group: group.clone(), ..meta(Kind::File, 0, mode) };
        out.entry(entry(name, meta)).unwrap();
    }
    out.finish().unwrap();
    let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("b")), (0o600, 0o755));
}

/// A set's own folder is closed to those whom it was closed to; a folder that was there keeps what it has.
#[test]
fn a_new_folder_gets_the_attributes_of_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("there");
    fs::create_dir(&there).unwrap();
    fs::set_permissions(&there, fs::Permissions::from_mode(0o711)).unwrap();
    for (name, mode) in [("new", 0o750), ("there", 0o711)] {
        let shown = dir.path().join(name);
        let mut out = Extractor::open(&shown, true, false).unwrap();
        out.entry(entry("", meta(Kind::Dir, 0, 0o750))).unwrap();
        out.entry(entry("one", meta(Kind::File, 0, 0o640))).unwrap();
        out.finish().unwrap();
        let stat = fs::metadata(&shown).unwrap();
        assert_eq!(stat.mode() & 0o7777, mode, "{name}");
        assert_eq!(stat.mtime() == 1_000_000_000, name == "new");
    }
}

fn listed(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}
