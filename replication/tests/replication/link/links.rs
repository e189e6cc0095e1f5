//! What a link between two members promises.

use std::time::Duration;

use keepshare_identity::Peer;
use keepshare_proto::{Frame, Message};
use keepshare_replication::link::{LinkError, LinkOptions};
use rand::Rng;
use tokio::time::{Instant, timeout};

use super::support::{Cluster, noise, numbered, seeded, some_len, soon};

#[tokio::test]
async fn frames_arrive_whole_and_in_order_both_ways() {
    let (mut a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    assert_eq!((a.peer.as_str(), b.peer.as_str()), ("shop", "attic"));
    let mut random = seeded();
    let frames: Vec<Frame> = (0..300)
        .map(|number| match number % 3 {
            0 => Message::Ping.into(),
            1 => noise(number, some_len(&mut random), &mut random),
            _ => numbered(number, vec![0; some_len(&mut random)]),
        })
        .collect();
    let send = async |sender: &keepshare_replication::link::LinkSender| {
        for frame in &frames {
            sender.send(frame.clone()).await.unwrap();
        }
    };
    soon(async {
        tokio::join!(send(&a.sender), send(&b.sender), async {
            for frame in &frames {
                assert_eq!(a.receiver.recv().await.unwrap(), *frame);
                assert_eq!(b.receiver.recv().await.unwrap(), *frame);
            }
        })
    })
    .await;
    let (sent, received) = (a.sender.control().counts(), b.receiver.control().counts());
    assert_eq!(sent.sent_bytes, received.received_bytes);
    assert_eq!(sent.sent_raw_bytes, received.received_raw_bytes);
    assert_eq!(sent.queued_bytes, 0);
}

/// Ten thousand acknowledgements must not cost ten thousand packets.
#[tokio::test]
async fn many_small_frames_share_few_blocks() {
    let (a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    for _ in 0..10_000 {
        a.sender.send(Message::Ping.into()).await.unwrap();
    }
    for _ in 0..10_000 {
        assert_eq!(soon(b.receiver.recv()).await.unwrap(), Message::Ping.into());
    }
    let counts = b.receiver.control().counts();
    assert_eq!(counts.received_raw_bytes, 250_000);
    assert!(counts.received_bytes < 9_000, "{counts:?}");
}

#[tokio::test]
async fn content_is_compressed_where_it_pays_and_only_there() {
    let (a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    let control = b.receiver.control();
    a.sender.send(numbered(0, vec![7; 600_000])).await.unwrap();
    soon(b.receiver.recv()).await.unwrap();
    let first = control.counts().received_bytes;
    assert!(first < 1_000, "{first} bytes for nothing but sevens");
    a.sender.send(noise(1, 600_000, &mut seeded())).await.unwrap();
    soon(b.receiver.recv()).await.unwrap();
    let second = control.counts().received_bytes - first;
    assert!((600_000..600_100).contains(&second), "{second} bytes for noise");
}

/// Drivers await it in `select!`, so it is dropped all the time.
#[tokio::test]
async fn a_receive_that_is_dropped_loses_nothing() {
    let (a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    let mut random = seeded();
    let frames: Vec<_> =
        (0..200).map(|n| noise(n, random.random_range(0..60_000), &mut random)).collect();
    let sending = async {
        for frame in &frames {
            a.sender.send(frame.clone()).await.unwrap();
            tokio::task::yield_now().await;
        }
    };
    let mut dropped = 0;
    let receiving = async {
        for frame in &frames {
            loop {
                // Polled once, then dropped.
                tokio::select! {
                    biased;
                    received = b.receiver.recv() => {
                        assert_eq!(received.unwrap(), *frame);
                        break;
                    }
                    () = std::future::ready(()) => dropped += 1,
                }
                tokio::task::yield_now().await;
            }
        }
    };
    soon(async { tokio::join!(sending, receiving) }).await;
    assert!(dropped > 0, "no receive was ever dropped");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_fills_its_own_queue_only() {
    let cluster = Cluster::new();
    let options = LinkOptions { idle_timeout: Duration::from_secs(2), ..LinkOptions::default() };
    let (stuck, silent, _listener) = cluster.pair(options).await;
    let (good, mut other, _other_listener) = cluster.pair(options).await;
    let mut random = seeded();
    let frame = noise(0, 600_000, &mut random);
    let mut queued = 0_u64;
    // The sockets hold some; after that it is the queue, and then no more.
    loop {
        if !stuck.sender.try_send(&frame).unwrap() {
            let full = timeout(Duration::from_millis(200), stuck.sender.send(frame.clone()));
            if full.await.is_err() {
                break;
            }
        }
        queued += 600_000;
        assert!(queued < 64 << 20, "a queue without end");
    }
    let waiting = stuck.sender.control().counts().queued_bytes;
    assert!(waiting <= stuck.sender.queue_bytes_max() as u64, "{waiting}");

    for number in 0..50 {
        let frame = noise(number, 50_000, &mut random);
        good.sender.send(frame.clone()).await.unwrap();
        assert_eq!(soon(other.receiver.recv()).await.unwrap(), frame);
    }
    // It is not waited for without end either.
    let mut stuck_receiver = stuck.receiver;
    let ended = soon(stuck_receiver.recv()).await.unwrap_err();
    assert!(matches!(ended, LinkError::Stuck(_) | LinkError::Idle(_)), "{ended:?}");
    let refused = soon(async {
        loop {
            if let Err(error) = stuck.sender.send(frame.clone()).await {
                break error;
            }
        }
    });
    assert!(matches!(refused.await, LinkError::Closed));
    drop(silent);
}

#[tokio::test]
async fn a_bandwidth_limit_is_kept() {
    let (a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    a.sender.control().set_bandwidth(1_000_000);
    let started = Instant::now();
    for number in 0..10 {
        a.sender.send(noise(number, 60_000, &mut seeded())).await.unwrap();
    }
    for _ in 0..10 {
        soon(b.receiver.recv()).await.unwrap();
    }
    // 600 kB at 1 MB/s, less what may go at once.
    assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
}

/// Over a slow line a frame takes longer than any patience with silence: what moves of it is to be seen at both ends.
#[tokio::test]
async fn a_frame_on_its_way_is_heard_before_it_is_whole() {
    let (a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    let (sending, hearing) = (a.sender.control(), b.receiver.control());
    sending.set_bandwidth(400_000);
    let (left, heard) = (sending.left_at(), hearing.heard_at());
    let frame = noise(0, 600_000, &mut seeded());
    a.sender.send(frame.clone()).await.unwrap();
    let mut came = Box::pin(b.receiver.recv());
    soon(async {
        while hearing.heard_at() == heard {
            let early = timeout(Duration::from_millis(1), &mut came).await;
            assert!(early.is_err(), "it was whole before anything of it was heard");
        }
    })
    .await;
    assert!(sending.left_at() > left && sending.counts().queued_bytes > 0);
    assert_eq!(soon(came).await.unwrap(), frame);
}

#[tokio::test]
async fn a_link_that_falls_silent_ends() {
    let options =
        LinkOptions { idle_timeout: Duration::from_millis(300), ..LinkOptions::default() };
    let (mut a, _b, _listener) = Cluster::new().pair(options).await;
    let ended = soon(a.receiver.recv()).await.unwrap_err();
    assert!(matches!(ended, LinkError::Idle(_)), "{ended:?}");
    assert!(matches!(soon(a.receiver.recv()).await, Err(LinkError::Closed)));
}

/// A refusal is the last thing that is said, and it has to arrive.
#[tokio::test]
async fn what_is_queued_still_arrives_when_a_link_is_finished() {
    let (a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    let mut random = seeded();
    let frames: Vec<_> = (0..20).map(|n| noise(n, 100_000, &mut random)).collect();
    let sending = async {
        for frame in &frames {
            a.sender.send(frame.clone()).await.unwrap();
        }
        a.sender.finish().await;
    };
    let receiving = async {
        for frame in &frames {
            assert_eq!(b.receiver.recv().await.unwrap(), *frame);
        }
        assert!(matches!(b.receiver.recv().await, Err(LinkError::Ended)));
    };
    soon(async { tokio::join!(sending, receiving) }).await;
}

#[tokio::test]
async fn a_link_can_be_ended_from_outside() {
    let (mut a, mut b, _listener) = Cluster::new().pair(LinkOptions::default()).await;
    let control = a.receiver.control();
    let ended = tokio::spawn(async move { (a.receiver.recv().await, a.sender) });
    control.close();
    let (received, sender) = soon(ended).await.unwrap();
    assert!(matches!(received, Err(LinkError::Closed)));
    soon(async { while sender.send(Message::Ping.into()).await.is_ok() {} }).await;
    assert!(soon(b.receiver.recv()).await.is_err());
}

/// A stolen station is put out of what it is in already, not only out of what it begins.
#[tokio::test]
async fn a_revoked_certificate_ends_the_links_that_are_up() {
    let cluster = Cluster::new();
    let (_a, mut b, _listener) = cluster.pair(LinkOptions::default()).await;
    cluster.revocations().revoke([Peer::of(&b.certificate).unwrap().serial]);
    let ended = timeout(Duration::from_secs(5), b.receiver.recv()).await;
    assert!(matches!(ended, Ok(Err(LinkError::Revoked(_)))), "{ended:?}");
}
