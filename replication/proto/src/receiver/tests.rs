use std::time::Duration;

use keepshare_base::{
    Content, Epoch, Event, FileId, FileRow, Kind, Meta, Name, NameRow, OriginId, Owner, Position,
    RunningHash, Seq, Stamp,
};

use super::*;
use crate::{
    FileLine, MirrorReason, NameLine, PAGE_LINES_MAX, PAGES_AHEAD, Place, SetSettings, Step,
};

fn at(seconds: u64) -> MonoTime {
    MonoTime(0) + Duration::from_secs(seconds)
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn place(number: u64, seq: u64) -> Place {
    Place { epoch: epoch(number), seq: Seq(seq), running: RunningHash([7; 32]) }
}

fn hello(number: u64) -> Message {
    Message::Hello(Hello {
        set: "projects".parse().unwrap(),
        origin: OriginId(1),
        epoch: epoch(number),
        head: Seq(100),
        settings: SetSettings::default(),
    })
}

fn change_of(origin: u32, number: u64, seq: u64, step: Step, change: Change) -> Message {
    let position = Position { origin: OriginId(origin), epoch: epoch(number), seq: Seq(seq) };
    Message::Change { position, running: RunningHash([7; 32]), step, change }
}

fn change(number: u64, seq: u64) -> Message {
    change_of(1, number, seq, Step::Next, Change::default())
}

fn part(seq: u64, number: u64) -> Message {
    change_of(1, 1, seq, Step::Part { number }, Change::default())
}

fn start(number: u64, seq: u64) -> Message {
    let reason = MirrorReason::Empty;
    Message::MirrorStart { at: place(number, seq), stamp: Stamp(5), reason }
}

fn root_name(target: Option<(FileId, Kind)>) -> NameRow {
    NameRow { parent: FileId::ROOT, name: Name::new(b"a").unwrap(), target }
}

/// A receiver and what it wanted done since it was last asked.
struct Station(Receiver);

impl Station {
    fn new() -> Self {
        let set = "projects".parse().unwrap();
        Self(Receiver::new(ReceiverOptions { set, origin: OriginId(1) }))
    }

    fn connected() -> Self {
        let mut station = Self::new();
        station.give(Input::Connected { peer: "anna".parse().unwrap() });
        station
    }

    /// One that welcomed a master of epoch 1 at `seq`.
    fn open_at(seq: u64) -> Self {
        let mut station = Self::connected();
        station.say(hello(1));
        let standing = Standing {
            place: Some(place(1, seq)),
            fence: Epoch::FIRST,
            highest: None,
            mirror: None,
        };
        station.give(Input::Standing(standing));
        station.outputs();
        station
    }

    fn give(&mut self, input: Input) {
        self.0.handle_input(at(1), input);
    }

    fn say(&mut self, message: Message) {
        self.give(Input::Received(message.into()));
    }

    fn committed(&mut self, through: u64) {
        self.give(Input::Committed { through: Ticket(through) });
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.0.poll_output()).collect()
    }

    /// What it sent, and the seqs it had committed, without the rest.
    fn sent(&mut self) -> Vec<Message> {
        let sent = |output| match output {
            Output::Send(frame) => Some(frame.message),
            _ => None,
        };
        self.outputs().into_iter().filter_map(sent).collect()
    }

    fn commits(&mut self) -> Vec<(u64, bool)> {
        let commit = |output| match output {
            Output::Commit(commit) => Some((commit.position.seq.0, commit.complete)),
            _ => None,
        };
        self.outputs().into_iter().filter_map(commit).collect()
    }

    /// Asserts that the last input made it refuse the link and keep nothing.
    #[track_caller]
    fn assert_refused(&mut self, want: Refusal, words: &str) {
        let outputs = self.outputs();
        let refused = outputs.iter().find_map(|output| match output {
            Output::Send(Frame { message: Message::Refused { refusal, reason }, .. }) => {
                Some((*refusal, reason.to_string()))
            }
            _ => None,
        });
        let (refusal, reason) = refused.unwrap_or_else(|| panic!("not refused: {outputs:?}"));
        assert_eq!(refusal, want, "{reason}");
        assert!(reason.contains(words), "{reason}");
        assert!(outputs.iter().any(|output| matches!(output, Output::Disconnect { .. })));
        assert!(!outputs.iter().any(|output| matches!(output, Output::Commit(_))), "{outputs:?}");
        assert!(!self.0.is_open());
    }
}

#[test]
fn a_master_is_welcomed_with_the_place_of_the_store() {
    let mut station = Station::connected();
    station.say(hello(1));
    assert_eq!(station.outputs(), [Output::ReadStanding]);
    let standing =
        Standing { place: Some(place(1, 4)), fence: Epoch::FIRST, highest: None, mirror: None };
    station.give(Input::Standing(standing));
    let welcome = Welcome { place: Some(place(1, 4)), fence: Epoch::FIRST, mirroring: false };
    assert_eq!(station.sent(), [Message::Welcome(welcome)]);
}

/// Whoever welcomes a new epoch without having noted it could take up the old one again after a crash.
#[test]
fn a_new_epoch_is_agreed_durably_before_it_is_welcomed() {
    let mut station = Station::connected();
    station.say(hello(3));
    let standing =
        Standing { place: Some(place(1, 4)), fence: epoch(2), highest: None, mirror: None };
    station.give(Input::Standing(standing));
    assert_eq!(station.outputs()[1..], [Output::Fence { epoch: epoch(3) }]);
    station.give(Input::Fenced { epoch: epoch(3) });
    let welcome = Welcome { place: Some(place(1, 4)), fence: epoch(3), mirroring: false };
    assert_eq!(station.sent(), [Message::Welcome(welcome)]);
    station.say(change(3, 5));
    station.assert_refused(Refusal::Order, "only a mirror can go on");
}

/// The welcome tells it what it would have to be above; the refusal that it is not.
#[test]
fn a_master_of_an_epoch_that_is_over_is_refused() {
    let mut station = Station::connected();
    station.say(hello(1));
    let standing =
        Standing { place: Some(place(2, 4)), fence: epoch(2), highest: None, mirror: None };
    station.give(Input::Standing(standing));
    station.assert_refused(Refusal::Epoch, "epoch 1 is over, 2 is agreed");
    station.say(change(1, 5));
    assert_eq!(station.outputs(), [], "what still arrives is passed over");
}

/// Another link of the same origin has brought a new master.
#[test]
fn a_link_ends_when_a_higher_epoch_is_agreed_elsewhere() {
    let mut station = Station::open_at(4);
    station.give(Input::Fenced { epoch: Epoch::FIRST });
    assert_eq!(station.outputs(), []);
    station.give(Input::Fenced { epoch: epoch(2) });
    station.assert_refused(Refusal::Epoch, "agreed elsewhere");
}

/// What an earlier link left with the store decides the place: asking too early would have it sent twice.
#[test]
fn a_hello_waits_until_the_store_has_answered_for_the_link_before() {
    let mut station = Station::open_at(4);
    station.say(change(1, 5));
    station.say(change(1, 6));
    station.give(Input::Disconnected);
    station.give(Input::Connected { peer: "anna".parse().unwrap() });
    station.outputs();
    station.say(hello(1));
    assert_eq!(station.outputs(), []);
    station.say(Message::Ping);
    assert_eq!(station.sent(), [Message::Pong], "it is waiting, not dead");
    station.committed(1);
    assert_eq!(station.outputs(), []);
    station.committed(2);
    assert_eq!(
        station.outputs(),
        [Output::ReadStanding],
        "and no ack on a link that did not bring it"
    );
}

#[test]
fn changes_are_acknowledged_when_they_are_durable() {
    let mut station = Station::open_at(4);
    (5..=7).for_each(|seq| station.say(change(1, seq)));
    assert_eq!(station.commits(), [(5, true), (6, true), (7, true)]);
    station.committed(2);
    assert_eq!(station.sent(), [Message::Ack { through: Seq(6) }]);
    station.committed(3);
    assert_eq!(station.sent(), [Message::Ack { through: Seq(7) }]);
}

/// A gap must cost a round trip, never a version.
#[test]
fn a_gap_is_asked_for_again_once() {
    let mut station = Station::open_at(4);
    (6..=9).for_each(|seq| station.say(change(1, seq)));
    assert_eq!(station.outputs(), [Output::Send(Message::Resend { from: Seq(5) }.into())]);
    (5..=9).for_each(|seq| station.say(change(1, seq)));
    assert_eq!(station.commits().len(), 5);
}

#[test]
fn a_gap_that_stays_is_refused() {
    let mut station = Station::open_at(4);
    station.say(change(1, 6));
    station.say(change(1, 7));
    station.outputs();
    station.say(change(1, 6));
    station.assert_refused(Refusal::Order, "change 6 came where 5 was asked for again");
}

/// A master that makes gaps for fun would have the journal read for ever.
#[test]
fn gaps_without_end_are_refused() {
    let mut station = Station::open_at(0);
    // At place 0 only a mirror goes on.
    station.say(start(1, 4));
    station.committed(1);
    station.give(Input::NamesPage { listing: Ticket(1), lines: vec![], end: true });
    station.give(Input::FilesPage { listing: Ticket(1), lines: vec![], end: true });
    station.say(change_of(1, 1, 4, Step::Last { number: 1 }, Change::default()));
    for seq in 5..13 {
        station.say(change(1, seq + 1));
        station.say(change(1, seq));
    }
    station.outputs();
    station.say(change(1, 14));
    station.assert_refused(Refusal::Order, "again and again");
}

#[test]
fn a_replay_is_acknowledged_again_and_not_kept() {
    let mut station = Station::open_at(4);
    station.say(change(1, 3));
    assert_eq!(station.outputs(), [Output::Send(Message::Ack { through: Seq(4) }.into())]);
    station.say(change(1, 5));
    station.say(change(1, 5));
    assert_eq!(station.commits(), [(5, true)], "its ack comes when it is durable");
}

#[test]
fn frames_that_do_not_belong_there_are_refused() {
    let wrong: [(Message, Refusal, &str); 10] = [
        (hello(1), Refusal::Order, "second hello"),
        (change(2, 5), Refusal::Epoch, "epoch 2 is not the agreed epoch 1"),
        (change_of(2, 1, 5, Step::Next, Change::default()), Refusal::Unknown, "origin 2"),
        (part(9, 1), Refusal::Order, "part 1 of a mirror came outside one"),
        (start(2, 9), Refusal::Epoch, "epoch 2"),
        (start(1, 3), Refusal::Order, "a mirror leads to 3, and 4 is here already"),
        (start(1, 4), Refusal::Order, "a mirror leads to 4, and 4 is here already"),
        (Message::Ack { through: Seq(9) }, Refusal::Order, "what stations say"),
        (Message::ListEnd, Refusal::Order, "what stations say"),
        (Message::Resumed, Refusal::Order, "what stations say"),
    ];
    for (message, refusal, words) in wrong {
        let mut station = Station::open_at(4);
        station.say(message);
        station.assert_refused(refusal, words);
    }
}

#[test]
fn nothing_is_taken_before_the_hello_and_the_welcome() {
    for message in [change(1, 5), Message::Ping, Message::Resumed] {
        let mut station = Station::connected();
        station.say(message);
        station.assert_refused(Refusal::Order, "before the hello");
    }
    let mut station = Station::connected();
    station.say(hello(1));
    station.say(change(1, 5));
    station.assert_refused(Refusal::Order, "before the welcome");
}

#[test]
fn a_hello_for_another_set_or_origin_is_refused() {
    let Message::Hello(right) = hello(1) else { unreachable!() };
    let other_set = Hello { set: "other".parse().unwrap(), ..right.clone() };
    let other_origin = Hello { origin: OriginId(2), ..right };
    for (wrong, words) in [(other_set, "set other"), (other_origin, "origin 2")] {
        let mut station = Station::connected();
        station.say(Message::Hello(wrong));
        station.assert_refused(Refusal::Unknown, words);
    }
}

/// Each is refused before the store sees any of it.
#[test]
fn hostile_changes_are_refused_whole() {
    let foreign = FileId { origin: OriginId(9), epoch: Epoch::FIRST, counter: 1 };
    let own = FileId { origin: OriginId(1), ..foreign };
    let device = Meta {
        kind: Kind::File,
        size: 1,
        mode: 0o170_644,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: keepshare_base::FileTime::default(),
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    };
    let row = FileRow {
        file: own,
        event: Event::Saved,
        meta: device,
        content: Content::whole(b"x"),
        hash: None,
        cut: true,
        fuzzy: false,
    };
    let good = Meta { mode: 0o644, ..row.meta.clone() };
    let cases = [
        Change { names: vec![root_name(Some((foreign, Kind::File)))], ..Change::default() },
        Change { names: vec![root_name(None), root_name(None)], ..Change::default() },
        Change { cuts: vec![foreign], ..Change::default() },
        Change { files: vec![row.clone()], ..Change::default() },
        // Its content is not there.
        Change { files: vec![FileRow { meta: good, ..row }], ..Change::default() },
    ];
    for change in cases {
        let mut station = Station::open_at(4);
        station.say(change_of(1, 1, 5, Step::Next, change));
        station.assert_refused(Refusal::Change, "change 5 must not be kept");
    }
}

#[test]
fn what_the_store_refuses_is_told_to_the_master() {
    let mut station = Station::open_at(4);
    station.say(change(1, 5));
    station.outputs();
    station.give(Input::CommitRefused { ticket: Ticket(1), reason: Text::new("no such folder") });
    station.assert_refused(Refusal::Change, "no such folder");
}

/// A mirror: noted, listed, taken, ended; and the place moves only with its end.
#[test]
fn a_mirror_lists_and_then_takes_parts() {
    let mut station = Station::open_at(4);
    station.say(start(1, 9));
    assert_eq!(station.commits(), [(9, false)]);
    station.committed(1);
    let listing = Ticket(1);
    let names = Output::ListNames { listing, after: None, limit: PAGE_LINES_MAX };
    assert_eq!(station.outputs(), [names]);
    let name = Name::new(b"a").unwrap();
    let file = FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter: 1 };
    let lines = vec![NameLine { parent: FileId::ROOT, name: name.clone(), file, kind: Kind::File }];
    station.give(Input::NamesPage { listing, lines: lines.clone(), end: false });
    let after = Some((FileId::ROOT, name));
    let names = Output::ListNames { listing, after, limit: PAGE_LINES_MAX };
    assert_eq!(station.outputs(), [Output::Send(Message::ListNames(lines).into()), names]);
    station.give(Input::NamesPage { listing, lines: vec![], end: true });
    let files = Output::ListFiles { listing, after: None, limit: PAGE_LINES_MAX };
    assert_eq!(station.outputs(), [files]);
    let lines = vec![FileLine { file, digest: crate::StateDigest([1; 16]), version: None }];
    station.give(Input::FilesPage { listing, lines: lines.clone(), end: true });
    assert_eq!(station.sent(), [Message::ListFiles(lines), Message::ListEnd]);

    station.say(part(9, 1));
    station.say(part(9, 2));
    station.say(change_of(1, 1, 9, Step::Last { number: 3 }, Change::default()));
    assert_eq!(station.commits(), [(9, false), (9, false)], "the end waits for the parts");
    station.committed(3);
    let outputs = station.outputs();
    assert_eq!(outputs[0], Output::Send(Message::PartAck { parts: 2 }.into()));
    assert!(matches!(&outputs[1], Output::Commit(commit) if commit.complete));
    station.committed(4);
    assert_eq!(station.sent(), [Message::Ack { through: Seq(9) }]);
    station.say(change(1, 10));
    assert_eq!(station.commits(), [(10, true)]);
}

#[test]
fn parts_out_of_order_or_before_the_listing_are_refused() {
    let begun = || {
        let mut station = Station::open_at(4);
        station.say(start(1, 9));
        station.committed(1);
        station
    };
    let mut station = begun();
    station.outputs();
    station.say(part(9, 1));
    station.assert_refused(Refusal::Order, "part 1");

    for wrong in [part(9, 2), part(8, 1), change(1, 5), start(1, 9)] {
        let mut station = begun();
        let listing = Ticket(1);
        station.give(Input::NamesPage { listing, lines: vec![], end: true });
        station.give(Input::FilesPage { listing, lines: vec![], end: true });
        station.outputs();
        station.say(wrong);
        station.assert_refused(Refusal::Order, "");
    }
}

/// A master that takes no page must not make the station hold the whole listing.
#[test]
fn a_listing_stops_when_the_master_takes_no_more() {
    let mut station = Station::open_at(4);
    station.say(start(1, 9));
    station.committed(1);
    let listing = Ticket(1);
    let file = |counter| FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter };
    let page = |counter| NameLine {
        parent: FileId::ROOT,
        name: Name::new(format!("{counter:05}").as_bytes()).unwrap(),
        file: file(counter),
        kind: Kind::File,
    };
    let mut pages = 0;
    let mut take = |station: &mut Station| {
        let mut sent = 0;
        while station.outputs().iter().any(|o| matches!(o, Output::ListNames { .. })) {
            pages += 1;
            sent += 1;
            station.give(Input::NamesPage { listing, lines: vec![page(pages)], end: false });
        }
        sent
    };
    assert_eq!(take(&mut station), u64::from(PAGES_AHEAD));
    station.say(Message::ListMore { pages: 3 });
    assert_eq!(take(&mut station), 3);
    station.say(Message::ListMore { pages: u32::MAX });
    assert_eq!(take(&mut station), u64::from(PAGES_AHEAD), "more than that is never held");
}

/// A mixture of two places is not a tree that changes could go on from.
#[test]
fn after_an_interrupted_mirror_only_a_mirror_goes_on() {
    let mut station = Station::connected();
    station.say(hello(1));
    let standing = Standing {
        place: Some(place(1, 4)),
        fence: Epoch::FIRST,
        highest: Some((Epoch::FIRST, Seq(9))),
        mirror: Some((Epoch::FIRST, Seq(9))),
    };
    station.give(Input::Standing(standing));
    station.outputs();
    station.say(change(1, 5));
    station.assert_refused(Refusal::Order, "only a mirror");
}

#[test]
fn a_full_disk_says_so_and_goes_on_by_itself() {
    let mut station = Station::open_at(4);
    station.say(change(1, 5));
    station.outputs();
    let reason = Text::new("the disk is full");
    station.give(Input::Full { reason: reason.clone() });
    assert_eq!(station.sent(), [Message::Waiting { reason: reason.clone() }]);
    station.give(Input::Resumed);
    station.committed(1);
    assert_eq!(station.sent(), [Message::Resumed, Message::Ack { through: Seq(5) }]);

    station.give(Input::Full { reason: reason.clone() });
    station.give(Input::Connected { peer: "anna".parse().unwrap() });
    station.outputs();
    station.say(hello(1));
    assert_eq!(station.sent(), [Message::Waiting { reason }], "a new link is told too");
}

#[test]
fn a_store_that_stopped_refuses_with_its_reason() {
    let mut station = Station::open_at(4);
    station.give(Input::Stopped { reason: Text::new("fsync failed") });
    station.assert_refused(Refusal::Busy, "fsync failed");
    station.give(Input::Connected { peer: "anna".parse().unwrap() });
    station.say(hello(1));
    station.assert_refused(Refusal::Busy, "fsync failed");
}

/// A master that sends more than its window is not read, so its own connection holds it back.
#[test]
fn no_more_is_read_than_the_store_can_be_given() {
    let mut station = Station::open_at(4);
    let (mut seq, mut bytes) = (4, 0);
    let user = Some("x".repeat(200));
    while station.0.wants_input() {
        seq += 1;
        let change = Change { user: user.clone(), ..Change::default() };
        bytes += held(&FilledChange { change: change.clone(), payload: vec![] });
        station.say(change_of(1, 1, seq, Step::Next, change));
        assert!(bytes < QUEUE_BYTES_MAX + 2000);
    }
    assert!(bytes > WINDOW_BYTES_MAX, "an honest master's whole window is read");
    assert_eq!(station.0.poll_timeout(), None, "silence is ours while we do not read");
    station.outputs();
    station.0.handle_input(at(100), Input::Committed { through: Ticket(1) });
    assert!(station.0.wants_input());
    station.outputs();
    station.0.handle_input(at(119), Input::TimedOut);
    assert_eq!(station.outputs(), [], "nor is it the master's right after");
}

#[test]
fn silence_ends_a_link() {
    let mut station = Station::connected();
    assert_eq!(station.0.poll_timeout(), Some(at(11)), "a hello is waited for ten seconds");
    station.0.handle_input(at(11), Input::TimedOut);
    assert!(matches!(station.outputs()[..], [Output::Disconnect { .. }]));
    assert_eq!(station.0.poll_timeout(), None);

    let mut station = Station::open_at(4);
    station.0.handle_input(at(20), Input::Received(Message::Ping.into()));
    assert_eq!(station.sent(), [Message::Pong]);
    station.0.handle_input(at(39), Input::TimedOut);
    assert_eq!(station.outputs(), []);
    station.0.handle_input(at(40), Input::TimedOut);
    assert!(matches!(station.outputs()[..], [Output::Disconnect { .. }]));
}

/// A frame may take long over a slow line, and the master is to know that it arrives: its pings wait behind it.
#[test]
fn bytes_of_a_frame_are_no_silence() {
    let mut station = Station::open_at(4);
    for seconds in (6..=596).step_by(5) {
        assert_eq!(station.0.poll_timeout(), Some(at(seconds)));
        station.0.handle_input(at(seconds), Input::Heard { at: at(seconds - 1) });
        station.0.handle_input(at(seconds), Input::TimedOut);
        assert_eq!(station.sent(), [Message::Pong]);
    }
    station.0.handle_input(at(599), Input::Received(change(1, 5).into()));
    assert_eq!(station.commits(), [(5, true)]);

    station.0.handle_input(at(610), Input::Heard { at: at(600) });
    station.0.handle_input(at(619), Input::TimedOut);
    assert_eq!(station.sent(), [Message::Pong]);
    station.0.handle_input(at(620), Input::TimedOut);
    assert!(matches!(station.outputs()[..], [Output::Disconnect { .. }]), "they stopped coming");
}

/// Between frames there is nothing to tell of: an idle link says no more than what is asked.
#[test]
fn what_came_with_the_last_frame_is_no_part_of_another() {
    let mut station = Station::open_at(4);
    station.0.handle_input(at(6), Input::Heard { at: at(1) });
    station.0.handle_input(at(6), Input::TimedOut);
    assert_eq!(station.outputs(), []);
    assert_eq!(station.0.poll_timeout(), Some(at(11)));
}

/// Whoever lets a byte drip now and then would hold a link for ever.
#[test]
fn a_frame_that_does_not_end_ends_the_link() {
    let mut station = Station::open_at(4);
    for seconds in 2..601 {
        station.0.handle_input(at(seconds), Input::Heard { at: at(seconds) });
        station.0.handle_input(at(seconds), Input::TimedOut);
        assert!(station.0.is_open(), "{seconds}");
    }
    station.0.handle_input(at(601), Input::Heard { at: at(601) });
    station.0.handle_input(at(601), Input::TimedOut);
    assert!(!station.0.is_open());

    let mut station = Station::connected();
    station.0.handle_input(at(11), Input::Heard { at: at(11) });
    station.0.handle_input(at(11), Input::TimedOut);
    assert!(matches!(station.outputs()[..], [Output::Disconnect { .. }]), "a hello is short");
}
