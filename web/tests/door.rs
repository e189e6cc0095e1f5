//! The HTTPS door over loopback, with the client that `keepshare login` uses and with what is none.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use redb::{Database, backends::InMemoryBackend};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use keepshare_auth::{Accounts, Audit, User, UserSets};
use keepshare_base::{Role, Stamp};
use keepshare_control::{
    Failure, Outcome, Reply,
    caller::Caller,
    login::{LoginQuestion, ResumeQuestion},
    question::Question,
    questions,
    router::Answers,
};
use keepshare_identity::{
    ClusterCa, Revocations, StationIdentity,
    tls::{SeenStation, StationTls, web_client},
};
use keepshare_web::{
    Door, DrivePorts, Station,
    client::{ClientError, LoginClient, probe},
};

const PASSWORD: &str = "correct horse";

struct House {
    address: SocketAddr,
    station: SeenStation,
    accounts: Arc<Accounts>,
    _dir: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = ClusterCa::create(dir.path(), now()).unwrap();
        // A replica: the door is open on every station of the cluster.
        let name = "store".parse().unwrap();
        let identity = StationIdentity::create(&ca, now(), &name, Role::Replica).unwrap();
        let tls = StationTls::new(&identity, Revocations::default(), Arc::new(DefaultTimeProvider));
        let tls = tls.unwrap();
        let db = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let accounts = Arc::new(Accounts::open(Arc::new(db), Audit::none()).unwrap());
        for name in ["anna", "ben"] {
            accounts.add_user(user(name), PASSWORD, now()).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let station = Station::new(
            Arc::clone(&accounts),
            || vec!["office".parse().unwrap()],
            move || tls.web_server(),
            now,
            Some(DrivePorts { nfs: 2049, mount: 20048 }),
        );
        let door = Door::new(listener, station, questions::router(Arc::new(Nothing)));
        let address = door.local_addr().unwrap();
        tokio::spawn(door.serve());
        Self { address, station: SeenStation { ca: identity.ca_pin(), name }, accounts, _dir: dir }
    }

    fn client(&self) -> LoginClient {
        LoginClient::new(&self.address.to_string(), &self.station).unwrap()
    }

    async fn tls(&self) -> TlsStream<TcpStream> {
        let config = web_client(&self.station, &(Arc::new(DefaultTimeProvider) as _)).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = "any".try_into().unwrap();
        TlsConnector::from(config).connect(name, stream).await.unwrap()
    }

    /// Sends bytes and returns everything that comes back.
    async fn raw(&self, request: &str) -> String {
        let mut stream = self.tls().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // Closing without a word is an answer, too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn now() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Stamp(i64::try_from(since.as_micros()).unwrap())
}

/// Returns where a client's kernel calls from.
fn kernel(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 700)
}

fn user(name: &str) -> User {
    let (uid, gid, groups, sets) = (1000, 1000, Vec::new(), UserSets::All);
    User { name: name.parse().unwrap(), uid, gid, groups, may_write: true, sets, disabled: false }
}

fn asks(user: &str, password: &str) -> LoginQuestion {
    LoginQuestion {
        user: user.to_owned(),
        password: password.to_owned(),
        set: None,
        any_set: false,
        client_address: None,
        client_uid: Some(501),
        shared: false,
        any_port: false,
    }
}

fn post(path: &str, kind: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\n\r\n{body}"
    )
}

fn refused<T>(result: Result<T, ClientError>) -> (u16, String, Option<u32>) {
    match result {
        Err(ClientError::Refused { status, answer, retry_after_s }) => {
            (status, answer.error, retry_after_s)
        }
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

#[tokio::test]
async fn a_login_gives_what_mounting_needs() {
    let house = House::open().await;
    let answer = house.client().login(&asks("anna", PASSWORD)).await.unwrap();
    assert_eq!((answer.user.as_str(), answer.set.as_str()), ("anna", "office"));
    assert_eq!((answer.nfs_port, answer.mount_port), (Some(2049), Some(20048)));
    assert_eq!(answer.mount_path, format!("/login/{}", answer.ticket));
    assert_eq!((answer.client_uid, answer.shared), (Some(501), false));
    let here: IpAddr = "127.0.0.1".parse().unwrap();
    assert_eq!(answer.client_address, here, "the address that asked");
    assert!(!format!("{answer:?}").contains(&answer.ticket[..8]));
    let sessions = house.accounts.sessions();
    let (session, _) = sessions.redeem(answer.ticket.as_bytes(), kernel(here), now()).unwrap();
    assert!(sessions.check(session, kernel(here), Some(501), now()).is_ok());
    assert!(sessions.check(session, kernel(here), Some(502), now()).is_err());
}

#[tokio::test]
async fn a_login_may_name_another_address() {
    let house = House::open().await;
    let there: IpAddr = "192.0.2.7".parse().unwrap();
    let question = LoginQuestion { client_address: Some(there), ..asks("anna", PASSWORD) };
    let question = LoginQuestion { client_uid: None, shared: true, ..question };
    let answer = house.client().login(&question).await.unwrap();
    assert_eq!((answer.client_address, answer.shared), (there, true));
    let sessions = house.accounts.sessions();
    let here = sessions.redeem(answer.ticket.as_bytes(), "127.0.0.1:700".parse().unwrap(), now());
    assert!(here.is_err());
    assert!(sessions.redeem(answer.ticket.as_bytes(), kernel(there), now()).is_ok());
}

/// Whoever guesses must not learn from any byte which names exist.
#[tokio::test]
async fn unknown_users_and_wrong_passwords_get_the_same_answer() {
    let house = House::open().await;
    let mut answers = Vec::new();
    for user in ["anna", "nobody"] {
        let body = format!(r#"{{"user":"{user}","password":"wrong password","client_uid":1}}"#);
        let answer = house.raw(&post("/api/v1/login", "application/json", &body)).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        let lines = answer.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
        answers.push(lines.map(ToOwned::to_owned).collect::<Vec<_>>());
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn guessers_are_told_to_wait() {
    let house = House::open().await;
    for _ in 0..5 {
        let (status, ..) = refused(house.client().login(&asks("anna", "wrong password")).await);
        assert_eq!(status, 401);
    }
    let before = house.accounts.passwords_computed();
    let (status, error, retry) = refused(house.client().login(&asks("anna", PASSWORD)).await);
    assert_eq!((status, retry), (429, Some(1)), "{error}");
    assert_eq!(house.accounts.passwords_computed(), before, "no hash was worked out");
}

/// What `keepshare login` keeps opens what users may ask, as that user, until the login ends; and nothing for anybody else.
#[tokio::test]
async fn the_secret_of_a_login_asks_as_its_user() {
    let house = House::open().await;
    let secret = house.client().login(&asks("anna", PASSWORD)).await.unwrap().resume_secret;
    let ask = async |name: &str, authorization: &str| {
        let body = r#"{"pattern":"x","limit":1}"#;
        let request = format!(
            "POST /api/v1/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Authorization: {authorization}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = house.raw(&request).await;
        (answer.split(' ').nth(1).unwrap().to_owned(), answer)
    };
    let (status, answer) = ask("find", &format!("Bearer {secret}")).await;
    assert_eq!(status, "404", "{answer}");
    assert!(answer.contains("asked by anna"), "{answer}");
    let (status, answer) = ask("user-list", &format!("Bearer {secret}")).await;
    assert_eq!(status, "403", "only admins: {answer}");
    for wrong in [format!("Bearer {}", "0".repeat(64)), "Basic YW5uYTpjb3JyZWN0".to_owned()] {
        let (status, answer) = ask("find", &wrong).await;
        assert_eq!(status, "401", "{answer}");
        assert!(!answer.contains("asked by"), "{answer}");
    }
    assert_eq!(house.accounts.sessions().revoke_user(&"anna".parse().unwrap(), now()).unwrap(), 1);
    let (status, _) = ask("find", &format!("Bearer {secret}")).await;
    assert_eq!(status, "401", "it ends with the login, at once");
}

/// A station that answers every question with who asked.
struct Nothing;

impl<Q: Question> Answers<Q> for Nothing {
    fn answer(&self, caller: &Caller, _: Q, _: &mut Reply) -> Outcome<()> {
        Err(Failure::not_found(match caller {
            Caller::User(user) => format!("asked by {}", user.principal.user),
            caller => format!("asked by somebody else: {caller:?}"),
        }))
    }
}

#[tokio::test]
async fn a_mounted_drive_moves_with_its_secret() {
    let house = House::open().await;
    let here: IpAddr = "127.0.0.1".parse().unwrap();
    let there: IpAddr = "192.0.2.7".parse().unwrap();
    let answer = house.client().login(&asks("anna", PASSWORD)).await.unwrap();
    let redeemed = house.accounts.sessions().redeem(answer.ticket.as_bytes(), kernel(here), now());
    let session = redeemed.unwrap().0;
    let question =
        ResumeQuestion { resume_secret: answer.resume_secret, client_address: Some(there) };
    let resumed = house.client().resume(&question).await.unwrap();
    assert_eq!((resumed.id, resumed.client_address), (session.to_string(), there));
    assert!(house.accounts.sessions().check(session, kernel(there), Some(501), now()).is_ok());
    let wrong = ResumeQuestion { resume_secret: "0".repeat(64), client_address: None };
    assert_eq!(refused(house.client().resume(&wrong).await).0, 401);
}

/// A password is said to the right station or to nobody.
#[tokio::test]
async fn another_station_or_cluster_hears_nothing() {
    let (house, other) = (House::open().await, House::open().await);
    assert_eq!(probe(&house.address.to_string()).await.unwrap(), house.station);
    let other_ca = other.station.clone();
    // A member of the cluster, but not the one that the password is for.
    let other_name = SeenStation { name: "vault".parse().unwrap(), ..house.station.clone() };
    for expected in [other_ca, other_name] {
        let client = LoginClient::new(&house.address.to_string(), &expected).unwrap();
        let refused = client.login(&asks("anna", PASSWORD)).await;
        assert!(matches!(refused, Err(ClientError::Untrusted { .. })), "{refused:?}");
    }
    let adds = house.accounts.passwords_computed();
    assert_eq!(adds, 2, "nothing but the two users was hashed");
}

#[tokio::test]
async fn what_is_no_question_is_refused_and_answers_stay_out_of_browsers() {
    let house = House::open().await;
    let json = "application/json";
    let long = format!(r#"{{"user":"{}"}}"#, "x".repeat(20_000));
    let cases = [
        (post("/api/v1/login", json, "{"), "400"),
        (post("/api/v1/login", json, r#"{"user":"anna","password":"x"}"#), "400"),
        (
            post(
                "/api/v1/login",
                json,
                r#"{"user":"a","password":"x","shared":true,"client_uid":1}"#,
            ),
            "400",
        ),
        (
            post(
                "/api/v1/login",
                json,
                r#"{"user":"a","password":"x","shared":true,"any_port":true}"#,
            ),
            "400",
        ),
        (
            post("/api/v1/login", json, r#"{"user":"a","password":"x","shared":true,"admin":1}"#),
            "400",
        ),
        (
            post(
                "/api/v1/login",
                json,
                r#"{"user":"a","password":"x","shared":true,"client_address":"host"}"#,
            ),
            "400",
        ),
        (
            post(
                "/api/v1/login",
                json,
                r#"{"user":"a","password":"x","shared":true,"set":"../x"}"#,
            ),
            "400",
        ),
        (post("/api/v1/login", "text/plain", "{}"), "415"),
        (post("/api/v1/login", "application/x-www-form-urlencoded", "user=a"), "415"),
        (post("/api/v1/login", json, &long), "413"),
        (post("/api/v1/other", json, "{}"), "404"),
        ("GET /api/v1/login HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "405"),
        (post("/api/v1/versions", json, "{}"), "401"),
        ("GET /api/v1/versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "405"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "404"),
    ];
    let before = house.accounts.passwords_computed();
    for (request, status) in cases {
        let answer = house.raw(&request).await;
        let shown = &request[..request.len().min(300)];
        assert_eq!(answer.split(' ').nth(1), Some(status), "{shown}: {answer}");
        let headers = answer.to_lowercase();
        for needed in
            ["cache-control: no-store", "x-content-type-options: nosniff", "default-src 'none'"]
        {
            assert!(headers.contains(needed), "{needed} is missing: {answer}");
        }
        assert!(!headers.contains("access-control"), "no other site may ask");
        assert!(headers.contains(r#"{"error":"#), "{answer}");
    }
    assert_eq!(house.accounts.passwords_computed(), before);
    // What is no HTTP at all must not take the door down.
    for garbage in [
        "\0\0\0\0",
        "GET",
        &"A".repeat(100_000),
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
    ] {
        house.tls().await.write_all(garbage.as_bytes()).await.unwrap();
    }
    assert!(house.client().login(&asks("anna", PASSWORD)).await.is_ok());
}

#[tokio::test]
async fn plain_http_is_closed() {
    let house = House::open().await;
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    let request = post("/api/v1/login", "application/json", "{}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP"), "it was answered");
}

/// Connects from one of the many addresses of this machine.
async fn connect_from(house: &House, from: [u8; 4]) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(house.address).await.unwrap()
}

/// A few questions of each kind that stop in the middle.
async fn half_spoken(house: &House, from: [u8; 4], n: usize) -> TcpStream {
    let mut stream = connect_from(house, from).await;
    let half: &[u8] = match n % 3 {
        0 => b"",
        1 => b"\x16",
        _ => b"\x16\x03\x01\x02\x00\x01",
    };
    stream.write_all(half).await.unwrap();
    stream
}

/// Logs in again and again, and prints how long that took.
async fn honest_logins(house: &House, count: usize) {
    let mut took = Vec::new();
    for _ in 0..count {
        let began = Instant::now();
        house.client().login(&asks("anna", PASSWORD)).await.unwrap();
        took.push(began.elapsed());
    }
    took.sort();
    eprintln!("{count} logins: median {:?}, p99 {:?}", took[count / 2], took[count * 99 / 100]);
}

/// Whoever opens connections and says nothing, or half a word, keeps nobody out: not those behind the same address.
#[tokio::test]
async fn silent_ones_of_an_address_keep_nobody_out() {
    let house = House::open().await;
    let mut held = Vec::new();
    for n in 0..80 {
        held.push(half_spoken(&house, [127, 0, 0, 1], n).await);
    }
    honest_logins(&house, 10).await;
}

/// Nor do those of many addresses, who have all places.
#[tokio::test]
async fn a_full_door_lets_everybody_log_in() {
    let house = House::open().await;
    let mut held = Vec::new();
    for n in 0..300 {
        let address = [127, 0, 5, u8::try_from(n % 20).unwrap()];
        held.push(half_spoken(&house, address, n).await);
    }
    honest_logins(&house, 10).await;
    drop(held);
}

/// Nor do those who come again and again, faster than anybody logs in.
#[tokio::test]
async fn a_flood_of_connections_keeps_nobody_out() {
    let house = Arc::new(House::open().await);
    let flood = |address: u8| {
        let house = Arc::clone(&house);
        tokio::spawn(async move {
            let mut held = VecDeque::new();
            for n in 0.. {
                held.push_back(half_spoken(&house, [127, 0, 6, address], n).await);
                if held.len() > 40 {
                    held.pop_front();
                    tokio::task::yield_now().await;
                }
            }
        })
    };
    let floods: Vec<_> = (1..=20).map(flood).collect();
    honest_logins(&house, 10).await;
    floods.iter().for_each(tokio::task::JoinHandle::abort);
}

/// As many as a browser or a small office opens at once.
#[tokio::test]
async fn thirty_that_come_together_are_all_served() {
    let house = Arc::new(House::open().await);
    let mut streams = Vec::new();
    for _ in 0..30 {
        streams.push(house.tls().await);
    }
    for stream in &mut streams {
        let request = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    }
}
