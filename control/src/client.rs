//! The end that asks: on a station's Unix socket, or over whatever a [`Dial`] reaches.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
    runtime::Runtime,
    time::timeout,
};

pub use crate::stream::Piece;
use crate::{
    failure::{Code, Failure, Outcome},
    question::{API_VERSION, Question, VERSION_HEADER},
    router::Refusal,
    stream::{Read, Reader},
};

/// The longest refusal that is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

/// A connection to a station.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A [`Wire`] that is being made.
pub type Dialling<'d> = Pin<Box<dyn Future<Output = Outcome<Box<dyn Wire>>> + Send + 'd>>;

/// How a station is reached.
pub trait Dial: Send + Sync {
    /// Connects.
    fn dial(&self) -> Dialling<'_>;

    /// Returns what stands in the header `Host`.
    fn host(&self) -> &str;

    /// Returns the secret that says who asks, where there is one.
    fn bearer(&self) -> Option<&str> {
        None
    }

    /// Returns how long the other end may be silent; none where it may be for ever.
    fn patience(&self) -> Option<Duration> {
        None
    }

    /// Says what to do about a refusal, where whoever dials knows better.
    fn refused(&self, _status: StatusCode, failure: Failure) -> Failure {
        failure
    }
}

/// Asks one station. Waits for its answers: not for threads that must not block.
#[derive(Clone)]
pub struct Client {
    dial: Arc<dyn Dial>,
    runtime: Arc<Runtime>,
}

/// An answer as it comes.
pub struct Answer<T> {
    runtime: Arc<Runtime>,
    body: Incoming,
    reader: Reader,
    patience: Option<Duration>,
    item: std::marker::PhantomData<T>,
}

impl Client {
    /// Asks over what `dial` reaches.
    pub fn new(dial: impl Dial + 'static) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = Arc::new(runtime.context("cannot ask the station")?);
        Ok(Self { dial: Arc::new(dial), runtime })
    }

    /// Asks the station of this machine on its socket.
    pub fn at_socket(path: &Path) -> Outcome<Self> {
        Self::new(AtSocket(path.to_owned()))
    }

    /// Asks, and returns the answer as it comes.
    pub fn ask<Q: Question>(&self, question: &Q) -> Outcome<Answer<Q::Item>> {
        let body = self.runtime.block_on(self.send(question))?;
        let runtime = Arc::clone(&self.runtime);
        let (reader, patience) = (Reader::default(), self.dial.patience());
        Ok(Answer { runtime, body, reader, patience, item: std::marker::PhantomData })
    }

    /// Asks for what is answered with one item.
    pub fn ask_one<Q: Question>(&self, question: &Q) -> Outcome<Q::Item> {
        self.ask_all(question)?.pop().ok_or_else(|| {
            Failure::new(Code::Failed, "the station gave an empty answer")
                .hint("restart the station after an upgrade")
        })
    }

    /// Asks for what is answered with a list.
    pub fn ask_all<Q: Question>(&self, question: &Q) -> Outcome<Vec<Q::Item>> {
        let (mut answer, mut items) = (self.ask(question)?, Vec::new());
        while let Some(piece) = answer.next_piece()? {
            if let Piece::Item(item) = piece {
                items.push(item);
            }
        }
        Ok(items)
    }

    async fn send<Q: Question>(&self, question: &Q) -> Outcome<Incoming> {
        let wire = self.dial.dial().await?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(wire)).await.map_err(|error| lost(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to a station broke");
            }
        });
        let mut request = Request::post(format!("/api/v1/{}", Q::NAME))
            .header(header::HOST, self.dial.host())
            .header(header::CONTENT_TYPE, "application/json")
            .header(VERSION_HEADER, API_VERSION);
        if let Some(secret) = self.dial.bearer() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {secret}"));
        }
        let question = serde_json::to_vec(question).map_err(anyhow::Error::new)?;
        let request = request.body(Full::new(Bytes::from(question))).map_err(anyhow::Error::new)?;
        let asked = in_time(self.dial.patience(), sender.send_request(request)).await?;
        let response = asked.map_err(|error| lost(&error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response.into_body());
        }
        let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await;
        let body = body.map_err(|_| not_understood())?.to_bytes();
        let refusal: Refusal = serde_json::from_slice(&body).map_err(|_| match status {
            StatusCode::NOT_FOUND => Failure::refused("the station does not know this question")
                .hint(
                    "use a command and a station of one age: restart the station after an upgrade",
                ),
            _ => not_understood(),
        })?;
        Err(self.dial.refused(status, refusal.failure))
    }
}

impl fmt::Debug for Client {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.dial.host()).finish_non_exhaustive()
    }
}

impl<T: DeserializeOwned> Answer<T> {
    /// Returns the next piece; `None` when the answer is complete.
    pub fn next_piece(&mut self) -> Outcome<Option<Piece<T>>> {
        loop {
            match self.reader.next().map_err(|error| lost(&error))?? {
                Read::Piece(piece) => return Ok(Some(piece)),
                Read::End => return Ok(None),
                Read::More => {}
            }
            let frame = self.runtime.block_on(in_time(self.patience, self.body.frame()))?;
            let frame =
                frame.ok_or_else(|| lost(&io::Error::from(io::ErrorKind::UnexpectedEof)))?;
            let frame = frame.map_err(|error| lost(&error))?;
            if let Some(chunk) = frame.data_ref() {
                self.reader.feed(chunk);
            }
        }
    }
}

/// The socket of a station on this machine.
struct AtSocket(PathBuf);

impl Dial for AtSocket {
    fn dial(&self) -> Dialling<'_> {
        Box::pin(async {
            let stream = UnixStream::connect(&self.0).await;
            let stream = stream.map_err(|error| unreachable_at(&self.0, &error))?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn host(&self) -> &str {
        "localhost"
    }
}

fn unreachable_at(socket: &Path, error: &io::Error) -> Failure {
    let shown = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::unavailable(format!("no station is running at {shown}"))
                .hint("start it with keepshare run, or name another with --socket or --config")
        }
        io::ErrorKind::PermissionDenied => Failure::refused(format!(
            "the station at {shown} belongs to another user"
        ))
        .hint("ask as the user who runs the station, as root, or as a member of group keepshare"),
        _ => Failure::unavailable(format!("cannot reach the station at {shown}: {error}"))
            .hint("name its socket with --socket, or its config with --config"),
    }
}

async fn in_time<T>(patience: Option<Duration>, work: impl Future<Output = T>) -> Outcome<T> {
    let Some(patience) = patience else { return Ok(work.await) };
    timeout(patience, work).await.map_err(|elapsed| lost(&elapsed))
}

fn lost(error: &dyn std::error::Error) -> Failure {
    Failure::unavailable(format!("the station stopped answering: {error}"))
        .hint("keepshare status shows whether it runs; its log says more")
}

fn not_understood() -> Failure {
    Failure::new(Code::Failed, "the station answered in a way that is not understood")
        .hint("use a command and a station of one age: restart the station after an upgrade")
}
