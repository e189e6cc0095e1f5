//! The question and the answer of a join, as bytes: one postcard message each, nothing after it.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use keepshare_base::{StationAddress, StationName};

use crate::{Member, MessageError};

/// The revision of the document that a station has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Have {
    /// Its reign.
    pub reign: u32,
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

/// What a station asks. The order of the variants is the wire's; new ones go to the end.
#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Question {
    /// Let me in.
    Join { secret: [u8; 32], name: StationName, address: StationAddress, request: Vec<u8> },
    /// Renew the certificate that I showed in the handshake.
    Renew { request: Vec<u8> },
    /// The station that showed its certificate in the handshake is reached here from now on.
    Move { address: StationAddress },
    /// What does the cluster agree on? The answer may take a while, until there is another revision than this one.
    Hear { have: Option<Have> },
}

impl fmt::Debug for Question {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join { .. } => "Join",
            Self::Renew { .. } => "Renew",
            Self::Move { .. } => "Move",
            Self::Hear { .. } => "Hear",
        })
    }
}

/// What the primary answers. The order of the variants is the wire's; new ones go to the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// Come in.
    Admitted { certificate: Vec<u8>, ca: Vec<u8>, members: Vec<Member> },
    /// No. The log of the primary says why, the answer does not.
    Refused,
    /// The token is good, the name is not free.
    NameTaken,
    /// The token is good, the cluster is full.
    Full,
    /// Not here, or not now.
    Unavailable,
    /// The address is recorded; these are the stations now.
    Moved { members: Vec<Member> },
    /// This is the document, signed.
    News { document: Vec<u8> },
    /// It is still the revision that you have.
    NoNews,
}

pub(super) fn encode(message: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(message).expect("a message of lists and texts always encodes")
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) => Err(MessageError(postcard::Error::DeserializeBadEncoding)),
        Err(error) => Err(MessageError(error)),
    }
}
