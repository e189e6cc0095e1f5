//! What goes into a [`Shipper`](super::Shipper) and what comes out.

use keepshare_base::{Epoch, FilledChange, OriginId, Position, RunningHash, Seq, SetName, Stamp};

use crate::{
    FileLine, Frame, MirrorReason, MonoTime, NameLine, Place, SetSettings, Text,
    epochs::{Disagreement, Verdict},
    restore::{MasterInput, MasterOutput},
};

/// What a shipper is for.
#[derive(Clone, Debug)]
pub struct ShipperOptions {
    /// Which set.
    pub set: SetName,
    /// Which source slot of it.
    pub origin: OriginId,
    /// What the destination is to do.
    pub settings: SetSettings,
    /// The place through which the destination is known to have everything, as last stored.
    pub acked: Option<Place>,
    /// The source of chance for the waits between connections.
    pub seed: u64,
}

/// What the journal holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its last change; 0 before the first.
    pub seq: Seq,
    /// Its oldest change that can still be read; `seq + 1` where there is none. The hash of the place right before it
    /// is still known.
    pub oldest: Seq,
}

/// A change out of the journal.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JournalEntry {
    /// Its place.
    pub position: Position,
    /// The hash of the journal up to and with it.
    pub running: RunningHash,
    /// The change and its content.
    pub filled: FilledChange,
}

/// Numbers the mirrors of one shipper, so that what belongs to a past one is told apart.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct MirrorId(pub u64);

/// What happens to a shipper.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "moved once, kept nowhere")]
pub enum Input {
    /// The journal as it is now: before everything else, and whenever it grows, drops or begins an epoch. An older
    /// one that comes late is passed over.
    Journal(Head),
    /// The connection asked for stands.
    Connected,
    /// A frame came.
    Received(Frame),
    /// When bytes last came, of whole frames or not; to be given before `TimedOut`.
    Heard {
        /// When.
        at: MonoTime,
    },
    /// When bytes last left of what is queued, where more waits; to be given before `TimedOut`.
    Left {
        /// When.
        at: MonoTime,
    },
    /// The connection ended, or did not come about.
    Disconnected,
    /// The answer to [`Output::ReadHash`]; `None` where the journal no longer knows.
    JournalHash {
        /// The place asked for.
        seq: Seq,
        /// The hash there; [`RunningHash::EMPTY`] for place 0.
        running: Option<RunningHash>,
    },
    /// The answer to [`Output::Read`]: at least one change, in order from the one asked for.
    JournalRead(Vec<JournalEntry>),
    /// The other answer to [`Output::Read`]: the journal no longer holds the change asked for.
    JournalGone {
        /// The place asked for.
        from: Seq,
    },
    /// The answer to [`Output::StartMirror`]: the mirror leads to the journal's place `at`.
    MirrorStarted {
        /// Which mirror.
        mirror: MirrorId,
        /// Where it leads.
        at: Place,
        /// The journal's time there.
        stamp: Stamp,
    },
    /// One page of the listing has been used up.
    ListingTaken {
        /// Of which mirror.
        mirror: MirrorId,
    },
    /// The answer to [`Output::ReadMirror`].
    MirrorParts {
        /// Of which mirror.
        mirror: MirrorId,
        /// At least one.
        parts: Vec<FilledChange>,
    },
    /// The other answer to [`Output::ReadMirror`]: everything was handed over.
    MirrorDone {
        /// Which mirror.
        mirror: MirrorId,
    },
    /// The mirror cannot go on.
    MirrorFailed {
        /// Which mirror.
        mirror: MirrorId,
        /// Why.
        reason: Text,
    },
    /// The answer to [`Output::Disagrees`].
    Judged(Verdict),
    /// Somebody wants this destination mirrored.
    MirrorWanted,
    /// The destination is reached elsewhere now: what is connected, or is being, ends, and it is dialled at once.
    Moved,
    /// Something about a restore.
    Restore(MasterInput),
    /// The time that [`Shipper::poll_timeout`](super::Shipper::poll_timeout) gave has come.
    TimedOut,
}

/// What a shipper wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// Connect to the destination; answered by `Connected` or `Disconnected`.
    Connect,
    /// Close the connection. No `Disconnected` follows.
    Disconnect {
        /// Why, for the log.
        reason: Text,
    },
    /// Queue this frame on the connection. What can be queued is bounded by the window.
    Send(Frame),
    /// Find the journal's hash at this place.
    ReadHash {
        /// The place.
        seq: Seq,
    },
    /// Read changes from the journal.
    Read {
        /// The first one.
        from: Seq,
        /// Stop before more than that, but never before the first.
        bytes_max: usize,
    },
    /// Begin a mirror: keep a view of the tree at one place of the journal. Ends the one before.
    StartMirror {
        /// Which mirror.
        mirror: MirrorId,
        /// Why.
        reason: MirrorReason,
    },
    /// What the destination has, for the mirror to find what differs.
    Listing {
        /// For which mirror.
        mirror: MirrorId,
        /// The next page.
        page: Page,
    },
    /// Give the next parts of the mirror.
    ReadMirror {
        /// Which mirror.
        mirror: MirrorId,
        /// Stop before more than that, but never before the first.
        bytes_max: usize,
    },
    /// Forget the mirror.
    StopMirror {
        /// Which one.
        mirror: MirrorId,
    },
    /// The journal cannot be the continuation of what the destination has. Answered by [`Input::Judged`], after the
    /// others were heard ([`Epochs`](crate::epochs::Epochs)).
    Disagrees {
        /// The highest epoch that the destination knows.
        told: Epoch,
        /// In what way.
        disagreement: Disagreement,
    },
    /// The destination has everything through this place: store it, the journal may forget it.
    Acked(Place),
    /// Tell the admin.
    Alarm {
        /// What kind.
        kind: AlarmKind,
        /// In words.
        text: Text,
    },
    /// Something about a restore.
    Restore(MasterOutput),
}

/// A page of a destination's listing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Page {
    /// Names, in order of folder and name.
    Names(Vec<NameLine>),
    /// Files, in order of their ids.
    Files(Vec<FileLine>),
    /// There is no more.
    End,
}

/// What an alarm is about; one kind is raised once until a handshake or a mirror makes it good.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AlarmKind {
    /// The destination has less than it acknowledged.
    LostAcknowledged,
    /// It refuses what we send.
    Refused,
    /// It breaks the protocol.
    Protocol,
    /// A mirror cannot go on.
    Mirror,
    /// It has what does not continue our journal, and a person has to decide.
    Disagrees,
    /// It follows another master, and a person has to decide who has the set.
    Fenced,
}

impl From<Disagreement> for AlarmKind {
    fn from(disagreement: Disagreement) -> Self {
        match disagreement {
            Disagreement::Fenced => Self::Fenced,
            Disagreement::Ahead | Disagreement::Differs => Self::Disagrees,
        }
    }
}

/// What a shipper is doing, for the status page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Doing {
    /// Not connected; tries again by itself.
    Away,
    /// Finding the common place.
    Greeting,
    /// Sending what differs.
    Mirroring(MirrorReason),
    /// Sending changes as they come.
    Following,
    /// The destination cannot keep more just now.
    Waiting(Text),
}
