//! What a link does with those who do not mean well.

use std::{sync::Arc, time::Duration};

use keepshare_base::Role;
use keepshare_proto::Message;
use keepshare_replication::link::{Accepted, Link, LinkError, LinkOptions, dial};
use rand::{Rng, RngCore};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{
    relay::{Damage, relay},
    support::{Cluster, listen, name, noise, numbered, seeded, some_len, soon},
};

/// Rounds of the relay test; each is one connection.
const ROUNDS: usize = 60;

/// Whatever is done to the bytes on their way: right frames and then an error, or right frames to the end.
#[tokio::test]
async fn a_relay_that_damages_the_stream_ends_the_link_and_changes_nothing() {
    let cluster = Cluster::new();
    // What is missing at the end is noticed by the silence after it.
    let options = LinkOptions { idle_timeout: Duration::from_secs(3), ..LinkOptions::default() };
    let (mut listener, _) = cluster.shop(options).await;
    let attic = cluster.station("attic", Role::Replica);
    let mut random = seeded();
    let mut ended = 0;
    for round in 0..ROUNDS {
        let damage = Damage::ALL[round % Damage::ALL.len()];
        let (upstream, after) = (random.random(), random.random_range(0..400_000));
        let address = relay(listener.local_addr(), damage, after, upstream, random.random()).await;
        let frames: Vec<_> = (0..30)
            .map(|n| match n % 2 {
                0 => noise(n, some_len(&mut random) / 8, &mut random),
                _ => numbered(n, vec![3; some_len(&mut random)]),
            })
            .collect();
        let shop = name("shop");
        let dialled = dial(&address, &shop, &attic, options);
        // A handshake that was damaged gives no link at all.
        let both = async {
            let dialling = async { dialled.await.ok() };
            let Some(mut a) = dialling.await else { return 0 };
            let Accepted::Link(mut b) = listener.accept().await else { panic!("a join") };
            let (from, into) =
                if upstream { (&a.sender, &mut b.receiver) } else { (&b.sender, &mut a.receiver) };
            let sending = async {
                for frame in &frames {
                    if from.send(frame.clone()).await.is_err() {
                        break;
                    }
                }
            };
            let receiving = async {
                let mut received = 0;
                while received < frames.len() {
                    match into.recv().await {
                        Ok(frame) => {
                            assert_eq!(frame, frames[received], "round {round}, {damage:?}");
                        }
                        Err(_) => break,
                    }
                    received += 1;
                }
                received
            };
            tokio::join!(sending, receiving).1
        };
        let received = soon(both).await;
        match damage {
            Damage::None => assert_eq!(received, frames.len(), "round {round}"),
            _ => ended += usize::from(received < frames.len()),
        }
    }
    assert!(ended > 0, "no damage ever met the stream");
}

#[tokio::test]
async fn stations_of_another_cluster_get_no_link_either_way() {
    let (ours, theirs) = (Cluster::new(), Cluster::new());
    let (mut listener, address) = ours.shop(LinkOptions::default()).await;
    let stranger = theirs.station("attic", Role::Replica);
    let refused = soon(dial(&address, &name("shop"), &stranger, LinkOptions::default())).await;
    assert!(matches!(refused, Err(LinkError::Handshake(_))), "{refused:?}");

    let (mut fake, fake_address) =
        listen(theirs.station("shop", Role::Primary), LinkOptions::default()).await;
    let attic = ours.station("attic", Role::Replica);
    let refused = soon(dial(&fake_address, &name("shop"), &attic, LinkOptions::default())).await;
    assert!(matches!(refused, Err(LinkError::Handshake(_))), "{refused:?}");

    let refused = soon(dial(&address, &name("basement"), &attic, LinkOptions::default())).await;
    assert!(matches!(refused, Err(LinkError::Handshake(_))), "{refused:?}");

    // The driver of neither has heard of any of this.
    let shop = name("shop");
    let good = dial(&address, &shop, &attic, LinkOptions::default());
    let (good, accepted) = soon(async { tokio::join!(good, listener.accept()) }).await;
    assert!(matches!(accepted, Accepted::Link(Link { peer, .. }) if peer == name("attic")));
    good.unwrap();
    let nobody = tokio::time::timeout(Duration::ZERO, fake.accept()).await;
    assert!(nobody.is_err());
}

/// A member in the middle of a link, who can say what he likes.
async fn member(cluster: &Cluster, address: &str) -> TlsStream<TcpStream> {
    let config = cluster.station("attic", Role::Replica).link_client(&name("shop")).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::clone(&config));
    let mut stream = connector.connect(server_name(), stream).await.unwrap();
    let mut ready = [1; 9];
    stream.read_exact(&mut ready).await.unwrap();
    assert_eq!(ready, [0; 9]);
    stream
}

fn block(kind: u8, raw: u32, stored: u32, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &raw.to_le_bytes(), &stored.to_le_bytes(), bytes].concat()
}

fn raw_block(frames: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frames.len()).unwrap();
    block(1, len, len, frames)
}

#[tokio::test]
async fn malformed_blocks_and_frames_end_the_link_with_an_error() {
    let cluster = Cluster::new();
    let (mut listener, address) = cluster.shop(LinkOptions::default()).await;
    let ping = keepshare_proto::codec::encode(&Message::Ping, &[]).unwrap();
    let mut torn = ping.clone();
    torn.truncate(ping.len() - 1);
    let lengths = |frame: u32, header: u32| [frame.to_le_bytes(), header.to_le_bytes()].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a block of no length", block(1, 0, 0, &[])),
        ("a block of another kind", block(9, 1, 1, b"x")),
        ("a second ready", vec![0; 9]),
        ("a block of 4 GiB", block(1, u32::MAX, u32::MAX, &[1; 1000])),
        ("a block over the limit", block(1, (1 << 20) + 9, (1 << 20) + 9, &[1; 1000])),
        ("a bomb", block(2, 1 << 30, 100, &[1; 100])),
        ("no zstd", block(2, 1000, 10, &[1; 10])),
        ("a torn frame", raw_block(&torn)),
        ("half a length", raw_block(&[1, 0, 0])),
        ("a frame of 4 GiB", raw_block(&lengths(u32::MAX, 1))),
        ("a header longer than its frame", raw_block(&[lengths(1, 2), vec![2, 2]].concat())),
        ("no header", raw_block(&lengths(0, 0))),
        ("a message of another time", raw_block(&[lengths(1, 1), vec![200]].concat())),
        ("a payload on a ping", raw_block(&[lengths(5, 1), vec![2; 5]].concat())),
        ("bytes behind a message", raw_block(&[lengths(2, 2), vec![2, 2]].concat())),
    ];
    for (what, bytes) in cases {
        let mut hostile = soon(member(&cluster, &address)).await;
        let Accepted::Link(mut link) = soon(listener.accept()).await else { panic!("a join") };
        // Right before wrong: the right one still arrives.
        hostile.write_all(&raw_block(&ping)).await.unwrap();
        hostile.write_all(&bytes).await.unwrap();
        hostile.flush().await.unwrap();
        assert_eq!(soon(link.receiver.recv()).await.unwrap(), Message::Ping.into(), "{what}");
        let error = soon(link.receiver.recv()).await.unwrap_err();
        let told = matches!(error, LinkError::Block(_) | LinkError::Decode(_) | LinkError::Torn);
        assert!(told, "{what}: {error:?}");
        // And the connection is closed, though the driver still holds the link.
        let mut rest = Vec::new();
        let _ = soon(hostile.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{what}");
    }
}

/// A thousand kinds of nonsense from a member: never a panic, never a frame that was not sent.
#[tokio::test]
async fn random_bytes_never_become_frames() {
    let cluster = Cluster::new();
    let (mut listener, address) = cluster.shop(LinkOptions::default()).await;
    let mut random = seeded();
    for _ in 0..100 {
        let mut hostile = soon(member(&cluster, &address)).await;
        let Accepted::Link(mut link) = soon(listener.accept()).await else { panic!("a join") };
        let mut bytes = vec![0; random.random_range(9..2000)];
        random.fill_bytes(&mut bytes);
        // Mostly plausible lengths, so that more than the header is looked at.
        if random.random_bool(0.8) {
            bytes = raw_block(&bytes);
            if random.random_bool(0.8) {
                bytes[9..17].copy_from_slice(&[[5, 0, 0, 0], [1, 0, 0, 0]].concat()[..]);
            }
        }
        hostile.write_all(&bytes).await.unwrap();
        hostile.shutdown().await.unwrap();
        let received = soon(link.receiver.recv()).await;
        // Five bytes of frame, one of them header: only a message without fields could fit, and none has a payload.
        assert!(received.is_err(), "{received:?}");
    }
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_block_is_not_an_end() {
    let cluster = Cluster::new();
    let (mut listener, address) = cluster.shop(LinkOptions::default()).await;
    for keep in [1, 8, 9, 12] {
        let mut hostile = soon(member(&cluster, &address)).await;
        let Accepted::Link(mut link) = soon(listener.accept()).await else { panic!("a join") };
        hostile.write_all(&raw_block(&[1; 100])[..keep]).await.unwrap();
        hostile.shutdown().await.unwrap();
        let error = soon(link.receiver.recv()).await.unwrap_err();
        assert!(matches!(error, LinkError::Cut), "{error:?}");
    }
    // Nor is one that TLS was not told of.
    let hostile = soon(member(&cluster, &address)).await;
    let Accepted::Link(mut link) = soon(listener.accept()).await else { panic!("a join") };
    drop(hostile.into_inner().0);
    let error = soon(link.receiver.recv()).await.unwrap_err();
    assert!(matches!(error, LinkError::Io(_)), "{error:?}");
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("station.keepshare").unwrap()
}
