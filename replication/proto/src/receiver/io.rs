//! What goes into a [`Receiver`](super::Receiver) and what comes out.

use keepshare_base::{
    Epoch, FileId, FilledChange, Name, OriginId, Position, RunningHash, Seq, SetName, StationName,
};

use crate::{
    FileLine, Frame, MonoTime, NameLine, Place, Text,
    restore::{StationInput, StationOutput},
};

/// What a receiver is for.
#[derive(Clone, Debug)]
pub struct ReceiverOptions {
    /// Which set.
    pub set: SetName,
    /// Which source slot of it.
    pub origin: OriginId,
}

/// Numbers what a receiver submits to its store, from 1, over all its connections.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// Where the store stands with an origin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// The place that complete changes have reached.
    pub place: Option<Place>,
    /// The highest epoch agreed to.
    pub fence: Epoch,
    /// The highest place of the origin that anything there has.
    pub highest: Option<(Epoch, Seq)>,
    /// Where the mirror leads that began and did not end.
    pub mirror: Option<(Epoch, Seq)>,
}

/// A change for the store, checked as far as it can be without knowing the set.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commit {
    /// Names it in the answer.
    pub ticket: Ticket,
    /// Its place.
    pub position: Position,
    /// The hash of the journal up to and with it.
    pub running: RunningHash,
    /// False inside a mirror: the place moves only with the mirror's last.
    pub complete: bool,
    /// The change and its content.
    pub filled: FilledChange,
}

/// What happens to a receiver.
#[derive(Clone, Debug)]
pub enum Input {
    /// A link stands. The driver has checked that `peer` may bring this set, and has closed the link before.
    Connected {
        /// Who is at the other end, out of its certificate.
        peer: StationName,
    },
    /// A frame came.
    Received(Frame),
    /// When bytes last came, of whole frames or not; to be given before `TimedOut`.
    Heard {
        /// When.
        at: MonoTime,
    },
    /// The link ended.
    Disconnected,
    /// The answer to [`Output::ReadStanding`].
    Standing(Standing),
    /// The store has durably agreed to this epoch: the answer to [`Output::Fence`], or news from elsewhere.
    Fenced {
        /// Which one.
        epoch: Epoch,
    },
    /// Everything submitted through this ticket is durable, but for what was refused.
    Committed {
        /// The last durable one.
        through: Ticket,
    },
    /// The store keeps nothing of this change.
    CommitRefused {
        /// Which one.
        ticket: Ticket,
        /// Why.
        reason: Text,
    },
    /// The store has no space; what was submitted waits there.
    Full {
        /// In words.
        reason: Text,
    },
    /// It has space again.
    Resumed,
    /// The store takes nothing more until a person acts.
    Stopped {
        /// Why.
        reason: Text,
    },
    /// The answer to [`Output::ListNames`].
    NamesPage {
        /// For which listing.
        listing: Ticket,
        /// At most as many as asked for.
        lines: Vec<NameLine>,
        /// There is no more.
        end: bool,
    },
    /// The answer to [`Output::ListFiles`].
    FilesPage {
        /// For which listing.
        listing: Ticket,
        /// At most as many as asked for.
        lines: Vec<FileLine>,
        /// There is no more.
        end: bool,
    },
    /// The live tree shows everything through this change; nothing, where it is 0.
    Live {
        /// Of which epoch.
        epoch: Epoch,
        /// Which one.
        through: Seq,
    },
    /// Something about a restore.
    Restore(StationInput),
    /// The time that [`Receiver::poll_timeout`](super::Receiver::poll_timeout) gave has come.
    TimedOut,
}

/// What a receiver wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Queue this frame on the link. What can be queued is bounded by what was asked for.
    Send(Frame),
    /// Close the link, after what is queued is sent. No `Disconnected` follows.
    Disconnect {
        /// Why, for the log.
        reason: Text,
    },
    /// Tell where the store stands; asked only when nothing submitted is open.
    ReadStanding,
    /// Durably agree to this epoch.
    Fence {
        /// Which one.
        epoch: Epoch,
    },
    /// Keep this. Answered once, by `Committed` or `CommitRefused`; the answer may come after the link's end.
    Commit(Commit),
    /// Give the next page of present names, in order of folder and name.
    ListNames {
        /// Names the listing in the answer.
        listing: Ticket,
        /// Begin after this one.
        after: Option<(FileId, Name)>,
        /// At most so many.
        limit: usize,
    },
    /// Give the next page of present files, in order of their ids.
    ListFiles {
        /// Names the listing in the answer.
        listing: Ticket,
        /// Begin after this one.
        after: Option<FileId>,
        /// At most so many.
        limit: usize,
    },
    /// Tell the admin.
    Alarm {
        /// In words.
        text: Text,
    },
    /// Something about a restore.
    Restore(StationOutput),
}
