use keepshare_base::{
    Change, FileId, FilledChange, Kind, Name, OriginId, Position, RunningHash, Stamp,
};

use super::*;
use crate::{
    NameLine, PAGES_AHEAD, SetSettings, Step, WINDOW_BYTES_MAX, Welcome, codec::CHANGE_BYTES_MAX,
    epochs::Verdict,
};

fn at(seconds: u64) -> MonoTime {
    MonoTime(0) + Duration::from_secs(seconds)
}

fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

fn running(seq: u64) -> RunningHash {
    RunningHash([u8::try_from(seq).unwrap_or(255); 32])
}

fn place(number: u64, seq: u64) -> Place {
    Place { epoch: epoch(number), seq: Seq(seq), running: running(seq) }
}

fn entry(seq: u64, content: usize) -> JournalEntry {
    let position = Position { origin: OriginId(1), epoch: epoch(2), seq: Seq(seq) };
    let filled = FilledChange { change: Change::default(), payload: vec![0; content] };
    JournalEntry { position, running: running(seq), filled }
}

fn mirror_started(mirror: u64, seq: u64) -> Input {
    Input::MirrorStarted { mirror: MirrorId(mirror), at: place(2, seq), stamp: Stamp(5) }
}

/// A shipper over a journal of epoch 2 with changes 3 to 20.
struct Master(Shipper);

impl Master {
    fn new(acked: Option<Place>) -> Self {
        let options = ShipperOptions {
            set: "projects".parse().unwrap(),
            origin: OriginId(1),
            settings: SetSettings::default(),
            acked,
            seed: 1,
        };
        let mut master = Self(Shipper::new(options));
        master.give(Input::Journal(Head { epoch: epoch(2), seq: Seq(20), oldest: Seq(3) }));
        master
    }

    fn greeting(acked: Option<Place>) -> Self {
        let mut master = Self::new(acked);
        assert_eq!(master.outputs(), [Output::Connect]);
        master.give(Input::Connected);
        master
    }

    /// What it does after this welcome.
    fn welcomed(acked: Option<Place>, place: Option<Place>, fence: u64, mirroring: bool) -> Self {
        let mut master = Self::greeting(acked);
        master.outputs();
        master.say(Message::Welcome(Welcome { place, fence: epoch(fence), mirroring }));
        master
    }

    /// One that sends changes to a station at `seq`.
    fn following(seq: u64) -> Self {
        let mut master = Self::welcomed(None, Some(place(2, seq)), 2, false);
        master.give(Input::JournalHash { seq: Seq(seq), running: Some(running(seq)) });
        master
    }

    fn give(&mut self, input: Input) {
        self.0.handle_input(at(1), input);
    }

    fn say(&mut self, message: Message) {
        self.give(Input::Received(message.into()));
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.0.poll_output()).collect()
    }

    fn sent(&mut self) -> Vec<Message> {
        let sent = |output| match output {
            Output::Send(frame) => Some(frame.message),
            _ => None,
        };
        self.outputs().into_iter().filter_map(sent).collect()
    }

    fn sent_seqs(&mut self) -> Vec<u64> {
        let seq = |message| match message {
            Message::Change { position, .. } => Some(position.seq.0),
            _ => None,
        };
        self.sent().into_iter().filter_map(seq).collect()
    }

    #[track_caller]
    fn assert_left(&mut self, want: AlarmKind) {
        let outputs = self.outputs();
        assert!(outputs.iter().any(|o| matches!(o, Output::Disconnect { .. })), "{outputs:?}");
        let alarm = |o: &Output| matches!(o, Output::Alarm { kind, .. } if *kind == want);
        assert!(outputs.iter().any(alarm), "{outputs:?}");
        assert_eq!(self.0.doing(), Doing::Away);
    }
}

fn mirror(reason: MirrorReason) -> Output {
    Output::StartMirror { mirror: MirrorId(1), reason }
}

#[test]
fn it_says_who_it_is_first() {
    let hello = Hello {
        set: "projects".parse().unwrap(),
        origin: OriginId(1),
        epoch: epoch(2),
        head: Seq(20),
        settings: SetSettings::default(),
    };
    assert_eq!(Master::greeting(None).sent(), [Message::Hello(hello)]);
}

#[test]
fn it_goes_on_from_the_last_common_place() {
    let mut master = Master::welcomed(None, Some(place(2, 7)), 2, false);
    assert_eq!(master.outputs(), [Output::ReadHash { seq: Seq(7) }]);
    master.give(Input::JournalHash { seq: Seq(7), running: Some(running(7)) });
    let outputs = master.outputs();
    assert_eq!(outputs[0], Output::Acked(place(2, 7)));
    assert!(matches!(outputs[1], Output::Read { from: Seq(8), .. }));
    assert_eq!(master.0.doing(), Doing::Following);
}

/// The table of the wire's document.
#[test]
fn a_welcome_decides_between_mirror_and_new_epoch() {
    use MirrorReason::{Dropped, Empty, Interrupted, LostAcknowledged, NewEpoch};
    let ours = Some(place(2, 7));
    // What was acknowledged, what the station has, whether it was mirrored halfway, and why it is mirrored now.
    let mirrors = [
        (None, None, false, Empty),
        (None, Some(place(2, 0)), false, Empty),
        (None, Some(place(1, 99)), false, NewEpoch),
        (None, Some(place(2, 1)), false, Dropped),
        (None, ours, true, Interrupted),
        (Some(place(2, 8)), ours, false, LostAcknowledged),
        (Some(place(2, 8)), None, false, LostAcknowledged),
        (Some(place(2, 8)), Some(place(1, 99)), false, LostAcknowledged),
        (Some(place(1, 99)), Some(place(1, 98)), false, LostAcknowledged),
        (Some(place(1, 99)), Some(place(1, 99)), false, NewEpoch),
    ];
    for (acked, has, mirroring, reason) in mirrors {
        let mut master = Master::welcomed(acked, has, 2, mirroring);
        if let Some(Place { seq, .. }) = has {
            master.give(Input::JournalHash { seq, running: Some(running(seq.0)) });
        }
        let outputs = master.outputs();
        assert!(outputs.contains(&mirror(reason)), "{acked:?} {has:?} {outputs:?}");
        let alarm = Output::Alarm {
            kind: AlarmKind::LostAcknowledged,
            text: Text::new("the station has less than it acknowledged; it is mirrored"),
        };
        assert_eq!(outputs.contains(&alarm), reason == LostAcknowledged, "{outputs:?}");
    }
    let disagreements = [
        (Some(place(2, 21)), 2, 2, Disagreement::Ahead),
        (ours, 3, 3, Disagreement::Fenced),
        (None, 9, 9, Disagreement::Fenced),
        (Some(place(4, 1)), 4, 4, Disagreement::Fenced),
    ];
    for (has, fence, told, disagreement) in disagreements {
        let mut master = Master::welcomed(None, has, fence, false);
        let wanted = Output::Disagrees { told: epoch(told), disagreement };
        assert_eq!(master.outputs(), [wanted], "{has:?} {fence}");
        master.give(Input::Judged(Verdict::NewEpoch { above: epoch(told) }));
        assert!(matches!(master.outputs()[..], [Output::Disconnect { .. }]));
    }
}

/// A master that another one replaced and a station that has more are told apart: a person decides otherwise.
#[test]
fn a_fenced_master_is_told_apart_from_a_station_that_disagrees() {
    for (has, kind) in [(4, AlarmKind::Fenced), (2, AlarmKind::Disagrees)] {
        let mut master = Master::welcomed(None, Some(place(has, 21)), has, false);
        master.outputs();
        master.give(Input::Judged(Verdict::Stop));
        master.assert_left(kind);
    }
}

/// A number without room above it would end the origin, and every thread that counts on.
#[test]
fn a_station_that_tells_of_a_place_beyond_all_is_left() {
    let beyond = Epoch::MAX.next().number();
    let far = 2 + Epoch::JUMP_MAX + 1;
    let welcomes = [
        (None, beyond),
        (None, u64::MAX),
        (None, far),
        (Some(place(u64::MAX, 1)), 2),
        (Some(place(2, u64::MAX)), 2),
        (Some(place(1, Seq::MAX.0 + 1)), 2),
    ];
    for (has, fence) in welcomes {
        let mut master = Master::welcomed(None, has, fence, false);
        master.assert_left(AlarmKind::Protocol);
    }
}

/// Nothing is sent to it, and that is told: `in-sync` must not hide it.
#[test]
fn a_station_that_is_ahead_of_what_others_agree_to_is_told_to_a_person() {
    let mut master = Master::welcomed(None, Some(place(2, 21)), 2, false);
    master.outputs();
    master.give(Input::Judged(Verdict::Stop));
    master.assert_left(AlarmKind::Disagrees);
    let mut master = Master::welcomed(None, Some(place(2, 21)), 2, false);
    master.outputs();
    master.give(Input::Judged(Verdict::Wait));
    assert!(matches!(master.outputs()[..], [Output::Disconnect { .. }]), "no alarm yet");
}

/// Two journals that count alike are still two.
#[test]
fn another_history_at_the_same_place_is_mirrored_or_begins_an_epoch() {
    let judging = || {
        let mut master = Master::welcomed(None, Some(place(2, 7)), 2, false);
        master.outputs();
        master.give(Input::JournalHash { seq: Seq(7), running: Some(running(8)) });
        let disagreement = Disagreement::Differs;
        assert_eq!(master.outputs(), [Output::Disagrees { told: epoch(2), disagreement }]);
        master
    };
    let mut master = judging();
    master.give(Input::Judged(Verdict::Mirror));
    assert_eq!(master.outputs(), [mirror(MirrorReason::Differs)]);
    let mut master = judging();
    master.give(Input::Judged(Verdict::NewEpoch { above: epoch(2) }));
    master.outputs();
    master.give(Input::Journal(Head { epoch: epoch(3), seq: Seq(1), oldest: Seq(1) }));
    assert_eq!(master.outputs(), [Output::Connect], "at once when the epoch is there");
}

#[test]
fn a_place_that_the_journal_forgot_is_mirrored() {
    let mut master = Master::welcomed(None, Some(place(2, 2)), 2, false);
    master.outputs();
    master.give(Input::JournalHash { seq: Seq(2), running: Some(running(2)) });
    assert!(matches!(master.outputs()[1], Output::Read { from: Seq(3), .. }), "3 is still there");
    let mut master = Master::welcomed(None, Some(place(2, 1)), 2, false);
    master.outputs();
    master.give(Input::JournalHash { seq: Seq(1), running: None });
    assert_eq!(master.outputs(), [mirror(MirrorReason::Dropped)]);
}

/// An entry whose rows take more than a frame has room for.
fn too_large(seq: u64) -> JournalEntry {
    let user = Some("x".repeat(CHANGE_BYTES_MAX));
    let JournalEntry { position, running, filled } = entry(seq, 0);
    let change = Change { user, ..filled.change };
    JournalEntry { position, running, filled: FilledChange { change, payload: Vec::new() } }
}

/// Tried again and again it would hold up everything that comes after it.
#[test]
fn a_change_that_no_frame_has_room_for_is_brought_by_a_mirror() {
    let mut master = Master::following(7);
    master.outputs();
    master.give(Input::JournalRead(vec![entry(8, 0), too_large(9), entry(10, 0)]));
    let outputs = master.outputs();
    assert!(matches!(&outputs[0], Output::Send(frame) if is_change(&frame.message, 8)));
    assert!(matches!(outputs[1..], [Output::Disconnect { .. }, Output::Connect]), "{outputs:?}");
    master.give(Input::Connected);
    let welcome = Welcome { place: Some(place(2, 8)), fence: epoch(2), mirroring: false };
    master.say(Message::Welcome(welcome));
    master.outputs();
    master.give(Input::JournalHash { seq: Seq(8), running: Some(running(8)) });
    assert_eq!(master.outputs(), [mirror(MirrorReason::Dropped)]);
}

/// A part is made anew by each try: what no frame has room for is a person's to see.
#[test]
fn a_part_that_no_frame_has_room_for_is_told() {
    let mut master = Master::welcomed(None, None, 2, false);
    master.give(mirror_started(1, 20));
    master.say(Message::ListEnd);
    master.outputs();
    let parts = vec![too_large(20).filled];
    master.give(Input::MirrorParts { mirror: MirrorId(1), parts });
    master.assert_left(AlarmKind::Mirror);
}

fn is_change(message: &Message, seq: u64) -> bool {
    matches!(message, Message::Change { position, .. } if position.seq == Seq(seq))
}

/// Left at an older head it would wait for the next edit before it sent the last one.
#[test]
fn heads_that_overtake_each_other_lose_no_change() {
    let mut master = Master::following(20);
    master.outputs();
    let head = |number, seq| Head { epoch: epoch(number), seq: Seq(seq), oldest: Seq(3) };
    master.give(Input::Journal(head(2, 22)));
    master.give(Input::Journal(head(2, 21)));
    master.give(Input::Journal(head(1, 99)));
    master.give(Input::JournalRead(vec![entry(21, 10)]));
    assert!(matches!(master.outputs().last(), Some(Output::Read { from: Seq(22), .. })));
}

#[test]
fn acknowledgements_are_handed_on_with_their_place() {
    let mut master = Master::following(7);
    master.give(Input::JournalRead((8..=20).map(|seq| entry(seq, 10)).collect()));
    assert_eq!(master.sent_seqs(), (8..=20).collect::<Vec<_>>());
    master.say(Message::Ack { through: Seq(12) });
    assert_eq!(master.outputs(), [Output::Acked(place(2, 12))]);
    master.say(Message::Ack { through: Seq(12) });
    master.say(Message::Ack { through: Seq(9) });
    assert_eq!(master.outputs(), []);
    master.say(Message::Ack { through: Seq(21) });
    master.assert_left(AlarmKind::Protocol);
}

/// A station that is slow to sync must not make the master hold or send without end.
#[test]
fn no_more_is_sent_than_the_window() {
    let mut master = Master::following(7);
    let half = WINDOW_BYTES_MAX / 2;
    let read = |from| Output::Read { from: Seq(from), bytes_max: 1024 * 1024 };
    assert_eq!(master.outputs()[2..], [read(8)]);
    master.give(Input::JournalRead(vec![entry(8, half)]));
    assert_eq!(master.outputs()[1..], [read(9)]);
    // More than was asked for: what does not fit is read again when it does.
    master.give(Input::JournalRead((9..=12).map(|seq| entry(seq, half)).collect()));
    assert_eq!(master.sent_seqs(), [9]);
    master.say(Message::Ack { through: Seq(8) });
    assert!(matches!(master.outputs()[1], Output::Read { from: Seq(10), .. }));
}

#[test]
fn a_resend_goes_back_to_the_gap() {
    let mut master = Master::following(7);
    master.give(Input::JournalRead((8..=12).map(|seq| entry(seq, 10)).collect()));
    master.outputs();
    master.say(Message::Resend { from: Seq(10) });
    assert!(matches!(master.outputs()[..], [Output::Read { from: Seq(10), .. }]));
    // The read that was on its way comes first and is not what was asked for.
    master.give(Input::JournalRead((13..=15).map(|seq| entry(seq, 10)).collect()));
    assert_eq!(master.outputs(), []);
    master.give(Input::JournalRead((10..=12).map(|seq| entry(seq, 10)).collect()));
    assert_eq!(master.sent_seqs(), [10, 11, 12]);
}

#[test]
fn a_resend_of_what_was_acknowledged_or_not_sent_ends_the_link() {
    for from in [7, 8, 13] {
        let mut master = Master::following(7);
        master.give(Input::JournalRead((8..=12).map(|seq| entry(seq, 10)).collect()));
        master.say(Message::Ack { through: Seq(8) });
        master.outputs();
        master.say(Message::Resend { from: Seq(from) });
        master.assert_left(AlarmKind::Protocol);
    }
}

#[test]
fn a_mirror_goes_from_the_listing_to_the_end_and_then_follows() {
    let mut master = Master::welcomed(None, None, 2, false);
    assert_eq!(master.outputs(), [mirror(MirrorReason::Empty)]);
    master.give(mirror_started(1, 20));
    let (stamp, reason) = (Stamp(5), MirrorReason::Empty);
    assert_eq!(master.sent(), [Message::MirrorStart { at: place(2, 20), stamp, reason }]);
    master.say(Message::ListEnd);
    let outputs = master.outputs();
    assert_eq!(outputs[0], Output::Listing { mirror: MirrorId(1), page: Page::End });
    assert!(matches!(outputs[1], Output::ReadMirror { .. }));
    let mirror = MirrorId(1);
    let parts = vec![FilledChange::default(), FilledChange::default()];
    master.give(Input::MirrorParts { mirror, parts });
    master.give(Input::MirrorDone { mirror });
    let steps: Vec<_> = master
        .sent()
        .into_iter()
        .map(|message| match message {
            Message::Change { position, step, .. } => (position.seq.0, step),
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [Step::Part { number: 1 }, Step::Part { number: 2 }, Step::Last { number: 3 }];
    assert_eq!(steps, want.map(|step| (20, step)));
    master.say(Message::PartAck { parts: 2 });
    assert_eq!(master.outputs(), []);
    master.give(Input::Journal(Head { epoch: epoch(2), seq: Seq(22), oldest: Seq(3) }));
    master.say(Message::Ack { through: Seq(20) });
    let outputs = master.outputs();
    assert_eq!(outputs[..2], [Output::StopMirror { mirror }, Output::Acked(place(2, 20))]);
    assert!(matches!(outputs[2], Output::Read { from: Seq(21), .. }));
}

/// What belongs to a mirror that was given up must not get into the next one.
#[test]
fn answers_for_an_earlier_mirror_are_passed_over() {
    let mut master = Master::welcomed(None, None, 2, false);
    master.give(Input::Disconnected);
    let outputs = master.outputs();
    assert_eq!(outputs[1], Output::StopMirror { mirror: MirrorId(1) });
    master.0.handle_input(at(60), Input::TimedOut);
    master.0.handle_input(at(60), Input::Connected);
    let (place, fence) = (None, epoch(2));
    let welcome = Message::Welcome(Welcome { place, fence, mirroring: true });
    master.0.handle_input(at(60), Input::Received(welcome.into()));
    master.outputs();
    let mirror = MirrorId(1);
    master.give(mirror_started(1, 20));
    master.give(Input::MirrorParts { mirror, parts: vec![FilledChange::default()] });
    master.give(Input::MirrorDone { mirror });
    master.give(Input::MirrorFailed { mirror, reason: Text::new("old") });
    assert_eq!(master.outputs(), []);
    master.give(mirror_started(2, 20));
    assert_eq!(master.sent().len(), 1);
}

#[test]
fn a_listing_out_of_order_or_beyond_what_was_granted_ends_the_link() {
    let file = FileId { origin: OriginId(1), epoch: epoch(1), counter: 1 };
    let line = |name: &str| NameLine {
        parent: FileId::ROOT,
        name: Name::new(name.as_bytes()).unwrap(),
        file,
        kind: Kind::File,
    };
    let names = |all: &[&str]| Message::ListNames(all.iter().map(|name| line(name)).collect());
    let listing = || {
        let mut master = Master::welcomed(None, None, 2, false);
        master.give(mirror_started(1, 20));
        master.outputs();
        master
    };
    let wrong: [&[Message]; 6] = [
        &[names(&["b", "a"])],
        &[names(&["a", "a"])],
        &[names(&["b"]), names(&["a"])],
        &[names(&[])],
        &[Message::ListEnd, names(&["a"])],
        &[Message::ListEnd, Message::ListEnd],
    ];
    for messages in wrong {
        let mut master = listing();
        messages.iter().for_each(|message| master.say(message.clone()));
        master.assert_left(AlarmKind::Protocol);
    }
    let mut master = listing();
    let page = |n: u32| names(&[&format!("{n:04}")]);
    (0..PAGES_AHEAD).for_each(|n| master.say(page(n)));
    assert_eq!(master.outputs().len(), 8);
    (0..PAGES_AHEAD).for_each(|_| master.give(Input::ListingTaken { mirror: MirrorId(1) }));
    let more = Message::ListMore { pages: 4 };
    assert_eq!(master.sent(), [more.clone(), more]);
    (8..17).for_each(|n| master.say(page(n)));
    master.assert_left(AlarmKind::Protocol);
}

#[test]
fn changes_refused_again_and_again_bring_a_mirror() {
    let mut master = Master::following(7);
    for seconds in [1, 60] {
        let refusal = Refusal::Change;
        let refused = Message::Refused { refusal, reason: Text::new("no such folder") };
        master.0.handle_input(at(seconds), Input::Received(refused.into()));
        master.0.handle_input(at(seconds + 50), Input::TimedOut);
        master.0.handle_input(at(seconds + 50), Input::Connected);
        let welcome = Welcome { place: Some(place(2, 7)), fence: epoch(2), mirroring: false };
        let welcome = Message::Welcome(welcome);
        master.0.handle_input(at(seconds + 50), Input::Received(welcome.into()));
        let running = Some(running(7));
        master.0.handle_input(at(seconds + 50), Input::JournalHash { seq: Seq(7), running });
    }
    assert_eq!(master.0.doing(), Doing::Mirroring(MirrorReason::Refused));
    let alarms = master.outputs().into_iter().filter(|o| matches!(o, Output::Alarm { .. })).count();
    assert!((1..=2).contains(&alarms), "{alarms}");
}

#[test]
fn a_wish_for_a_mirror_is_kept_until_it_is_done() {
    let mut master = Master::following(20);
    master.outputs();
    master.give(Input::MirrorWanted);
    assert!(matches!(master.outputs()[..], [Output::Disconnect { .. }, Output::Connect]));
    master.give(Input::Connected);
    let welcome = Welcome { place: Some(place(2, 20)), fence: epoch(2), mirroring: false };
    master.say(Message::Welcome(welcome));
    master.give(Input::JournalHash { seq: Seq(20), running: Some(running(20)) });
    assert!(master.outputs().contains(&mirror(MirrorReason::Asked)));
}

/// A mirror brings what is there now: the versions of before are in the journal, and go first.
#[test]
fn a_mirror_that_is_asked_for_costs_no_version() {
    let mut master = Master::greeting(None);
    master.give(Input::MirrorWanted);
    let welcome = Welcome { place: Some(place(2, 7)), fence: epoch(2), mirroring: false };
    master.say(Message::Welcome(welcome));
    master.give(Input::JournalHash { seq: Seq(7), running: Some(running(7)) });
    master.give(Input::JournalRead((8..=20).map(|seq| entry(seq, 10)).collect()));
    master.say(Message::Ack { through: Seq(19) });
    assert_eq!(master.0.doing(), Doing::Following);
    master.outputs();
    master.say(Message::Ack { through: Seq(20) });
    assert!(matches!(
        master.outputs()[..],
        [Output::Acked(_), Output::Disconnect { .. }, Output::Connect]
    ));
    master.give(Input::Connected);
    let welcome = Welcome { place: Some(place(2, 20)), fence: epoch(2), mirroring: false };
    master.say(Message::Welcome(welcome));
    master.give(Input::JournalHash { seq: Seq(20), running: Some(running(20)) });
    assert!(master.outputs().contains(&mirror(MirrorReason::Asked)));
}

#[test]
fn a_quiet_link_is_kept_and_a_dead_one_left() {
    let mut master = Master::following(20);
    master.outputs();
    assert_eq!(master.0.poll_timeout(), Some(at(6)));
    master.0.handle_input(at(6), Input::TimedOut);
    assert_eq!(master.sent(), [Message::Ping]);
    master.0.handle_input(at(7), Input::Received(Message::Pong.into()));
    for seconds in (11..=26).step_by(5) {
        master.0.handle_input(at(seconds), Input::TimedOut);
    }
    assert_eq!(master.sent().len(), 4);
    master.0.handle_input(at(27), Input::TimedOut);
    assert!(matches!(master.outputs()[..], [Output::Disconnect { .. }]));
}

/// A station that answers pings but lost what was sent would keep us waiting for ever; one without space may.
#[test]
fn a_station_that_owes_an_answer_is_left_unless_it_waits_for_space() {
    for full in [false, true] {
        let mut master = Master::following(19);
        master.give(Input::JournalRead(vec![entry(20, 10)]));
        if full {
            master.say(Message::Waiting { reason: Text::new("the disk is full") });
            assert_eq!(master.0.doing(), Doing::Waiting(Text::new("the disk is full")));
        }
        for seconds in 2..62 {
            master.0.handle_input(at(seconds), Input::TimedOut);
            master.0.handle_input(at(seconds), Input::Received(Message::Pong.into()));
        }
        assert_eq!(master.0.doing() == Doing::Away, !full);
    }
}

/// Somebody moves a station's live folder away: what it showed is not shown any more, though the link goes on.
#[test]
fn a_live_tree_that_is_gone_is_not_shown() {
    let mut master = Master::following(20);
    master.say(Message::Live { through: Seq(20) });
    master.say(Message::Live { through: Seq(0) });
    assert_eq!(master.0.live(), Some((epoch(2), Seq(0))));
    assert_eq!(master.0.doing(), Doing::Following);
    master.say(Message::Live { through: Seq(20) });
    assert_eq!(master.0.live(), Some((epoch(2), Seq(20))));
}

/// What has not left cannot be answered; what has, is to be.
#[test]
fn no_answer_is_waited_for_while_the_queue_still_leaves() {
    let mut master = Master::following(19);
    master.give(Input::JournalRead(vec![entry(20, 10)]));
    let mut second = |seconds, left| {
        master.0.handle_input(at(seconds), Input::Received(Message::Pong.into()));
        master.0.handle_input(at(seconds), Input::Left { at: at(left) });
        master.0.handle_input(at(seconds), Input::TimedOut);
        master.0.doing()
    };
    for seconds in 2..600 {
        assert_eq!(second(seconds, seconds), Doing::Following, "{seconds}");
    }
    for seconds in 600..659 {
        assert_eq!(second(seconds, 599), Doing::Following, "{seconds}");
    }
    assert_eq!(second(659, 599), Doing::Away);
}

/// A page of a listing may take long, too; one that never ends is waited for as long as any frame.
#[test]
fn a_page_that_still_comes_is_waited_for() {
    for stops_at in [100, 2000] {
        let mut master = Master::welcomed(None, None, 2, false);
        master.give(mirror_started(1, 20));
        let gone = (2..1000).find(|seconds| {
            let heard = at(stops_at.min(*seconds));
            master.0.handle_input(at(*seconds), Input::Heard { at: heard });
            master.0.handle_input(at(*seconds), Input::TimedOut);
            master.0.doing() == Doing::Away
        });
        assert_eq!(gone, Some(601.min(stops_at + 20)));
    }
}

/// Two changes that nobody can tell apart would be worse than one that waits.
/// A station may come back with its live tree damaged: what it showed over an earlier link says nothing.
#[test]
fn what_the_live_tree_shows_is_told_anew_on_every_link() {
    let mut master = Master::following(20);
    master.say(Message::Live { through: Seq(20) });
    assert_eq!(master.0.live(), Some((epoch(2), Seq(20))));
    master.give(Input::Disconnected);
    master.0.handle_input(at(120), Input::TimedOut);
    assert!(master.outputs().contains(&Output::Connect));
    master.give(Input::Connected);
    assert_eq!(master.0.live(), None);
}

#[test]
fn reads_of_an_epoch_that_is_over_are_passed_over() {
    let mut master = Master::following(7);
    master.outputs();
    master.give(Input::Journal(Head { epoch: epoch(3), seq: Seq(20), oldest: Seq(1) }));
    assert!(matches!(master.outputs()[..], [Output::Disconnect { .. }, Output::Connect]));
    master.give(Input::Connected);
    let welcome = Welcome { place: Some(place(3, 7)), fence: epoch(3), mirroring: false };
    master.say(Message::Welcome(welcome));
    master.give(Input::JournalHash { seq: Seq(7), running: Some(running(7)) });
    master.outputs();
    master.give(Input::JournalRead(vec![entry(8, 10)]));
    assert_eq!(master.outputs(), []);
}
