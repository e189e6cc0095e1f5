//! The drive as a Linux kernel mounts it: everything that only reads.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, ensure};

use keepshare_e2e::SOON;
use keepshare_support::{
    Drive, KernelClient, Reply, Scratch, Wiring,
    drive::{ANNA, next_second, time_of, write_as},
    in_scratch, tools, tree,
    tree::TreeSpec,
    wait_for, wait_until,
};

/// A word that is in so many live files, and in the history of more.
const WORD: &str = "quagga";

/// How often the drive is compared while something else changes.
const COMPARISONS: usize = 2;

/// The tools of every day find on the drive what is on the master: now, and as of any time that can be typed.
#[test]
fn the_drive_reads_like_the_folder_it_was_made_from() -> Result<()> {
    if let Some(reason) = KernelClient::hindrance() {
        tools::skip("the_drive_reads_like_the_folder_it_was_made_from", reason);
        return Ok(());
    }
    in_scratch("kernel-reading", read_like_the_folder)
}

fn read_like_the_folder(scratch: &mut Scratch) -> Result<()> {
    let seed = tools::seed("kernel-reading");
    let mut desk = Desk::new(scratch, seed)?;
    // Each says something of its own: all are asked, whatever the first one answers.
    let checks: [(&str, Check); 8] = [
        ("walks", Desk::walks_are_clean),
        ("unchanged", Desk::unchanged_folders_equal_while_others_change),
        ("equal", Desk::all_of_it_equals_when_in_sync),
        ("versions", Desk::old_versions_hold_what_was_written),
        ("deleted", Desk::deleted_files_can_be_read_and_copied),
        ("then", Desk::a_folder_as_of_a_time_equals_the_copy_of_then),
        ("private", Desk::another_user_gets_nothing),
        ("searches", Desk::searches_stay_out_of_history),
    ];
    let mut wrong = Vec::new();
    for (what, check) in checks {
        let began = Instant::now();
        let outcome = check(&mut desk);
        eprintln!("{what}: {:.1?}", began.elapsed());
        wrong.extend(outcome.err().map(|error| format!("{what}: {error:#}")));
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// One thing that is asked of the drive.
type Check = fn(&mut Desk) -> Result<()>;

/// A drive with a past, and a guest that has mounted it for anna and for bob.
struct Desk {
    source: PathBuf,
    drive: Drive,
    guest: KernelClient,
    /// When each content of the report was saved, the oldest first.
    saved: Vec<(String, String)>,
    /// When `then/` was copied.
    then: String,
}

impl Desk {
    fn new(scratch: &Scratch, seed: u64) -> Result<Self> {
        let source = scratch.make_dir("source")?;
        grow(&source, seed)?;
        let drive = Drive::served(scratch, &source, Wiring::Loopback)?;
        let saved = save_thrice(&drive, &source)?;
        make_private(&drive, &source)?;
        let then = copy_then(scratch, &drive, &source)?;
        change_everything(&source)?;
        drive.cluster.in_sync_within(SOON)?;
        let guest = KernelClient::boot(scratch, drive.port())?;
        guest.mount(&drive.log_in_shared("anna")?, "/mnt/anna")?;
        let printed = drive.mount_command("bob", "$NFS_SERVER", "/mnt/bob")?;
        guest.run(&format!("mkdir /mnt/bob && {printed}"))?.ok().context(printed)?;
        copy(&scratch.join("then"), &guest.share().join("then"))?;
        fs::create_dir(guest.share().join("got"))?;
        Ok(Self { source, drive, guest, saved, then })
    }

    fn walks_are_clean(&mut self) -> Result<()> {
        for walk in
            ["ls -la", "ls -laR", "find .", "find . -type f -exec cat {} +", "du -a", "du -s"]
        {
            clean(self.guest.run(&format!("cd /mnt/anna && {walk}"))?).context(walk)?;
        }
        let told = clean(self.guest.run(
            r"cd /mnt/anna && find . -name @versions -prune -o -printf '%y %s %m %U %P\n'",
        )?)?;
        let seen: BTreeSet<String> =
            String::from_utf8(told.out)?.lines().map(without_folder_size).collect();
        let mut find = Command::new("find");
        find.arg(&self.source).args(["-printf", r"%y %s %m %U %P\n"]);
        let there = String::from_utf8(tools::run(&mut find)?.stdout)?;
        let there: BTreeSet<String> = there.lines().map(without_folder_size).collect();
        let differ: Vec<_> = seen.symmetric_difference(&there).collect();
        ensure!(differ.is_empty(), "only on one side: {differ:?}");
        Ok(())
    }

    fn unchanged_folders_equal_while_others_change(&mut self) -> Result<()> {
        self.give("stable")?;
        let (is_over, edits) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            let editing = scope.spawn(|| self.edit_until(&is_over, &edits));
            let compared = (0..COMPARISONS).try_for_each(|_| {
                let before = edits.load(Ordering::Relaxed);
                wait_until(SOON, "something changes", || edits.load(Ordering::Relaxed) > before)?;
                clean(self.guest.run("diff -r --no-dereference $SHARE/stable /mnt/anna/stable")?)?;
                Ok(())
            });
            is_over.store(true, Ordering::Relaxed);
            editing.join().map_err(|_| anyhow::anyhow!("the editor panicked"))??;
            compared
        })
    }

    fn edit_until(&self, is_over: &AtomicBool, edits: &AtomicUsize) -> Result<()> {
        let (busy, live) = (self.source.join("busy"), self.drive.cluster.live()?);
        while !is_over.load(Ordering::Relaxed) {
            let number = edits.fetch_add(1, Ordering::Relaxed);
            fs::write(busy.join(format!("f{}", number % 20)), format!("edit {number}"))?;
            fs::write(busy.join("new"), format!("{number}"))?;
            fs::rename(busy.join("new"), busy.join(format!("renamed{}", number % 7)))?;
            if number.is_multiple_of(3) {
                fs::remove_file(busy.join(format!("f{}", number % 20)))?;
            }
            // As fast as the stations follow: they shall be busy, not the queue long.
            let arrived = live.join(format!("busy/renamed{}", number % 7));
            let number = number.to_string();
            wait_until(SOON, "an edit arrives", || {
                fs::read_to_string(&arrived).is_ok_and(|content| content == number)
            })?;
        }
        Ok(())
    }

    fn all_of_it_equals_when_in_sync(&mut self) -> Result<()> {
        self.drive.cluster.in_sync_within(SOON)?;
        copy(&self.source, &self.guest.share().join("all"))?;
        // What a client looked at before may be a second old.
        self.guest.mount(&self.drive.log_in_shared("anna")?, "/mnt/fresh")?;
        let script = "diff -r --no-dereference -x @versions $SHARE/all /mnt/fresh";
        clean(self.guest.run(script)?)?;
        Ok(())
    }

    fn old_versions_hold_what_was_written(&mut self) -> Result<()> {
        let (mut script, mut expected) = (String::new(), String::new());
        let mut cat = |path: &str, content: &str| {
            script += &format!("echo '{path}'; cat {path}\n");
            expected += &format!("{path}\n{content}");
        };
        let history = "notes/@versions/report.txt@";
        for (time, content) in &self.saved {
            for typed in [time.clone(), format!("{time}.txt"), second_of(time)] {
                cat(&format!("{history}/{typed}"), content);
            }
            cat(&format!("@versions/{time}/notes/report.txt"), content);
        }
        // Listed names sort by time.
        let all: String = self.saved.iter().map(|(_, content)| content.as_str()).collect();
        cat(&format!("{history}/2*.txt"), &all);
        script += &format!(
            "wc -l <{history}/_history.csv; cat {history}/2001-01-01 2>/dev/null && echo something"
        );
        expected += &format!("{}\n", self.saved.len() + 1);
        let told = self.guest.run(&format!("cd /mnt/anna; {script}"))?;
        ensure!(
            text(&told.out) == expected,
            "{}{}\ninstead of\n{expected}",
            told.err,
            text(&told.out)
        );
        Ok(())
    }

    fn deleted_files_can_be_read_and_copied(&mut self) -> Result<()> {
        let script = "cd /mnt/anna/notes/@versions/_deleted && ls && cat gone.txt@/2*.txt && \
                      cp -p gone.txt@/2*.txt $SHARE/got/gone && cp -r gone.txt@ $SHARE/got/";
        let told = clean(self.guest.run(script)?)?;
        ensure!(text(&told.out) == "burnt.txt@\ngone.txt@\nwas here", "{:?}", text(&told.out));
        ensure!(fs::read(self.guest.share().join("got/gone"))? == b"was here");
        ensure!(self.guest.share().join("got/gone.txt@/_history.csv").is_file());
        Ok(())
    }

    fn a_folder_as_of_a_time_equals_the_copy_of_then(&mut self) -> Result<()> {
        for (there, folder) in [("", ""), ("notes", "notes/")] {
            let view = format!("/mnt/anna/{folder}@versions/{}", self.then);
            let script =
                format!("diff -r --no-dereference -x @versions $SHARE/then/{there} {view}");
            clean(self.guest.run(&script)?).context(view)?;
        }
        let told = self.guest.run(&format!("touch /mnt/anna/@versions/{}/x", self.then))?;
        ensure!(told.err.contains("Read-only"), "the past can be written: {}", told.err);
        Ok(())
    }

    fn another_user_gets_nothing(&mut self) -> Result<()> {
        let then = &self.then;
        let files = [
            "private/plan.txt".to_owned(),
            "notes/diary.txt".to_owned(),
            "private/@versions/plan.txt@/latest.txt".to_owned(),
            "notes/@versions/diary.txt@/latest".to_owned(),
            format!("notes/@versions/diary.txt@/{then}.txt"),
            format!("@versions/{then}/private/plan.txt"),
            format!("@versions/{then}/notes/burnt.txt"),
            format!("notes/@versions/{then}/burnt.txt"),
        ];
        let script = format!(
            "for path in {}; do
                 grep -q 'anna only' /mnt/anna/$path || echo anna cannot read $path
                 cat /mnt/bob/$path 2>/dev/null && echo bob reads $path
             done
             for place in private private/@versions notes/@versions notes/@versions/_deleted @versions/{then}; do
                 for user in anna bob; do
                     find /mnt/$user/$place 2>/dev/null | grep -E 'plan.txt|diary.txt@|burnt.txt' >/tmp/$user
                 done
                 [ -s /tmp/anna ] || echo anna finds nothing in $place
                 [ -s /tmp/bob ] && echo bob finds in $place: && cat /tmp/bob
             done
             exit 0",
            files.join(" ")
        );
        let told = clean(self.guest.run(&script)?)?;
        ensure!(told.out.is_empty(), "{}", text(&told.out));
        let told = self.guest.run("grep -r 'anna only' /mnt/bob")?;
        ensure!(told.out.is_empty(), "bob greps {}", text(&told.out));
        let told = self.guest.run("grep -r 'anna only' /mnt/anna")?;
        ensure!(!told.out.is_empty(), "anna does not find her own");
        Ok(())
    }

    /// The last check: it starts the station anew.
    fn searches_stay_out_of_history(&mut self) -> Result<()> {
        let live = "grep -r quagga /mnt/anna --exclude-dir=@versions | wc -l";
        ensure!(self.count(live)? == WORD_FILES, "the live files do not hold the word");
        // `@versions` is listed at the top alone; there it can be searched.
        let listed = "find /mnt/anna -name @versions | sed 's:^/mnt/anna/::'";
        let told = clean(self.guest.run(listed)?)?;
        ensure!(text(&told.out) == "@versions\n", "listed are {}", text(&told.out));
        ensure!(self.count("grep -rl quagga /mnt/anna/@versions/ | wc -l")? > 0);
        self.drive.cluster.store.stop()?;
        self.drive.show("never")?;
        self.drive.cluster.store.start()?;
        self.guest.mount(&self.drive.log_in_shared("anna")?, "/mnt/never")?;
        ensure!(
            self.count("grep -r quagga /mnt/never | wc -l")? == WORD_FILES,
            "grep walks into history"
        );
        ensure!(self.count("find /mnt/never -name '@*' | wc -l")? == 0, "history is listed");
        clean(self.guest.run("ls /mnt/never/@versions/ /mnt/never/notes/@versions/report.txt@")?)?;
        Ok(())
    }

    fn count(&self, script: &str) -> Result<usize> {
        let told = clean(self.guest.run(script)?)?;
        text(&told.out).trim().parse().with_context(|| format!("{script}: {}", text(&told.out)))
    }

    /// Gives the guest a copy of a folder of the source.
    fn give(&self, folder: &str) -> Result<()> {
        copy(&self.source.join(folder), &self.guest.share().join(folder))
    }
}

/// In how many live files the word is.
const WORD_FILES: usize = 4;

fn grow(source: &Path, seed: u64) -> Result<()> {
    tree::grow(&source.join("stable"), TreeSpec { files: 40, odd: false, seed })?;
    tree::write_random(&source.join("stable/large"), 1 << 20, seed)?;
    symlink("d000/f00000", source.join("stable/link"))?;
    fs::write(source.join("stable/Grüße, mit Abstand"), "ein Name")?;
    fs::hard_link(source.join("stable/large"), source.join("stable/same"))?;
    fs::create_dir_all(source.join("busy"))?;
    fs::create_dir_all(source.join("old/folder"))?;
    fs::write(source.join("old/folder/file"), "of old")?;
    for number in 0..WORD_FILES {
        write_as(ANNA, &source.join(format!("words/{number}")), &format!("a {WORD} here\n"))?;
    }
    fs::write(source.join("top.txt"), format!("the {WORD} was here\n"))?;
    write_as(ANNA, &source.join("notes/gone.txt"), "was here")?;
    for path in ["private/plan.txt", "notes/diary.txt", "notes/burnt.txt"] {
        write_as(ANNA, &source.join(path), "anna only")?;
    }
    let owner = format!("{ANNA}:{ANNA}");
    tools::run(Command::new("chown").args(["-hR", &owner]).arg(source))?;
    Ok(())
}

/// Saves a report three times, each in a second of its own, and returns when and what.
fn save_thrice(drive: &Drive, source: &Path) -> Result<Vec<(String, String)>> {
    let mut saved = Vec::new();
    for (number, content) in
        ["the first\n", "and a second\n", "at last a third one\n"].iter().enumerate()
    {
        next_second()?;
        write_as(ANNA, &source.join("notes/report.txt"), content)?;
        let versions = drive.versions_within(SOON, "notes/report.txt", number + 1)?;
        ensure!(versions.len() == number + 1, "one save made several versions: {versions:?}");
        saved.push((time_of(&versions[0])?.to_owned(), (*content).to_owned()));
    }
    Ok(saved)
}

/// Closes what is anna's alone, and changes it, so that it has versions from before and after.
fn make_private(drive: &Drive, source: &Path) -> Result<()> {
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(source.join(path), fs::Permissions::from_mode(mode))
    };
    mode("private", 0o700)?;
    mode("notes/diary.txt", 0o600)?;
    mode("notes/burnt.txt", 0o600)?;
    fs::write(source.join("private/plan.txt"), "anna only, again")?;
    wait_for(SOON, "the plan is saved", || {
        Ok(drive.versions("private/plan.txt")?.into_iter().find(|version| version["size"] == 16))
    })?;
    Ok(())
}

/// Copies the source while nothing changes, and returns a time at which it was like that.
fn copy_then(scratch: &Scratch, drive: &Drive, source: &Path) -> Result<String> {
    fs::write(source.join("marker"), "then")?;
    let marked = drive.versions_within(SOON, "marker", 1)?;
    drive.cluster.in_sync_within(SOON)?;
    copy(source, &scratch.join("then"))?;
    Ok(time_of(&marked[0])?.to_owned())
}

fn change_everything(source: &Path) -> Result<()> {
    for path in ["notes/gone.txt", "notes/burnt.txt", "marker", "top.txt"] {
        fs::remove_file(source.join(path))?;
    }
    fs::remove_dir_all(source.join("old"))?;
    fs::rename(source.join("words"), source.join("phrases"))?;
    fs::write(source.join("old"), "a file where a folder was")?;
    write_as(ANNA, &source.join("new/file"), "new")?;
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    tools::run(Command::new("cp").arg("-a").arg(from).arg(to)).map(|_| ())
}

/// Returns itself when a program ended well and complained of nothing.
fn clean(reply: Reply) -> Result<Reply> {
    let out = text(&reply.out);
    let shown: String = out.chars().take(2000).collect();
    ensure!(
        reply.code == Some(0) && reply.err.is_empty(),
        "exit code {:?}: {}\n{shown}",
        reply.code,
        reply.err
    );
    Ok(reply)
}

/// Leaves the size out of a line of find for a folder: each file system has its own.
fn without_folder_size(line: &str) -> String {
    let mut fields: Vec<&str> = line.splitn(5, ' ').collect();
    if fields[0] == "d" {
        fields[1] = "";
    }
    fields.join(" ")
}

/// Returns a printed time to its second, as a person types it.
fn second_of(time: &str) -> String {
    let second = time.split('.').next().unwrap_or(time);
    format!("{}Z", second.trim_end_matches('Z').replace('T', "_").replace(':', "."))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
