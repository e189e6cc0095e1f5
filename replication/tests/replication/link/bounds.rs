//! What strangers and hostile members can make a station spend: little.
//!
//! In a process of its own, because it looks at the memory of all of it.

use std::{sync::Arc, time::Duration};

use keepshare_base::Role;
use keepshare_replication::link::{Accepted, LinkOptions, dial};
use keepshare_support::in_own_process;
use rustix::process::{Resource, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::sleep};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::support::{Cluster, name, soon};

const MIB: usize = 1 << 20;

/// Connections that never show who they are.
const STRANGERS: usize = 1000;

/// Members that send what is not allowed.
const HOSTILE: usize = 24;

#[test]
fn strangers_and_hostile_members_neither_stop_a_good_one_nor_take_the_memory() {
    let test =
        "link::bounds::strangers_and_hostile_members_neither_stop_a_good_one_nor_take_the_memory";
    in_own_process(test, press_in);
}

#[tokio::main(flavor = "current_thread")]
async fn press_in() {
    allow_many_files();
    let cluster = Cluster::new();
    let (mut listener, address) = cluster.shop(LinkOptions::default()).await;
    let attic = cluster.station("attic", Role::Replica);
    let (driver, mut links) = tokio::sync::mpsc::unbounded_channel();
    let accepting = tokio::spawn(async move {
        loop {
            if let Accepted::Link(link) = listener.accept().await {
                let _ = driver.send(link);
            }
        }
    });
    let shop = name("shop");
    let good = soon(dial(&address, &shop, &attic, LinkOptions::default())).await.unwrap();
    let before = resident_bytes();

    // Some say nothing, some begin a record that announces much, some stop in the middle of a hello.
    let mut strangers = Vec::new();
    for number in 0..STRANGERS {
        let mut stream = soon(TcpStream::connect(&address)).await.unwrap();
        let begun: &[u8] = match number % 4 {
            0 => b"",
            1 => b"\x16\x03\x01\xff\xff",
            2 => b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03",
            _ => b"GET / HTTP/1.1\r\n\r\n",
        };
        let _ = stream.write_all(begun).await;
        strangers.push(stream);
        if number % 100 == 0 {
            let again = soon(dial(&address, &shop, &attic, LinkOptions::default())).await;
            again.expect("a member is kept out by strangers");
        }
    }
    let again = soon(dial(&address, &shop, &attic, LinkOptions::default())).await;
    again.expect("a member is kept out by strangers");
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "{} MiB for strangers", grown / MIB);

    // Members: blocks that announce too much, blocks that unpack to the most there may be and make no frame, and blocks
    // that stay one byte short of their end.
    let too_long = block(1, u32::MAX, u32::MAX, &[0; 64]);
    let nothing = zstd::bulk::compress(&vec![0; MIB], 19).unwrap();
    let bomb = block(2, 1 << 20, u32::try_from(nothing.len()).unwrap(), &nothing);
    let unfinished = block(1, 1 << 20, 1 << 20, &vec![7; MIB - 1]);
    let mut hostile = Vec::new();
    for _ in 0..HOSTILE {
        for bytes in [&too_long, &bomb, &unfinished] {
            let mut stream = soon(member(&cluster, &address)).await;
            let _ = stream.write_all(bytes).await;
            let _ = stream.flush().await;
            hostile.push(stream);
        }
    }
    let mut receiving = Vec::new();
    while let Ok(mut link) = links.try_recv() {
        receiving.push(tokio::spawn(async move { link.receiver.recv().await }));
    }
    soon(async {
        // All but the unfinished and the good ones have ended.
        while receiving.iter().filter(|task| task.is_finished()).count() < 2 * HOSTILE {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 128 * MIB, "{} MiB for hostile members", grown / MIB);
    eprintln!("grown by {} KiB", grown / 1024);
    drop((good, strangers, hostile));
    accepting.abort();
}

fn block(kind: u8, raw: u32, stored: u32, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], &raw.to_le_bytes(), &stored.to_le_bytes(), bytes].concat()
}

async fn member(cluster: &Cluster, address: &str) -> TlsStream<TcpStream> {
    let config = cluster.station("attic", Role::Replica).link_client(&name("shop")).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    TlsConnector::from(Arc::clone(&config)).connect(server_name(), stream).await.unwrap()
}

fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: usize = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib * 1024
}

fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn server_name() -> ServerName<'static> {
    ServerName::try_from("station.keepshare").unwrap()
}
