//! What a master and a station say to each other over one link.
//!
//! One link carries one set from one origin to one destination. The master says [`Hello`], the station [`Welcome`]s it
//! with the place it has reached, and from there changes flow one way and acknowledgements the other. There is no
//! message that removes a version. The bytes are [`codec`](crate::codec)'s work and described in `docs/formats/wire.md`.

use keepshare_base::{
    Change, ContentHash, Epoch, FileId, Kind, Meta, Name, OriginId, Position, RequestId,
    RestoreGround, RunningHash, Seq, SetName, SetPath, Stamp, VersionId,
};
use serde::{Deserialize, Serialize};

use crate::Text;

/// The version of everything behind the first bytes of a [`Hello`].
pub const PROTOCOL: u16 = 5;

/// The most names or files on one page of a listing; with the longest names they fit into a frame's header.
pub const PAGE_LINES_MAX: usize = 1024;

/// How many pages of a listing a station may send before the master asks for more.
pub const PAGES_AHEAD: u32 = 8;

/// A message and the bytes that travel with it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// What is said.
    pub message: Message,
    /// Content; only a change and the content of a restore have any.
    pub payload: Vec<u8>,
}

impl From<Message> for Frame {
    fn from(message: Message) -> Self {
        Self { message, payload: Vec::new() }
    }
}

/// Everything that is said over a link. The order of the variants is the wire's; new ones go to the end.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// Master: who I am and what I bring. The first frame.
    Hello(Hello),
    /// Either: no, and why; the link closes.
    Refused {
        /// For the machine.
        refusal: Refusal,
        /// For the reader.
        reason: Text,
    },
    /// Either: are you there?
    Ping,
    /// Either: yes.
    Pong,
    /// Station: what I have. The answer to [`Message::Hello`].
    Welcome(Welcome),
    /// Master: a change, with its content as payload.
    Change {
        /// Its place; all parts of a mirror have the place that the mirror leads to.
        position: Position,
        /// The hash of the journal up to and with it.
        running: RunningHash,
        /// Where it belongs.
        step: Step,
        /// The rows.
        change: Change,
    },
    /// Master: a mirror begins; list what you have.
    MirrorStart {
        /// The place that the mirror leads to.
        at: Place,
        /// The origin's time of that place.
        stamp: Stamp,
        /// Why.
        reason: MirrorReason,
    },
    /// Master: so many more pages of the listing may come.
    ListMore {
        /// How many.
        pages: u32,
    },
    /// Station: names it has, in order of folder and name.
    ListNames(Vec<NameLine>),
    /// Station: files it has, in order of their ids; after all names.
    ListFiles(Vec<FileLine>),
    /// Station: that was all.
    ListEnd,
    /// Station: every change through here is durable.
    Ack {
        /// The last durable one.
        through: Seq,
    },
    /// Station: so many parts of the present mirror are durable.
    PartAck {
        /// How many, counted from the mirror's start.
        parts: u64,
    },
    /// Station: a change is missing; go on from there.
    Resend {
        /// The first one missing.
        from: Seq,
    },
    /// Station: I cannot keep more just now; what you sent is not lost.
    Waiting {
        /// Why.
        reason: Text,
    },
    /// Station: it goes on.
    Resumed,
    /// Station: write this old version back.
    RestoreRequest(RestoreRequest),
    /// Station: its content, as payload, in order.
    RestoreData {
        /// Of which request.
        request: RequestId,
        /// Where in the content it begins.
        offset: u64,
    },
    /// Master: the content has arrived up to here.
    RestoreMore {
        /// Of which request.
        request: RequestId,
        /// In bytes from the content's start.
        through: u64,
    },
    /// Master: what came of it.
    RestoreAnswer {
        /// Of which request.
        request: RequestId,
        /// Written, equal or failed.
        answer: RestoreAnswer,
    },
    /// Station: every change through here is in the live tree, too; with 0 nothing is, as its folder is not there.
    Live {
        /// The last one shown.
        through: Seq,
    },
}

/// The first frame of a link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Which set.
    pub set: SetName,
    /// Which source slot of it.
    pub origin: OriginId,
    /// In which of its epochs.
    pub epoch: Epoch,
    /// The end of its journal.
    pub head: Seq,
    /// What the destination is to do.
    pub settings: SetSettings,
}

/// What a station has, in answer to a [`Hello`].
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The place that its changes have reached; `None` on a new station.
    pub place: Option<Place>,
    /// The highest epoch it ever agreed to; it takes nothing from a lower one.
    pub fence: Epoch,
    /// A mirror began and did not end: the tree is a mixture of two places.
    pub mirroring: bool,
}

/// How far an origin's journal was followed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// In which epoch.
    pub epoch: Epoch,
    /// Through which change.
    pub seq: Seq,
    /// The hash of the journal up to and with it.
    pub running: RunningHash,
}

/// What a destination does with deletes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Deletes {
    /// It follows them.
    #[default]
    Mirror,
}

/// What a set asks of a destination.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct SetSettings {
    /// What it does with deletes.
    pub deletes: Deletes,
}

/// Where a change belongs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Step {
    /// Next after the one before.
    Next,
    /// Inside a mirror; moves no position.
    Part {
        /// Counts the parts of one mirror, from 1.
        number: u64,
    },
    /// The end of a mirror: moves the position to the mirror's.
    Last {
        /// One more than the last part's.
        number: u64,
    },
}

/// Why a destination is mirrored instead of going on from its place.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum MirrorReason {
    /// It has nothing yet.
    Empty,
    /// An earlier mirror did not end.
    Interrupted,
    /// The journal no longer holds what it is missing.
    Dropped,
    /// It has less than it acknowledged.
    LostAcknowledged,
    /// A new epoch began.
    NewEpoch,
    /// It refused a change again and again.
    Refused,
    /// Somebody asked for it.
    Asked,
    /// Its history is another one than the master's.
    Differs,
}

/// Why a peer does not go on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    Protocol,
    /// Not this set, origin or master.
    Unknown,
    /// The epoch is over: another master has taken the origin on.
    Epoch,
    /// Something came that does not belong there.
    Order,
    /// A change that must not be kept.
    Change,
    /// Not now: it stops, or another link of the same set is open.
    Busy,
}

/// One name of a listing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NameLine {
    /// The folder.
    pub parent: FileId,
    /// The name in it.
    pub name: Name,
    /// What it stands for.
    pub file: FileId,
    /// Its kind.
    pub kind: Kind,
}

/// One file of a listing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct FileLine {
    /// Which file.
    pub file: FileId,
    /// The digest of its present state.
    pub digest: StateDigest,
    /// Where in the origin's journal that state was made a version; `None` where the origin has not said that it is one.
    pub version: Option<(Epoch, Seq)>,
}

/// A short digest of a file's attributes and content, to find what differs between two trees.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, Serialize, Deserialize)]
pub struct StateDigest(pub [u8; 16]);

impl StateDigest {
    /// Returns the digest of a state; without a content hash it speaks of the attributes alone.
    pub fn of(meta: &Meta, hash: Option<&ContentHash>) -> Self {
        let bytes = postcard::to_stdvec(&(meta, hash)).expect("a meta always encodes");
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Self(short)
    }
}

/// Asks the master to bring something of the past back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// Names the request; a repeat is answered, never done twice.
    pub request: RequestId,
    /// Where, inside the set.
    pub path: SetPath,
    /// The version that comes back; of what moves or goes, the one that it has.
    pub version: VersionId,
    /// Its attributes; where it is written, the size is the content's length.
    pub meta: Meta,
    /// The hash of its content, where it is written.
    pub hash: ContentHash,
    /// Who asked.
    pub user: Option<Text>,
    /// What must still be there; nothing is looked at for `None`, which a single restore of an admin's has.
    pub ground: Option<RestoreGround>,
    /// What is done.
    pub act: Act,
}

impl RestoreRequest {
    /// Returns how many bytes of content come with it.
    pub fn content_len(&self) -> u64 {
        if self.act == Act::Write { self.meta.size } else { 0 }
    }
}

/// What a request to bring something back has a master do. All but [`Act::Write`] come without content and are done where
/// that is not so already, so that a repeat does nothing.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Act {
    /// Write the version's content at the path.
    Write,
    /// Make a folder or a symlink with these attributes at the path, where nothing is.
    Make,
    /// Give the folder or the symlink at the path these attributes.
    SetAttributes,
    /// Move what is at the path elsewhere; what is there comes to the path in exchange.
    Move(Elsewhere),
    /// Give the file at the path one more name, where nothing is.
    Link(Elsewhere),
    /// Take away what is at the path, where its present state is a version; a folder, where nothing is in it.
    Remove,
    /// Make a point of the whole set; the path is the set's own.
    Point {
        /// What it is called.
        name: Text,
        /// How long it stays and is held, in microseconds of running time.
        lasts_micros: u64,
    },
}

/// Another path that a request speaks of.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// Inside the same set.
    pub path: SetPath,
    /// What must still be there.
    pub ground: RestoreGround,
}

/// How it begins why a master does something not now for which its disk has no room. What is removed makes some: that need not wait.
pub const NO_ROOM: &str = "no room";

/// What came of a request to restore.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum RestoreAnswer {
    /// Written, and journaled at this place.
    Written(Position),
    /// The file had these bytes already; journaled at this place.
    Equal(Position),
    /// Nothing was changed.
    Failed(Text),
    /// Written, and journaled at this place; a program has the file open that was replaced, and what it writes into it
    /// becomes a version.
    StillOpen(Position),
    /// Nothing was changed, and it may be done later: the source is not there, or its disk is full.
    NotNow(Text),
}

impl RestoreAnswer {
    /// Returns why nothing was changed, where that is so.
    pub fn refusal(&self) -> Option<&Text> {
        match self {
            Self::Failed(why) | Self::NotNow(why) => Some(why),
            Self::Written(_) | Self::Equal(_) | Self::StillOpen(_) => None,
        }
    }

    /// Tells whether it is for lack of room that nothing was changed now.
    pub fn is_for_room(&self) -> bool {
        matches!(self, Self::NotNow(why) if why.as_str().starts_with(NO_ROOM))
    }
}

/// Returns the running hash after `change`, which is the next of a journal whose hash is `before`.
///
/// Covers the rows, and the content through the hashes in them.
pub fn running_after(before: &RunningHash, change: &Change) -> RunningHash {
    before.extended(&postcard::to_stdvec(change).expect("a change always encodes"))
}
