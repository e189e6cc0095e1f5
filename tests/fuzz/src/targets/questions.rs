//! What is asked of a station: each text is put to every question, at the door where all of them come in.

use std::{
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode, header},
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::runtime::{Builder, Runtime};

use keepshare_control::{
    Outcome, Reply,
    accounts::UserInfo,
    caller::Caller,
    question::Question,
    questions::{
        self, ALL, AuditShow, AuditVerify, Export, Find, Fsck, GetTicket, Location, Passwd,
        Restore, Secret, SessionGrant, SessionRevoke, SetAdd, SetMirror, SetStationAddress, Show,
        Status, UserAdd, UserPassword, UserRemove, Versions, Which,
    },
    router::{Answers, Asked},
};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    name: "questions",
    run,
    examples,
    words: &[
        b"\"",
        b"{",
        b"}",
        b"[",
        b"null",
        b"-1",
        b"1e400",
        b"18446744073709551616",
        b"\\u0000",
        b"\\ud800",
        b"../..",
        b"\"place\":",
        b"\"set\":",
        b",",
    ],
    cost: 40,
};

/// Takes every question, and checks that nothing of it is lost on a way back and forth.
struct Mirror;

impl<Q: Question> Answers<Q> for Mirror {
    fn answer(&self, _: &Caller, question: Q, reply: &mut Reply) -> Outcome<()> {
        let said = serde_json::to_value(&question).expect("a question is written");
        let again: Q = serde_json::from_value(said.clone()).expect("what is written is read");
        assert_eq!(serde_json::to_value(&again).expect("a question is written"), said);
        reply.item(&said)
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_all().build().expect("the system gives a runtime")
});

static ROUTER: LazyLock<Router> = LazyLock::new(|| questions::router(Arc::new(Mirror)));

fn run(bytes: &[u8]) -> bool {
    let asked = ALL.iter().map(|question| ask(question.name, bytes));
    asked.filter(|is_one| *is_one).count() > 0
}

/// Asks a question with this text; tells whether it is one.
fn ask(name: &str, text: &[u8]) -> bool {
    let request = Request::post(format!("/api/v1/{name}"));
    let request = request.header(header::CONTENT_TYPE, "application/json");
    let mut request = request.body(Body::from(text.to_vec())).expect("a request of ours");
    let caller = Caller::Admin { uid: 0 };
    request.extensions_mut().insert(Asked { caller, turn: None, lasts: None });
    let service = TowerToHyperService::new(ROUTER.clone());
    let answered = RUNTIME.block_on(async { service.call(request).await });
    let Ok::<_, Infallible>(answer) = answered;
    match answer.status() {
        StatusCode::OK => true,
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => false,
        // Whoever answers it has panicked.
        status => panic!("{name} is answered with {status}"),
    }
}

/// Every question that has fields.
fn examples() -> Vec<(String, Vec<u8>)> {
    let set = || "projects".parse().expect("a name");
    let place = || Location::Set { set: set(), path: b"sales/report.docx".to_vec() };
    let (when, secret) = (|| "2026-11-20_15.32".to_owned(), || Secret("correct horse".into()));
    let station = || "store".parse().expect("a name");
    let user = UserInfo {
        name: "anna".into(),
        uid: 1000,
        gid: 100,
        groups: vec![4, 24],
        may_write: true,
        sets: Some(vec![set()]),
    };
    let ticket = GetTicket {
        user: "anna".into(),
        password: secret(),
        set: Some(set()),
        any_set: true,
        client_address: [10, 0, 0, 7].into(),
        client_uid: Some(1000),
        any_port: false,
    };
    let grant = SessionGrant {
        host: "10.0.0.0/24".parse().expect("a range"),
        set: set(),
        may_write: true,
        any_port: false,
    };
    let address = "store.example:7846".parse().expect("an address");
    let mirror = SetMirror {
        name: set(),
        to: Some(station()),
        new_epoch: true,
        take_over: false,
        new_source: false,
    };
    vec![
        example(&Status {}),
        example(&Versions { place: place(), limit: 100 }),
        example(&Show { place: Location::Local(b"/srv/\xff".to_vec()), when: when() }),
        example(&Export { content: true, place: place(), when: when() }),
        example(&Find {
            set: None,
            within: Some(place()),
            pattern: "*.docx".into(),
            deleted_only: true,
            since: Some("2h".into()),
            after: Some("projects:0000616200".into()),
            limit: 9,
        }),
        example(&Restore { place: place(), when: when() }),
        example(&Passwd { old: secret(), new: secret() }),
        example(&Fsck { set: Some(set()), repair_clock: true }),
        example(&AuditShow {
            set: Some(set()),
            user: Some("anna".into()),
            since: Some(when()),
            event: Some("login".into()),
            limit: 9,
        }),
        example(&AuditVerify { head: Some("1:00".into()) }),
        example(&SetStationAddress { name: station(), address }),
        example(&SetAdd { name: set(), source: "/srv/work".into(), to: vec![station()] }),
        example(&mirror),
        example(&UserAdd { user, password: secret() }),
        example(&UserRemove { name: "anna".into(), dry_run: true }),
        example(&UserPassword { name: "anna".into(), password: secret() }),
        example(&grant),
        example(&SessionRevoke { which: Which::User("anna".into()), dry_run: false }),
        example(&ticket),
    ]
}

fn example<Q: Question>(question: &Q) -> (String, Vec<u8>) {
    (Q::NAME.to_owned(), serde_json::to_vec(question).expect("a question is written"))
}
