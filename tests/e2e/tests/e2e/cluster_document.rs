//! What the cluster agrees on reaches every station, and nothing else passes for it.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use keepshare_base::{Stamp, StationName};
use keepshare_cluster::{Document, SignedDocument};
use keepshare_cluster_local::LocalStore;
use keepshare_e2e::SOON;
use keepshare_identity::ClusterCa;
use keepshare_support::{
    Relay, Scratch, Station, cluster::free_address, in_scratch, wait_for, wait_until,
};

/// Three stations that run; `office` is the primary.
struct Three {
    office: Station,
    store: Station,
    attic: Station,
}

impl Three {
    fn new(scratch: &Scratch) -> Result<Self> {
        let mut office = Station::new(scratch, "office", vec![])?;
        let at = free_address()?.to_string();
        office.init(&at)?;
        office.start()?;
        let joined = |name: &str| -> Result<Station> {
            let mut station = Station::new(scratch, name, vec![])?;
            station.join(&at, &office.token()?, &free_address()?.to_string(), None)?;
            station.start()?;
            Ok(station)
        };
        let (store, attic) = (joined("store")?, joined("attic")?);
        Ok(Self { office, store, attic })
    }

    fn add_set(&self, scratch: &Scratch, set: &str, to: &[&str]) -> Result<()> {
        let source = scratch.make_dir(set)?;
        fs::write(source.join("file"), set)?;
        let source = source.to_string_lossy().into_owned();
        let mut args = vec!["set", "add", set, "--source", &source];
        to.iter().for_each(|to| args.extend(["--to", to]));
        self.office.call(args)?.ok()?;
        Ok(())
    }
}

/// Returns what a station says about itself that a person must look at.
fn problems(station: &Station) -> Result<String> {
    Ok(station.status()?["problems"].to_string())
}

/// Waits until a station has all of a set.
fn is_kept(station: &Station, set: &str) -> Result<()> {
    wait_until(SOON, &format!("{} has set {set}", station.name()), || {
        station.set_status(set).is_ok_and(|status| status["state"] == "in-sync")
    })
}

fn address_of(told: &Value, name: &str) -> Option<String> {
    let members = told["members"].as_array()?;
    let member = members.iter().find(|member| member["name"] == name)?;
    Some(member["address"].as_str()?.to_owned())
}

/// Whoever joins, moves or gets a set is known everywhere at once, without a restart; and what was known stays known.
#[test]
fn every_station_follows_what_the_primary_writes() -> Result<()> {
    in_scratch("document", follow)
}

fn follow(scratch: &mut Scratch) -> Result<()> {
    let mut three = Three::new(scratch)?;
    three.add_set(scratch, "work", &["store", "attic"])?;
    three.add_set(scratch, "mail", &["attic"])?;
    is_kept(&three.store, "work")?;
    is_kept(&three.attic, "work")?;
    is_kept(&three.attic, "mail")?;
    ensure!(three.store.set_status("mail").is_err(), "it is none of store's");
    wait_until(SOON, "store knows of attic, which joined later", || {
        three.store.status().is_ok_and(|told| address_of(&told, "attic").is_some())
    })?;

    // An address that an admin says on the first station is dialled by it, and known to the third.
    let told = three.store.status()?;
    let relay = Relay::to(told["listen"].as_str().context("it listens")?.parse()?)?;
    let relayed = relay.address().to_string();
    three.office.call(["station", "set-address", "store", &relayed])?.ok()?;
    wait_until(SOON, "attic knows where store is reached", || {
        three.attic.status().is_ok_and(|told| address_of(&told, "store").as_ref() == Some(&relayed))
    })?;
    wait_until(SOON, "office reaches store by the new way", || relay.bytes() > 0)?;
    is_kept(&three.store, "work")?;

    // The certificate that attic has does not make it a primary, and its own files say what the others' say.
    for station in [&three.office, &three.store, &three.attic] {
        let state = station.state();
        ensure!(state.join("cluster.doc").exists() && state.join("cluster.doc.before").exists());
        ensure!(!state.join("sets.toml").exists() && !state.join("members.toml").exists());
        ensure!(!problems(station)?.contains("configuration"), "{}", problems(station)?);
    }
    ensure!(three.store.state().join("members.toml.former").exists(), "it was thrown away");
    let document = |station: &Station| fs::read(station.state().join("cluster.doc"));
    wait_until(SOON, "all hold the same document", || {
        let office = document(&three.office).ok();
        office.is_some()
            && document(&three.store).ok() == office
            && document(&three.attic).ok() == office
    })?;

    // Alone, without the primary, a station knows what it knew.
    three.office.stop()?;
    three.attic.kill()?;
    three.attic.start()?;
    let told = three.attic.status()?;
    ensure!(address_of(&told, "store").as_ref() == Some(&relayed), "{told}");
    ensure!(three.attic.set_status("mail")?["from"] == "office");
    three.office.start()?;
    is_kept(&three.attic, "mail")
}

/// A primary that was restored from an older backup must not take back what the cluster has agreed on since; people are told, at
/// both ends, and can mend it.
#[test]
fn a_primary_from_an_older_backup_leads_nobody_back() -> Result<()> {
    in_scratch("older-primary", lead_nobody_back)
}

fn lead_nobody_back(scratch: &mut Scratch) -> Result<()> {
    let mut three = Three::new(scratch)?;
    three.add_set(scratch, "work", &["store"])?;
    is_kept(&three.store, "work")?;
    let kept = ["cluster.doc", "cluster.doc.before", "parts.toml"];
    let copy = |from: &Path, to: &Path| -> Result<()> {
        for name in kept {
            fs::copy(from.join(name), to.join(name))
                .with_context(|| format!("cannot copy {name}"))?;
        }
        Ok(())
    };
    three.office.stop()?;
    let backup = scratch.make_dir("backup")?;
    copy(three.office.state(), &backup)?;
    three.office.start()?;
    three.add_set(scratch, "mail", &["attic"])?;
    is_kept(&three.attic, "mail")?;
    let document = |station: &Station| fs::read(station.state().join("cluster.doc"));
    wait_until(SOON, "store has heard of it", || {
        document(&three.store).ok() == document(&three.office).ok()
    })?;
    let agreed = document(&three.attic)?;

    three.office.stop()?;
    copy(&backup, three.office.state())?;
    three.office.start()?;
    wait_for(SOON, "both ends tell", || {
        let (here, there) = (problems(&three.office)?, problems(&three.attic)?);
        Ok((here.contains("older backup") && there.contains("does not follow")).then_some(()))
    })?;
    ensure!(three.office.call(["status", "--check"])?.code == Some(1), "somebody must act");
    ensure!(document(&three.attic)? == agreed, "it was led back");
    ensure!(three.attic.set_status("mail").is_ok(), "its set is gone");

    // What the others hold puts it right.
    three.office.stop()?;
    fs::copy(three.attic.state().join("cluster.doc"), three.office.state().join("cluster.doc"))?;
    three.office.start()?;
    wait_for(SOON, "nothing is told any more", || {
        let told = problems(&three.office)? + &problems(&three.attic)? + &problems(&three.store)?;
        Ok((!told.contains("configuration")).then_some(()))
    })?;
    is_kept(&three.attic, "mail")
}

/// Whoever can write to the primary can have a station keep less, and nobody can have it keep less at once: what is there stays
/// readable, people are told, and can take it back.
#[test]
fn a_station_that_is_to_keep_less_keeps_it_for_a_day() -> Result<()> {
    in_scratch("keep-less", keep_it_for_a_day)
}

fn keep_it_for_a_day(scratch: &mut Scratch) -> Result<()> {
    let mut three = Three::new(scratch)?;
    three.add_set(scratch, "work", &["store", "attic"])?;
    is_kept(&three.store, "work")?;
    is_kept(&three.attic, "work")?;

    three.office.stop()?;
    let attic: StationName = "attic".parse()?;
    rewrite(&three.office, |document| {
        document.sets[0].destinations.retain(|to| *to != attic);
    })?;
    three.office.start()?;
    wait_for(SOON, "attic tells that it is to keep less", || {
        let told = problems(&three.attic)?;
        Ok((told.contains("not to be kept here") && told.contains("24 hours")).then_some(()))
    })?;
    ensure!(three.attic.call(["status", "--check"])?.code == Some(1), "nobody is called");
    fs::write(scratch.join("work").join("file"), "for store alone")?;
    wait_until(SOON, "store goes on", || {
        three
            .store
            .show("work", Path::new("file"), "latest")
            .is_ok_and(|now| now == b"for store alone")
    })?;
    ensure!(three.attic.show("work", Path::new("file"), "latest")? == b"work", "its copy is gone");
    three.attic.stop()?;
    three.attic.start()?;
    ensure!(problems(&three.attic)?.contains("not to be kept here"), "a restart forgot it");

    three.office.stop()?;
    rewrite(&three.office, |document| {
        document.sets[0].destinations.insert(0, attic.clone());
    })?;
    three.office.start()?;
    wait_until(SOON, "attic goes on", || {
        three
            .attic
            .show("work", Path::new("file"), "latest")
            .is_ok_and(|now| now == b"for store alone")
    })?;
    ensure!(!problems(&three.attic)?.contains("not to be kept"), "{}", problems(&three.attic)?);
    is_kept(&three.attic, "work")
}

/// Writes the next revision of the document of a primary that does not run, as its commands will some day.
fn rewrite(primary: &Station, change: impl FnOnce(&mut Document)) -> Result<()> {
    let store = LocalStore::new(primary.state());
    let held = store.get()?.context("there is a document")?;
    let ca = ClusterCa::load(&primary.state().join("identity"))?;
    let mut next = held.unverified().next(Stamp(0));
    change(&mut next);
    next.check()?;
    let signature = ca.sign_message(&SignedDocument::to_sign(&next))?;
    let held = held.unverified().revision;
    Ok(store.replace(Some(held), &SignedDocument::new(next, signature))?)
}
