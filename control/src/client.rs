//! The commands' end of the Unix socket.

use std::{io, os::unix::net::UnixStream, path::Path};

use serde::de::DeserializeOwned;

use crate::{
    answers::Progress,
    failure::{Code, Failure, Outcome},
    frame::{self, FrameKind},
    questions::{API_VERSION, Hello, Request},
};

/// A request that is being answered.
pub struct Answer {
    stream: io::BufReader<UnixStream>,
}

/// A piece of an answer.
pub enum Piece<T> {
    /// An item.
    Item(T),
    /// A stretch of the content of the last item.
    Data(Vec<u8>),
    /// How far it is.
    Progress(Progress),
}

/// Asks the station behind `socket`.
pub fn ask(socket: &Path, request: &Request) -> Outcome<Answer> {
    let mut stream = UnixStream::connect(socket).map_err(|error| unreachable_at(socket, &error))?;
    let request = serde_json::to_value(request).map_err(anyhow::Error::new)?;
    let hello = Hello { version: API_VERSION, request };
    frame::write_json(&mut stream, FrameKind::Hello, &hello).map_err(|error| lost(&error))?;
    Ok(Answer { stream: io::BufReader::new(stream) })
}

/// Asks for what is answered with one item.
pub fn ask_one<T: DeserializeOwned>(socket: &Path, request: &Request) -> Outcome<T> {
    let mut items = ask_all(socket, request)?;
    items.pop().ok_or_else(|| {
        Failure::new(Code::Failed, "the station gave an empty answer")
            .hint("restart the station after an upgrade")
    })
}

/// Asks for what is answered with a list.
pub fn ask_all<T: DeserializeOwned>(socket: &Path, request: &Request) -> Outcome<Vec<T>> {
    let mut answer = ask(socket, request)?;
    let mut items = Vec::new();
    while let Some(piece) = answer.next_piece()? {
        if let Piece::Item(item) = piece {
            items.push(item);
        }
    }
    Ok(items)
}

impl Answer {
    /// Returns the next piece; `None` when the answer is complete.
    pub fn next_piece<T: DeserializeOwned>(&mut self) -> Outcome<Option<Piece<T>>> {
        self.read().map_err(|error| lost(&error))?
    }

    fn read<T: DeserializeOwned>(&mut self) -> io::Result<Outcome<Option<Piece<T>>>> {
        let (kind, body) = frame::read_frame(&mut self.stream)?;
        Ok(match kind {
            FrameKind::Item => Ok(Some(Piece::Item(frame::parse(&body)?))),
            FrameKind::Data => Ok(Some(Piece::Data(body))),
            FrameKind::Progress => Ok(Some(Piece::Progress(frame::parse(&body)?))),
            FrameKind::End => Ok(None),
            FrameKind::Failed => Err(frame::parse(&body)?),
            FrameKind::Hello => return Err(io::Error::other("the station asked back")),
        })
    }
}

fn unreachable_at(socket: &Path, error: &io::Error) -> Failure {
    let shown = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::unavailable(format!("no station is running at {shown}"))
                .hint("start it with keepshare run, or name another with --socket or --config")
        }
        io::ErrorKind::PermissionDenied => {
            Failure::refused(format!("the station at {shown} belongs to another user"))
                .hint("ask as the user who runs the station, or as root")
        }
        _ => Failure::unavailable(format!("cannot reach the station at {shown}: {error}"))
            .hint("name its socket with --socket, or its config with --config"),
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::unavailable(format!("the station stopped answering: {error}"))
        .hint("keepshare status shows whether it runs; its log says more")
}
