//! Restores in place that are asked for on the master itself, of versions that other stations keep.
//!
//! Another station gives the version out, as it does for a restore into a folder; it orders nothing. The content is put aside and
//! handed to the source by what does it for a station that asks over its link: the same checks, the same journal.

use std::{fs, path::PathBuf, sync::Arc, thread, time::Instant};

use anyhow::Context;
use tokio::sync::mpsc;

use keepshare_base::{ContentHash, Kind, Position, SetPath, VersionId};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{Restored, ShownEntry, kind_word},
};
use keepshare_proto::{
    Act, RestoreAnswer, RestoreRequest, Text,
    restore::{MasterInput, MasterOutput},
    shipper::Input,
};
use keepshare_replication::drivers::restores::MasterRestores;
use keepshare_versioning::when::When;

use super::Master;
use crate::{
    replica::{EQUAL, RETURN_POLL, RETURN_TIMEOUT, WRITTEN},
    request::new_request,
};

/// One restore, its content as it comes.
#[derive(Debug)]
pub struct Restoring {
    master: Arc<Master>,
    version: String,
    restores: MasterRestores,
    request: RestoreRequest,
    /// What the content must have, where that is known.
    hash: Option<ContentHash>,
    hasher: blake3::Hasher,
    got: u64,
    to: mpsc::UnboundedSender<Input>,
    answers: mpsc::UnboundedReceiver<Input>,
    dir: PathBuf,
}

impl Master {
    /// Begins to write a version back at `path`, for `user`; its content comes next.
    pub fn restore(
        self: &Arc<Self>,
        path: &SetPath,
        entry: ShownEntry,
        user: &str,
    ) -> Outcome<Restoring> {
        let set = &self.name;
        if entry.meta.kind != Kind::File {
            return Err(Failure::refused(format!(
                "{path} was a {} then, and only files are restored in place",
                kind_word(entry.meta.kind)
            ))
            .hint("--to DIR restores folders and links"));
        }
        if let Some(why) = entry.damaged {
            return Err(Failure::new(Code::Failed, why)
                .hint("an older or newer version may be whole: keepshare versions"));
        }
        let Some(version) = entry.version.as_deref().and_then(version_of) else {
            return Err(Failure::refused(format!(
                "what {path} was then is no version, and only versions are restored in place"
            ))
            .hint(format!("keepshare versions '{set}:{path}' lists them")));
        };
        entry.meta.check().map_err(|_| refused("its attributes are not usable"))?;
        let id = new_request()?;
        let request = RestoreRequest {
            request: id,
            path: path.clone(),
            version,
            meta: entry.meta,
            hash: entry.hash.unwrap_or(ContentHash([0; 32])),
            user: Some(Text::new(user)),
            ground: None,
            act: Act::Write,
        };
        let dir = self.aside.join(id.to_string());
        let mut restores =
            MasterRestores::new(dir.clone()).context("cannot put the content aside")?;
        let (to, answers) = mpsc::unbounded_channel();
        restores.perform(MasterOutput::Begin(request.clone()), &self.source, &to);
        let (hash, hasher) = (entry.hash, blake3::Hasher::new());
        let (master, version) = (Arc::clone(self), entry.version.unwrap_or_default());
        let mut restoring = Restoring {
            master,
            version,
            restores,
            request,
            hash,
            hasher,
            got: 0,
            to,
            answers,
            dir,
        };
        restoring.check()?;
        Ok(restoring)
    }

    /// Waits until another station has a change, and tells whether one has; it is done either way.
    fn wait_for_copy(&self, at: Position) -> bool {
        let is_there = || {
            self.source.head().epoch == at.epoch
                && self.to().any(|to| self.source.acked_by(to.as_str()) >= Some(at.seq))
        };
        let deadline = Instant::now() + RETURN_TIMEOUT;
        while !is_there() {
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(RETURN_POLL);
        }
        true
    }
}

impl Restoring {
    /// Puts the next content aside. Blocks.
    pub fn take(&mut self, bytes: &[u8]) -> Outcome<()> {
        let (request, offset) = (self.request.request, self.got);
        self.got += bytes.len() as u64;
        if self.got > self.request.meta.size {
            return Err(other_content());
        }
        self.hasher.update(bytes);
        let output = MasterOutput::Content { request, offset, bytes: bytes.to_vec() };
        self.restores.perform(output, &self.master.source, &self.to);
        self.check()
    }

    /// Has what came written in its place, and waits until another station has the new version. Blocks.
    pub fn finish(mut self) -> Outcome<Restored> {
        let answer = self.write()?;
        let still_open = matches!(answer, RestoreAnswer::StillOpen(_));
        let (outcome, on_its_way) = match answer {
            RestoreAnswer::Written(at) | RestoreAnswer::StillOpen(at) => {
                (WRITTEN, !self.master.wait_for_copy(at))
            }
            RestoreAnswer::Equal(_) => (EQUAL, false),
            RestoreAnswer::Failed(reason) | RestoreAnswer::NotNow(reason) => {
                return Err(refused(reason.as_str()));
            }
        };
        Ok(Restored {
            set: self.master.name.to_string(),
            path: self.request.path.to_string(),
            version: std::mem::take(&mut self.version),
            outcome: outcome.to_owned(),
            still_open,
            on_its_way,
        })
    }

    fn write(&mut self) -> Outcome<RestoreAnswer> {
        let hash = ContentHash(*self.hasher.finalize().as_bytes());
        if self.got != self.request.meta.size || self.hash.is_some_and(|known| known != hash) {
            return Err(other_content());
        }
        let request = self.request.request;
        // Given away: a source that ends without an answer is heard of, and waited for by nobody.
        let to = std::mem::replace(&mut self.to, mpsc::unbounded_channel().0);
        self.restores.perform(MasterOutput::Finish { request }, &self.master.source, &to);
        drop(to);
        loop {
            match self.answers.blocking_recv() {
                Some(Input::Restore(MasterInput::Done { answer, .. })) => return Ok(answer),
                Some(_) => {}
                None => return Err(Failure::unavailable("the station is stopping")),
            }
        }
    }

    /// Fails where something could not be put aside.
    fn check(&mut self) -> Outcome<()> {
        while let Ok(input) = self.answers.try_recv() {
            if let Input::Restore(MasterInput::Done {
                answer: RestoreAnswer::Failed(why) | RestoreAnswer::NotNow(why),
                ..
            }) = input
            {
                return Err(refused(why.as_str()));
            }
        }
        Ok(())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn version_of(text: &str) -> Option<VersionId> {
    match text.parse::<When>().ok()? {
        When::Version(id, _) => Some(id),
        _ => None,
    }
}

fn refused(reason: &str) -> Failure {
    Failure::new(Code::Failed, format!("it was not restored: {reason}"))
        .hint("nothing was changed; --to DIR restores elsewhere")
}

fn other_content() -> Failure {
    refused("the content that came is not the version's")
}
