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
    questions::{self, API_VERSION, Question, Station, VERSION_HEADER},
    stream::{CONTENT_TYPE, Reply},
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
}

/// What a door knows of a question: an extension of the request.
#[derive(Clone)]
pub struct Asked {
    /// Who asks.
    pub caller: Caller,
    /// Let go of when the answer is complete.
    pub turn: Option<Arc<dyn Any + Send + Sync>>,
}

/// What all routes share.
pub(crate) struct Shared<S> {
    station: Arc<S>,
    turns: Arc<Semaphore>,
}

/// Returns what answers all questions; each request needs an [`Asked`] among its extensions.
pub fn router<S: Station>(station: Arc<S>) -> Router {
    let shared = Shared { station, turns: Arc::new(Semaphore::new(ANSWERS_MAX)) };
    questions::routes(Router::new()).with_state(Arc::new(shared))
}

/// Answers what one caller asks over one connection, until it ends.
pub async fn converse(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    caller: Caller,
) -> hyper::Result<()> {
    let router = router.layer(Extension(Asked { caller, turn: None }));
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
    S: Station + Answers<Q>,
    Q: Question,
{
    let asked = match asked {
        Some(Extension(asked)) if Q::CALLERS.include(&asked.caller) => asked,
        Some(_) => return error(StatusCode::FORBIDDEN, &not_for_you()),
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
        let mut reply = Reply::new(to, runtime);
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
        Ok(Err(_)) => {
            let failure = Failure::usage(format!("a question has at most {bytes_max} bytes"));
            return Err((StatusCode::PAYLOAD_TOO_LARGE, failure));
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

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex};

    use keepshare_auth::{Principal, SessionId, UserSets};

    use super::*;
    use crate::{
        answers::Progress,
        caller::User,
        client::{Client, Piece},
        questions::{Show, Status, TokenList, Zone},
        socket::Socket,
    };

    /// Notes what reached it.
    #[derive(Default)]
    struct Echo(Mutex<Vec<String>>);

    impl<Q: Question> Answers<Q> for Echo {
        fn answer(&self, _: &Caller, _: Q, reply: &mut Reply) -> Outcome<()> {
            self.0.lock().unwrap().push(Q::NAME.to_owned());
            match Q::NAME {
                Zone::NAME => {
                    reply.progress(&Progress { doing: "x".into(), done: 1, total: None })?;
                    reply.item(&"item")?;
                    reply.data(&vec![7; 3 << 20])
                }
                Show::NAME => {
                    reply.data(&vec![7; 1 << 20])?;
                    Err(Failure::refused("half way").hint("go on"))
                }
                _ => Err(Failure::not_found("nothing").hint("look elsewhere")),
            }
        }
    }

    fn callers() -> [Caller; 3] {
        let principal = Arc::new(Principal { user: "anna".into(), ..Principal::default() });
        let (address, session) = ("10.0.0.1".parse().unwrap(), "1".repeat(16).parse::<SessionId>());
        [
            Caller::Admin { uid: 0 },
            Caller::User(User {
                principal,
                sets: UserSets::All,
                session: session.unwrap(),
                address,
            }),
            Caller::Member("office".parse().unwrap()),
        ]
    }

    /// Who may order is not who may send: nothing that a station's certificate asks changes anything.
    #[test]
    fn no_question_of_a_member_changes_anything() {
        let [_, _, member] = callers();
        let open: Vec<_> = questions::ALL.iter().filter(|q| q.callers.include(&member)).collect();
        assert!(!open.is_empty() && open.iter().all(|question| !question.changes), "{open:?}");
    }

    /// Every question, of everybody: whoever may not ask it does not reach the station.
    #[tokio::test]
    async fn every_question_is_held_to_its_callers() {
        for listed in questions::ALL {
            for caller in callers().map(Some).into_iter().chain([None]) {
                let station = Arc::new(Echo::default());
                let request = Request::post(format!("/api/v1/{}", listed.name))
                    .header(header::CONTENT_TYPE, "application/json");
                let mut request = request.body(Body::from("not a question")).unwrap();
                if let Some(caller) = &caller {
                    let asked = Asked { caller: caller.clone(), turn: None };
                    request.extensions_mut().insert(asked);
                }
                let router = router(Arc::clone(&station));
                let service = hyper_util::service::TowerToHyperService::new(router);
                let response = hyper::service::Service::call(&service, request).await.unwrap();
                // Whoever may ask gets as far as the question, which is none.
                let expected = match &caller {
                    Some(caller) if listed.callers.include(caller) => StatusCode::BAD_REQUEST,
                    Some(_) => StatusCode::FORBIDDEN,
                    None => StatusCode::UNAUTHORIZED,
                };
                assert_eq!(response.status(), expected, "{} of {caller:?}", listed.name);
                assert!(station.0.lock().unwrap().is_empty());
            }
        }
    }

    fn with_socket(test: impl FnOnce(&Path) + Send + 'static) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = Socket::bind(&path, None).unwrap();
            let client = tokio::task::spawn_blocking(move || test(&path));
            tokio::select! {
                () = socket.serve(Arc::new(Echo::default())) => unreachable!(),
                done = client => done.unwrap(),
            }
        });
    }

    #[test]
    fn answers_arrive_in_pieces_and_failures_whole() {
        with_socket(|path| {
            let station = Client::at_socket(path).unwrap();
            let mut answer = station.ask(&Zone {}).unwrap();
            let (mut data, mut items) = (0, 0);
            while let Some(piece) = answer.next_piece().unwrap() {
                match piece {
                    Piece::Item(item) => items += usize::from(item == "item"),
                    Piece::Data(bytes) => data += bytes.len(),
                    Piece::Progress(progress) => assert_eq!(progress.done, 1),
                }
            }
            assert_eq!((items, data), (1, 3 << 20));
            let failure = station.ask_all(&TokenList {}).unwrap_err();
            assert_eq!(failure, Failure::not_found("nothing").hint("look elsewhere"));
            // What fails after something was sent is told, too.
            let place = questions::Place::Local(b"/x".to_vec());
            let mut answer = station.ask(&Show { place, when: "latest".into() }).unwrap();
            let failure = loop {
                match answer.next_piece() {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("it did not fail"),
                    Err(failure) => break failure,
                }
            };
            assert_eq!(failure, Failure::refused("half way").hint("go on"));
        });
    }

    #[test]
    fn another_version_is_refused_by_name() {
        use std::io::{Read, Write};
        with_socket(|path| {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let request = "POST /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nkeepshare-api: 99\r\n\
                           Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.contains("409") && answer.contains("version 99"), "{answer}");
        });
    }

    #[test]
    fn a_station_that_is_not_there_is_unavailable() {
        let station = Client::at_socket(Path::new("/nonexistent/s")).unwrap();
        let failure = station.ask_one(&Status {}).err().unwrap();
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.hint.is_some());
    }
}
