//! An office: what people and their programs do to a shared folder all day, and what they remember of it.
//!
//! Each worker takes small steps and knows afterwards what it did, so that everything can be compared whenever all of
//! them hold (see [`keepshare_support::Shift`]).

use std::{ffi::OsStr, path::Path};

use anyhow::{Context, Result};
use keepshare_support::{Cluster, Scratch, cluster::SET, station::place, wait_for};
use serde_json::Value;

use crate::SOON;

pub mod asker;
pub mod chores;
pub mod databases;
pub mod desks;
pub mod documents;
pub mod visitor;

pub use self::{
    asker::{Asker, Told},
    chores::{Folders, Logs, Repository},
    databases::Database,
    desks::{Desk, Save},
    documents::{DOCUMENTS, Document, Shows},
    visitor::Visitor,
};

/// More versions than any file here has.
const ALL: &str = "100000";

/// The office: a folder that a master replicates, and who works on the documents in it.
#[derive(Debug)]
pub struct Office<'a> {
    /// Room beside it.
    pub scratch: &'a Scratch,
    /// The stations.
    pub cluster: &'a Cluster,
    /// All documents.
    pub desks: &'a [Desk],
}

impl Office<'_> {
    /// Returns the versions of a file, each once, newest first.
    pub fn versions(&self, path: &str) -> Result<Vec<Value>> {
        let place = place(SET, Path::new(path));
        let args =
            [OsStr::new("versions"), &place, "--json".as_ref(), "--limit".as_ref(), ALL.as_ref()];
        let reply = self.cluster.store.call(args)?;
        if reply.code == Some(3) {
            return Ok(Vec::new());
        }
        Ok(reply.json()?.as_array().context("versions are no array")?.clone())
    }

    /// Returns the version that is the present state; waits until what is quiet is one.
    pub fn current(&self, path: &str) -> Result<String> {
        wait_for(SOON, &format!("what {path} is now is a version"), || {
            let rows = self.versions(path)?;
            let current = rows.iter().find(|row| row["current"] == true);
            Ok(current.and_then(|row| row["version"].as_str()).map(str::to_owned))
        })
    }

    /// Returns the content of a version.
    pub fn show(&self, path: &str, id: &str) -> Result<Vec<u8>> {
        self.cluster.store.show(SET, Path::new(path), id)
    }
}
