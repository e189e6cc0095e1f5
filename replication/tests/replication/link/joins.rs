//! Joining over the network, and those who should not.

use std::{sync::Arc, time::Duration};

use keepshare_base::{Role, StationAddress};
use keepshare_identity::{
    Applicant, Application, EnrolError, JoinDesk, JoinError, JoinToken, JoinedIdentity,
    PendingIdentity, StationIdentity, TokenRefusal, tls,
};
use keepshare_replication::link::{
    Accepted, CONTROL_ALPN, JOIN_ALPN, LINK_ALPN, LinkError, LinkOptions, Listener, dial,
    join::{AskError, ask},
};
use rustls::{
    pki_types::ServerName,
    time_provider::{DefaultTimeProvider, TimeProvider},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::support::{Cluster, listen, name, now, soon};

#[derive(Debug)]
enum Failed {
    Asking(AskError),
    Answered(JoinError),
}

fn clock() -> Arc<dyn TimeProvider> {
    Arc::new(DefaultTimeProvider)
}

async fn join(address: &str, token: &JoinToken, station: &str) -> Result<JoinedIdentity, Failed> {
    let applicant = Applicant::join(token, &name(station), &own_address(), &clock()).unwrap();
    apply(address, applicant).await
}

async fn apply(address: &str, applicant: Applicant) -> Result<JoinedIdentity, Failed> {
    let answer = soon(ask(address, applicant.tls(), applicant.question())).await;
    applicant.complete(&answer.map_err(Failed::Asking)?).map_err(Failed::Answered)
}

fn own_address() -> StationAddress {
    "127.0.0.1:7411".parse().unwrap()
}

/// A primary that serves joins until it is dropped.
struct Primary {
    cluster: Cluster,
    address: String,
    task: JoinHandle<()>,
}

impl Primary {
    async fn start() -> Self {
        let cluster = Cluster::new();
        let (listener, address) = cluster.shop(LinkOptions::default()).await;
        let desk = JoinDesk::new(cluster.desk.clone());
        let task = tokio::spawn(serve(listener, desk));
        Self { cluster, address, task }
    }

    fn token(&self, ttl_s: u32) -> JoinToken {
        self.cluster.desk.tokens().create(now(), Role::Replica, ttl_s).unwrap()
    }

    async fn join(&self, token: &JoinToken, station: &str) -> Result<StationIdentity, Failed> {
        join(&self.address, token, station).await.map(|joined| joined.identity)
    }

    async fn renew(&self, identity: &StationIdentity) -> Result<StationIdentity, Failed> {
        let applicant = Applicant::renew(identity, &self.cluster.tls(identity), None).unwrap();
        apply(&self.address, applicant).await.map(|joined| joined.identity)
    }

    async fn dial(&self, identity: &StationIdentity) {
        let credentials = self.cluster.credentials(identity);
        let shop = name("shop");
        let dialled = dial(&self.address, &shop, &credentials, LinkOptions::default());
        soon(dialled).await.unwrap();
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut listener: Listener, desk: JoinDesk) {
    let mut links = Vec::new();
    loop {
        match listener.accept().await {
            Accepted::Link(link) => links.push(link),
            Accepted::Control(..) => {}
            Accepted::Join(pending) => {
                let shown = pending.certificate.as_deref();
                let (answer, _) = desk.answer(now(), pending.from.ip(), shown, &pending.question);
                let _ = pending.answer(&answer).await;
            }
        }
    }
}

#[tokio::test]
async fn a_station_joins_and_is_a_member_from_then_on() {
    let primary = Primary::start().await;
    let token = primary.token(60);
    let joined = join(&primary.address, &token, "attic").await.unwrap();
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.members[0].address, own_address());
    primary.dial(&joined.identity).await;

    // The same identity from the disk.
    let dir = tempfile::tempdir().unwrap();
    joined.identity.save_new(dir.path()).unwrap();
    let loaded = StationIdentity::load(dir.path()).unwrap();
    primary.dial(&loaded).await;

    let renewed = primary.renew(&loaded).await.unwrap();
    assert_ne!(renewed.peer().serial, loaded.peer().serial);
    assert_eq!(renewed.name(), loaded.name());
    primary.dial(&renewed).await;
}

#[test]
fn both_halves_mean_the_same_protocols() {
    assert_eq!((LINK_ALPN, JOIN_ALPN), (tls::LINK_ALPN, tls::JOIN_ALPN));
    assert_eq!(CONTROL_ALPN, tls::CONTROL_ALPN);
}

/// The answer does not tell whoever tries tokens how near they came.
#[tokio::test]
async fn every_bad_token_gets_the_same_answer() {
    let primary = Primary::start().await;
    let used = primary.token(60);
    primary.join(&used, "one").await.unwrap();
    let expired = primary.token(0);
    let mut flipped = primary.token(60);
    flipped.secret[31] ^= 1;
    let bound = primary.cluster.desk.tokens();
    let bound = bound.create_for(now(), Role::Replica, 60, &name("basement")).unwrap();
    for token in [used, expired, flipped, bound] {
        let refused = primary.join(&token, "two").await;
        assert!(matches!(refused, Err(Failed::Answered(JoinError::Refused))), "{refused:?}");
    }
    assert_eq!(primary.cluster.desk.members().unwrap().len(), 1);
}

#[tokio::test]
async fn a_good_token_with_a_name_that_is_taken_says_so_and_stays_good() {
    let primary = Primary::start().await;
    primary.join(&primary.token(60), "attic").await.unwrap();
    let token = primary.token(60);
    let refused = primary.join(&token, "attic").await;
    assert!(matches!(refused, Err(Failed::Answered(JoinError::NameTaken))), "{refused:?}");
    primary.join(&token, "basement").await.unwrap();
}

/// A man in the middle has his own CA, so the station hangs up before it has said a word.
#[tokio::test]
async fn another_cluster_never_sees_the_secret() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let token = ours.desk.tokens().create(now(), Role::Replica, 60).unwrap();
    let (mut fake, address) =
        listen(theirs.station("shop", Role::Primary), LinkOptions::default()).await;
    let refused = join(&address, &token, "attic").await;
    assert!(
        matches!(refused, Err(Failed::Asking(AskError::Link(LinkError::Handshake(_))))),
        "{refused:?}"
    );
    let nobody = tokio::time::timeout(Duration::from_millis(200), fake.accept()).await;
    assert!(nobody.is_err(), "the man in the middle got a question");
}

#[tokio::test]
async fn a_replica_lets_nobody_in() {
    let cluster = Cluster::new();
    let (_replica, address) =
        listen(cluster.station("attic", Role::Replica), LinkOptions::default()).await;
    let token = cluster.desk.tokens().create(now(), Role::Replica, 60).unwrap();
    let refused = join(&address, &token, "two").await;
    assert!(
        matches!(refused, Err(Failed::Asking(AskError::Link(LinkError::Handshake(_))))),
        "{refused:?}"
    );

    // A primary that is not able to, just now, says that.
    let (mut listener, address) = cluster.shop(LinkOptions::default()).await;
    let joining = join(&address, &token, "two");
    let refusing = async {
        let Accepted::Join(pending) = listener.accept().await else { panic!("a link") };
        pending.answer(&JoinDesk::closed()).await.unwrap();
    };
    let (refused, ()) = soon(async { tokio::join!(joining, refusing) }).await;
    assert!(matches!(refused, Err(Failed::Answered(JoinError::Unavailable))), "{refused:?}");
}

#[tokio::test]
async fn whoever_guesses_is_not_listened_to_for_a_while() {
    let primary = Primary::start().await;
    let good = primary.token(60);
    for guess in 0..5 {
        let mut token = good.clone();
        token.secret = [guess; 32];
        assert!(matches!(
            primary.join(&token, "one").await,
            Err(Failed::Answered(JoinError::Refused))
        ));
    }
    assert!(matches!(primary.join(&good, "one").await, Err(Failed::Answered(JoinError::Refused))));
    let tokens = primary.cluster.desk.tokens().list().unwrap();
    assert!(tokens.iter().all(|token| token.used.is_none()), "it was looked at");
}

#[tokio::test]
async fn a_renewal_needs_a_certificate_and_a_place_among_the_members() {
    let primary = Primary::start().await;
    let joined = primary.join(&primary.token(60), "attic").await.unwrap();
    // Signed by the CA, and yet on no record: as after a restore of an old database.
    let stranger =
        StationIdentity::create(primary.cluster.desk.ca(), now(), &name("stranger"), Role::Replica)
            .unwrap();
    let refused = primary.renew(&stranger).await;
    assert!(matches!(refused, Err(Failed::Answered(JoinError::Refused))), "{refused:?}");

    primary.cluster.desk.remove(now(), joined.name()).unwrap();
    let refused = primary.renew(&joined).await;
    assert!(refused.is_err(), "{refused:?}");
}

/// The question is cut short, too long, or is no question: the next station is served all the same.
#[tokio::test]
async fn questions_that_are_none_let_nobody_in() {
    let primary = Primary::start().await;
    let token = primary.token(60);
    let request = PendingIdentity::generate().unwrap().request().unwrap();
    let connector = TlsConnector::from(tls::join_client(token.ca, &clock()).unwrap());
    let cases = [
        (vec![], false),
        (u32::MAX.to_le_bytes().to_vec(), false),
        (0_u32.to_le_bytes().to_vec(), false),
        ([&8193_u32.to_le_bytes()[..], &[0; 8193]].concat(), false),
        ([&100_u32.to_le_bytes()[..], &request[..50]].concat(), false),
        // Whole and senseless: refused like any other.
        ([&100_u32.to_le_bytes()[..], &[9; 100]].concat(), true),
    ];
    for (bytes, is_answered) in cases {
        let stream = TcpStream::connect(&primary.address).await.unwrap();
        let server = ServerName::try_from("station.keepshare").unwrap();
        let mut stream = soon(connector.connect(server, stream)).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
        let refused: &[u8] = if is_answered { &[1, 0, 0, 0, 1] } else { &[] };
        assert_eq!(answer, refused, "to {bytes:?}");
    }
    primary.join(&token, "attic").await.unwrap();
    let (secret, name, address) = (token.secret, name("two"), own_address());
    let again = Application { secret, name, address, request };
    let again = primary.cluster.desk.admit(now(), &again);
    assert!(matches!(again, Err(EnrolError::Token(TokenRefusal::Used { .. }))));
}
