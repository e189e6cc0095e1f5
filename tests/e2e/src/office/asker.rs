//! Somebody who asks how everything is while all work, and compares the answers with what is.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use keepshare_support::cluster::SET;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::Value;

use super::{Desk, Office};

/// What a station may say of a set in which all is well.
const WELL: [&str; 2] = ["in-sync", "lagging"];

/// What a document held at a turn.
type Standing = Option<(u64, blake3::Hash)>;

/// Somebody who asks for the state all the time, and compares the answer with what is.
#[derive(Debug)]
pub struct Asker<'a> {
    office: &'a Office<'a>,
    /// What was told so far.
    pub told: Told,
    probes: PathBuf,
    live: PathBuf,
    /// Written to, and never closed.
    open: File,
    /// What must be in the live tree as soon as a master says in-sync; `None`: nothing.
    expected: BTreeMap<String, Option<Vec<u8>>>,
    random: StdRng,
    number: u64,
}

impl<'a> Asker<'a> {
    /// Begins to ask, with a folder of the source to save in.
    pub fn new(office: &'a Office<'a>, probes: &Path, seed: u64) -> Result<Self> {
        Ok(Self {
            office,
            told: Told::default(),
            probes: probes.to_owned(),
            live: office.cluster.live()?,
            open: OpenOptions::new().create(true).append(true).open(probes.join("open"))?,
            expected: BTreeMap::new(),
            random: StdRng::seed_from_u64(seed),
            number: 0,
        })
    }

    /// Saves something, asks both stations, and returns for how long to rest then.
    pub fn work(&mut self) -> Result<Duration> {
        self.number += 1;
        self.change_something()?;
        let standing: Vec<_> = self.office.desks.iter().map(Desk::standing).collect();
        let cluster = self.office.cluster;
        let master = cluster.office.status()?;
        self.told.asked += 1;
        if check_words(&master)? {
            self.told.in_sync += 1;
            self.compare(&standing)?;
        }
        check_words(&cluster.store.status()?)?;
        Ok(Duration::from_millis(self.random.random_range(20..300)))
    }

    /// Saves in one of several ways.
    fn change_something(&mut self) -> Result<()> {
        let text = format!("probe {}\n", self.number).repeat(self.random.random_range(1..2000));
        let at = |name: &str| self.probes.join(name);
        match self.random.random_range(0..5) {
            0 => {
                fs::write(at("new"), &text)?;
                fs::rename(at("new"), at("over"))?;
                self.expect("over", Some(text.into_bytes()));
            }
            1 => {
                fs::write(at("in-place"), &text)?;
                self.expect("in-place", Some(text.into_bytes()));
            }
            2 => {
                self.open.write_all(text.as_bytes())?;
                let content = fs::read(at("open"))?;
                self.expect("open", Some(content));
            }
            3 if at("now-and-then").exists() => {
                fs::remove_file(at("now-and-then"))?;
                self.expect("now-and-then", None);
            }
            3 => {
                fs::write(at("now-and-then"), &text)?;
                self.expect("now-and-then", Some(text.into_bytes()));
            }
            _ => {
                let (old, new) = (self.number.to_string(), format!("{}-moved", self.number));
                fs::create_dir(at(&old))?;
                fs::write(at(&old).join("file"), &text)?;
                fs::rename(at(&old), at(&new))?;
                self.expect(&old, None);
                self.expect(&format!("{new}/file"), Some(text.into_bytes()));
            }
        }
        Ok(())
    }

    fn expect(&mut self, path: &str, content: Option<Vec<u8>>) {
        self.expected.insert(path.to_owned(), content);
    }

    /// Compares what a master called equal with what is.
    fn compare(&mut self, standing: &[Standing]) -> Result<()> {
        for (path, expected) in &self.expected {
            let live = self.live.join("probes").join(path);
            let found = if live.exists() { Some(fs::read(&live)?) } else { None };
            ensure!(found == *expected, "it said in-sync, but {path} is not what was saved");
        }
        // What a folder was is not asked for again.
        self.expected.retain(|path, _| !path.starts_with(|c: char| c.is_ascii_digit()));
        for (desk, standing) in self.office.desks.iter().zip(standing) {
            let Some((turn, hash)) = standing else { continue };
            let name = desk.document.name;
            let found = fs::read(self.live.join("documents").join(name));
            // Only what still stands had to be there all the time.
            if desk.seen(*turn) {
                let found = found.with_context(|| format!("it said in-sync, but {name}"))?;
                let is_equal = blake3::hash(&found) == *hash;
                ensure!(is_equal, "it said in-sync, but {name} is not what was saved");
                self.told.compared += 1;
            }
        }
        Ok(())
    }
}

/// What was asked and told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    asked: u64,
    in_sync: u64,
    compared: u64,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, in_sync, compared } = self;
        write!(
            f,
            "asked {asked} times, told in-sync {in_sync} times, {compared} documents compared"
        )
    }
}

/// Checks that a station tells of nothing that is wrong, and returns whether its set is in-sync.
fn check_words(station: &Value) -> Result<bool> {
    let set =
        station["sets"].as_array().and_then(|sets| sets.iter().find(|set| set["name"] == SET));
    let set = set.context("there is no set in the status")?;
    let states = set["destinations"].as_array().into_iter().flatten().chain([set]);
    let mut is_in_sync = true;
    for told in states.map(|told| told["state"].as_str().unwrap_or_default()) {
        ensure!(WELL.contains(&told), "all is well, but it says {told}: {station}");
        is_in_sync &= told == "in-sync";
    }
    let of_set = [&set["alarms"], &set["problems"], &station["concerns"]];
    let told = of_set.iter().filter_map(|told| told.as_array()).flatten().next();
    ensure!(told.is_none(), "all is well, but it tells: {told:?}");
    Ok(is_in_sync)
}
