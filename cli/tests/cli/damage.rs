//! Files of a station that are not what was written: nothing of them is used, and what to do is said.

use std::{fs, os::unix::fs::FileExt, path::Path, time::Duration};

use anyhow::{Result, ensure};

use keepshare_support::{Cluster, Scratch, Wiring, cluster::SET, wait_for};

/// How long anything may take to arrive.
const SOON: Duration = Duration::from_secs(60);

/// Flips a bit in every block of a database, as docs/formats lays them out.
fn flip_everywhere(path: &Path) -> Result<()> {
    let file = fs::File::options().read(true).write(true).open(path)?;
    let mut byte = [0];
    let blocks = file.metadata()?.len().saturating_sub(20_480) / 4112;
    ensure!(blocks > 0, "{} is no database of checked blocks", path.display());
    for block in 0..blocks {
        let at = 20_480 + block * 4112 + 100;
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&[byte[0] ^ 4], at)?;
    }
    Ok(())
}

/// Who may log in is never read from a damaged file.
#[test]
fn damaged_users_are_refused_and_the_way_out_is_named() -> Result<()> {
    let scratch = Scratch::new("users-damaged")?;
    let source = scratch.make_dir("source")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.store.stop()?;
    flip_everywhere(&cluster.store.state().join("auth.redb"))?;
    let reply = cluster.store.call(["run", "--json"])?;
    ensure!(reply.code == Some(1), "{reply:?}");
    let last = reply.err.lines().last().unwrap_or_default().to_owned();
    ensure!(last.contains("auth.redb") && last.contains("damaged"), "{last}");
    ensure!(last.contains("take auth.redb from a backup"), "no way out: {last}");
    fs::remove_file(cluster.store.state().join("auth.redb"))?;
    cluster.store.start()
}

/// A damaged journal sends nothing, says what to do, and doing that brings everything back.
#[test]
fn a_damaged_journal_sends_nothing_and_the_way_out_works() -> Result<()> {
    let scratch = Scratch::new("journal-damaged")?;
    let source = scratch.make_dir("source")?;
    fs::write(source.join("file"), "one")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    cluster.office.stop()?;
    let journal = cluster.office.state().join("journal/work.redb");
    flip_everywhere(&journal)?;
    fs::write(source.join("file"), "two")?;
    cluster.office.start()?;
    let told = wait_for(SOON, "an alarm", || {
        let told = cluster.office.set_status(SET)?.to_string();
        Ok(told.contains("damaged").then_some(told))
    })?;
    ensure!(told.contains("move the file away"), "no way out: {told}");
    ensure!(fs::read(cluster.live()?.join("file"))? == b"one");
    cluster.office.stop()?;
    fs::remove_file(&journal)?;
    cluster.office.start()?;
    cluster.in_sync_within(SOON)?;
    ensure!(fs::read(cluster.live()?.join("file"))? == b"two");
    ensure!(cluster.store.versions(SET, Path::new("file"))?.len() == 2);
    Ok(())
}
