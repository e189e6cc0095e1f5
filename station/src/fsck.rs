//! Reads everything a set keeps, and tells what cannot be given back as it was.
//!
//! Every content is read and compared with its checksums and with its master's hash. It goes through all files that ever
//! were, whether or not they have a name now, so that the past of what was deleted or replaced is checked, too.

use keepshare_base::{FileId, Kind};
use keepshare_versioning::{FileState, Reader, View};

use crate::{
    api::{Progress, server::Reply},
    catalog::{Catalog, read_failure},
    failure::Outcome,
};

/// How much content is read at once.
const READ_BYTES: usize = 512 * 1024;

/// How many files are taken at once.
const PAGE: usize = 512;

/// The most damage listed.
const DAMAGE_MAX: usize = 1000;

/// How often it is told how far it is, in states.
const TELL_EVERY: u64 = 64;

/// What a check found.
#[derive(Debug, Default)]
pub(crate) struct Verified {
    /// States read.
    pub(crate) states: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// What is damaged.
    pub(crate) damage: Vec<String>,
}

/// Checks everything a set keeps, telling how far it is.
pub(crate) fn verify(catalog: &Catalog, reply: &mut Reply) -> Outcome<Verified> {
    let reader = catalog.reader();
    let verified = Verified::default();
    let mut run = Run { catalog, reader, reply, verified };
    let mut after = None;
    loop {
        let files = catalog.view()?.ever_after(after, PAGE).map_err(read_failure)?;
        let Some(last) = files.last() else { return Ok(run.verified) };
        after = Some(*last);
        for file in files {
            for state in states_of(&catalog.view()?, file)? {
                run.state(&state)?;
            }
        }
    }
}

struct Run<'a> {
    catalog: &'a Catalog,
    reader: &'a Reader,
    reply: &'a mut Reply,
    verified: Verified,
}

impl Run<'_> {
    fn state(&mut self, state: &FileState) -> Outcome<()> {
        if state.expired {
            return Ok(());
        }
        if let Err(what) = self.read(state)
            && self.verified.damage.len() < DAMAGE_MAX
        {
            self.verified.damage.push(format!("{} at commit {}: {what}", state.file, state.commit));
        }
        self.verified.states += 1;
        if self.verified.states.is_multiple_of(TELL_EVERY) {
            let doing = format!("verifying set {}: states", self.catalog.set());
            self.reply.progress(&Progress { doing, done: self.verified.states, total: None })?;
        }
        Ok(())
    }

    fn read(&mut self, state: &FileState) -> Result<(), String> {
        if state.meta.kind != Kind::File {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < state.meta.size {
            let read = self.reader.read(state, offset, READ_BYTES);
            let bytes = read.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
            if bytes.is_empty() {
                return Err("content is missing".to_owned());
            }
            offset += bytes.len() as u64;
            hasher.update(&bytes);
        }
        self.verified.bytes += offset;
        let hash = *hasher.finalize().as_bytes();
        match state.hash {
            Some(known) if known.0 != hash => {
                Err("the content is not what its master hashed".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Returns all versions of a file, and what it is now.
fn states_of(view: &View, file: FileId) -> Outcome<Vec<FileState>> {
    let mut states = view.versions(file).map_err(read_failure)?;
    if let Some(now) = view.file(file, view.latest()).map_err(read_failure)?
        && !states.iter().any(|state| state.commit == now.commit)
    {
        states.push(now);
    }
    Ok(states)
}
