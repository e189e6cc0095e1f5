use std::{collections::BTreeMap, time::Duration};

use keepshare_base::{
    ContentHash, Epoch, FileTime, Kind, Meta, OriginId, Owner, Position, RequestId, Seq, SetPath,
    VersionId,
};

use super::*;
use crate::{Act, Backoff, Message, MonoTime, RestoreAnswer, RestoreRequest, Text};

fn at(seconds: u64) -> MonoTime {
    MonoTime(0) + Duration::from_secs(seconds)
}

fn content(len: usize) -> Vec<u8> {
    (0_u8..=250).cycle().take(len).collect()
}

fn position(seq: u64) -> Position {
    Position { origin: OriginId(1), epoch: Epoch::FIRST, seq: Seq(seq) }
}

fn request(id: u8, content: &[u8]) -> RestoreRequest {
    RestoreRequest {
        request: RequestId([id; 32]),
        path: SetPath::parse(b"a/b").unwrap(),
        version: VersionId(position(7)),
        meta: Meta {
            kind: Kind::File,
            size: content.len() as u64,
            mode: 0o644,
            owner: Owner::default(),
            group: Owner::default(),
            mtime: FileTime::default(),
            symlink: vec![],
            rdev: 0,
            xattrs: vec![],
        },
        hash: ContentHash::of(content),
        user: Some(Text::new("anna")),
        ground: None,
        act: Act::Write,
    }
}

/// A station that restores one content and a master that writes it, with a link between.
#[derive(Default)]
struct Pair {
    asking: Asking,
    answering: Answering,
    content: Vec<u8>,
    /// What the master took aside, by request, and what it wrote.
    aside: BTreeMap<RequestId, Vec<u8>>,
    written: Vec<(RequestId, Vec<u8>)>,
    ended: Vec<RestoreEnd>,
    /// The master does not finish what it should.
    holds: bool,
}

impl Pair {
    fn connected(content: Vec<u8>) -> Self {
        let mut pair = Self { content, ..Self::default() };
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        self.answering.on_connected();
        self.asking.on_connected(at(1));
    }

    fn disconnect(&mut self) {
        self.asking.on_disconnected();
        self.answering.on_disconnected();
    }

    /// Ends the link; what was to be sent is lost, what was to be done is done.
    fn break_link(&mut self) {
        let (mut station, mut master) = (self.asking.take_steps(), self.answering.take_steps());
        self.disconnect();
        station.extend(self.asking.take_steps());
        master.extend(self.answering.take_steps());
        station.retain(|step| matches!(step, Step::Drive(_)));
        master.retain(|step| matches!(step, Step::Drive(_)));
        station.into_iter().for_each(|step| self.do_at_station(step));
        master.into_iter().for_each(|step| self.do_at_master(step));
    }

    fn ask(&mut self, id: u8) {
        let request = request(id, &self.content);
        self.asking.handle(at(1), StationInput::Ask(request));
    }

    /// Does at most `steps` steps; returns whether there was nothing more to do.
    fn run(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            let station = self.asking.take_steps();
            let master = self.answering.take_steps();
            if station.is_empty() && master.is_empty() {
                return true;
            }
            station.into_iter().for_each(|step| self.do_at_station(step));
            master.into_iter().for_each(|step| self.do_at_master(step));
        }
        false
    }

    fn do_at_station(&mut self, step: Step<StationOutput>) {
        match step {
            Step::Send(frame) => match frame.message {
                Message::RestoreRequest(request) => self.answering.on_request(request),
                Message::RestoreData { request, offset } => {
                    self.answering.on_data(at(1), request, offset, frame.payload);
                }
                other => panic!("{other:?}"),
            },
            Step::Drive(StationOutput::ReadVersion { request, offset, len }) => {
                let start = usize::try_from(offset).unwrap();
                let bytes = self.content[start..start + len].to_vec();
                let input = StationInput::Content { request, offset, bytes };
                self.asking.handle(at(1), input);
            }
            Step::Drive(StationOutput::Ended { end, .. }) => self.ended.push(end),
        }
    }

    fn do_at_master(&mut self, step: Step<MasterOutput>) {
        let output = match step {
            Step::Send(frame) => {
                match frame.message {
                    Message::RestoreMore { request, through } => {
                        self.asking.on_more(at(1), request, through);
                    }
                    Message::RestoreAnswer { request, answer } => {
                        self.asking.on_answer(request, answer);
                    }
                    other => panic!("{other:?}"),
                }
                return;
            }
            Step::Drive(output) => output,
        };
        match output {
            MasterOutput::LookUp { request } => {
                let done = self.written.iter().any(|(known, _)| *known == request);
                let answer = done.then(|| RestoreAnswer::Written(position(9)));
                self.answering.handle(at(1), MasterInput::Known { request, answer });
            }
            MasterOutput::Begin(request) => {
                self.aside.insert(request.request, vec![]);
            }
            MasterOutput::Content { request, offset, bytes } => {
                let aside = self.aside.get_mut(&request).unwrap();
                assert_eq!(aside.len() as u64, offset);
                aside.extend(bytes);
                let through = aside.len() as u64;
                self.answering.handle(at(1), MasterInput::Taken { request, through });
            }
            MasterOutput::Abort { request } => {
                self.aside.remove(&request).unwrap();
            }
            MasterOutput::Finish { request } => {
                let bytes = self.aside.remove(&request).unwrap();
                self.written.push((request, bytes));
                if !self.holds {
                    self.finish(request);
                }
            }
        }
    }

    fn finish(&mut self, request: RequestId) {
        let answer = RestoreAnswer::Written(position(9));
        self.answering.handle(at(1), MasterInput::Done { request, answer });
    }

    fn answered(&self) -> bool {
        self.ended == [RestoreEnd::Answered(RestoreAnswer::Written(position(9)))]
    }
}

#[test]
fn contents_of_all_lengths_arrive_whole() {
    let chunk = RESTORE_CHUNK_BYTES_MAX;
    for len in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk, 21 * chunk + 3] {
        let mut pair = Pair::connected(content(len));
        pair.ask(1);
        assert!(pair.run(1000));
        assert!(pair.answered(), "{len}: {:?}", pair.ended);
        assert_eq!(pair.written, [(RequestId([1; 32]), content(len))]);
    }
}

/// A click on "restore" that is repeated, by a person or by a network client, is one change of the file.
#[test]
fn a_repeat_is_answered_and_never_done_twice() {
    let mut pair = Pair::connected(content(100));
    for _ in 0..3 {
        pair.ask(1);
        assert!(pair.run(1000));
        assert!(pair.answered(), "{:?}", pair.ended);
        pair.ended.clear();
    }
    // A master started anew remembers it by its journal.
    pair.disconnect();
    pair.answering = Answering::default();
    pair.connect();
    pair.ask(1);
    assert!(pair.run(1000));
    assert!(pair.answered());
    assert_eq!(pair.written.len(), 1);
}

/// Wherever the link breaks, the restore is done once and answered once. The seed is in the text of a failure.
#[test]
fn a_link_that_breaks_anywhere_delays_a_restore_and_no_more() {
    for seed in 0..300 {
        let mut pair = Pair::connected(content(9 * RESTORE_CHUNK_BYTES_MAX / 2));
        let mut chance = Backoff::new(seed);
        pair.ask(1);
        for _ in 0..20 {
            let steps = usize::try_from(chance.failed().as_micros() % 30).unwrap();
            chance.reset();
            if pair.run(steps) {
                break;
            }
            pair.break_link();
            pair.connect();
        }
        assert!(pair.run(1000));
        assert!(pair.answered(), "seed {seed}: {:?}", pair.ended);
        assert_eq!(pair.written.len(), 1, "seed {seed}");
    }
}

/// It was all sent when the link broke and may be written: "failed" would be a lie, and so would "done".
#[test]
fn an_answer_that_never_comes_is_told_as_unknown() {
    let mut pair = Pair::connected(content(100));
    pair.holds = true;
    pair.ask(1);
    pair.run(1000);
    pair.disconnect();
    pair.asking.on_timeout(at(200));
    pair.run(1);
    assert!(matches!(pair.ended[..], [RestoreEnd::Unknown(_)]), "{:?}", pair.ended);
    // Asked again under the same id, the master says what came of it.
    pair.ended.clear();
    pair.connect();
    pair.ask(1);
    pair.run(1000);
    pair.finish(RequestId([1; 32]));
    pair.run(1000);
    assert!(pair.answered());
    assert_eq!(pair.written.len(), 1);
}

#[test]
fn without_a_master_nothing_is_asked() {
    let mut pair = Pair { content: content(10), ..Pair::default() };
    pair.ask(1);
    pair.run(10);
    assert!(matches!(pair.ended[..], [RestoreEnd::NotAsked(_)]));
}

#[test]
fn a_version_that_cannot_be_read_is_given_up_at_the_master_too() {
    let mut pair = Pair::connected(content(9 * RESTORE_CHUNK_BYTES_MAX));
    pair.ask(1);
    pair.run(6);
    let (request, reason) = (RequestId([1; 32]), Text::new("damaged"));
    pair.asking.handle(at(1), StationInput::Unreadable { request, reason: reason.clone() });
    assert!(pair.run(1000));
    // Waiting mends no damage.
    assert_eq!(pair.ended, [RestoreEnd::Unreadable(reason.clone())]);
    assert!(pair.aside.is_empty() && pair.written.is_empty());
    pair.ask(1);
    pair.run(6);
    pair.asking.handle(at(1), StationInput::NotRead { request, reason: reason.clone() });
    assert!(pair.run(1000));
    assert_eq!(pair.ended[1..], [RestoreEnd::NotAsked(reason)]);
    assert!(pair.aside.is_empty() && pair.written.is_empty());
}

/// On a slow line the station may give up what the master has only begun: what it hears of that is not the answer to the next request,
/// which has the same id.
#[test]
fn a_late_answer_is_not_taken_for_that_to_the_next_request() {
    for before in 0..40 {
        let mut pair = Pair::connected(content(9 * RESTORE_CHUNK_BYTES_MAX));
        pair.ask(1);
        pair.run(before);
        if pair.answered() {
            return assert!(before > 10);
        }
        pair.asking.on_timeout(at(200));
        for _ in 0..100 {
            pair.ask(1);
            pair.run(1);
        }
        let written = RestoreEnd::Answered(RestoreAnswer::Written(position(9)));
        for end in &pair.ended {
            let is_right = matches!(end, RestoreEnd::NotAsked(_) | RestoreEnd::Unknown(_));
            assert!(is_right || *end == written, "after {before} steps: {end:?}");
        }
        assert!(pair.ended.contains(&written), "after {before} steps: {:?}", pair.ended);
        assert_eq!(pair.written.len(), 1, "after {before} steps");
    }
    panic!("it is never done");
}

/// All was sent: what the master says of it is the answer, whoever asked before.
#[test]
fn who_asks_again_has_the_answer_that_is_on_its_way() {
    let mut pair = Pair::connected(content(10));
    pair.holds = true;
    pair.ask(1);
    pair.run(1000);
    pair.asking.on_timeout(at(200));
    pair.run(1);
    pair.ended.clear();
    pair.ask(1);
    // A failure: the master would do it anew, were it asked once more.
    let (request, answer) = (RequestId([1; 32]), RestoreAnswer::Failed(Text::new("no")));
    pair.answering.handle(at(1), MasterInput::Done { request, answer: answer.clone() });
    assert!(pair.run(1000));
    assert_eq!(pair.ended, [RestoreEnd::Answered(answer)]);
    assert_eq!(pair.written.len(), 1);
}

/// What was asked for on a link that is gone is told where it is asked for again, and only there.
#[test]
fn an_answer_without_a_question_is_not_given() {
    for is_asked in [false, true] {
        let mut pair = Pair::connected(content(10));
        pair.holds = true;
        pair.ask(1);
        pair.run(1000);
        pair.disconnect();
        if !is_asked {
            pair.asking.on_timeout(at(200));
            pair.run(1);
        }
        pair.connect();
        pair.run(1);
        let (request, answer) = (RequestId([1; 32]), RestoreAnswer::Failed(Text::new("no")));
        pair.answering.handle(at(1), MasterInput::Done { request, answer });
        let said = pair.answering.take_steps();
        assert_eq!(said.len(), usize::from(is_asked), "{said:?}");
    }
}

/// What the master never answers takes a place, as what it is asked for does.
#[test]
fn what_is_given_up_is_bounded() {
    let mut pair = Pair::connected(content(10));
    for id in 1..=50 {
        pair.ask(id);
        pair.asking.on_timeout(at(200));
    }
    let steps = pair.asking.take_steps();
    let asked = steps.iter().filter(|step| {
        matches!(step, Step::Send(frame) if matches!(frame.message, Message::RestoreRequest(_)))
    });
    assert_eq!(asked.count(), RESTORES_MAX);
    // The next link owes nothing.
    pair.disconnect();
    pair.connect();
    pair.ask(51);
    assert!(pair.run(1000));
    assert!(pair.answered(), "{:?}", pair.ended);
}

#[test]
fn no_more_than_a_few_restores_run_at_once() {
    let mut pair = Pair::connected(content(10));
    pair.holds = true;
    (1..=9).for_each(|id| pair.ask(id));
    pair.run(1000);
    assert_eq!((pair.written.len(), pair.ended.len()), (RESTORES_MAX, 1));
}

/// What a hostile station may try against the master's half.
#[test]
fn wrong_content_is_refused_and_nothing_is_written() {
    let bytes = content(RESTORE_CHUNK_BYTES_MAX + 5);
    let id = RequestId([1; 32]);
    type Pieces = Vec<(u64, Vec<u8>)>;
    let cases: [(&str, Pieces); 5] = [
        ("out of order", vec![(1, vec![0; 5])]),
        ("beyond the size", vec![(0, bytes[5..].to_vec()), (5 + 5, vec![0; 9])]),
        ("more in one piece than may be", vec![(0, bytes.clone())]),
        ("empty: given up", vec![(0, vec![])]),
        (
            "other bytes",
            vec![(0, bytes[5..].to_vec()), (RESTORE_CHUNK_BYTES_MAX as u64, vec![9; 5])],
        ),
    ];
    for (what, pieces) in cases {
        let mut master = Answering::default();
        master.on_connected();
        master.on_request(request(1, &bytes));
        master.handle(at(1), MasterInput::Known { request: id, answer: None });
        pieces.into_iter().for_each(|(offset, bytes)| master.on_data(at(1), id, offset, bytes));
        let steps = master.take_steps();
        let aborted = Step::Drive(MasterOutput::Abort { request: id });
        assert!(steps.contains(&aborted), "{what}: {steps:?}");
        assert!(!steps.contains(&Step::Drive(MasterOutput::Finish { request: id })), "{what}");
        // What broke off is asked for again; other bytes stay other bytes.
        let is_final = steps.iter().any(|step| {
            matches!(step, Step::Send(frame) if matches!(frame.message,
                Message::RestoreAnswer { answer: RestoreAnswer::Failed(_), .. }))
        });
        assert_eq!(is_final, what == "other bytes", "{what}: {steps:?}");
    }
}

#[test]
fn content_ahead_of_what_was_taken_is_bounded() {
    let bytes = content(9 * RESTORE_CHUNK_BYTES_MAX);
    let (id, mut master) = (RequestId([1; 32]), Answering::default());
    master.on_connected();
    master.on_request(request(1, &bytes));
    master.handle(at(1), MasterInput::Known { request: id, answer: None });
    let mut offset = 0;
    for chunk in bytes.chunks(RESTORE_CHUNK_BYTES_MAX).take(5) {
        master.on_data(at(1), id, offset, chunk.to_vec());
        offset += chunk.len() as u64;
    }
    assert!(master.take_steps().contains(&Step::Drive(MasterOutput::Abort { request: id })));
}

#[test]
fn requests_that_no_file_fits_are_refused_at_once() {
    let good = request(1, b"x");
    let dir = Meta { kind: Kind::Dir, size: 0, ..good.meta.clone() };
    let odd = Meta { mode: 0o170_000, ..good.meta.clone() };
    let mark = vec![(b"user.keepshare.private".to_vec(), b"1".to_vec())];
    let marked = Meta { xattrs: mark, ..good.meta.clone() };
    // Given to a file, it leaves whose the file is, which is root's here.
    let owner = Owner { id: u32::MAX, name: String::new() };
    let nobodys = Meta { owner, ..good.meta.clone() };
    let wrong = [
        RestoreRequest { path: SetPath::default(), ..good.clone() },
        RestoreRequest { meta: dir, ..good.clone() },
        RestoreRequest { meta: odd, ..good.clone() },
        RestoreRequest { meta: marked, ..good.clone() },
        RestoreRequest { meta: nobodys, ..good },
    ];
    for request in wrong {
        let mut master = Answering::default();
        master.on_connected();
        master.on_request(request);
        let steps = master.take_steps();
        let failed = matches!(&steps[..], [Step::Send(frame)] if matches!(frame.message,
            Message::RestoreAnswer { answer: RestoreAnswer::Failed(_), .. }));
        assert!(failed, "{steps:?}");
    }
}

#[test]
fn a_station_that_stops_sending_frees_its_place() {
    let mut pair = Pair::connected(content(10));
    pair.answering.on_request(request(1, b"x"));
    pair.run(1);
    assert_eq!(pair.answering.deadline(), Some(at(61)));
    pair.answering.on_timeout(at(61));
    pair.run(10);
    assert!(pair.aside.is_empty());
    assert_eq!(pair.answering.deadline(), None);
}
