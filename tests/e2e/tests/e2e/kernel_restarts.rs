//! A drive that stays mounted while its station dies, and until its session is revoked; and folders too large to be listed
//! at once.

use std::{
    collections::HashSet,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};

use keepshare_e2e::{MIRRORED, SOON, folder_entries};
use keepshare_support::{
    Drive, KernelClient, Scratch, Wiring, in_scratch, kernel::Job, tools, tree, tree::TreeSpec,
    wait_for, wait_until,
};

/// How often the station dies under the client.
const KILLS: usize = 10;

/// How soon a revoked session has to be refused: promised is the next call, and a guest that is emulated is slow.
const REVOKED_WITHIN: Duration = Duration::from_secs(10);

/// Somebody works on the drive while the station dies ten times and notices nothing but a delay; when the session is
/// revoked, it ends.
#[test]
fn a_mounted_drive_outlives_its_station_and_ends_when_revoked() -> Result<()> {
    let name = "a_mounted_drive_outlives_its_station_and_ends_when_revoked";
    if let Some(reason) = KernelClient::hindrance() {
        tools::skip(name, reason);
        return Ok(());
    }
    in_scratch("kernel-restarts", outlive_the_station)
}

fn outlive_the_station(scratch: &mut Scratch) -> Result<()> {
    let seed = tools::seed("kernel-restarts");
    let source = scratch.join("source");
    tree::grow(&source.join("tree"), TreeSpec { files: 25, odd: false, seed })?;
    tree::write_random(&source.join("tree/large"), 1 << 20, seed)?;
    let mut drive = Drive::served(scratch, &source, Wiring::Loopback)?;
    let guest = KernelClient::boot(scratch, drive.port())?;
    drive.add_user("root", 0, &[])?;
    guest.mount(&drive.log_in_shared("root")?, "/mnt/drive")?;
    let sums = tools::run(
        Command::new("sh")
            .current_dir(&source)
            .args(["-c", "find tree -type f | sort | xargs cksum"]),
    )?;
    fs::write(guest.share().join("sums"), sums.stdout)?;
    let work = guest.start(WORK)?;
    let rounds = || fs::metadata(guest.share().join("rounds")).map_or(0, |meta| meta.len());
    for kill in 1..=KILLS {
        let before = rounds();
        wait_until(SOON, "the client works", || rounds() > before || work_has_ended(&work))?;
        drive.cluster.store.kill()?;
        drive.cluster.store.start().with_context(|| format!("after kill {kill}"))?;
    }
    let before = rounds();
    // The round that was under way when the last one died, and one more.
    wait_until(SOON, "the client works on", || rounds() > before + 1 || work_has_ended(&work))?;
    fs::write(guest.share().join("enough"), "")?;
    let told = work.wait(SOON)?;
    let said = String::from_utf8_lossy(&told.out);
    ensure!(told.code == Some(0), "the client met an error: {said}{}", told.err);
    eprintln!("{} rounds of reading over {KILLS} kills", rounds());
    end_when_revoked(&drive, &guest)
}

fn work_has_ended(work: &Job) -> bool {
    work.ended().is_ok_and(|ended| ended.is_some())
}

fn end_when_revoked(drive: &Drive, guest: &KernelClient) -> Result<()> {
    let alive = || -> Result<Vec<String>> {
        let sessions = drive.sessions("root")?;
        let alive = sessions.into_iter().filter(|session| session["revoked"].is_null());
        alive.map(|session| Ok(session["id"].as_str().context("an id")?.to_owned())).collect()
    };
    let id = alive()?;
    let [id] = &id[..] else { return Err(anyhow!("the list shows as alive: {id:?}")) };
    let watch = guest.start(WATCH)?;
    wait_until(SOON, "the client reads", || guest.share().join("reading").exists())?;
    ensure!(watch.ended()?.is_none(), "it cannot read before it is revoked");
    drive.cluster.store.call(["session", "revoke", id])?.ok()?;
    let began = Instant::now();
    let told = watch.wait(REVOKED_WITHIN)?;
    eprintln!("a revoked session was refused after {:.1?}", began.elapsed());
    ensure!(told.err.contains("Stale file handle"), "it is refused by another word: {}", told.err);
    let told = guest.run("ls /mnt/drive/")?;
    ensure!(told.code != Some(0) && told.out.is_empty(), "a revoked drive can be listed");
    ensure!(alive()?.is_empty(), "the list shows it as alive");
    let listed = drive.sessions("root")?;
    let ended = listed.iter().find(|session| session["id"] == **id).context("it is not listed")?;
    ensure!(!ended["revoked"].is_null(), "the list does not say that it is revoked: {ended}");
    Ok(())
}

/// A large folder that somebody works in is listed whole: whatever stays, once.
#[test]
fn a_large_folder_lists_completely_while_entries_come_and_go() -> Result<()> {
    let name = "a_large_folder_lists_completely_while_entries_come_and_go";
    if let Some(reason) = KernelClient::hindrance() {
        tools::skip(name, reason);
        return Ok(());
    }
    in_scratch("kernel-large", list_a_large_folder)
}

fn list_a_large_folder(scratch: &mut Scratch) -> Result<()> {
    let source = scratch.make_dir("source")?;
    let folder = source.join("large");
    fs::create_dir(&folder)?;
    for number in 0..folder_entries() {
        File::create(folder.join(format!("stays{number:06}")))?;
    }
    let drive = Drive::new(scratch, &source, Wiring::Loopback)?;
    drive.cluster.in_sync_within(MIRRORED)?;
    drive.add_user("root", 0, &[])?;
    let guest = KernelClient::boot(scratch, drive.port())?;
    guest.mount(&drive.log_in_shared("root")?, "/mnt/drive")?;
    let (is_over, changes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let live = drive.cluster.live()?.join("large");
    let listed = thread::scope(|scope| {
        let working = scope.spawn(|| come_and_go(&folder, &live, &is_over, &changes));
        let listed = list_twice(&drive, &guest, &changes);
        is_over.store(true, Ordering::Relaxed);
        working.join().map_err(|_| anyhow!("what works in the folder panicked"))??;
        listed
    })?;
    eprintln!("{} changes meanwhile", changes.load(Ordering::Relaxed));
    for (what, names) in listed {
        let once: HashSet<&str> = names.lines().collect();
        ensure!(once.len() == names.lines().count(), "{what} lists a name twice");
        let stays = once.iter().filter(|name| name.starts_with("stays")).count();
        ensure!(stays == folder_entries(), "{what} lists {stays} of {}", folder_entries());
        let other =
            once.iter().find(|name| !name.starts_with("stays") && !name.starts_with("comes"));
        ensure!(other.is_none(), "{what} lists {other:?}");
    }
    Ok(())
}

/// Lists the folder with the kernel and with libnfs, each while it changes, and returns the names.
fn list_twice(
    drive: &Drive,
    guest: &KernelClient,
    changes: &AtomicUsize,
) -> Result<Vec<(&'static str, String)>> {
    let before = changes.load(Ordering::Relaxed);
    wait_until(SOON, "the folder changes", || changes.load(Ordering::Relaxed) > before)?;
    let before = changes.load(Ordering::Relaxed);
    guest.run("ls -U /mnt/drive/large >$SHARE/names")?.ok()?;
    ensure!(changes.load(Ordering::Relaxed) > before, "nothing changed while it was listed");
    let mut listed = vec![("the kernel", fs::read_to_string(guest.share().join("names"))?)];
    if tools::installed("nfs-ls").is_some() {
        let mount = drive.log_in_shared("root")?;
        let told = drive.libnfs(None, "nfs-ls", [drive.url(&format!("{mount}/large"))])?.ok()?;
        let lines = String::from_utf8(told.out)?;
        let names = lines.lines().filter_map(|line| line.split_whitespace().last());
        listed.push(("libnfs", names.map(|name| format!("{name}\n")).collect()));
    }
    Ok(listed)
}

/// Makes and removes files of a folder for as long as it takes, as fast as they arrive.
fn come_and_go(
    folder: &Path,
    live: &Path,
    is_over: &AtomicBool,
    changes: &AtomicUsize,
) -> Result<()> {
    while !is_over.load(Ordering::Relaxed) {
        let number = changes.fetch_add(1, Ordering::Relaxed);
        let name = |number: usize| format!("comes{number:06}");
        File::create(folder.join(name(number)))?;
        if number >= COMING {
            fs::remove_file(folder.join(name(number - COMING)))?;
        }
        let arrived: PathBuf = live.join(name(number));
        wait_for(SOON, "a file arrives", || Ok(arrived.exists().then_some(())))?;
    }
    Ok(())
}

/// How many of the files that come are there at a time.
const COMING: usize = 50;

/// Lists and reads everything with its checksums again and again; ends at the first error.
const WORK: &str = "
cd /mnt/drive
while [ ! -e $SHARE/enough ]; do
    ls -laR . >/tmp/listed || exit 1
    grep -q f00000 /tmp/listed || { echo the listing lacks a file; exit 1; }
    find tree -type f | sort | xargs cksum >/tmp/sums || exit 1
    cmp /tmp/sums $SHARE/sums || exit 1
    # Of what it has in memory it asks only whether that is still right.
    echo 3 >/proc/sys/vm/drop_caches
    printf . >>$SHARE/rounds
done";

/// Reads a file until that fails.
const WATCH: &str = "
while cat /mnt/drive/tree/large >/dev/null; do
    : >$SHARE/reading
done";
