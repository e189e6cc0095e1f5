//! A master's half of restores: old content comes over the link, is put aside, and is handed to the source when whole.
//!
//! The source writes it in place, journals it and answers repeats, so nothing here needs to survive a crash; what was
//! put aside is removed at the next start.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

use keepshare_base::{RequestId, RestoreOutcome};
use keepshare_proto::{
    RestoreAnswer, RestoreRequest, Text,
    restore::{MasterInput, MasterOutput},
    shipper::Input,
};
use keepshare_replication::source::{self, SourceHandle};

/// Restores of one set that come over one link.
#[derive(Debug)]
pub(crate) struct Restores {
    dir: PathBuf,
    open: HashMap<RequestId, Aside>,
}

/// What is put aside of one request.
#[derive(Debug)]
struct Aside {
    request: RestoreRequest,
    path: PathBuf,
    /// What went wrong while it was made ready.
    file: io::Result<File>,
}

impl Restores {
    /// Puts content aside in `dir`, which nothing else uses.
    pub(crate) fn new(dir: PathBuf) -> io::Result<Self> {
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&dir)?,
        }
        Ok(Self { dir, open: HashMap::new() })
    }

    /// Does what the master's half of a restore wants.
    pub(crate) fn perform(
        &mut self,
        output: MasterOutput,
        source: &SourceHandle,
        events: &mpsc::UnboundedSender<Input>,
    ) {
        match output {
            // The source answers a repeat when it is handed over, so nothing has to be looked up before.
            MasterOutput::LookUp { request } => {
                answer(events, MasterInput::Known { request, answer: None });
            }
            MasterOutput::Begin(request) => {
                let path = self.dir.join(request.request.to_string());
                let file = create(&path);
                self.open.insert(request.request, Aside { request, path, file });
            }
            MasterOutput::Content { request, offset, bytes } => {
                self.write(request, offset, bytes, events);
            }
            MasterOutput::Finish { request } => self.finish(request, source, events),
            MasterOutput::Abort { request } => {
                if let Some(aside) = self.open.remove(&request) {
                    remove(&aside.path);
                }
            }
        }
    }

    fn write(
        &mut self,
        request: RequestId,
        offset: u64,
        bytes: Vec<u8>,
        events: &mpsc::UnboundedSender<Input>,
    ) {
        let Some(aside) = self.open.get_mut(&request) else { return };
        let through = offset + bytes.len() as u64;
        // At most a quarter of a MiB, into the page cache.
        if let Ok(file) = &mut aside.file
            && let Err(error) = file.write_all(&bytes)
        {
            aside.file = Err(error);
        }
        answer(events, MasterInput::Taken { request, through });
    }

    fn finish(
        &mut self,
        request: RequestId,
        source: &SourceHandle,
        events: &mpsc::UnboundedSender<Input>,
    ) {
        let Some(aside) = self.open.remove(&request) else { return };
        let (source, events) = (source.clone(), events.clone());
        tokio::task::spawn_blocking(move || {
            let answered = restore(&aside, &source);
            remove(&aside.path);
            answer(&events, MasterInput::Done { request, answer: answered });
        });
    }
}

fn restore(aside: &Aside, source: &SourceHandle) -> RestoreAnswer {
    let failed = |text: String| RestoreAnswer::Failed(Text::new(&text));
    if let Err(error) = &aside.file {
        return failed(format!("the master cannot put the content aside: {error}"));
    }
    let RestoreRequest { request, path, version, meta, user, ground, .. } = aside.request.clone();
    let restored = source.restore(source::RestoreRequest {
        request,
        version,
        user: user.map(|user| user.as_str().to_owned()),
        path,
        meta,
        content: aside.path.clone(),
        ground,
    });
    match restored {
        Ok(done) => match done.outcome {
            RestoreOutcome::Written if done.still_open => RestoreAnswer::StillOpen(done.position),
            RestoreOutcome::Written => RestoreAnswer::Written(done.position),
            RestoreOutcome::Equal => RestoreAnswer::Equal(done.position),
        },
        Err(error) => failed(format!("{:#}", anyhow::Error::new(error))),
    }
}

fn answer(events: &mpsc::UnboundedSender<Input>, input: MasterInput) {
    // A loop that has ended needs no answer.
    let _ = events.send(Input::Restore(input));
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "cannot remove what was put aside for a restore");
    }
}
