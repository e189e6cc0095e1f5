//! The station's end of the Unix socket.

use std::{
    fs,
    io::{self, BufWriter, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream as StdUnixStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;
use tokio::{net::UnixListener, net::UnixStream, sync::Semaphore};

use crate::{
    answers::Progress,
    failure::{Failure, Outcome},
    frame::{self, FrameKind},
    questions::{API_VERSION, Hello, Request},
};

/// How many requests are answered at once; further ones wait to be accepted. Nobody has a share of them: only who owns the
/// station opens its socket, so there is nobody to keep from a place.
const REQUESTS_MAX: usize = 32;

/// How long a client may take to ask.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a client may leave an answer unread.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// Who answers requests. Called on threads that may block.
pub trait Answers: Send + Sync + 'static {
    /// Answers `request` of the user with number `uid` into `reply`.
    fn answer(&self, uid: u32, request: Request, reply: &mut Reply) -> Outcome<()>;
}

/// The listening socket; its file goes with it.
pub struct ApiServer {
    listener: UnixListener,
    path: PathBuf,
}

/// Where an answer is written.
pub struct Reply {
    stream: BufWriter<StdUnixStream>,
}

impl ApiServer {
    /// Listens at `path`, which the caller's state lock makes ours: a socket left there is a dead one.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let bind = || -> io::Result<UnixListener> {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        let listener = bind().with_context(|| format!("cannot listen at {}", path.display()))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers requests for ever.
    pub async fn serve(&self, answers: Arc<dyn Answers>) {
        let permits = Arc::new(Semaphore::new(REQUESTS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answers = Arc::clone(&answers);
                    tokio::task::spawn_blocking(move || {
                        if let Err(error) = converse(stream, answers.as_ref()) {
                            tracing::debug!(%error, "a client went away");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept on the socket");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        // Best effort: a socket left behind is replaced at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Reply {
    /// Adds an item.
    pub fn item(&mut self, item: &impl Serialize) -> Outcome<()> {
        self.sent(|stream| frame::write_json(stream, FrameKind::Item, item))
    }

    /// Adds content of the last item.
    pub fn data(&mut self, bytes: &[u8]) -> Outcome<()> {
        bytes.chunks(frame::FRAME_BYTES_MAX).try_for_each(|chunk| {
            self.sent(|stream| frame::write_frame(stream, FrameKind::Data, chunk))
        })
    }

    /// Tells how far it is, right away.
    pub fn progress(&mut self, progress: &Progress) -> Outcome<()> {
        self.sent(|stream| {
            frame::write_json(stream, FrameKind::Progress, progress)?;
            stream.flush()
        })
    }

    fn sent(
        &mut self,
        write: impl FnOnce(&mut BufWriter<StdUnixStream>) -> io::Result<()>,
    ) -> Outcome<()> {
        write(&mut self.stream).map_err(|error| anyhow::Error::new(error).into())
    }
}

fn converse(stream: UnixStream, answers: &dyn Answers) -> anyhow::Result<()> {
    let peer = stream.peer_cred()?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(ASK_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    let own = rustix::process::geteuid().as_raw();
    let mut reply = Reply { stream: BufWriter::new(stream.try_clone()?) };
    let answered = if peer.uid() == 0 || peer.uid() == own {
        read_request(&stream)?.and_then(|request| answers.answer(peer.uid(), request, &mut reply))
    } else {
        Err(Failure::refused("only root and the station's own user are answered here"))
    };
    match answered {
        Ok(()) => frame::write_frame(&mut reply.stream, FrameKind::End, &[])?,
        Err(failure) => frame::write_json(&mut reply.stream, FrameKind::Failed, &failure)?,
    }
    reply.stream.flush()?;
    Ok(())
}

/// Reads what is asked; the outer error is a client that is gone or talks nonsense.
fn read_request(mut stream: &StdUnixStream) -> anyhow::Result<Outcome<Request>> {
    let (kind, body) = frame::read_frame(&mut stream)?;
    anyhow::ensure!(kind == FrameKind::Hello, "the client did not ask");
    let hello: Hello = frame::parse(&body)?;
    if hello.version != API_VERSION {
        let error = format!(
            "the command speaks version {} with the station, the station {API_VERSION}",
            hello.version
        );
        return Ok(Err(Failure::refused(error).hint("restart the station after an upgrade")));
    }
    Ok(Ok(serde_json::from_value(hello.request)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{self, Piece};

    struct Echo;

    impl Answers for Echo {
        fn answer(&self, _: u32, request: Request, reply: &mut Reply) -> Outcome<()> {
            match request {
                Request::Status => {
                    reply.progress(&Progress { doing: "x".into(), done: 1, total: None })?;
                    reply.item(&"item")?;
                    reply.data(&vec![7; frame::FRAME_BYTES_MAX + 1])
                }
                _ => Err(Failure::not_found("nothing").hint("look elsewhere")),
            }
        }
    }

    fn with_server(test: impl FnOnce(&Path) + Send + 'static) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = ApiServer::bind(&path).unwrap();
            let client = tokio::task::spawn_blocking(move || test(&path));
            tokio::select! {
                () = server.serve(Arc::new(Echo)) => unreachable!(),
                done = client => done.unwrap(),
            }
        });
    }

    #[test]
    fn answers_arrive_in_pieces_and_failures_whole() {
        with_server(|path| {
            let mut answer = client::ask(path, &Request::Status).unwrap();
            let mut data = 0;
            let mut items = 0;
            while let Some(piece) = answer.next_piece::<String>().unwrap() {
                match piece {
                    Piece::Item(item) => items += usize::from(item == "item"),
                    Piece::Data(bytes) => data += bytes.len(),
                    Piece::Progress(progress) => assert_eq!(progress.done, 1),
                }
            }
            assert_eq!((items, data), (1, frame::FRAME_BYTES_MAX + 1));
            let failure = client::ask_one::<String>(path, &Request::TokenList).unwrap_err();
            assert_eq!(failure, Failure::not_found("nothing").hint("look elsewhere"));
        });
    }

    #[test]
    fn another_version_is_refused_by_name() {
        with_server(|path| {
            let mut stream = StdUnixStream::connect(path).unwrap();
            let hello = Hello { version: 99, request: serde_json::json!({"unknown": 1}) };
            frame::write_json(&mut stream, FrameKind::Hello, &hello).unwrap();
            let (kind, body) = frame::read_frame(&mut stream).unwrap();
            assert_eq!(kind, FrameKind::Failed);
            let failure: Failure = frame::parse(&body).unwrap();
            assert!(failure.to_string().contains("version 99"), "{failure}");
        });
    }

    #[test]
    fn a_station_that_is_not_there_is_unavailable() {
        let failure = client::ask(Path::new("/nonexistent/s"), &Request::Status).err().unwrap();
        assert_eq!(failure.code, crate::failure::Code::Unavailable);
        assert!(failure.hint.is_some());
    }
}
