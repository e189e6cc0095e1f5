use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use keepshare_sets::schedule::Schedules;

use super::*;
use crate::{
    config::{self, Doors, Shown, parse_address},
    founding::make_first,
};

/// Opens a first station of its own.
pub(crate) async fn station(dir: &Path) -> Arc<Station> {
    let state = dir.join("state");
    let config = Config {
        name: "office".parse().unwrap(),
        listen: "127.0.0.1:0".parse().unwrap(),
        address: None,
        socket: config::socket_in(&state),
        state,
        zone: chrono_tz::UTC,
        bandwidth_bytes_per_s: None,
        doors: Doors { nfs: None, https: None, show: Shown::default() },
        schedules: Schedules::default(),
        orders: Arc::default(),
    };
    let address = parse_address("127.0.0.1:7846").unwrap();
    make_first(&config, &dir.join("station.toml"), &address).unwrap();
    Station::open(config).await.unwrap()
}

fn master_of(name: &str, source: &Path) -> SetRecord {
    let part = SetPart::sent(OriginId(1), source.to_owned(), vec!["store".parse().unwrap()]);
    SetRecord::new(name.parse().unwrap(), part)
}

/// Returns the threads of this process that are called so. The system keeps the first fifteen bytes of a name.
fn threads(name: &str) -> usize {
    let name = &name[..name.len().min(15)];
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|known| known.trim_end() == name).count()
}

/// Waits until no thread of this process is called so: one that was told to end, and said that it does, takes a moment.
#[track_caller]
fn wait_for_no_threads(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads(name) > 0 {
        assert!(Instant::now() < deadline, "{name} is left behind");
        std::thread::yield_now();
    }
}

/// A set that could not be opened is opened again: a thread that an earlier try left behind would write to the same journal.
#[tokio::test]
async fn a_set_that_cannot_be_opened_leaves_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let station = station(dir.path()).await;
    let record = master_of("left", &source);
    // Restores cannot be put aside where a file is in the place of their folder.
    let restores = station.state.sets().restores(&record.name);
    fs::create_dir_all(restores.parent().unwrap()).unwrap();
    fs::write(&restores, "in the way").unwrap();
    for _ in 0..2 {
        let failed = station.add_set(record.clone()).expect_err("it cannot be opened");
        assert!(failed.one_line().contains("restores"), "{failed}");
        wait_for_no_threads("source-left");
    }
    fs::remove_file(&restores).unwrap();
    assert!(station.add_set(record).unwrap().source().is_some());
    station.stop();
    station.close().await;
    wait_for_no_threads("source-left");
}

/// As above, of a set that opens well and cannot be remembered.
#[tokio::test]
async fn a_set_that_cannot_be_remembered_leaves_no_task_and_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let station = station(dir.path()).await;
    let in_the_way = station.state.root().join("parts.toml");
    fs::create_dir_all(in_the_way.join("folder")).unwrap();
    let received = SetPart::received(OriginId(1), "store".parse().unwrap());
    let records =
        [master_of("unsaved", &source), SetRecord::new("kept".parse().unwrap(), received)];
    for record in &records {
        assert!(station.add_set(record.clone()).is_err());
        assert!(station.running(&record.name).is_none());
    }
    wait_for_no_threads("source-unsaved");
    wait_for_no_threads("writer:kept");
    assert!(station.tasks.lock().unwrap().is_empty());
    fs::remove_dir_all(&in_the_way).unwrap();
    for record in records {
        station.add_set(record).unwrap();
    }
    station.stop();
    station.close().await;
}

/// The status, logins and every link ask for sets; a set that builds its index anew must not keep them waiting.
#[tokio::test]
async fn sets_can_be_asked_for_while_one_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let station = station(dir.path()).await;
    let record = master_of("full", dir.path());
    let full = || Failure::new(keepshare_control::Code::Failed, "No space left on device");
    {
        let mut sets = station.lock_sets();
        sets.records = vec![record.clone()];
        station.begin(&mut sets, &record, Opened::without_source(full()));
    }
    let are_full = station.reopen_full_sets_with(|opening, _| {
        let is_free = station.sets.try_lock().is_ok();
        assert!(is_free, "who asks for a set waits while {} is opened", opening.name);
        Opened::without_source(full())
    });
    assert!(are_full);
    let another =
        |_: &SetRecord, _: &Running| Opened::without_source(Failure::refused("another reason"));
    assert!(!station.reopen_full_sets_with(another));
    let running = station.running(&record.name).unwrap();
    assert!(running.why_no_source().is_some_and(|why| !why.is_no_space()));
}

/// The two sides of a set are opened apart: a source whose store is not open yet is watched, and its store takes everything as
/// soon as it is.
#[tokio::test]
async fn a_copy_that_is_opened_later_is_reached_by_its_source() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let station = station(dir.path()).await;
    let part = SetPart::kept_in_place(OriginId(1), station.config.name.clone(), source, Vec::new());
    let record = SetRecord::new("files".parse().unwrap(), part);
    let in_the_way = station.state.sets().copy(&record.name);
    fs::create_dir_all(in_the_way.parent().unwrap()).unwrap();
    fs::write(&in_the_way, "in the way").unwrap();
    assert!(station.add_set(record.clone()).is_err(), "a new set is whole, or is refused");
    wait_for_no_threads("source-files");

    let opened = Opened::open(&station.context(), &record);
    assert!(opened.running.source().is_some() && opened.running.copy().is_none());
    let running = station.begin(&mut station.lock_sets(), &record, opened);
    assert_eq!(running.failures().count(), 1);
    fs::remove_file(&in_the_way).unwrap();
    let opened = Opened::reopen(&station.context(), &record, &running, |_| true);
    assert!(opened.running.source().is_none(), "it is open already");
    let running = station.begin(&mut station.lock_sets(), &record, opened);
    assert_eq!(running.failures().count(), 0);
    let (copy, deadline) = (running.copy().unwrap(), Instant::now() + Duration::from_secs(60));
    while copy.check().status.durable.is_none() {
        assert!(Instant::now() < deadline, "its source does not reach it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    station.stop();
    station.close().await;
}

/// What the cluster agrees on is acted on at once: a folder that was only sent is kept here as well, and nothing is started anew.
#[tokio::test]
async fn another_part_of_a_set_is_followed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let station = station(dir.path()).await;
    let here = station.config.name.clone();
    let record = master_of("files", &source);
    station.add_set(record.clone()).unwrap();
    assert!(station.running(&record.name).unwrap().copy().is_none());
    let agree = |change: fn(&mut Vec<StationName>, StationName)| {
        let (agreed, ca) = (&station.membership.agreed, station.enrolment().unwrap().ca());
        let (now, here) = (keepshare_host::clock::now(), here.clone());
        let changed = agreed.publish(ca, now, |document| {
            change(&mut document.sets[0].destinations, here);
            Ok(())
        });
        changed.unwrap();
        let following = Arc::clone(&station);
        tokio::task::spawn_blocking(move || following.follow())
    };
    agree(|to, here| to.push(here)).await.unwrap().unwrap();
    let running = station.running(&record.name).unwrap();
    let (copy, deadline) = (running.copy().unwrap(), Instant::now() + Duration::from_secs(60));
    while copy.check().status.durable.is_none() {
        assert!(Instant::now() < deadline, "its source does not reach it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // What is to be kept no more is not forgotten on the spot.
    agree(|to, here| to.retain(|station| *station != here)).await.unwrap().unwrap();
    assert!(station.running(&record.name).unwrap().copy().is_some());
    station.stop();
    station.close().await;
    wait_for_no_threads("source-files");
    wait_for_no_threads("writer:files");
}
