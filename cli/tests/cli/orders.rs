//! What a master lets other stations do, as its `station.toml` says.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};

use keepshare_support::{Cluster, Scratch, Wiring, cluster::SET, wait_for};

/// How long anything may take.
const SOON: Duration = Duration::from_secs(60);

/// Starts the master anew with that said of orders.
fn office_with(cluster: &mut Cluster, orders: &str) -> Result<()> {
    // One that did not start has ended already.
    drop(cluster.office.stop());
    let file = cluster.office.config();
    let text = fs::read_to_string(&file)?;
    let text = text.split("\n[orders]").next().context("a text")?;
    fs::write(&file, format!("{text}\n[orders]\n{orders}\n"))?;
    cluster.office.start()
}

#[test]
fn a_station_has_done_what_the_master_lets_it() -> Result<()> {
    let scratch = Scratch::new("orders")?;
    let source = scratch.make_dir("source")?;
    fs::create_dir(source.join("plans"))?;
    fs::write(source.join("plans/file"), "one")?;
    let mut cluster = Cluster::new(&scratch, &source, Wiring::Loopback)?;
    cluster.add_set()?;
    cluster.in_sync_within(SOON)?;
    fs::write(source.join("plans/file"), "two")?;
    let first = wait_for(SOON, "two versions", || {
        let versions = cluster.store.versions(SET, Path::new("plans/file"))?;
        let id = versions.last().and_then(|version| version["version"].as_str());
        Ok(id.filter(|_| versions.len() == 2).map(ToOwned::to_owned))
    })?;
    let (file, folder) = (format!("{SET}:plans/file@{first}"), format!("{SET}:plans@{first}"));
    fs::write(source.join("plans/more"), "more")?;
    cluster.in_sync_within(SOON)?;
    let status = |cluster: &Cluster| -> Result<String> {
        Ok(String::from_utf8(cluster.office.call(["status"])?.ok()?.out)?)
    };
    ensure!(!status(&cluster)?.contains("orders "), "nothing is said of what is as ever");

    office_with(&mut cluster, "default = \"restore\"")?;
    cluster.in_sync_within(SOON)?;
    let told = status(&cluster)?;
    ensure!(told.contains("  orders  restores, and no roll-backs from store"), "{told}");
    let rolled = cluster.store.call(["rollback", &folder, "--yes"])?;
    let said = format!("{}{}", String::from_utf8_lossy(&rolled.out), rolled.err);
    ensure!(rolled.code != Some(0), "{said}");
    ensure!(said.contains("station.toml does not let store do that"), "{said}");
    ensure!(fs::read_to_string(source.join("plans/more"))? == "more", "nothing was done");
    cluster.store.call(["restore", &file])?.ok()?;
    ensure!(fs::read_to_string(source.join("plans/file"))? == "one");

    fs::write(source.join("plans/file"), "three")?;
    cluster.in_sync_within(SOON)?;
    office_with(&mut cluster, &format!("store = \"roll-back\"\n\"{SET}.store\" = \"nothing\""))?;
    cluster.in_sync_within(SOON)?;
    ensure!(
        status(&cluster)?.contains("  orders  nothing from store"),
        "the most exact line holds"
    );
    let refused = cluster.store.call(["restore", &file])?;
    ensure!(refused.code != Some(0), "{refused:?}");
    ensure!(refused.err.contains("station.toml does not let store do that"), "{refused:?}");
    ensure!(fs::read_to_string(source.join("plans/file"))? == "three");

    // A line that protects nothing is no line.
    ensure!(office_with(&mut cluster, "sotre = \"nothing\"").is_err(), "it started");
    ensure!(office_with(&mut cluster, "\"work2.store\" = \"nothing\"").is_err(), "it started");
    office_with(&mut cluster, "store = \"roll-back\"")?;
    cluster.in_sync_within(SOON)?;
    cluster.store.call(["restore", &file])?.ok()?;
    Ok(())
}
