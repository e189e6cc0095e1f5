//! A mirror of one destination under way: its listing comes in page by page, then parts go out.
//!
//! The comparison with the source runs on a thread of its own and is slowed down by whoever reads the parts.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc},
};

use tokio::sync::{Notify, mpsc};

use super::{agreement::Agreement, seeding::Seeding};
use crate::source::{
    Head, Listing, MirrorPart, MirrorProgress, MirrorSink, SourceError, SourceHandle,
};
use keepshare_base::{FilledChange, chain};
use keepshare_proto::{
    FileLine, NameLine, Place, Text,
    shipper::{Input, MirrorId, Page},
    weight,
};

/// How far a mirror is, for the status page.
#[derive(Clone, Copy, Debug, Default)]
pub struct MirrorShown {
    /// Bytes compared or sent.
    pub bytes_done: u64,
    /// Bytes of the set.
    pub bytes_total: u64,
    /// Files compared or sent.
    pub files_done: u64,
    /// Files of the set.
    pub files_total: u64,
}

/// A mirror under way; dropping it ends it.
#[derive(Debug)]
pub(super) struct Mirror {
    id: MirrorId,
    pages: std_mpsc::Sender<Page>,
    shared: Arc<Shared>,
}

/// What the loop, the comparing thread and the task that hands parts over have in common.
#[derive(Debug, Default)]
struct Shared {
    inner: Mutex<Inner>,
    changed: Notify,
    room: std::sync::Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// Each with its weight.
    parts: VecDeque<(usize, FilledChange)>,
    bytes: usize,
    /// How much the shipper wants to have.
    wanted: Option<usize>,
    end: Option<Result<(), String>>,
    ended: bool,
    dropped: bool,
    shown: MirrorShown,
}

/// How much content may wait for the shipper to ask for it.
const WAITING_BYTES_MAX: usize = 8 << 20;

impl Mirror {
    /// Starts the comparison; its answers go to `events`.
    pub(super) fn start(
        id: MirrorId,
        source: SourceHandle,
        agreement: Arc<Agreement>,
        events: mpsc::UnboundedSender<Input>,
    ) -> Self {
        let (pages, listed) = std_mpsc::channel();
        let shared = Arc::new(Shared::default());
        let sink = Sink { id, listed, events: events.clone(), shared: Arc::clone(&shared) };
        let compared = Arc::clone(&shared);
        tokio::task::spawn_blocking(move || {
            let mut sink = sink;
            let end = match sink.mirror(&source, agreement.seeding()) {
                Ok(()) => Ok(()),
                Err(SourceError::GivenUp) => return,
                Err(error) => Err(chain(&error)),
            };
            compared.lock().end = Some(end);
            compared.changed.notify_one();
        });
        tokio::spawn(hand_over(id, Arc::clone(&shared), events));
        Self { id, pages, shared }
    }

    /// Returns which one it is.
    pub(super) fn id(&self) -> MirrorId {
        self.id
    }

    /// Takes a page of what the destination has.
    pub(super) fn page(&self, page: Page) {
        // A comparison that is over needs no more pages.
        let _ = self.pages.send(page);
    }

    /// Hands the next parts over when there are any.
    pub(super) fn read(&self, bytes_max: usize) {
        self.shared.lock().wanted = Some(bytes_max);
        self.shared.changed.notify_one();
    }

    /// Returns how far it is.
    pub(super) fn shown(&self) -> MirrorShown {
        self.shared.lock().shown
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.lock().dropped = true;
        self.shared.changed.notify_one();
        self.shared.room.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes what the shipper asked for, if there is something to give.
    fn take(&mut self, mirror: MirrorId) -> Option<Input> {
        let bytes_max = self.wanted?;
        if self.parts.is_empty() {
            let end = self.end.clone()?;
            (self.wanted, self.ended) = (None, true);
            return Some(match end {
                Ok(()) => Input::MirrorDone { mirror },
                Err(reason) => Input::MirrorFailed { mirror, reason: Text::new(&reason) },
            });
        }
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while let Some((weight, part)) = self.parts.pop_front() {
            if !parts.is_empty() && bytes + weight > bytes_max {
                self.parts.push_front((weight, part));
                break;
            }
            bytes += weight;
            parts.push(part);
        }
        self.bytes -= bytes;
        self.wanted = None;
        Some(Input::MirrorParts { mirror, parts })
    }
}

/// Gives the shipper what it asked for as soon as it is there.
async fn hand_over(mirror: MirrorId, shared: Arc<Shared>, events: mpsc::UnboundedSender<Input>) {
    loop {
        let (input, over) = {
            let mut inner = shared.lock();
            // What went wrong is told even before the shipper asks.
            if matches!(inner.end, Some(Err(_))) {
                inner.parts.clear();
                inner.wanted.get_or_insert(0);
            }
            (inner.take(mirror), inner.dropped || inner.ended)
        };
        shared.room.notify_all();
        if let Some(input) = input
            && events.send(input).is_err()
        {
            return;
        }
        if over {
            return;
        }
        shared.changed.notified().await;
    }
}

/// The end of the comparison that its thread sees.
struct Sink {
    id: MirrorId,
    listed: std_mpsc::Receiver<Page>,
    events: mpsc::UnboundedSender<Input>,
    shared: Arc<Shared>,
}

impl Sink {
    fn mirror(&mut self, source: &SourceHandle, seeding: &Seeding) -> Result<(), SourceError> {
        let mirror = source.mirror()?;
        let (Head { epoch, seq, running }, stamp) = (mirror.head(), mirror.stamp());
        let at = Place { epoch, seq, running };
        self.tell(Input::MirrorStarted { mirror: self.id, at, stamp })?;
        let listing = self.listing()?;
        let Some(listing) = seeding.seed(source, epoch, listing)? else {
            return Err(SourceError::GivenUp);
        };
        mirror.run(&listing, self)?;
        Ok(())
    }

    /// Gathers what the destination has.
    fn listing(&mut self) -> Result<Listing, SourceError> {
        let mut listing = Listing::default();
        loop {
            let in_order = match self.listed.recv().map_err(|_| SourceError::GivenUp)? {
                Page::Names(lines) => {
                    lines.into_iter().all(|NameLine { parent, name, file, kind }| {
                        listing.push_name(&((parent, name), (file, kind)))
                    })
                }
                Page::Files(lines) => {
                    lines.into_iter().all(|FileLine { file, digest, version }| {
                        listing.push_file(&(file, (digest, version)))
                    })
                }
                Page::End => return Ok(listing),
            };
            let (names, files) = listing.counts();
            // The shipper has seen to the order.
            let is_too_long = names.max(files) > LISTED_MAX || listing.bytes() > LISTED_BYTES_MAX;
            if !in_order || is_too_long {
                return Err(SourceError::GivenUp);
            }
            self.tell(Input::ListingTaken { mirror: self.id })?;
        }
    }

    fn tell(&self, input: Input) -> Result<(), SourceError> {
        self.events.send(input).map_err(|_| SourceError::GivenUp)
    }
}

impl MirrorSink for Sink {
    fn part(&mut self, part: MirrorPart) -> bool {
        let mut inner = self.shared.lock();
        while inner.bytes > WAITING_BYTES_MAX && !inner.dropped {
            inner = self.shared.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        if inner.dropped {
            return false;
        }
        let weight = weight(&part.filled);
        inner.bytes += weight;
        inner.parts.push_back((weight, part.filled));
        drop(inner);
        self.shared.changed.notify_one();
        true
    }

    fn progress(&mut self, progress: MirrorProgress) {
        let MirrorProgress { files_done, files_total, bytes_done, bytes_total } = progress;
        self.shared.lock().shown = MirrorShown { bytes_done, bytes_total, files_done, files_total };
    }
}

/// The most names, and the most files, that a destination may list.
const LISTED_MAX: usize = 50_000_000;

/// The most memory that such a list takes, in bytes: that of as many names as are usual, whatever it lists.
const LISTED_BYTES_MAX: usize = 2 << 30;

#[cfg(test)]
mod tests {
    use keepshare_base::{Change, Epoch, FileId, Name, NameRow, RunningHash, Seq};

    use super::*;

    /// Names, folders, symlinks and empty files have no content, and a destination may take nothing for a while: what was compared
    /// waits where it was found, not in memory.
    #[test]
    fn parts_without_content_count_as_well() {
        let (_pages, listed) = std_mpsc::channel();
        let (events, _events) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let mut sink = Sink { id: MirrorId(1), listed, events, shared: Arc::clone(&shared) };
        let name = |at: u32| NameRow {
            parent: FileId::ROOT,
            name: Name::new(format!("{at:0200}").as_bytes()).unwrap(),
            target: None,
        };
        let head = Head { epoch: Epoch::FIRST, seq: Seq(1), running: RunningHash::EMPTY };
        for _ in 0..3 {
            let change = Change { names: (0..1000).map(name).collect(), ..Change::default() };
            let filled = FilledChange { change, payload: Vec::new() };
            assert!(sink.part(MirrorPart { head, complete: false, filled }));
        }
        let mut inner = shared.lock();
        assert!(inner.bytes > 3 * 200_000, "{} bytes wait", inner.bytes);
        for left in [2, 1, 0] {
            inner.wanted = Some(300_000);
            let given = inner.take(MirrorId(1));
            assert!(matches!(given, Some(Input::MirrorParts { parts, .. }) if parts.len() == 1));
            assert_eq!(inner.parts.len(), left);
        }
        assert_eq!(inner.bytes, 0);
    }
}
