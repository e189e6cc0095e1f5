//! Moving a version onto the live name, with a Linux kernel as the client.
//!
//! The kernel believes much by itself after a rename: each of these was once a way to see old bytes, to lose the live
//! file, or to wait for ever.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use rand::{Rng, SeedableRng, rngs::StdRng};

use keepshare_e2e::{SOON, restore_kills};
use keepshare_support::{
    Aspects, Drive, KernelClient, Scratch, Snapshot, Wiring,
    drive::{ANNA, BOB, next_second, time_of, write_as},
    in_scratch, tools, wait_until,
};

/// How long the client waits for one restore, in seconds: less than this is no endless retry.
const PATIENCE_S: u32 = 60;

/// Users roll their own files back, and nothing but what they asked for happens, once, or they are told that it did not.
#[test]
fn a_version_moved_onto_the_live_name_comes_back_once_or_not_at_all() -> Result<()> {
    if let Some(reason) = KernelClient::hindrance() {
        tools::skip("a_version_moved_onto_the_live_name_comes_back_once_or_not_at_all", reason);
        return Ok(());
    }
    in_scratch("kernel-restoring", restore_by_moving)
}

fn restore_by_moving(scratch: &mut Scratch) -> Result<()> {
    let seed = tools::seed("kernel-restoring");
    let mut desk = Desk::new(scratch, seed)?;
    let checks: [(&str, Check); 10] = [
        ("back", Desk::a_version_comes_back),
        ("equal", Desk::what_is_there_already_is_answered),
        ("to and fro", Desk::what_is_read_is_always_what_came_back_last),
        ("deleted", Desk::a_deleted_file_and_one_of_a_past_folder_come_back),
        ("folder", Desk::a_folder_of_a_view_comes_back_to_a_free_name),
        ("writing", Desk::all_other_writing_is_refused),
        ("rights", Desk::whoever_may_not_write_is_refused),
        ("killed", Desk::a_killed_station_restores_once),
        ("held", Desk::a_station_killed_before_the_master_heard_restores_once),
        ("away", Desk::without_its_master_nothing_happens_soon),
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

/// What `doc.txt` was, the oldest first.
const SAVED: [&str; 3] = ["the first\n", "the second, longer\n", "the third and last one\n"];

/// A file with three versions, and a guest that has mounted the drive for three users.
struct Desk {
    doc: PathBuf,
    theirs: PathBuf,
    drive: Drive,
    guest: KernelClient,
    random: StdRng,
}

/// How often a file was restored, and how many versions it has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Past {
    restored: usize,
    versions: usize,
}

impl Desk {
    fn new(scratch: &Scratch, seed: u64) -> Result<Self> {
        let source = scratch.make_dir("source")?;
        let (doc, theirs) = (source.join("desk/doc.txt"), source.join("desk/theirs.txt"));
        write_as(ANNA, &doc, SAVED[0])?;
        write_as(BOB, &theirs, SAVED[0])?;
        write_as(ANNA, &doc, SAVED[0])?;
        let drive = Drive::served(scratch, &source, Wiring::Relayed)?;
        for (number, content) in SAVED.iter().enumerate().skip(1) {
            next_second()?;
            for (path, name) in [(&doc, "desk/doc.txt"), (&theirs, "desk/theirs.txt")] {
                fs::write(path, content)?;
                drive.versions_within(SOON, name, number + 1)?;
            }
        }
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o444))?;
        drive.cluster.in_sync_within(SOON)?;
        drive.add_user("reader", ANNA, &["--read-only"])?;
        let guest = KernelClient::boot(scratch, drive.port())?;
        for user in ["anna", "reader"] {
            guest.mount(&drive.log_in_shared(user)?, &format!("/mnt/{user}"))?;
        }
        Ok(Self { doc, theirs, drive, guest, random: StdRng::seed_from_u64(seed) })
    }

    fn a_version_comes_back(&mut self) -> Result<()> {
        let before = self.past("doc.txt")?;
        let names = self.names("doc.txt")?;
        ensure!(names.len() == SAVED.len(), "the history lists {names:?}");
        let script = format!(
            "cd /mnt/anna/desk && cat doc.txt && {} && cat doc.txt && wc -c <doc.txt",
            moving("anna", "doc.txt", &names[0])
        );
        let told = self.guest.run(&script)?.ok()?;
        let seen = format!("{}{}{}\n", SAVED[2], SAVED[0], SAVED[0].len());
        ensure!(text(&told.out) == seen, "the client sees {:?}", text(&told.out));
        ensure!(fs::read_to_string(&self.doc)? == SAVED[0], "the master's file is another");
        let after = self.settled("doc.txt")?;
        ensure!(after.restored == before.restored + 1, "{before:?} {after:?}");
        ensure!(after.versions == before.versions + 1, "{before:?} {after:?}");
        let log = fs::read_to_string(self.drive.cluster.store.state().join("audit.log"))?;
        let mut of_restores =
            log.lines().rev().filter(|line| line.contains("\"event\":\"restore\""));
        let line = of_restores.next().context("the audit log tells of no restore")?;
        for told in [
            "\"user\":\"anna\"",
            "\"path\":\"desk/doc.txt\"",
            "\"result\":\"written\"",
            "\"version\":\"v1.",
            "\"session\":\"",
            "\"address\":\"",
        ] {
            ensure!(line.contains(told), "{told} is not in {line}");
        }
        let now = self.names("doc.txt")?;
        ensure!(names.iter().all(|name| now.contains(name)), "{names:?} are {now:?} now");
        for (name, content) in names.iter().zip(SAVED) {
            let path = format!("/mnt/anna/desk/@versions/doc.txt@/{name}");
            let told = self.guest.run(&format!("cat {path}"))?.ok()?;
            ensure!(text(&told.out) == content, "{name} is {:?} now", text(&told.out));
        }
        self.an_edit_is_seen("and on it goes")
    }

    /// After a rename the kernel thinks that the live name is the version's file.
    fn an_edit_is_seen(&self, content: &str) -> Result<()> {
        let script = format!(
            "until [ \"$(cat /mnt/anna/desk/doc.txt)\" = '{content}' ]; do sleep 0.05; done"
        );
        fs::write(&self.doc, content)?;
        let began = Instant::now();
        self.guest.start(&script)?.wait(SEEN_WITHIN).context("the edit is not seen")?.ok()?;
        eprintln!("an edit after a restore was seen after {:.1?}", began.elapsed());
        Ok(())
    }

    fn what_is_there_already_is_answered(&mut self) -> Result<()> {
        self.settled("doc.txt")?;
        let there = fs::read(&self.doc)?;
        let names = self.names("doc.txt")?;
        let newest = names.last().context("there are versions")?;
        self.guest.run(&moving("anna", "doc.txt", newest))?.ok()?;
        ensure!(fs::read(&self.doc)? == there, "the master's file has changed");
        self.an_edit_is_seen("after what was equal")
    }

    /// Two versions of one size, so that nothing but the times tells a client that what it has in memory is old.
    fn what_is_read_is_always_what_came_back_last(&mut self) -> Result<()> {
        let contents = ["one thing", "or the other"].map(|text| format!("{text:<16}"));
        for content in &contents {
            next_second()?;
            let versions = self.past("doc.txt")?.versions;
            fs::write(&self.doc, content)?;
            self.drive.versions_within(SOON, "desk/doc.txt", versions + 1)?;
        }
        self.settled("doc.txt")?;
        // A name without microseconds means one version only while its second holds no other.
        next_second()?;
        let names = self.names("doc.txt")?;
        let newest = &names[names.len() - contents.len()..];
        let moves: Vec<String> =
            newest.iter().map(|name| moving("anna", "doc.txt", name)).collect();
        let script = format!(
            "cd /mnt/anna/desk && for i in $(seq {TO_AND_FRO}); do
                 {} && cat doc.txt && {} && cat doc.txt || exit 1
             done",
            moves[0], moves[1]
        );
        let told = self.guest.run(&script)?.ok()?;
        ensure!(text(&told.out) == contents.concat().repeat(TO_AND_FRO), "{}", text(&told.out));
        // Another mount did not do it, and may be as late as it says.
        let script = format!(
            "until [ \"$(cat /mnt/reader/desk/doc.txt)\" = '{}' ]; do sleep 0.05; done",
            contents[1]
        );
        self.guest.start(&script)?.wait(SEEN_WITHIN)?.ok()?;
        Ok(())
    }

    fn a_deleted_file_and_one_of_a_past_folder_come_back(&mut self) -> Result<()> {
        let gone = self.doc.with_file_name("gone.txt");
        write_as(ANNA, &gone, "it was here")?;
        let saved = self.drive.versions_within(SOON, "desk/gone.txt", 1)?;
        let then = time_of(&saved[0])?;
        self.drive.cluster.in_sync_within(SOON)?;
        for from in
            ["@versions/_deleted/gone.txt@/2*.txt".to_owned(), format!("@versions/{then}/gone.txt")]
        {
            fs::remove_file(&gone)?;
            self.drive.cluster.in_sync_within(SOON)?;
            let script = format!(
                "cd /mnt/anna/desk && while [ -e gone.txt ]; do :; done
                 timeout -s KILL {PATIENCE_S} mv {from} gone.txt && cat gone.txt"
            );
            let told = self.guest.run(&script)?.ok().with_context(|| from.clone())?;
            ensure!(text(&told.out) == "it was here", "{from}: {:?}", text(&told.out));
            ensure!(fs::read(&gone)? == b"it was here", "{from}: the master has another");
            self.settled("gone.txt")?;
        }
        Ok(())
    }

    /// The kernel thinks that it has moved the folder of the view itself: what it shows must be the new one, and the view whole.
    fn a_folder_of_a_view_comes_back_to_a_free_name(&mut self) -> Result<()> {
        let desk = self.doc.parent().context("a file is in a folder")?.to_owned();
        let (plan, copy) = (desk.join("plan"), desk.join("plan-then"));
        fs::create_dir_all(plan.join("deep/er"))?;
        for number in 0..50 {
            write_as(ANNA, &plan.join(format!("deep/{number}.txt")), &number.to_string())?;
        }
        std::os::unix::fs::symlink("deep/7.txt", plan.join("link"))?;
        std::os::unix::fs::lchown(plan.join("link"), Some(ANNA), Some(ANNA))?;
        for folder in ["", "deep", "deep/er"] {
            std::os::unix::fs::chown(plan.join(folder), Some(ANNA), Some(ANNA))?;
        }
        self.drive.cluster.in_sync_within(SOON)?;
        let then = Snapshot::of(&plan, Aspects::ours())?;
        next_second()?;
        let moment = chrono::Utc::now().format("%Y-%m-%d_%H.%M.%SZ").to_string();
        next_second()?;
        fs::write(plan.join("deep/7.txt"), "encrypted")?;
        fs::remove_dir(plan.join("deep/er"))?;
        self.drive.cluster.in_sync_within(SOON)?;
        let from = format!("@versions/{moment}/plan");
        let script = format!(
            "cd /mnt/anna/desk
             timeout -s KILL {PATIENCE_S} mv -T {from} plan && exit 9
             timeout -s KILL {PATIENCE_S} mv {from} plan-then || exit 8
             cat plan-then/link plan/deep/7.txt {from}/deep/7.txt && ls plan-then/deep | wc -l"
        );
        let told = self.guest.run(&script)?.ok()?;
        ensure!(text(&told.out) == "7encrypted751\n", "the client sees {:?}", text(&told.out));
        let differences = then.differences(&Snapshot::of(&copy, Aspects::ours())?);
        ensure!(differences.is_empty(), "it came back otherwise: {differences:?}");
        ensure!(fs::read_to_string(plan.join("deep/7.txt"))? == "encrypted", "it was replaced");
        fs::write(copy.join("deep/7.txt"), "worked on")?;
        let script = "until [ \"$(cat /mnt/anna/desk/plan-then/deep/7.txt)\" = 'worked on' ]; do sleep 0.05; done";
        self.guest.start(script)?.wait(SEEN_WITHIN).context("the edit is not seen")?.ok()?;
        let whole = format!("ls /mnt/anna/desk/{from}/deep | wc -l");
        ensure!(text(&self.guest.run(&whole)?.ok()?.out) == "51\n", "the view has lost something");
        // It is a roll-back like any, and hers.
        let list = self.drive.cluster.store.call(["rollback", "--list", "--json"])?.ok()?.json()?;
        ensure!(list[0]["path"] == "desk/plan-then" && list[0]["state"] == "done", "{list}");
        for folder in [&plan, &copy] {
            fs::remove_dir_all(folder)?;
        }
        self.drive.cluster.in_sync_within(SOON)
    }

    /// Above all no move may end as a copy and a removal, which is what clients do after some refusals.
    fn all_other_writing_is_refused(&mut self) -> Result<()> {
        self.settled("doc.txt")?;
        let desk = self.doc.parent().context("a file is in a folder")?.to_owned();
        let before = Snapshot::of(&desk, Aspects::ALL)?;
        let version = format!("@versions/doc.txt@/{}", self.names("doc.txt")?[0]);
        let commands = [
            "touch new",
            "touch doc.txt",
            "rm -f doc.txt",
            "mkdir new",
            "ln doc.txt new",
            "ln -s doc.txt new",
            "chmod 777 doc.txt",
            "truncate -s 0 doc.txt",
            "mv doc.txt new",
            "mv theirs.txt doc.txt",
            "mv doc.txt @versions/doc.txt@/",
            &format!("cp {version} doc.txt"),
            &format!("rm -f {version}"),
            &format!("mv {version} @versions/doc.txt@/new"),
            &format!("mv {version} ../@versions/new"),
            &format!("mv {version} /mnt/reader/desk/doc.txt"),
            "mv @versions/doc.txt@ new",
            "mv @versions/latest new",
            "rm -rf @versions/doc.txt@",
        ];
        let refused = |command: &&str| {
            format!(
                "timeout -s KILL {PATIENCE_S} {command} 2>/dev/null
                 code=$?; [ $code = 1 ] || echo '{command} ended with' $code\n"
            )
        };
        let script: String = commands.iter().map(refused).collect();
        let told = self.guest.run(&format!("cd /mnt/anna/desk\n{script}"))?.ok()?;
        ensure!(told.out.is_empty(), "{}", text(&told.out));
        self.drive.cluster.in_sync_within(SOON)?;
        let changes = before.differences(&Snapshot::of(&desk, Aspects::ALL)?);
        ensure!(changes.is_empty(), "something has changed: {changes:?}");
        self.guest.run(&format!("cat /mnt/anna/desk/{version}"))?.ok()?;
        Ok(())
    }

    fn whoever_may_not_write_is_refused(&mut self) -> Result<()> {
        for (user, file, path) in [
            ("reader", "doc.txt", &self.doc),
            // Hers is the folder, the file is not.
            ("anna", "theirs.txt", &self.theirs),
        ] {
            let (before, there) = (self.settled(file)?, fs::read(path)?);
            let names = self.names(file)?;
            let told = self.guest.run(&moving(user, file, &names[0]))?;
            ensure!(told.code == Some(1), "{user} restores {file}: {:?} {}", told.code, told.err);
            ensure!(fs::read(path)? == there, "{user} has changed {file}");
            let live = format!("cat /mnt/{user}/desk/{file}");
            ensure!(self.guest.run(&live)?.ok()?.out == there, "{user} sees another {file}");
            ensure!(self.settled(file)? == before, "{user} has left something in the history");
        }
        Ok(())
    }

    fn a_killed_station_restores_once(&mut self) -> Result<()> {
        for kill in 1..=restore_kills() {
            let wait_for_master = self.random.random_bool(0.5);
            let delay = Duration::from_millis(self.random.random_range(0..60));
            let before = self.edited()?;
            self.restored_once_though(before, |desk| {
                if wait_for_master {
                    let done = || fs::read_to_string(&desk.doc).is_ok_and(|now| now == SAVED[0]);
                    wait_until(SOON, "the master has written", done)?;
                } else {
                    // Any moment will do, the seed says which.
                    std::thread::sleep(delay);
                }
                desk.drive.cluster.store.kill()
            })
            .with_context(|| {
                format!("kill {kill}, {delay:?}, after the master: {wait_for_master}")
            })?;
        }
        Ok(())
    }

    fn a_station_killed_before_the_master_heard_restores_once(&mut self) -> Result<()> {
        let before = self.edited()?;
        self.drive.cluster.relay.as_ref().context("there is a relay")?.swallow();
        self.restored_once_though(before, |desk| {
            ensure!(fs::read_to_string(&desk.doc)? != SAVED[0], "the master heard of it");
            desk.drive.cluster.store.kill()?;
            desk.drive.cluster.relay.as_ref().context("there is a relay")?.heal();
            Ok(())
        })
    }

    /// Writes what no version holds, and returns the history with it.
    fn edited(&mut self) -> Result<Past> {
        let before = self.settled("doc.txt")?;
        fs::write(&self.doc, format!("something else {}", self.random.random::<u64>()))?;
        self.drive.versions_within(SOON, "desk/doc.txt", before.versions + 1)?;
        self.settled("doc.txt")
    }

    /// Moves the oldest version onto the live name, does `harm`, which ends the store, while the client waits, and starts
    /// the store again.
    fn restored_once_though(
        &mut self,
        before: Past,
        harm: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let names = self.names("doc.txt")?;
        let sign = self.guest.share().join("renaming");
        // The kernel counts its calls as it makes them: RENAME is the 15th of NFSv3. No program is started in this loop,
        // a guest without a processor of its own would take long for it.
        let script = format!(
            "renames() {{
                 while read -r line; do
                     case $line in proc3*) set -- $line; count=${{17}} ;; esac
                 done </proc/net/rpc/nfs
             }}
             renames
             before=$count
             {} &
             pid=$!
             while [ $count = $before ] && [ -e /proc/$pid ]; do renames; done
             : >$SHARE/renaming
             wait $pid",
            moving("anna", "doc.txt", &names[0])
        );
        let job = self.guest.start(&script)?;
        wait_until(SOON, "the client asks for a restore", || sign.exists())?;
        let harmed = harm(self);
        self.drive.cluster.store.start()?;
        fs::remove_file(sign)?;
        let told = job.wait(Duration::from_secs(u64::from(PATIENCE_S) * 2))?;
        harmed?;
        ensure!(told.code == Some(0), "mv ended with {:?}: {}", told.code, told.err);
        let after = self.settled("doc.txt")?;
        ensure!(fs::read_to_string(&self.doc)? == SAVED[0], "the master's file is another");
        let once = Past { restored: before.restored + 1, versions: before.versions + 1 };
        ensure!(after == once, "it was {before:?} and is {after:?}");
        let told = self.guest.run("cat /mnt/anna/desk/doc.txt")?.ok()?;
        ensure!(text(&told.out) == SAVED[0], "the client sees {:?}", text(&told.out));
        Ok(())
    }

    fn without_its_master_nothing_happens_soon(&mut self) -> Result<()> {
        let before = self.settled("doc.txt")?;
        fs::write(&self.doc, "to be kept")?;
        let before = Past { versions: before.versions + 1, ..before };
        ensure!(self.settled("doc.txt")? == before);
        let names = self.names("doc.txt")?;
        self.drive.cluster.office.kill()?;
        let began = Instant::now();
        let told = self.guest.run(&moving("anna", "doc.txt", &names[0]))?;
        eprintln!("without a master mv said after {:.1?}: {}", began.elapsed(), told.err.trim());
        ensure!(told.code == Some(1), "mv ended with {:?}: {}", told.code, told.err);
        ensure!(fs::read_to_string(&self.doc)? == "to be kept");
        let told = self.guest.run("cat /mnt/anna/desk/doc.txt")?.ok()?;
        ensure!(text(&told.out) == "to be kept", "the client sees {:?}", text(&told.out));
        self.drive.cluster.office.start()?;
        ensure!(self.settled("doc.txt")? == before, "it was done later");
        self.guest.run(&moving("anna", "doc.txt", &names[0]))?.ok()?;
        ensure!(
            fs::read_to_string(&self.doc)? == SAVED[0],
            "with the master back nothing comes back"
        );
        Ok(())
    }

    /// Returns what a file's history holds, once nothing is on its way.
    fn settled(&self, file: &str) -> Result<Past> {
        self.drive.cluster.in_sync_within(SOON)?;
        self.past(file)
    }

    fn past(&self, file: &str) -> Result<Past> {
        let versions = self.drive.versions(&format!("desk/{file}"))?;
        let restored = versions.iter().filter(|version| version["event"] == "restored").count();
        Ok(Past { restored, versions: versions.len() })
    }

    /// Returns what the drive lists as a file's versions, the oldest first.
    fn names(&self, file: &str) -> Result<Vec<String>> {
        let script = format!("cd /mnt/anna/desk/@versions/{file}@ && ls -1 | grep '^2.*txt$'");
        let told = self.guest.run(&script)?.ok()?;
        Ok(text(&told.out).lines().map(str::to_owned).collect())
    }
}

/// Returns the command that moves a version onto the live name, as a user does, and gives up in the end.
fn moving(user: &str, file: &str, version: &str) -> String {
    let desk = format!("/mnt/{user}/desk");
    format!("timeout -s KILL {PATIENCE_S} mv -f {desk}/@versions/{file}@/{version} {desk}/{file}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How often two versions take turns.
const TO_AND_FRO: usize = 4;

/// How soon an edit on the master has to be seen: what the client knows is a second old at most, the rest is a slow
/// machine's.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
