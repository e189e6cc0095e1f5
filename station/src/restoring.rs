//! Restores in place that are asked for on the master itself, of versions that other stations keep.
//!
//! Another station gives the version out, as it does for a restore into a folder; it orders nothing. The content is put aside and
//! handed to the source by what does it for a station that asks over its link: the same checks, the same journal.

use std::{fs, path::PathBuf, thread, time::Instant};

use anyhow::Context;
use tokio::sync::mpsc;

use keepshare_base::{ContentHash, Kind, Position, VersionId};
use keepshare_control::{
    Code, Failure, Outcome,
    answers::{Entry, Restored, kind_word},
    client::Piece,
    questions::Export,
};
use keepshare_proto::{
    RestoreAnswer, RestoreRequest, Text,
    restore::{MasterInput, MasterOutput},
    shipper::Input,
};
use keepshare_replication::{drivers::restores::Restores, source::SourceHandle};
use keepshare_versioning::when::When;

use crate::{
    elsewhere::Elsewhere,
    master::Master,
    replica::{EQUAL, RETURN_POLL, RETURN_TIMEOUT, WRITTEN, new_request},
};

/// The content of one restore as it comes.
struct Taking {
    restores: Restores,
    request: RestoreRequest,
    /// What the content must have, where that is known.
    hash: Option<ContentHash>,
    hasher: blake3::Hasher,
    got: u64,
    source: SourceHandle,
    to: mpsc::UnboundedSender<Input>,
    answers: mpsc::UnboundedReceiver<Input>,
    dir: PathBuf,
}

/// Has a version that another station keeps written in its place here, and waits until one of them has the new version. Blocks.
pub(crate) fn restore(there: &Elsewhere, when: &str, user: &str) -> Outcome<Restored> {
    let question = Export { place: there.place(), when: when.to_owned() };
    let (mut taking, mut version) = (None::<Taking>, String::new());
    there.each(&question, |piece| match piece {
        Piece::Item(entry) if taking.is_none() => {
            version = entry.version.clone().unwrap_or_default();
            taking = Some(begin(there, entry, user)?);
            Ok(())
        }
        Piece::Data(bytes) => taking.as_mut().ok_or_else(not_understood)?.take(&bytes),
        Piece::Progress(_) => Ok(()),
        Piece::Item(_) => Err(not_understood()),
    })?;
    let answer = taking.ok_or_else(not_understood)?.finish()?;
    let still_open = matches!(answer, RestoreAnswer::StillOpen(_));
    let (outcome, on_its_way) = match answer {
        RestoreAnswer::Written(at) | RestoreAnswer::StillOpen(at) => {
            (WRITTEN, !wait_for(&there.master, at))
        }
        RestoreAnswer::Equal(_) => (EQUAL, false),
        RestoreAnswer::Failed(reason) => return Err(refused(reason.as_str())),
    };
    let (set, path) = (there.set.to_string(), there.path.to_string());
    let outcome = outcome.to_owned();
    Ok(Restored { set, path, version, outcome, still_open, on_its_way })
}

fn begin(there: &Elsewhere, entry: Entry, user: &str) -> Outcome<Taking> {
    let (set, path) = (&there.set, &there.path);
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
    };
    let dir = there.master.aside().join(id.to_string());
    let mut restores = Restores::new(dir.clone()).context("cannot put the content aside")?;
    let (to, answers) = mpsc::unbounded_channel();
    let source = there.master.source().clone();
    restores.perform(MasterOutput::Begin(request.clone()), &source, &to);
    let (hash, hasher) = (entry.hash, blake3::Hasher::new());
    let mut taking = Taking { restores, request, hash, hasher, got: 0, source, to, answers, dir };
    taking.check()?;
    Ok(taking)
}

/// Waits until another station has a change, and tells whether one has; it is done either way.
fn wait_for(master: &Master, at: Position) -> bool {
    let is_there = || {
        let source = master.source();
        source.head().epoch == at.epoch
            && master.to().any(|to| source.acked_by(to.as_str()) >= Some(at.seq))
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

impl Taking {
    /// Puts the next content aside.
    fn take(&mut self, bytes: &[u8]) -> Outcome<()> {
        let (request, offset) = (self.request.request, self.got);
        self.got += bytes.len() as u64;
        if self.got > self.request.meta.size {
            return Err(other_content());
        }
        self.hasher.update(bytes);
        let output = MasterOutput::Content { request, offset, bytes: bytes.to_vec() };
        self.restores.perform(output, &self.source, &self.to);
        self.check()
    }

    /// Has what came written and journaled. Blocks.
    fn finish(mut self) -> Outcome<RestoreAnswer> {
        let hash = ContentHash(*self.hasher.finalize().as_bytes());
        if self.got != self.request.meta.size || self.hash.is_some_and(|known| known != hash) {
            return Err(other_content());
        }
        let request = self.request.request;
        self.restores.perform(MasterOutput::Finish { request }, &self.source, &self.to);
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
                answer: RestoreAnswer::Failed(why), ..
            }) = input
            {
                return Err(refused(why.as_str()));
            }
        }
        Ok(())
    }
}

impl Drop for Taking {
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

fn not_understood() -> Failure {
    refused("another station answered in a way that is not understood")
}
