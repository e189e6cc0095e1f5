//! A cluster on the loopback device.

use std::{future::Future, sync::Arc, time::Duration};

use keepshare_base::{RequestId, Role, Stamp, StationName};
use keepshare_identity::{
    ClusterCa, Enrolment, Peer, Revocations, StationIdentity, tls::StationTls,
};
use keepshare_proto::{Frame, Message};
use keepshare_replication::link::{Accepted, Credentials, Link, LinkOptions, Listener, dial};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use rustls::{
    ClientConfig, ServerConfig, pki_types::CertificateDer, time_provider::DefaultTimeProvider,
};
use tokio::net::TcpListener;

/// Far more than anything here takes; reached only when a promise is broken.
const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for what has to happen.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("nothing happened before the deadline")
}

pub(crate) fn now() -> Stamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Stamp(i64::try_from(since.as_micros()).unwrap())
}

pub(crate) fn name(text: &str) -> StationName {
    text.parse().unwrap()
}

/// A station's identity as links want it.
#[derive(Debug)]
struct Identity(StationTls);

impl Credentials for Identity {
    fn server(&self, offered: &[&[u8]]) -> Option<Arc<ServerConfig>> {
        self.0.server(offered.iter().copied())
    }

    fn link_client(&self, expected: &StationName) -> Result<Arc<ClientConfig>, rustls::Error> {
        self.0.link_client(expected)
    }

    fn station(&self, certificate: &CertificateDer<'_>) -> Option<StationName> {
        Peer::of(certificate).ok().map(|peer| peer.name)
    }

    fn still_counts(&self, certificate: &CertificateDer<'_>) -> bool {
        self.0.still_counts(certificate)
    }
}

pub(crate) struct Cluster {
    pub(crate) desk: Arc<Enrolment>,
    _dir: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ca = ClusterCa::create(dir.path(), now()).unwrap();
        let db = redb::Database::create(dir.path().join("auth.redb")).unwrap();
        let desk = Arc::new(Enrolment::open(ca, Arc::new(db)).unwrap());
        Self { desk, _dir: dir }
    }

    pub(crate) fn revocations(&self) -> Revocations {
        self.desk.revocations().clone()
    }

    pub(crate) fn station(&self, station: &str, role: Role) -> Arc<dyn Credentials> {
        let identity = StationIdentity::create(self.desk.ca(), now(), &name(station), role);
        self.credentials(&identity.unwrap())
    }

    pub(crate) fn credentials(&self, identity: &StationIdentity) -> Arc<dyn Credentials> {
        Arc::new(Identity(self.tls(identity)))
    }

    pub(crate) fn tls(&self, identity: &StationIdentity) -> StationTls {
        StationTls::new(identity, self.revocations(), Arc::new(DefaultTimeProvider)).unwrap()
    }

    /// The primary, called `shop`, listening.
    pub(crate) async fn shop(&self, options: LinkOptions) -> (Listener, String) {
        listen(self.station("shop", Role::Primary), options).await
    }

    /// A link from `attic` to `shop`, and the listener that keeps it.
    pub(crate) async fn pair(&self, options: LinkOptions) -> (Link, Link, Listener) {
        let (mut listener, address) = self.shop(options).await;
        let attic = self.station("attic", Role::Replica);
        let shop = name("shop");
        let dialled = dial(&address, &shop, &attic, options);
        let (dialled, accepted) = soon(async { tokio::join!(dialled, listener.accept()) }).await;
        let Accepted::Link(accepted) = accepted else { panic!("{accepted:?}") };
        (dialled.unwrap(), accepted, listener)
    }
}

pub(crate) async fn listen(
    credentials: Arc<dyn Credentials>,
    options: LinkOptions,
) -> (Listener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = Listener::start(socket, credentials, options).unwrap();
    let address = listener.local_addr().to_string();
    (listener, address)
}

/// The seed of a random test: from `KEEPSHARE_SEED`, or a new one. It is printed either way.
pub(crate) fn seeded() -> StdRng {
    let seed = std::env::var("KEEPSHARE_SEED")
        .ok()
        .map_or_else(rand::random, |text| text.parse().expect("KEEPSHARE_SEED is a number"));
    eprintln!("KEEPSHARE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// A frame with content that nothing compresses, recognisable by its number.
pub(crate) fn noise(number: u64, len: usize, random: &mut StdRng) -> Frame {
    let mut payload = vec![0; len];
    random.fill_bytes(&mut payload);
    numbered(number, payload)
}

pub(crate) fn numbered(number: u64, payload: Vec<u8>) -> Frame {
    Frame { message: Message::RestoreData { request: RequestId([7; 32]), offset: number }, payload }
}

/// A length from nothing to the most there may be, short ones more often.
pub(crate) fn some_len(random: &mut StdRng) -> usize {
    let most = (640 * 1024) >> random.random_range(0..18_u32);
    random.random_range(0..=most)
}
