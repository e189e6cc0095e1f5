//! What programs do to files, and the exact history that each must leave.
//!
//! The table in this file is the promise of `versions`: how people and their programs save, and which versions they
//! find afterwards, newest first.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use keepshare_e2e::{MIRRORED, SOON, contents, has, history, kept, occupied};
use keepshare_support::{
    Aspects, Cluster, Scratch, Wiring, cluster::SET, in_scratch, in_scratch_as_ordinary_user,
    tools, tree, wait_for, wait_until,
};

/// One step of a sequence: what is done in the folder, then everything arrives before the next.
type Step = fn(&Path) -> Result<()>;

/// A sequence of edits and the histories it must leave, newest first.
struct Sequence {
    name: &'static str,
    needs: Option<&'static str>,
    steps: &'static [Step],
    histories: &'static [(&'static str, &'static [&'static str])],
    /// A file that an ordinary user's station finds only after it was closed: it is a version when it has been quiet.
    found_late: Option<&'static str>,
}

/// What most sequences have in common.
const PLAIN: Sequence =
    Sequence { name: "", needs: None, steps: &[], histories: &[], found_late: None };

const SEQUENCES: &[Sequence] = &[
    Sequence {
        name: "written over in place",
        steps: &[|d| write(d, "file", "one"), |d| write(d, "file", "two")],
        histories: &[("file", &["two", "one"])],
        ..PLAIN
    },
    Sequence {
        name: "made together with its folder",
        steps: &[
            |d| {
                fs::create_dir(d.join("new"))?;
                write(d, "new/file", "one")
            },
            |d| write(d, "new/file", "two"),
        ],
        histories: &[("new/file", &["two", "one"])],
        found_late: Some("new/file"),
        ..PLAIN
    },
    Sequence {
        name: "a save by vim",
        needs: Some("vim"),
        steps: &[|d| write(d, "notes", "one\n"), |d| vim(d, "notes", "two")],
        histories: &[("notes", &["two\n", "one\n"])],
        ..PLAIN
    },
    Sequence {
        name: "a save by vim that keeps a backup",
        needs: Some("vim"),
        steps: &[|d| write(d, "kept", "one\n"), |d| vim_with_backup(d, "kept", "two")],
        // The old file lives on under the backup's name, with its past.
        histories: &[("kept", &["two\n", "one\n"]), ("kept~", &["one\n"])],
        ..PLAIN
    },
    Sequence {
        name: "a save as Word does it",
        steps: &[|d| write(d, "report.docx", "one"), |d| word(d, "report.docx", "two")],
        histories: &[("report.docx", &["two", "one"])],
        ..PLAIN
    },
    Sequence {
        name: "temporary file and rename",
        steps: &[
            |d| write(d, "config", "one"),
            |d| replace(d, "config", "two"),
            |d| replace(d, "config", "three"),
        ],
        histories: &[("config", &["three", "two", "one"])],
        ..PLAIN
    },
    Sequence {
        name: "renamed away and made anew",
        steps: &[
            |d| write(d, "plan", "one"),
            |d| {
                fs::rename(d.join("plan"), d.join("plan-old"))?;
                write(d, "plan", "two")
            },
        ],
        histories: &[("plan", &["two", "one"]), ("plan-old", &["one"])],
        ..PLAIN
    },
    Sequence {
        name: "renamed and written on",
        steps: &[
            |d| write(d, "draft", "one"),
            |d| Ok(fs::rename(d.join("draft"), d.join("final"))?),
            |d| write(d, "final", "two"),
        ],
        histories: &[("final", &["two", "one"])],
        ..PLAIN
    },
    Sequence {
        name: "deleted and made anew",
        steps: &[
            |d| write(d, "again", "one"),
            |d| Ok(fs::remove_file(d.join("again"))?),
            |d| write(d, "again", "two"),
        ],
        histories: &[("again", &["two", "one"])],
        ..PLAIN
    },
    Sequence {
        name: "deleted",
        steps: &[|d| write(d, "gone", "one"), |d| Ok(fs::remove_file(d.join("gone"))?)],
        histories: &[("gone", &["one"])],
        ..PLAIN
    },
    Sequence {
        name: "two names exchanged",
        steps: &[
            |d| {
                write(d, "left", "L")?;
                write(d, "right", "R")
            },
            |d| exchange(d, "left", "right"),
        ],
        histories: &[("left", &["R", "L"]), ("right", &["L", "R"])],
        ..PLAIN
    },
    Sequence {
        name: "a log that grows",
        steps: &[|d| append(d, "log", "a"), |d| append(d, "log", "b"), |d| append(d, "log", "c")],
        histories: &[("log", &["abc", "ab", "a"])],
        ..PLAIN
    },
    Sequence {
        name: "cut short and made longer",
        steps: &[
            |d| write(d, "elastic", "abcdef"),
            |d| set_len(d, "elastic", 2),
            |d| set_len(d, "elastic", 4),
        ],
        histories: &[("elastic", &["ab\0\0", "ab", "abcdef"])],
        ..PLAIN
    },
    Sequence {
        name: "written through another name",
        steps: &[
            |d| {
                write(d, "name-1", "one")?;
                Ok(fs::hard_link(d.join("name-1"), d.join("name-2"))?)
            },
            |d| write(d, "name-2", "two"),
        ],
        histories: &[("name-1", &["two", "one"]), ("name-2", &["two", "one"])],
        ..PLAIN
    },
    Sequence {
        name: "back to what it was",
        steps: &[|d| write(d, "x", "x"), |d| write(d, "x", "y"), |d| write(d, "x", "x")],
        histories: &[("x", &["x", "y", "x"])],
        ..PLAIN
    },
];

/// Whatever program saves: the user finds every state that was saved, and none that nobody saved.
#[test]
fn every_way_to_save_leaves_its_exact_history() -> Result<()> {
    in_scratch("sequences", every_sequence_leaves_its_history)
}

/// The same with the means an ordinary user has to see changes.
#[test]
fn every_way_to_save_leaves_its_exact_history_for_an_ordinary_user() -> Result<()> {
    in_scratch_as_ordinary_user("sequences-user", every_sequence_leaves_its_history)
}

fn every_sequence_leaves_its_history(scratch: &mut Scratch) -> Result<()> {
    let cluster = empty_cluster(scratch)?;
    let mut wrong = Vec::new();
    for (number, sequence) in SEQUENCES.iter().enumerate() {
        if sequence.needs.is_some_and(|program| !has(sequence.name, program)) {
            continue;
        }
        let folder = format!("sequence-{number}");
        fs::create_dir(cluster.source().join(&folder))?;
        settle(&cluster)?;
        for step in sequence.steps {
            step(&cluster.source().join(&folder)).context(sequence.name)?;
            settle(&cluster).context(sequence.name)?;
            if let Some(file) = sequence.found_late
                && !tools::is_root()
            {
                let path = PathBuf::from(&folder).join(file);
                wait_until(SOON, "what is quiet is a version", || {
                    let newest = cluster.store.versions(SET, &path).unwrap_or_default();
                    newest.first().is_some_and(|version| version["current"] == true)
                })?;
            }
        }
        for (file, expected) in sequence.histories {
            let found = contents(&cluster.store, &format!("{folder}/{file}"))?;
            if found != *expected {
                let name = sequence.name;
                wrong.push(format!("{name}: {file} was {expected:?}, its history says {found:?}"));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A folder is one name, however much is in it: renaming it is one row, not ten thousand files.
#[test]
fn renaming_a_folder_of_ten_thousand_files_costs_one_row() -> Result<()> {
    in_scratch("folder", rename_a_folder)
}

fn rename_a_folder(scratch: &mut Scratch) -> Result<()> {
    let cluster = empty_cluster(scratch)?;
    tree::grow(cluster.source(), tree::TreeSpec { files: 20_000, odd: false, seed: 1 })?;
    cluster.equal_within(MIRRORED, Aspects::ours())?;
    settle(&cluster)?;
    let before = cluster.wire_bytes()?;
    fs::rename(cluster.source().join("a"), cluster.source().join("renamed"))?;
    let live = cluster.live()?;
    wait_until(SOON, "the folder has its new name", || {
        live.join("renamed").exists() && !live.join("a").exists()
    })?;
    let bytes = cluster.wire_bytes()? - before;
    ensure!(bytes <= 10_000, "{bytes} bytes");
    cluster.equal_within(SOON, Aspects::ours())?;
    let versions = history(&cluster.store, "renamed/d000/f00000")?;
    ensure!(versions.len() == 1, "a renamed folder's file has versions {versions:?}");
    Ok(())
}

/// A path's past does not end with the folder that it was in.
#[test]
fn a_folder_made_again_keeps_the_past_of_its_names() -> Result<()> {
    in_scratch("made-again", make_folders_again)
}

fn make_folders_again(scratch: &mut Scratch) -> Result<()> {
    let cluster = empty_cluster(scratch)?;
    let source = cluster.source().to_owned();
    let contents_of = |path: &str| contents(&cluster.store, path);
    for folder in ["gone", "empty", "moved"] {
        fs::create_dir(source.join(folder))?;
    }
    settle(&cluster)?;
    for folder in ["gone", "empty", "moved"] {
        write(&source, &format!("{folder}/file"), "one")?;
    }
    settle(&cluster)?;
    fs::remove_dir_all(source.join("gone"))?;
    fs::remove_dir_all(source.join("empty"))?;
    fs::rename(source.join("moved"), source.join("moved.bak"))?;
    settle(&cluster)?;
    for folder in ["gone", "empty", "moved"] {
        fs::create_dir(source.join(folder))?;
    }
    settle(&cluster)?;
    ensure!(contents_of("empty/file")? == ["one"], "{:?}", contents_of("empty/file")?);
    for folder in ["gone", "moved"] {
        write(&source, &format!("{folder}/file"), "two")?;
    }
    settle(&cluster)?;
    for path in ["gone/file", "moved/file"] {
        ensure!(contents_of(path)? == ["two", "one"], "{path}: {:?}", contents_of(path)?);
    }
    ensure!(contents_of("moved.bak/file")? == ["one"], "{:?}", contents_of("moved.bak/file")?);
    Ok(())
}

/// A mode is part of the past, and what is there now is always among the versions.
#[test]
fn a_change_of_mode_is_a_version() -> Result<()> {
    in_scratch("modes", change_modes)
}

fn change_modes(scratch: &mut Scratch) -> Result<()> {
    let cluster = empty_cluster(scratch)?;
    write(cluster.source(), "file", "one")?;
    for mode in [0o644, 0o640, 0o600, 0o444] {
        fs::set_permissions(cluster.source().join("file"), fs::Permissions::from_mode(mode))?;
        settle(&cluster)?;
        let versions = cluster.store.versions(SET, Path::new("file"))?;
        let now: Vec<_> = versions.iter().filter(|row| row["current"] == true).collect();
        ensure!(now.len() == 1 && now[0]["version"] == versions[0]["version"], "{versions:?}");
        ensure!(now[0]["mode"] == format!("{mode:04o}"), "{mode:o}: {versions:?}");
    }
    Ok(())
}

/// Files that came in one change share its position: an id that was shown once means the same bytes for ever, whatever
/// takes the name later.
#[test]
fn an_id_means_the_same_version_whatever_takes_its_name() -> Result<()> {
    in_scratch("ids", keep_ids)
}

fn keep_ids(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    for name in ["name-1", "name-2", "name-3"] {
        write(&source, name, &format!("the bytes of {name}"))?;
    }
    let cluster = Cluster::new(scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    let id = |name: &str| -> Result<String> {
        let versions = cluster.store.versions(SET, Path::new(name))?;
        ensure!(versions.len() == 1, "{versions:?}");
        Ok(versions[0]["version"].as_str().context("a version has an id")?.to_owned())
    };
    let (first, second) = (id("name-1")?, id("name-2")?);
    fs::rename(source.join("name-2"), source.join("name-1"))?;
    settle(&cluster)?;
    exchange(&source, "name-1", "name-3")?;
    settle(&cluster)?;
    let versions = cluster.store.versions(SET, Path::new("name-1"))?;
    ensure!(versions.len() == 3, "it held three files: {versions:?}");
    for (id, bytes) in [(first, "the bytes of name-1"), (second, "the bytes of name-2")] {
        let shown = cluster.store.show(SET, Path::new("name-1"), &id)?;
        ensure!(shown == bytes.as_bytes(), "{id} is {}", String::from_utf8_lossy(&shown));
    }
    Ok(())
}

/// A database is never closed and never copied whole; each of its versions still opens as a database.
#[test]
fn every_version_of_a_database_opens() -> Result<()> {
    if !has("every_version_of_a_database_opens", "sqlite3") {
        return Ok(());
    }
    in_scratch("sqlite", keep_a_database)
}

fn keep_a_database(scratch: &mut Scratch) -> Result<()> {
    let cluster = empty_cluster(scratch)?;
    let database = cluster.source().join("books.db");
    sql(&database, "CREATE TABLE book (id INTEGER PRIMARY KEY, title TEXT, text BLOB)")?;
    // Saves within some milliseconds may be one version.
    settle(&cluster)?;
    for round in 0..8 {
        let insert =
            format!("INSERT INTO book (title, text) VALUES ('{round}', randomblob(20000))");
        sql(&database, &insert)?;
        settle(&cluster)?;
    }
    let versions = history(&cluster.store, "books.db")?;
    ensure!(versions.len() >= 9, "only {} versions of nine transactions", versions.len());
    for version in &versions {
        let copy = scratch.join("version.db");
        fs::write(&copy, &version.content)?;
        let verdict = sql(&copy, "PRAGMA integrity_check")?;
        ensure!(verdict.trim() == "ok", "{}: {verdict}", version.id);
    }
    let many: String = (0..300)
        .map(|n| format!("INSERT INTO book (title, text) VALUES ('b{n}', randomblob(500));"))
        .collect();
    sql(&database, &many)?;
    settle(&cluster)?;
    let live = cluster.live()?.join("books.db");
    let query = "SELECT count(*), sum(length(text)) FROM book";
    ensure!(sql(&live, query)? == sql(&database, query)?, "the replica has other books");
    Ok(())
}

/// A page of a virtual disk is a page on the wire and a page in the store, however large the disk is.
#[test]
fn a_page_in_a_sparse_file_of_ten_gigabytes_costs_a_page() -> Result<()> {
    in_scratch("sparse", change_a_page_of_ten_gigabytes)
}

fn change_a_page_of_ten_gigabytes(scratch: &mut Scratch) -> Result<()> {
    const SIZE: u64 = 10 << 30;
    let cluster = empty_cluster(scratch)?;
    let disk = cluster.source().join("disk.img");
    let file = OpenOptions::new().create_new(true).write(true).open(&disk)?;
    file.set_len(SIZE)?;
    file.write_all_at(&[7; 4096], SIZE / 2)?;
    drop(file);
    let live = cluster.live()?.join("disk.img");
    arrive(&live, SIZE, SIZE / 2, &[7; 4096])?;
    settle(&cluster)?;
    let (wire, stored) = (cluster.wire_bytes()?, stored_bytes(&cluster)?);
    let page = blake3::hash(b"page").as_bytes().repeat(128);
    OpenOptions::new().write(true).open(&disk)?.write_all_at(&page, SIZE / 4)?;
    arrive(&live, SIZE, SIZE / 4, &page)?;
    settle(&cluster)?;
    let (wire, stored) = (cluster.wire_bytes()? - wire, stored_bytes(&cluster)? - stored);
    eprintln!("one page: {wire} bytes on the wire, {stored} stored");
    ensure!(wire <= 20_000, "{wire} bytes on the wire");
    ensure!(stored <= 64 << 10, "{stored} bytes stored");
    ensure!(occupied(&live)? < 16 << 20, "the replica's disk is not sparse");
    Ok(())
}

fn empty_cluster(scratch: &Scratch) -> Result<Cluster> {
    let source = scratch.make_dir("source")?;
    let cluster = Cluster::new(scratch, &source, Wiring::Relayed)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    Ok(cluster)
}

/// Returns when everything done so far has arrived, its versions included.
fn settle(cluster: &Cluster) -> Result<()> {
    // A file of its own, made last, arrives last: changes of one origin apply in its order.
    static MARKS: AtomicU64 = AtomicU64::new(0);
    let mark = format!("mark-{}", MARKS.fetch_add(1, Ordering::Relaxed));
    fs::write(cluster.source().join(&mark), "mark")?;
    wait_for(SOON * 2, "a mark arrives", || {
        let versions = cluster.store.versions(SET, Path::new(&mark))?;
        Ok((!versions.is_empty()).then_some(()))
    })?;
    fs::remove_file(cluster.source().join(&mark))?;
    cluster.equal_within(SOON * 2, Aspects { contents: false, ..Aspects::ours() })?;
    cluster.in_sync_within(SOON)
}

fn stored_bytes(cluster: &Cluster) -> Result<u64> {
    kept(cluster).iter().map(|folder| occupied(folder)).sum()
}

fn arrive(live: &Path, size: u64, offset: u64, page: &[u8]) -> Result<()> {
    wait_until(MIRRORED, "a page arrives", || {
        let mut found = vec![0; page.len()];
        let read = |file: fs::File| file.read_exact_at(&mut found, offset);
        let there = fs::metadata(live).is_ok_and(|meta| meta.len() == size);
        there && fs::File::open(live).and_then(read).is_ok() && found == page
    })
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    Ok(fs::write(folder.join(name), text)?)
}

fn append(folder: &Path, name: &str, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
    Ok(file.write_all(text.as_bytes())?)
}

fn set_len(folder: &Path, name: &str, len: u64) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(folder.join(name))?.set_len(len)?)
}

fn replace(folder: &Path, name: &str, text: &str) -> Result<()> {
    let temporary = folder.join(format!(".{name}.tmp"));
    fs::write(&temporary, text)?;
    Ok(fs::rename(temporary, folder.join(name))?)
}

/// Writes the new text beside, moves the old file away, the new one in its place, and removes the old.
fn word(folder: &Path, name: &str, text: &str) -> Result<()> {
    let (new, old) = (folder.join("~WRD0001.tmp"), folder.join("~WRL0002.tmp"));
    fs::write(folder.join("~$report.docx"), "anna")?;
    fs::write(&new, text)?;
    fs::rename(folder.join(name), &old)?;
    fs::rename(new, folder.join(name))?;
    fs::remove_file(old)?;
    Ok(fs::remove_file(folder.join("~$report.docx"))?)
}

fn vim(folder: &Path, name: &str, text: &str) -> Result<()> {
    run_vim(folder, name, text, "set nobackup writebackup backupcopy=no")
}

fn vim_with_backup(folder: &Path, name: &str, text: &str) -> Result<()> {
    run_vim(folder, name, text, "set backup backupcopy=no backupdir=.")
}

fn run_vim(folder: &Path, name: &str, text: &str, settings: &str) -> Result<()> {
    let mut command = Command::new("vim");
    // By default nothing below /tmp gets a backup.
    command.args(["-u", "NONE", "-i", "NONE", "-es", "-c", "set backupskip=", "-c", settings]);
    command.args(["-c", &format!("%s/.*/{text}/"), "-c", "wq", name]);
    tools::run(command.current_dir(folder).env("HOME", folder)).map(drop)
}

fn exchange(folder: &Path, a: &str, b: &str) -> Result<()> {
    keepshare_support::tree::exchange(&folder.join(a), &folder.join(b))
}

fn sql(database: &Path, statements: &str) -> Result<String> {
    let timeout = Duration::from_secs(10).as_millis();
    let mut command = Command::new("sqlite3");
    command.arg("-cmd").arg(format!(".timeout {timeout}")).arg(database).arg(statements);
    let output = tools::run(&mut command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
