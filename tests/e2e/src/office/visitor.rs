//! A user of the replica: looks for versions and brings some back.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use keepshare_support::{cluster::SET, station::place, wait_for};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::Office;
use crate::SOON;

/// Somebody who looks for old versions all day.
#[derive(Debug)]
pub struct Visitor<'a> {
    office: &'a Office<'a>,
    memos: PathBuf,
    random: StdRng,
}

impl<'a> Visitor<'a> {
    /// Begins, with a folder of the source for files of their own.
    pub fn new(office: &'a Office<'a>, memos: &Path, seed: u64) -> Self {
        Self { office, memos: memos.to_owned(), random: StdRng::seed_from_u64(seed) }
    }

    /// Looks at a document or takes a memo back, and returns for how long to rest then.
    pub fn work(&mut self) -> Result<Duration> {
        if self.random.random_bool(0.5) {
            self.look_at_a_document()?;
        } else {
            self.take_a_memo_back()?;
        }
        Ok(Duration::from_millis(self.random.random_range(200..3000)))
    }

    /// Brings an old version back beside, while somebody works on the document.
    fn look_at_a_document(&mut self) -> Result<()> {
        let desk = &self.office.desks[self.random.random_range(0..self.office.desks.len())];
        let name = desk.document.name;
        let path = format!("documents/{name}");
        let rows = self.office.versions(&path)?;
        if rows.is_empty() {
            return Ok(());
        }
        let row = &rows[self.random.random_range(0..rows.len())];
        let id = row["version"].as_str().context("a version has an id")?;
        if row["cut_by"] != "master" {
            // Its id means nothing any more when the master has made it a version.
            return Ok(());
        }
        let shown = self.office.show(&path, id)?;
        ensure!(desk.could_be(&shown, row), "nobody ever saved what is shown as {row}");
        let out = self.office.scratch.make_dir("out")?;
        let mut what = place(SET, Path::new(&path));
        what.push(format!("@{id}"));
        let args = [OsStr::new("restore"), &what, "--to".as_ref(), out.as_os_str()];
        self.office.cluster.store.call(args)?.ok()?;
        ensure!(fs::read(out.join(name))? == shown, "restored is other than shown: {row}");
        Ok(fs::remove_dir_all(out)?)
    }

    /// Saves a memo twice and takes the second save back.
    fn take_a_memo_back(&mut self) -> Result<()> {
        const PATH: &str = "memos/memo.txt";
        let memo = self.memos.join("memo.txt");
        let text = |n: u64| format!("memo {n}\n").into_bytes();
        let first = text(self.random.random());
        fs::write(&memo, &first)?;
        let id = self.id_of(PATH, &first)?;
        let second = text(self.random.random());
        fs::write(&memo, &second)?;
        self.id_of(PATH, &second)?;
        let mut what = place(SET, Path::new(PATH));
        what.push(format!("@{id}"));
        self.office.cluster.store.call([OsStr::new("restore"), &what])?.ok()?;
        ensure!(fs::read(&memo)? == first, "the restored memo is not what it was");
        Ok(())
    }

    /// Returns the version that has this content, once there is one.
    fn id_of(&self, path: &str, content: &[u8]) -> Result<String> {
        let hash = blake3::hash(content).to_hex();
        wait_for(SOON, "a memo is a version", || {
            let rows = self.office.versions(path)?;
            let row = rows.iter().find(|row| row["hash"] == *hash && row["cut_by"] == "master");
            Ok(row.and_then(|row| row["version"].as_str()).map(str::to_owned))
        })
    }
}
