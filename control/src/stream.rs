//! An answer as bytes: lines of JSON, and stretches of content between them.
//!
//! Each line is an object with one field: `item`, `progress`, `content` with a number of bytes that follow the line's end as
//! they are, `failed`, or `end`. An answer without `end` or `failed` was cut off. A line has at most [`LINE_BYTES_MAX`],
//! a stretch at most [`CONTENT_BYTES_MAX`]: neither end makes room for more.

use std::{io, sync::Arc, time::Duration};

use axum::body::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{runtime::Handle, sync::mpsc, time::timeout};

use crate::{
    answers::Progress,
    failure::{Failure, Outcome},
};

/// What an answer is, in HTTP's words.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.keepshare.answer";

/// The longest line, in bytes.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;

/// The longest stretch of content, in bytes.
pub(crate) const CONTENT_BYTES_MAX: usize = 1 << 20;

/// So many bytes of an answer are sent at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// How long whoever asked may leave an answer unread.
const UNREAD_MAX: Duration = Duration::from_secs(300);

/// Tells whether whoever asked may still be told anything.
pub type Lasts = Arc<dyn Fn() -> bool + Send + Sync>;

/// Says that whoever asked is told nothing more.
pub(crate) fn no_longer() -> Failure {
    Failure::refused("what this was asked with has ended: a login, or a certificate")
        .hint("log in again")
}

/// A line of an answer.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line<T> {
    /// An item.
    Item(T),
    /// How far it is.
    Progress(Progress),
    /// So many bytes follow, content of the last item.
    Content(usize),
    /// It failed.
    Failed(Failure),
    /// The answer is complete.
    End(bool),
}

/// Where an answer is written. Used on threads that may block.
pub struct Reply {
    chunk: Vec<u8>,
    /// Something was sent already.
    began: bool,
    to: mpsc::Sender<Bytes>,
    runtime: Handle,
    /// Tells whether there is still somebody who may be told.
    lasts: Option<Lasts>,
}

impl Reply {
    /// Returns where an answer is written, for whoever reads from the other end of `to`.
    pub(crate) fn new(to: mpsc::Sender<Bytes>, runtime: Handle, lasts: Option<Lasts>) -> Self {
        Self { chunk: Vec::new(), began: false, to, runtime, lasts }
    }

    /// Adds an item.
    pub fn item(&mut self, item: &impl Serialize) -> Outcome<()> {
        self.line(&Line::Item(item))?;
        self.flush_full()
    }

    /// Adds content of the last item.
    pub fn data(&mut self, bytes: &[u8]) -> Outcome<()> {
        for stretch in bytes.chunks(CONTENT_BYTES_MAX) {
            self.line(&Line::<()>::Content(stretch.len()))?;
            self.chunk.extend_from_slice(stretch);
            self.flush_full()?;
        }
        Ok(())
    }

    /// Tells how far it is, right away.
    pub fn progress(&mut self, progress: &Progress) -> Outcome<()> {
        self.line(&Line::<()>::Progress(progress.clone()))?;
        self.flush()
    }

    /// Ends the answer. What failed before there was any of it is given back: it needs no answer of its own form.
    pub(crate) fn end(mut self, outcome: Outcome<()>) -> Outcome<()> {
        let last = match outcome {
            Ok(()) => Line::<()>::End(true),
            Err(failure) if !self.began && self.chunk.is_empty() => return Err(failure),
            Err(failure) => Line::Failed(failure),
        };
        // Whoever went away needs no end.
        let _ = self.line(&last).and_then(|()| self.flush());
        Ok(())
    }

    fn line<T: Serialize>(&mut self, line: &Line<T>) -> Outcome<()> {
        let from = self.chunk.len();
        serde_json::to_writer(&mut self.chunk, line).map_err(anyhow::Error::new)?;
        if self.chunk.len() - from >= LINE_BYTES_MAX {
            self.chunk.truncate(from);
            return Err(Failure::refused("a part of the answer is too long to be sent"));
        }
        self.chunk.push(b'\n');
        Ok(())
    }

    fn flush_full(&mut self) -> Outcome<()> {
        if self.chunk.len() >= CHUNK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Outcome<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        // The first part is told in any case: it may be of a question that ended the login itself.
        if self.began && self.lasts.as_ref().is_some_and(|lasts| !lasts()) {
            // What was not sent yet is not; that it has ended is told.
            self.chunk.clear();
            self.lasts = None;
            return Err(no_longer());
        }
        let chunk = Bytes::from(std::mem::take(&mut self.chunk));
        self.began = true;
        let sent = self.runtime.block_on(async { timeout(UNREAD_MAX, self.to.send(chunk)).await });
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::unavailable("whoever asked went away")),
        }
    }
}

/// A piece of an answer, as it is read.
#[derive(Debug)]
pub enum Piece<T> {
    /// An item.
    Item(T),
    /// A stretch of the content of the last item.
    Data(Bytes),
    /// How far it is.
    Progress(Progress),
}

/// Reads an answer from the chunks that it comes in.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    read: usize,
    /// How many bytes of content come next.
    content: usize,
    /// The answer is complete.
    ended: bool,
}

/// What a reader says.
pub(crate) enum Read<T> {
    /// A piece.
    Piece(Piece<T>),
    /// Another chunk is needed first.
    More,
    /// There is nothing more.
    End,
}

impl Reader {
    /// Takes the next chunk.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.read);
        self.read = 0;
        self.buffer.extend_from_slice(chunk);
    }

    /// Reads on; the outer error is an answer that is none, the inner one a failure that the station tells.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Outcome<Read<T>>> {
        if self.ended {
            return Ok(Ok(Read::End));
        }
        let rest = &self.buffer[self.read..];
        if self.content > 0 {
            let len = rest.len().min(self.content);
            if len == 0 {
                return Ok(Ok(Read::More));
            }
            let bytes = Bytes::copy_from_slice(&rest[..len]);
            self.read += len;
            self.content -= len;
            return Ok(Ok(Read::Piece(Piece::Data(bytes))));
        }
        let Some(len) = rest.iter().position(|byte| *byte == b'\n') else {
            if rest.len() > LINE_BYTES_MAX {
                return Err(nonsense("a line over its limit"));
            }
            return Ok(Ok(Read::More));
        };
        let line = serde_json::from_slice(&rest[..len])?;
        self.read += len + 1;
        Ok(match line {
            Line::Item(item) => Ok(Read::Piece(Piece::Item(item))),
            Line::Progress(progress) => Ok(Read::Piece(Piece::Progress(progress))),
            Line::Content(len) if len > CONTENT_BYTES_MAX => {
                return Err(nonsense("a stretch of content over its limit"));
            }
            Line::Content(len) => {
                self.content = len;
                return self.next();
            }
            Line::Failed(failure) => Err(failure),
            Line::End(_) => {
                self.ended = true;
                Ok(Read::End)
            }
        })
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(bytes: &[u8], chunk: usize) -> io::Result<Outcome<(Vec<u32>, usize, bool)>> {
        let (mut reader, mut items, mut content) = (Reader::default(), Vec::new(), 0);
        let mut chunks = bytes.chunks(chunk);
        loop {
            match reader.next::<u32>()? {
                Err(failure) => return Ok(Err(failure)),
                Ok(Read::End) => return Ok(Ok((items, content, true))),
                Ok(Read::Piece(Piece::Item(item))) => items.push(item),
                Ok(Read::Piece(Piece::Data(bytes))) => content += bytes.len(),
                Ok(Read::Piece(Piece::Progress(_))) => {}
                Ok(Read::More) => match chunks.next() {
                    Some(chunk) => reader.feed(chunk),
                    None => return Ok(Ok((items, content, false))),
                },
            }
        }
    }

    /// However the network cuts it.
    #[test]
    fn an_answer_reads_back_from_chunks_of_any_length() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (to, mut from) = mpsc::channel(16);
        let handle = runtime.handle().clone();
        let writer = std::thread::spawn(move || {
            let mut reply = Reply::new(to, handle, None);
            reply.item(&1).unwrap();
            reply.data(&vec![b'\n'; CONTENT_BYTES_MAX + 3]).unwrap();
            reply.progress(&Progress { doing: "x".into(), done: 1, total: None }).unwrap();
            reply.item(&2).unwrap();
            reply.end(Ok(())).unwrap();
        });
        let mut bytes = Vec::new();
        while let Some(chunk) = from.blocking_recv() {
            bytes.extend_from_slice(&chunk);
        }
        writer.join().unwrap();
        for chunk in [1, 7, 65_536, usize::MAX] {
            let read = read_all(&bytes, chunk).unwrap().unwrap();
            assert_eq!(read, (vec![1, 2], CONTENT_BYTES_MAX + 3, true), "in chunks of {chunk}");
        }
        let (_, _, ended) = read_all(&bytes[..bytes.len() - 1], 100).unwrap().unwrap();
        assert!(!ended, "an answer that was cut off has no end");
    }

    /// Nothing is allocated because somebody announced it, and no line is waited for without end.
    #[test]
    fn what_is_announced_is_not_believed() {
        assert!(read_all(b"{\"content\":99999999}\n", 10).is_err());
        assert!(read_all(&vec![b'x'; 3 << 20], 1 << 16).is_err());
        assert!(read_all(b"{\"unknown\":1}\n", 10).is_err());
        let failed = read_all(
            b"{\"item\":1}\n{\"failed\":{\"code\":\"failed\",\"chain\":[\"a\"],\"hint\":null}}\n",
            9,
        );
        assert_eq!(failed.unwrap().unwrap_err().to_string(), "a");
    }
}
