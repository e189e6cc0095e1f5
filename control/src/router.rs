//! The one router: takes a question of any caller, and has the station answer it.

use std::{
    any::Any,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes, to_bytes},
    extract::State,
    http::{HeaderMap, HeaderValue, Request, StatusCode, header},
    response::{IntoResponse, Response},
};
use http_body_util::LengthLimitError;
use hyper::{body::Frame, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::{
    caller::Caller,
    failure::{Code, Failure, Outcome},
    question::{API_VERSION, Question, VERSION_HEADER},
    stream::{CONTENT_TYPE, Lasts, Reply, no_longer},
};

/// The longest question, in bytes: a path of any length, and all names of a user's sets.
pub const QUESTION_BYTES_MAX: usize = 64 << 10;

/// How long a caller may take to send a question.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How many questions one router answers at once; further ones wait. Whose door has callers that do not trust each other
/// gives each a share of its own before it ([`Asked::turn`]).
const ANSWERS_MAX: usize = 32;

/// How many chunks of an answer may wait to be sent.
const CHUNKS_WAITING_MAX: usize = 8;

/// Whoever answers one question. Called on threads that may block: nearly every answer reads a database.
pub trait Answers<Q: Question> {
    /// Answers `question` of `caller` into `reply`.
    fn answer(&self, caller: &Caller, question: Q, reply: &mut Reply) -> Outcome<()>;

    /// Hears of a caller who may not ask this; what was asked is not read.
    fn turned_away(&self, _caller: &Caller, _why: &Failure) {}
}

/// What a way in knows of a question: an extension of the request.
#[derive(Clone)]
pub struct Asked {
    /// Who asks.
    pub caller: Caller,
    /// Let go of when the answer is complete.
    pub turn: Option<Arc<dyn Any + Send + Sync>>,
    /// Tells whether the caller may still be told anything: asked with every part of an answer, which ends where it is not so.
    pub lasts: Option<Lasts>,
}

/// What all routes share.
pub(crate) struct Shared<S> {
    station: Arc<S>,
    turns: Arc<Semaphore>,
}

/// Returns what all routes of a station share.
pub(crate) fn shared<S>(station: Arc<S>) -> Arc<Shared<S>> {
    Arc::new(Shared { station, turns: Arc::new(Semaphore::new(ANSWERS_MAX)) })
}

/// Answers what one caller asks over one connection, until it ends or `lasts` says that the caller is told nothing more.
pub async fn converse(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    caller: Caller,
    lasts: Option<Lasts>,
) -> hyper::Result<()> {
    let router = router.layer(Extension(Asked { caller, turn: None, lasts }));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(QUESTION_TIMEOUT);
    http.serve_connection(TokioIo::new(io), TowerToHyperService::new(router)).await
}

pub(crate) async fn answer<S, Q>(
    State(shared): State<Arc<Shared<S>>>,
    asked: Option<Extension<Asked>>,
    request: Request<Body>,
) -> Response
where
    S: Answers<Q> + Send + Sync + 'static,
    Q: Question,
{
    let asked = match asked {
        Some(Extension(Asked { lasts: Some(lasts), .. })) if !lasts() => {
            return error(StatusCode::UNAUTHORIZED, &no_longer());
        }
        Some(Extension(asked)) if Q::CALLERS.include(&asked.caller) => asked,
        Some(Extension(asked)) => {
            let why = not_for_you();
            let told = why.clone();
            let hear = move || shared.station.turned_away(&asked.caller, &told);
            // What came of it is in a log or is not: the caller is refused either way.
            let _ = tokio::task::spawn_blocking(hear).await;
            return error(StatusCode::FORBIDDEN, &why);
        }
        None => return error(StatusCode::UNAUTHORIZED, &Failure::refused("nobody is logged in")),
    };
    let question: Q = match read(request, QUESTION_BYTES_MAX).await {
        Ok(question) => question,
        Err((status, failure)) => return error(status, &failure),
    };
    let Ok(permit) = Arc::clone(&shared.turns).acquire_owned().await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, &Failure::unavailable("the station stops"));
    };
    let (to, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_WAITING_MAX);
    let runtime = Handle::current();
    let work = tokio::task::spawn_blocking(move || {
        let _held = (permit, asked.turn);
        let mut reply = Reply::new(to, runtime, asked.lasts);
        let answered = shared.station.answer(&asked.caller, question, &mut reply);
        reply.end(answered)
    });
    // What fails before anything is sent has a status of its own.
    match chunks.recv().await {
        Some(first) => {
            let body = Body::new(Chunks { first: Some(first), rest: chunks });
            let kind = HeaderValue::from_static(CONTENT_TYPE);
            ([(header::CONTENT_TYPE, kind)], body).into_response()
        }
        None => match work.await {
            Ok(Err(failure)) => error(status_of(failure.code), &failure),
            _ => {
                let failure = Failure::new(Code::Failed, "the station could not answer")
                    .hint("its log says why");
                error(StatusCode::INTERNAL_SERVER_ERROR, &failure)
            }
        },
    }
}

/// The chunks of an answer, as they come.
struct Chunks {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.rest.poll_recv(cx),
        };
        next.map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

/// Reads a question, bounded in bytes and time.
pub async fn read<T: DeserializeOwned>(
    request: Request<Body>,
    bytes_max: usize,
) -> Result<T, (StatusCode, Failure)> {
    // A page of another site can send a form unasked, but no JSON.
    if !is_json(request.headers()) {
        let failure = Failure::usage("only application/json is understood");
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, failure));
    }
    if let Some(version) = request.headers().get(VERSION_HEADER)
        && version.as_bytes() != API_VERSION.to_string().as_bytes()
    {
        let version = version.to_str().unwrap_or("unknown");
        let failure = Failure::refused(format!(
            "the command speaks version {version} with the station, the station {API_VERSION}"
        ));
        let failure = failure
            .hint("use a command and a station of one age: restart the station after an upgrade");
        return Err((StatusCode::CONFLICT, failure));
    }
    let body = timeout(QUESTION_TIMEOUT, to_bytes(request.into_body(), bytes_max)).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(error)) if is_too_long(&error) => {
            let failure = Failure::usage(format!("a question has at most {bytes_max} bytes"));
            return Err((StatusCode::PAYLOAD_TOO_LARGE, failure));
        }
        Ok(Err(_)) => {
            let failure = Failure::usage("the question did not come whole");
            return Err((StatusCode::BAD_REQUEST, failure));
        }
        Err(_) => {
            let failure = Failure::unavailable("the question took too long");
            return Err((StatusCode::REQUEST_TIMEOUT, failure));
        }
    };
    serde_json::from_slice(&body).map_err(|error| {
        // The parser's words may quote what was sent, a password for one; where it is suffices.
        let (line, column) = (error.line(), error.column());
        let failure = Failure::usage(format!("not understood at line {line}, column {column}"));
        (StatusCode::BAD_REQUEST, failure)
    })
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("application/json"))
}

/// What comes instead of an answer: `error` is the whole chain on one line.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Refusal {
    error: String,
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

/// Returns a failure as HTTP tells it.
pub fn error(status: StatusCode, failure: &Failure) -> Response {
    let refusal = Refusal { error: failure.one_line(), failure: failure.clone() };
    (status, Json(refusal)).into_response()
}

fn not_for_you() -> Failure {
    Failure::refused("only admins of the station may ask this")
        .hint("an admin asks on the station itself, as root or in group keepshare")
}

fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Code::Usage => StatusCode::BAD_REQUEST,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Refused => StatusCode::CONFLICT,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
