//! Many clients, slow ones and idle ones: none may cost the others anything.

use std::{
    io::Write,
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use keepshare_base::FileId;
use keepshare_nfs::Limits;
use keepshare_nfs_wire::nfs3::{Call, ReadArgs, Status};

use crate::rig::{
    client::{Client, handle_of},
    station::{ANNA_AT_HOME, Station, now},
};

fn limited(limits: Limits) -> Station {
    Station::with(limits)
}

/// Waits until something holds, or fails.
fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The answers that one client does not read wait for it alone.
#[test]
fn a_client_that_reads_nothing_stops_only_itself() {
    let unread_answers = Duration::from_millis(300);
    let station = limited(Limits { unread_answers, ..Limits::default() });
    station.tree().file(FileId::ROOT, "big", &vec![7; 1 << 20]);
    let (mut slow, root) = Client::mounted(&station);
    let (mut good, good_root) = Client::mounted(&station);
    let big = slow.lookup(&root, "big").unwrap();
    slow.stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let args = ReadArgs { file: handle_of(&big), offset: 0, count: 1 << 20 };
    // Gigabytes of answers, and at some point it cannot even ask for more.
    for _ in 0..5000 {
        let record = slow.nfs_record(Call::Read(args));
        if slow.stream.write_all(&record).is_err() {
            break;
        }
        good.attributes(&good_root).unwrap();
    }
    wait_until("the one that does not read is sent away", || station.server.clients().len() == 1);
    good.attributes(&good_root).unwrap();
}

/// A client on a slow line is no hostile one: it gets all of it, as long as it takes some now and then.
#[test]
fn answers_arrive_whole_at_a_client_that_reads_late() {
    let station = Station::new();
    let content: Vec<u8> = (0..1_u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
    station.tree().file(FileId::ROOT, "big", &content);
    let (mut client, root) = Client::mounted(&station);
    let big = client.lookup(&root, "big").unwrap();
    let args = ReadArgs { file: handle_of(&big), offset: 0, count: 1 << 20 };
    let mut records = vec![];
    for _ in 0..40 {
        records.extend(client.nfs_record(Call::Read(args)));
    }
    client.stream.write_all(&records).unwrap();
    let last = client.last_xid();
    for xid in last - 39..=last {
        let answer = client.answer(xid).unwrap().unwrap();
        assert!(answer.ends_with(&content));
    }
}

#[test]
fn strangers_of_one_address_make_room_for_each_other() {
    let limits = Limits { strangers_per_address: 3, ..Limits::default() };
    let station = limited(limits);
    let (mut known, root) = Client::mounted(&station);
    known.attributes(&root).unwrap();
    let mut first = Client::connect(&station);
    first.null().unwrap();
    let mut others: Vec<_> = (0..2).map(|_| Client::connect(&station)).collect();
    others.iter_mut().for_each(|other| other.null().unwrap());
    let mut last = Client::connect(&station);
    last.null().unwrap();
    first.wait_for_close();
    others.iter_mut().for_each(|other| other.null().unwrap());
    known.attributes(&root).unwrap();
    // Other addresses have room of their own.
    let mut elsewhere = Client::connect_from(&station, Ipv4Addr::new(127, 0, 0, 2));
    elsewhere.null().unwrap();
    others.iter_mut().for_each(|other| other.null().unwrap());
}

#[test]
fn connections_of_one_address_have_a_limit() {
    let station = limited(Limits { connections_per_address: 3, ..Limits::default() });
    let (first, root) = Client::mounted(&station);
    let mut all = vec![first];
    all.extend((0..2).map(|_| Client::connect(&station)));
    for client in &mut all {
        client.attributes(&root).unwrap();
    }
    // The next one gets in, and the one that was silent longest makes room.
    let mut next = Client::connect(&station);
    next.attributes(&root).unwrap();
    all.remove(0).wait_for_close();
    all.push(next);
    for client in &mut all {
        client.attributes(&root).unwrap();
    }
    assert_eq!(station.server.clients().len(), 3);
}

/// A client that opens many connections (`nconnect`) is served on all of them, however silent its neighbours are.
#[test]
fn thirty_connections_that_come_together_are_all_served() {
    let station = Station::new();
    let (_first, root) = Client::mounted(&station);
    let silent: Vec<_> = (0..80).map(|_| Client::connect(&station)).collect();
    let mut together: Vec<_> = (0..30).map(|_| Client::connect(&station)).collect();
    for _ in 0..3 {
        together.iter_mut().for_each(|client| client.null().unwrap());
    }
    together.iter_mut().for_each(|client| assert!(client.attributes(&root).is_ok()));
    drop(silent);
}

/// One user with many addresses must not take the door from all others.
#[test]
fn a_user_with_many_addresses_has_a_share_of_the_connections() {
    let station = limited(Limits { connections_per_user: 6, ..Limits::default() });
    let mut held = Vec::new();
    for n in 1..=4_u8 {
        let there = Ipv4Addr::new(127, 0, 4, n);
        let path = format!("/login/{}", station.ticket(there.into(), Some(ANNA_AT_HOME)));
        let mut client = Client::connect_from(&station, there);
        let root = client.mount(&path).unwrap();
        client.attributes(&root).unwrap();
        held.push(client);
        for _ in 0..3 {
            let mut client = Client::connect_from(&station, there);
            client.attributes(&root).unwrap();
            held.push(client);
        }
    }
    wait_until("her share is what she has", || station.server.clients().len() == 6);
    // The newest is served.
    held.pop().unwrap().null().unwrap();
}

/// What a user held is free for others as soon as the user is gone, and so is one session's.
#[test]
fn the_connections_of_a_revoked_user_end_at_once() {
    let station = Station::new();
    let (mut first, first_root) = Client::mounted(&station);
    first.attributes(&first_root).unwrap();
    let first_session = station.newest_session();
    let (mut second, second_root) = Client::mounted(&station);
    second.attributes(&second_root).unwrap();
    // The kernel of a client has one connection for all that it mounts.
    let mut both = Client::connect(&station);
    both.attributes(&first_root).unwrap();
    both.attributes(&second_root).unwrap();
    let mut stranger = Client::connect(&station);
    stranger.null().unwrap();
    station.accounts.sessions().revoke(first_session, now()).unwrap();
    first.wait_for_close();
    assert_eq!(both.attributes(&first_root), Err(Status::Stale));
    both.attributes(&second_root).unwrap();
    assert_eq!(station.server.clients().len(), 3);
    station.accounts.remove_user(&"anna".parse().unwrap(), now()).unwrap();
    both.wait_for_close();
    second.wait_for_close();
    stranger.null().unwrap();
    assert_eq!(station.server.clients().len(), 1);
    let mut again = Client::connect(&station);
    assert_eq!(again.attributes(&second_root), Err(Status::Stale));
}

/// From however many addresses they come, those who are known stay, and new ones who log in get in.
#[test]
fn a_crowd_of_strangers_keeps_nobody_out() {
    let station = limited(Limits { connections: 8, ..Limits::default() });
    let (mut known, root) = Client::mounted(&station);
    known.attributes(&root).unwrap();
    let crowd: Vec<_> =
        (0..40_u8).map(|n| Client::connect_from(&station, Ipv4Addr::new(127, 0, 1, n))).collect();
    wait_until("there are never more than the limit", || station.server.clients().len() <= 8);
    known.attributes(&root).unwrap();
    let (mut late, late_root) = Client::mounted(&station);
    late.attributes(&late_root).unwrap();
    drop(crowd);
}

/// The longest records that strangers may send, none of them whole: their threads are not kept by anything, so newcomers get
/// in at once.
#[test]
fn a_crowd_with_long_half_records_keeps_nobody_out() {
    let station = limited(Limits { connections: 8, ..Limits::default() });
    let record = [&0x8000_4000_u32.to_be_bytes()[..], &[0; 0x4000 - 4]].concat();
    let began = Instant::now();
    for n in 0..60_u8 {
        let mut client = Client::connect_from(&station, Ipv4Addr::new(127, 0, 1, n));
        // Closed already, where another made it go.
        let _ = client.stream.write_all(&record);
        if n % 20 == 19 {
            let (mut late, root) = Client::mounted(&station);
            late.attributes(&root).unwrap();
        }
    }
    // Less than a single one of them would have waited for room.
    assert!(began.elapsed() < Duration::from_secs(25), "newcomers waited for the crowd");
}

#[test]
fn idle_strangers_and_half_records_are_sent_away() {
    let short = Duration::from_millis(200);
    let station = limited(Limits { stranger_idle: short, half_record: short, ..Limits::default() });
    let (mut known, root) = Client::mounted(&station);
    known.attributes(&root).unwrap();
    let mut idle = Client::connect(&station);
    idle.null().unwrap();
    idle.wait_for_close();
    // One that is known may be idle, but half a record it has to finish.
    known.attributes(&root).unwrap();
    let record = known.nfs_record(Call::GetAttributes(handle_of(&root)));
    known.stream.write_all(&record[..record.len() - 1]).unwrap();
    known.wait_for_close();
}

/// A byte now and then must not make a record endless.
#[test]
fn a_record_that_trickles_in_has_to_come_to_an_end() {
    let half_record = Duration::from_millis(300);
    let station = limited(Limits { half_record, ..Limits::default() });
    let mut client = Client::connect(&station);
    let began = Instant::now();
    client.stream.write_all(&[0x80, 0, 0x40, 0]).unwrap();
    while client.stream.write_all(&[0]).is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "still taken");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What was asked before the end is answered, and then everybody is gone.
#[test]
fn a_server_that_stops_answers_what_came_and_ends() {
    let station = Station::new();
    let (mut client, root) = Client::mounted(&station);
    let mut idle = Client::connect(&station);
    idle.null().unwrap();
    client.attributes(&root).unwrap();
    let address = station.server.address();
    station.server.stop();
    client.wait_for_close();
    idle.wait_for_close();
    assert!(std::net::TcpStream::connect(("127.0.0.1", address.port())).is_err());
}
