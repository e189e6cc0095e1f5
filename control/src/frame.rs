//! How the Unix socket's conversation is cut into frames: length, kind, body.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// The longest body. Both ends refuse more before they make room for it.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;

/// What a body is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum FrameKind {
    /// The client's [`crate::questions::Hello`].
    Hello,
    /// One item of the answer, JSON.
    Item,
    /// A stretch of the content of the last item.
    Data,
    /// How far it is, JSON.
    Progress,
    /// The answer is complete.
    End,
    /// It failed: a [`crate::failure::Failure`], JSON.
    Failed,
}

impl FrameKind {
    const ALL: [Self; 6] =
        [Self::Hello, Self::Item, Self::Data, Self::Progress, Self::End, Self::Failed];
}

/// Writes one frame.
pub(crate) fn write_frame(to: &mut impl Write, kind: FrameKind, body: &[u8]) -> io::Result<()> {
    let len = u32::try_from(body.len()).ok().filter(|_| body.len() <= FRAME_BYTES_MAX);
    let len = len.ok_or_else(|| io::Error::other("a frame over its limit"))?;
    let mut head = [0; 5];
    head[..4].copy_from_slice(&len.to_le_bytes());
    head[4] = kind as u8;
    to.write_all(&head)?;
    to.write_all(body)
}

/// Writes one frame whose body is JSON.
pub(crate) fn write_json(
    to: &mut impl Write,
    kind: FrameKind,
    body: &impl Serialize,
) -> io::Result<()> {
    write_frame(to, kind, &serde_json::to_vec(body)?)
}

/// Reads one frame.
pub(crate) fn read_frame(from: &mut impl Read) -> io::Result<(FrameKind, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let (len, kind) = head.split_at(4);
    let len = len.try_into().map_or(u32::MAX, u32::from_le_bytes);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > FRAME_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame over its limit"));
    }
    let kind = FrameKind::ALL.get(usize::from(kind[0])).copied();
    let kind =
        kind.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a frame of no known kind"))?;
    let mut body = vec![0; len];
    from.read_exact(&mut body)?;
    Ok((kind, body))
}

/// Reads a body that is JSON.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back() {
        let mut wire = Vec::new();
        for kind in FrameKind::ALL {
            write_frame(&mut wire, kind, b"body").unwrap();
        }
        let mut from = &wire[..];
        for kind in FrameKind::ALL {
            assert_eq!(read_frame(&mut from).unwrap(), (kind, b"body".to_vec()));
        }
        assert_eq!(read_frame(&mut from).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    /// Nothing is allocated because somebody announced it.
    #[test]
    fn announced_lengths_are_not_believed() {
        let error = read_frame(&mut &[0xff, 0xff, 0xff, 0xff, 1][..]).unwrap_err();
        assert_eq!(error.to_string(), "a frame over its limit");
        let error = read_frame(&mut &[0, 0, 0, 0, 9][..]).unwrap_err();
        assert_eq!(error.to_string(), "a frame of no known kind");
        assert!(
            write_frame(&mut Vec::new(), FrameKind::Data, &vec![0; FRAME_BYTES_MAX + 1]).is_err()
        );
    }
}
