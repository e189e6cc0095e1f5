//! Every question: who may ask it, how it is answered over a socket, and that it is documented.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};

use keepshare_auth::{Principal, SessionId, UserSets};
use keepshare_control::{
    Code, Failure, Outcome, Reply,
    answers::Progress,
    caller::{Caller, User},
    client::{Client, Dial, Dialling, Piece, Wire},
    question::Question,
    questions::{self, ALL, Export, Show, Status, TokenList, Zone},
    router::{Answers, Asked, QUESTION_BYTES_MAX},
    socket::Socket,
};

/// How much the zone is told with.
const ZONE_BYTES: usize = 16 << 20;

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
                reply.data(&vec![7; ZONE_BYTES])
            }
            Show::NAME => {
                reply.data(&vec![7; 1 << 20])?;
                Err(Failure::refused("half way").hint("go on"))
            }
            _ => Err(Failure::not_found("nothing").hint("look elsewhere")),
        }
    }

    fn turned_away(&self, _: &Caller, _: &Failure) {
        self.0.lock().unwrap().push(format!("not {}", Q::NAME));
    }
}

fn callers() -> [Caller; 3] {
    let principal = Arc::new(Principal { user: "anna".into(), ..Principal::default() });
    let (address, session) = ("10.0.0.1".parse().unwrap(), "1".repeat(16).parse::<SessionId>());
    [
        Caller::Admin { uid: 0 },
        Caller::User(User { principal, sets: UserSets::All, session: session.unwrap(), address }),
        Caller::Member("office".parse().unwrap()),
    ]
}

/// Who may order is not who may send: nothing that a station's certificate asks changes anything.
#[test]
fn no_question_of_a_member_changes_anything() {
    let [_, _, member] = callers();
    let open: Vec<_> = ALL.iter().filter(|q| q.callers.include(&member)).collect();
    assert!(!open.is_empty() && open.iter().all(|question| !question.changes), "{open:?}");
}

/// Every question, of everybody: whoever may not ask it does not reach the station.
#[tokio::test]
async fn every_question_is_held_to_its_callers() {
    for listed in ALL {
        for caller in callers().map(Some).into_iter().chain([None]) {
            let station = Arc::new(Echo::default());
            let request = Request::post(format!("/api/v1/{}", listed.name))
                .header(header::CONTENT_TYPE, "application/json");
            let mut request = request.body(Body::from("not a question")).unwrap();
            if let Some(caller) = &caller {
                let asked = Asked { caller: caller.clone(), turn: None, lasts: None };
                request.extensions_mut().insert(asked);
            }
            let router = questions::router(Arc::clone(&station));
            let service = hyper_util::service::TowerToHyperService::new(router);
            let response = hyper::service::Service::call(&service, request).await.unwrap();
            // Whoever may ask gets as far as the question, which is none.
            let expected = match &caller {
                Some(caller) if listed.callers.include(caller) => StatusCode::BAD_REQUEST,
                Some(_) => StatusCode::FORBIDDEN,
                None => StatusCode::UNAUTHORIZED,
            };
            assert_eq!(response.status(), expected, "{} of {caller:?}", listed.name);
            // Somebody who is known and may not ask is heard of, for the audit log.
            let heard = (expected == StatusCode::FORBIDDEN).then(|| format!("not {}", listed.name));
            assert_eq!(*station.0.lock().unwrap(), Vec::from_iter(heard));
        }
    }
}

/// A user who is removed while an answer is on its way gets no more of it.
#[tokio::test]
async fn an_answer_ends_with_the_login_that_asked() {
    let [_, user, _] = callers();
    let lasting = Arc::new(AtomicUsize::new(8));
    let left = Arc::clone(&lasting);
    let lasts: Arc<dyn Fn() -> bool + Send + Sync> =
        Arc::new(move || left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok());
    let request = Request::post("/api/v1/zone").header(header::CONTENT_TYPE, "application/json");
    let mut request = request.body(Body::from("{}")).unwrap();
    request.extensions_mut().insert(Asked { caller: user, turn: None, lasts: Some(lasts) });
    let service =
        hyper_util::service::TowerToHyperService::new(questions::router(Arc::new(Echo::default())));
    let response = hyper::service::Service::call(&service, request).await.unwrap();
    let answer = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(answer.len() < 10 << 20, "{} bytes", answer.len());
    let end = String::from_utf8_lossy(&answer[answer.len() - 200..]).into_owned();
    assert!(end.contains("\"failed\"") && end.contains("has ended"), "{end}");
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
        assert_eq!((items, data), (1, ZONE_BYTES));
        let failure = station.ask_all(&TokenList {}).unwrap_err();
        assert_eq!(failure, Failure::not_found("nothing").hint("look elsewhere"));
        // What fails after something was sent is told, too.
        let place = questions::Location::Local(b"/x".to_vec());
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

/// A station that takes a question and says nothing holds nobody for ever.
#[test]
fn a_silent_station_is_given_up() {
    struct Silent(PathBuf);
    impl Dial for Silent {
        fn dial(&self) -> Dialling<'_> {
            Box::pin(async {
                let stream = tokio::net::UnixStream::connect(&self.0).await;
                Ok(Box::new(stream.map_err(anyhow::Error::new)?) as Box<dyn Wire>)
            })
        }
        fn host(&self) -> &str {
            "silent"
        }
        fn patience(&self) -> Option<Duration> {
            Some(Duration::from_millis(20))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _silent = UnixListener::bind(&path).unwrap();
    let station = Client::new(Silent(path)).unwrap();
    assert_eq!(station.ask_one(&Status {}).err().unwrap().code, Code::Unavailable);
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

/// What is no question at all and what is too long a one are two things to whoever wrote the program that asks.
#[test]
fn a_question_in_broken_pieces_is_no_long_one() {
    use std::io::{Read, Write};
    with_socket(|path| {
        let status = |body: &str| {
            let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
            let head = "POST /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            // Whoever is answered early may not be read to the end.
            let _ = stream.write_all(body.as_bytes());
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[9..]).into_owned()
        };
        assert_eq!(status("zz\r\n{}\r\n0\r\n\r\n"), "400");
        let long = format!(
            "{:x}\r\n{}\r\n0\r\n\r\n",
            QUESTION_BYTES_MAX + 1,
            " ".repeat(QUESTION_BYTES_MAX + 1)
        );
        assert_eq!(status(&long), "413");
    });
}

#[test]
fn a_station_that_is_not_there_is_unavailable() {
    let station = Client::at_socket(Path::new("/nonexistent/s")).unwrap();
    let failure = station.ask_one(&Status {}).err().unwrap();
    assert_eq!(failure.code, Code::Unavailable);
    assert!(failure.hint.is_some());
}

/// A command and a station of two ages understand each other where nothing new is asked.
#[test]
fn an_export_says_only_what_it_leaves_out() {
    let place = questions::Location::Local(b"/x".to_vec());
    let said = |content| {
        let question = Export { place: place.clone(), when: "latest".into(), content };
        serde_json::to_value(question).unwrap()
    };
    let (with, without) = (said(true), said(false));
    assert!(with.get("content").is_none() && without["content"] == false, "{with} {without}");
    let read = |value| serde_json::from_value::<Export>(value).unwrap().content;
    assert!(read(with) && !read(without));
}

/// Whoever writes a program against the page must find every question there, and none that is not answered.
#[test]
fn every_question_is_on_the_page_with_its_callers() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/formats/control.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = page.split("\n## ").find(|section| section.starts_with("Questions\n")).unwrap();
    let rows: Vec<Vec<&str>> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let documented: Vec<_> =
        rows.iter().map(|row| (row[1].trim_matches('`'), row[2], row[3])).collect();
    let changes = |changes| if changes { "yes" } else { "no" };
    let asked: Vec<_> =
        ALL.iter().map(|q| (q.name, q.callers.word(), changes(q.changes))).collect();
    assert_eq!(documented, asked);
}
