//! Frames to bytes and back.
//!
//! A frame is two lengths, a header and a payload; `docs/formats/wire.md` gives every byte. Lengths are checked before
//! anything is set aside for them, and a decoder never holds more than one frame and what was fed to it at once. What
//! decodes is only well formed: whether it belongs there is for the machines to say.

use keepshare_base::{Change, FileRow, PAYLOAD_BYTES_MAX, Stamp};
use serde::Serialize;

use crate::{Frame, Hello, Message, PROTOCOL, Refusal, Text};

/// The most bytes of a frame after its two lengths.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes of a frame's header.
pub const HEADER_BYTES_MAX: usize = 384 * 1024;

/// The most encoded bytes of one change: what a header has room for. Nobody sends what takes more.
pub const CHANGE_BYTES_MAX: usize = HEADER_BYTES_MAX - 128;

/// The most bytes, by [`row_len`] and [`file_row_len`], of all rows of one change: beside them there is room for all else
/// that a change says.
pub const ROWS_BYTES_MAX: usize = CHANGE_BYTES_MAX - 1024;

/// By how much a file row grows at most where it goes without its content: an empty content has a hash.
const WITHHELD_BYTES: usize = 40;

/// The bytes of the two lengths.
pub const LENGTHS_BYTES: usize = 8;

/// The bytes of the two clocks at a header's end.
const CLOCKS_BYTES: usize = 16;

/// The tag of a refusal, whose form is the same in all versions: it has no clocks.
const REFUSED: u8 = 1;

/// What a frame says of clocks. They are written last, right before the frame leaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Clocks {
    /// What the sender's clock said.
    pub sent: Option<Stamp>,
    /// What the receiver's clock said in the newest frame of its that the sender had read.
    pub heard: Option<Stamp>,
}

impl Clocks {
    fn to_bytes(self) -> [u8; CLOCKS_BYTES] {
        // 1970 was none of them.
        let number = |clock: Option<Stamp>| clock.map_or(0, |clock| clock.0).to_le_bytes();
        let mut bytes = [0; CLOCKS_BYTES];
        bytes[..8].copy_from_slice(&number(self.sent));
        bytes[8..].copy_from_slice(&number(self.heard));
        bytes
    }

    fn from_bytes(bytes: [u8; CLOCKS_BYTES]) -> Self {
        let number = |bytes: [u8; 8]| Some(Stamp(i64::from_le_bytes(bytes))).filter(|at| at.0 != 0);
        let [a, b, c, d, e, f, g, h, heard @ ..] = bytes;
        Self { sent: number([a, b, c, d, e, f, g, h]), heard: number(heard) }
    }
}

/// What a first frame's header begins with: the first tag and four letters. It stays for all versions.
const HELLO_MAGIC: [u8; 5] = [0, b'K', b'S', b'H', b'R'];

/// Why a message cannot be sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The rows take more than a header may.
    #[error("a header of {0} bytes is over the limit of {HEADER_BYTES_MAX}")]
    Header(usize),
    /// More content than a frame may carry, or content on a message that has none.
    #[error("a payload of {0} bytes does not go with this message")]
    Payload(usize),
}

/// Why bytes are not a frame. The link is of no more use after it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Lengths that no frame has.
    #[error(
        "a frame announces {frame} bytes, {header} of them header; the limits are {FRAME_BYTES_MAX} and {HEADER_BYTES_MAX}"
    )]
    Lengths {
        /// The announced length of all.
        frame: u32,
        /// The announced length of the header.
        header: u32,
    },
    /// The peer is of another version.
    #[error(
        "the peer speaks version {got} of the protocol, we speak version {PROTOCOL}: update the older one"
    )]
    Protocol {
        /// The peer's.
        got: u16,
    },
    /// A header that is no message.
    #[error("a frame's header is no message: {0}")]
    Header(#[from] postcard::Error),
    /// A message followed by more.
    #[error("{0} bytes follow the message in a frame's header")]
    Trailing(usize),
    /// Content on a message that has none, or more than it may have.
    #[error("a payload of {0} bytes does not go with its message")]
    Payload(usize),
}

impl DecodeError {
    /// Returns what to tell the peer before the link is closed.
    pub fn answer(&self) -> Message {
        let refusal = match self {
            Self::Protocol { .. } => Refusal::Protocol,
            Self::Lengths { .. } | Self::Header(_) | Self::Trailing(_) | Self::Payload(_) => {
                Refusal::Order
            }
        };
        Message::Refused { refusal, reason: Text::new(&self.to_string()) }
    }
}

/// Returns the frame's bytes.
pub fn encode(message: &Message, payload: &[u8]) -> Result<Vec<u8>, EncodeError> {
    let mut bytes = encode_head(message, payload.len())?;
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

/// Returns the frame's bytes that stand before a payload of this length.
pub fn encode_head(message: &Message, payload_len: usize) -> Result<Vec<u8>, EncodeError> {
    if payload_len > payload_limit(message) {
        return Err(EncodeError::Payload(payload_len));
    }
    let mut bytes = vec![0; LENGTHS_BYTES];
    match message {
        Message::Hello(hello) => {
            bytes.extend(HELLO_MAGIC);
            bytes.extend(PROTOCOL.to_le_bytes());
            bytes = postcard::to_extend(hello, bytes).expect("a hello always encodes");
        }
        other => bytes = postcard::to_extend(other, bytes).expect("a message always encodes"),
    }
    if !matches!(message, Message::Refused { .. }) {
        bytes.extend(Clocks::default().to_bytes());
    }
    let header_len = bytes.len() - LENGTHS_BYTES;
    if header_len > HEADER_BYTES_MAX {
        return Err(EncodeError::Header(header_len));
    }
    let length = |len: usize| u32::try_from(len).expect("both are below the limits").to_le_bytes();
    bytes[..4].copy_from_slice(&length(header_len + payload_len));
    bytes[4..8].copy_from_slice(&length(header_len));
    Ok(bytes)
}

/// Writes the clocks into a frame's bytes before its payload, as [`encode_head`] gave them.
pub fn set_clocks(head: &mut [u8], clocks: Clocks) {
    if head.get(LENGTHS_BYTES).is_some_and(|tag| *tag != REFUSED)
        && let Some(place) = head.last_chunk_mut::<CLOCKS_BYTES>()
    {
        *place = clocks.to_bytes();
    }
}

/// Returns how many bytes a change takes when encoded; no frame has room for more than [`CHANGE_BYTES_MAX`].
pub fn change_len(change: &Change) -> usize {
    row_len(change)
}

/// Returns how many bytes a row of a change takes when encoded: whoever puts a change together counts them, so that they
/// stay below [`ROWS_BYTES_MAX`].
pub fn row_len(row: &impl Serialize) -> usize {
    postcard::experimental::serialized_size(row).expect("a row always encodes")
}

/// Returns how many bytes a file row takes when encoded, also where it goes without its content.
pub fn file_row_len(row: &FileRow) -> usize {
    row_len(row) + WITHHELD_BYTES
}

/// Tells whether a frame has room for a change's rows.
pub fn has_room(change: &Change) -> bool {
    change_len(change) <= CHANGE_BYTES_MAX
}

/// Turns the bytes of a stream into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    used: usize,
}

impl Decoder {
    /// Returns one at a stream's beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream; call [`Self::next_frame`] until it has none before feeding more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns the next whole frame; `None` until more is fed. After an error there are no more.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        let rest = &self.bytes[self.used..];
        let Some((lengths, body)) = rest.split_first_chunk::<LENGTHS_BYTES>() else {
            return Ok(None);
        };
        let (frame_len, header_len) = parse_lengths(lengths)?;
        let Some(frame) = body.get(..frame_len) else { return Ok(None) };
        let frame = decode(frame, header_len)?;
        self.used += LENGTHS_BYTES + frame_len;
        Ok(Some(frame))
    }
}

/// Reads a frame's two lengths: of all that follows them, and of the header in it.
pub fn parse_lengths(bytes: &[u8; LENGTHS_BYTES]) -> Result<(usize, usize), DecodeError> {
    let [a, b, c, d, e, f, g, h] = *bytes;
    let (frame, header) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let wrong = DecodeError::Lengths { frame, header };
    let frame_len = usize::try_from(frame).map_err(|_| wrong.clone())?;
    let header_len = usize::try_from(header).map_err(|_| wrong.clone())?;
    if frame_len > FRAME_BYTES_MAX || !(1..=HEADER_BYTES_MAX.min(frame_len)).contains(&header_len) {
        return Err(wrong);
    }
    Ok((frame_len, header_len))
}

/// Reads what follows a frame's lengths.
pub fn decode(frame: &[u8], header_len: usize) -> Result<Frame, DecodeError> {
    decode_told(frame, header_len).map(|(frame, _)| frame)
}

/// Reads what follows a frame's lengths, and what it says of clocks.
pub fn decode_told(frame: &[u8], header_len: usize) -> Result<(Frame, Clocks), DecodeError> {
    decode_into(frame, header_len, Vec::with_capacity)
}

/// Reads what [`decode_told`] reads; the payload goes into the buffer that `room` gives for its length.
pub fn decode_into(
    frame: &[u8],
    header_len: usize,
    room: impl FnOnce(usize) -> Vec<u8>,
) -> Result<(Frame, Clocks), DecodeError> {
    let (header, payload) = frame.split_at_checked(header_len).ok_or(DecodeError::Trailing(0))?;
    let (message, clocks) = decode_header(header, payload.len())?;
    let mut bytes = room(payload.len());
    bytes.extend_from_slice(payload);
    Ok((Frame { message, payload: bytes }, clocks))
}

/// Reads what [`decode_told`] reads, of a frame whose payload is in memory of its own.
pub fn decode_apart(header: &[u8], payload: Vec<u8>) -> Result<(Frame, Clocks), DecodeError> {
    let (message, clocks) = decode_header(header, payload.len())?;
    Ok((Frame { message, payload }, clocks))
}

/// Reads the header of a frame with so much payload.
fn decode_header(header: &[u8], payload_len: usize) -> Result<(Message, Clocks), DecodeError> {
    let (message, rest) = match header.strip_prefix(&HELLO_MAGIC) {
        Some(hello) => decode_hello(hello)?,
        // Without the magic a first tag is no hello of any version.
        None if header.first() == Some(&0) => {
            return Err(DecodeError::Header(postcard::Error::DeserializeBadEncoding));
        }
        None => postcard::take_from_bytes(header)?,
    };
    let (clocks, rest) = match message {
        Message::Refused { .. } => (Clocks::default(), rest),
        _ => match rest.split_first_chunk() {
            Some((clocks, rest)) => (Clocks::from_bytes(*clocks), rest),
            None => return Err(postcard::Error::DeserializeUnexpectedEnd.into()),
        },
    };
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    if payload_len > payload_limit(&message) {
        return Err(DecodeError::Payload(payload_len));
    }
    Ok((message, clocks))
}

fn decode_hello(bytes: &[u8]) -> Result<(Message, &[u8]), DecodeError> {
    let (version, rest) =
        bytes.split_first_chunk().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
    let got = u16::from_le_bytes(*version);
    if got != PROTOCOL {
        return Err(DecodeError::Protocol { got });
    }
    let (hello, rest) = postcard::take_from_bytes::<Hello>(rest)?;
    Ok((Message::Hello(hello), rest))
}

fn payload_limit(message: &Message) -> usize {
    match message {
        Message::Change { .. } | Message::RestoreData { .. } => {
            usize::try_from(PAYLOAD_BYTES_MAX).unwrap_or(usize::MAX)
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
