//! What else goes on: a repository, logs, folders that come, move and go.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use keepshare_support::{
    tools,
    tree::{self, TreeSpec},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::git;

/// A repository of git that somebody works in.
#[derive(Debug)]
pub struct Repository {
    path: PathBuf,
    random: StdRng,
    number: u64,
}

impl Repository {
    /// Makes a repository with a first commit.
    pub fn create(path: &Path, seed: u64) -> Result<Self> {
        fs::create_dir(path)?;
        git(path, ["init", "--quiet"])?;
        let random = StdRng::seed_from_u64(seed);
        let mut repository = Self { path: path.to_owned(), random, number: 0 };
        for folder in ["src", "docs"] {
            fs::create_dir(path.join(folder))?;
        }
        for _ in 0..10 {
            repository.commit()?;
        }
        Ok(repository)
    }

    /// Does one thing in it, and returns for how long to rest then.
    pub fn work(&mut self) -> Result<Duration> {
        match self.random.random_range(0..10) {
            0..5 => self.commit()?,
            5..7 => self.merge_a_branch()?,
            7..9 => self.look_back()?,
            _ => drop(git(&self.path, ["gc", "--quiet", "--prune=now"])?),
        }
        Ok(Duration::from_millis(self.random.random_range(50..1500)))
    }

    fn commit(&mut self) -> Result<()> {
        for _ in 0..self.random.random_range(1..6) {
            self.number += 1;
            let folder = if self.random.random_bool(0.5) { "src" } else { "docs" };
            let file = format!("{folder}/file-{}", self.random.random_range(0..40));
            let lines =
                (0..self.random.random_range(1..400)).map(|n| format!("{n} of {}\n", self.number));
            fs::write(self.path.join(file), lines.collect::<String>())?;
        }
        git(&self.path, ["add", "--all"])?;
        let message = format!("change {}", self.number);
        git(&self.path, ["commit", "--quiet", "--allow-empty", "--message", &message]).map(drop)
    }

    fn merge_a_branch(&mut self) -> Result<()> {
        let branch = format!("topic-{}", self.number);
        git(&self.path, ["checkout", "--quiet", "-b", &branch])?;
        self.commit()?;
        git(&self.path, ["checkout", "--quiet", "main"])?;
        self.commit()?;
        let merge = ["merge", "--quiet", "--no-edit", "--strategy-option", "theirs", &branch];
        git(&self.path, merge)?;
        git(&self.path, ["branch", "--quiet", "--delete", &branch]).map(drop)
    }

    fn look_back(&mut self) -> Result<()> {
        let then = format!("main~{}", self.random.random_range(1..6));
        git(&self.path, ["checkout", "--quiet", &then])?;
        git(&self.path, ["checkout", "--quiet", "main"]).map(drop)
    }
}

/// Programs that log.
#[derive(Debug)]
pub struct Logs {
    folder: PathBuf,
    /// Written to for ever.
    service: File,
    /// Moved away when it is long, and begun anew.
    web: File,
    /// Copied when it is long, and cut to nothing under its writer.
    mail: File,
    random: StdRng,
    lines: u64,
}

impl Logs {
    /// The log that is only ever longer.
    pub const SERVICE: &str = "service.log";

    const WEB: &str = "web.log";
    const MAIL: &str = "mail.log";

    /// Begins logs in a folder.
    pub fn create(folder: &Path, seed: u64) -> Result<Self> {
        let [service, web, mail] =
            [Self::SERVICE, Self::WEB, Self::MAIL].map(|name| appended(&folder.join(name)));
        let random = StdRng::seed_from_u64(seed);
        let (service, web, mail) = (service?, web?, mail?);
        Ok(Self { folder: folder.to_owned(), service, web, mail, random, lines: 0 })
    }

    /// Writes a line to each, and returns for how long to rest then.
    pub fn work(&mut self) -> Result<Duration> {
        self.lines += 1;
        let text = "-".repeat(self.random.random_range(0..300));
        let line = format!("{} something happened {text}\n", self.lines);
        for mut log in [&self.service, &self.web, &self.mail] {
            log.write_all(line.as_bytes())?;
        }
        let at = |name: &str| self.folder.join(name);
        if self.lines.is_multiple_of(60) {
            fs::rename(at(Self::WEB), at("web.log.1"))?;
            self.web = appended(&at(Self::WEB))?;
        }
        if self.lines.is_multiple_of(70) {
            fs::copy(at(Self::MAIL), at("mail.log.1"))?;
            self.mail.set_len(0)?;
        }
        Ok(Duration::from_millis(self.random.random_range(10..150)))
    }
}

fn appended(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().create(true).append(true).open(path)?)
}

/// Folders that are unpacked, moved about and deleted.
#[derive(Debug)]
pub struct Folders {
    folder: PathBuf,
    archive: PathBuf,
    there: Vec<PathBuf>,
    random: StdRng,
    number: u64,
}

impl Folders {
    /// The most trees that are kept.
    const TREES_MAX: usize = 3;

    /// Packs a tree of a few hundred files into an archive outside of the folder.
    pub fn create(folder: &Path, archive: &Path, seed: u64) -> Result<Self> {
        let packed = archive.with_extension("d");
        tree::grow(&packed, TreeSpec { files: 300, odd: false, seed })?;
        tools::run(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(&packed).arg("."))?;
        Ok(Self {
            folder: folder.to_owned(),
            archive: archive.to_owned(),
            there: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            number: 0,
        })
    }

    /// Unpacks, moves or deletes one, and returns for how long to rest then.
    pub fn work(&mut self) -> Result<Duration> {
        self.number += 1;
        let new = self.folder.join(format!("project-{}", self.number));
        let chosen = self.random.random_range(0..self.there.len().max(1));
        let is_full = self.there.len() == Self::TREES_MAX;
        if self.there.is_empty() || !is_full && self.random.random_bool(0.3) {
            fs::create_dir(&new)?;
            tools::run(Command::new("tar").arg("-xf").arg(&self.archive).arg("-C").arg(&new))?;
            self.there.push(new);
        } else if is_full && self.random.random_bool(0.5) {
            fs::remove_dir_all(self.there.swap_remove(chosen))?;
        } else if self.random.random_bool(0.5) {
            fs::rename(&self.there[chosen], &new)?;
            self.there[chosen] = new;
        } else {
            // A part of it goes into a folder of its own and back.
            let (inside, away) = (self.there[chosen].join("a"), new.join("a"));
            fs::create_dir(&new)?;
            fs::rename(&inside, &away)?;
            fs::rename(&away, &inside)?;
            fs::remove_dir(&new)?;
        }
        Ok(Duration::from_millis(self.random.random_range(300..2500)))
    }
}
