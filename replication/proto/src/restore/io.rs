//! What goes into the two halves of a restore and what comes out.

use keepshare_base::RequestId;

use crate::{RestoreAnswer, RestoreRequest, Text};

/// What happens to the station's half.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "moved once, kept nowhere")]
pub enum StationInput {
    /// Somebody wants a version written back.
    Ask(RestoreRequest),
    /// The answer to [`StationOutput::ReadVersion`].
    Content {
        /// Of which request.
        request: RequestId,
        /// Where in the content it begins.
        offset: u64,
        /// As many as asked for.
        bytes: Vec<u8>,
    },
    /// The version cannot be read, nor will it be later.
    Unreadable {
        /// Of which request.
        request: RequestId,
        /// Why.
        reason: Text,
    },
    /// The version was not read: nobody wants it any more, or it may be read later.
    NotRead {
        /// Of which request.
        request: RequestId,
        /// Why.
        reason: Text,
    },
}

/// What the station's half wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StationOutput {
    /// Read the version's content.
    ReadVersion {
        /// Of which request.
        request: RequestId,
        /// From here.
        offset: u64,
        /// Exactly so many bytes.
        len: usize,
    },
    /// It is over.
    Ended {
        /// Which request.
        request: RequestId,
        /// How.
        end: RestoreEnd,
    },
}

/// How a restore ended for the one who asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RestoreEnd {
    /// The master said so.
    Answered(RestoreAnswer),
    /// Nothing was sent, nothing changed.
    NotAsked(Text),
    /// The version cannot be read here, so that its content was not sent; nothing changed.
    Unreadable(Text),
    /// The master did not answer in time; asking again under the same id tells.
    Unknown(Text),
}

/// What happens to the master's half.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MasterInput {
    /// The answer to [`MasterOutput::LookUp`].
    Known {
        /// Which request.
        request: RequestId,
        /// What the journal remembers of it.
        answer: Option<RestoreAnswer>,
    },
    /// The content is written aside up to here.
    Taken {
        /// Of which request.
        request: RequestId,
        /// In bytes from the content's start.
        through: u64,
    },
    /// It is journaled, or failed.
    Done {
        /// Which request.
        request: RequestId,
        /// What came of it.
        answer: RestoreAnswer,
    },
}

/// What the master's half wants done.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "moved once, kept nowhere")]
pub enum MasterOutput {
    /// Does the journal know this request?
    LookUp {
        /// Which one.
        request: RequestId,
    },
    /// Make ready to take its content aside.
    Begin(RestoreRequest),
    /// Write this to what was made ready.
    Content {
        /// Of which request.
        request: RequestId,
        /// Where it begins; right after what came before.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The content is complete and is what the hash says: put it in place and journal it; answered by `Done`.
    Finish {
        /// Which one.
        request: RequestId,
    },
    /// Forget what was made ready.
    Abort {
        /// Which one.
        request: RequestId,
    },
}
