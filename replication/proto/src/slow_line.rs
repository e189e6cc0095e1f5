//! Both halves of a link over a line on which a frame takes longer than any patience with silence.

use std::{collections::VecDeque, time::Duration};

use keepshare_base::{
    Change, Content, Epoch, Event, FileId, FileRow, FileTime, FilledChange, Kind, Meta, OriginId,
    Owner, PAYLOAD_BYTES_MAX, RunningHash, Seq, Stamp,
};

use crate::{
    Frame, MonoTime, Place, SetSettings,
    receiver::{self, Receiver, ReceiverOptions, Standing},
    shipper::{self, Doing, Head, MirrorId, Shipper, ShipperOptions},
};

/// What a frame takes on the line beside its content.
const HEAD_BYTES: usize = 200;

/// What moves one way: in order, so many bytes each second.
#[derive(Default)]
struct Way {
    queue: VecDeque<(usize, Frame)>,
    moved_at: MonoTime,
}

impl Way {
    fn send(&mut self, frame: Frame) {
        self.queue.push_back((HEAD_BYTES + frame.payload.len(), frame));
    }

    /// Moves at most so many bytes, and returns what is whole now.
    fn step(&mut self, now: MonoTime, mut bytes: usize) -> Vec<Frame> {
        let mut whole = Vec::new();
        while bytes > 0
            && let Some((left, _)) = self.queue.front_mut()
        {
            self.moved_at = now;
            let moved = bytes.min(*left);
            (bytes, *left) = (bytes - moved, *left - moved);
            if *left == 0 {
                whole.extend(self.queue.pop_front().map(|(_, frame)| frame));
            }
        }
        whole
    }
}

/// A master with files of the most content a frame has, a station without anything, and the line between them.
struct Line {
    now: MonoTime,
    shipper: Shipper,
    receiver: Receiver,
    down: Way,
    up: Way,
    parts: VecDeque<FilledChange>,
    mirrors: u32,
}

impl Line {
    fn new(parts: u64) -> Self {
        let (set, origin) = ("projects".parse().unwrap(), OriginId(1));
        let settings = SetSettings::default();
        let options = ShipperOptions { set, origin, settings, acked: None, seed: 1 };
        let set = options.set.clone();
        let mut line = Self {
            now: MonoTime(0),
            shipper: Shipper::new(options),
            receiver: Receiver::new(ReceiverOptions { set, origin }),
            down: Way::default(),
            up: Way::default(),
            parts: (1..=parts).map(part).collect(),
            mirrors: 0,
        };
        let head = Head { epoch: Epoch::FIRST, seq: Seq(1), oldest: Seq(1) };
        line.tell_shipper(shipper::Input::Journal(head));
        line
    }

    /// Lets a second pass.
    fn step(&mut self, bytes_per_s: usize) {
        self.now = self.now + Duration::from_secs(1);
        for frame in self.down.step(self.now, bytes_per_s) {
            self.tell_receiver(receiver::Input::Received(frame));
        }
        for frame in self.up.step(self.now, bytes_per_s) {
            self.tell_shipper(shipper::Input::Received(frame));
        }
        if self.receiver.poll_timeout().is_some_and(|due| due <= self.now) {
            self.tell_receiver(receiver::Input::Heard { at: self.down.moved_at });
            self.tell_receiver(receiver::Input::TimedOut);
        }
        if self.shipper.poll_timeout().is_some_and(|due| due <= self.now) {
            self.tell_shipper(shipper::Input::Heard { at: self.up.moved_at });
            if !self.down.queue.is_empty() {
                self.tell_shipper(shipper::Input::Left { at: self.down.moved_at });
            }
            self.tell_shipper(shipper::Input::TimedOut);
        }
    }

    fn tell_shipper(&mut self, input: shipper::Input) {
        use shipper::{Input, Output};
        self.shipper.handle_input(self.now, input);
        while let Some(output) = self.shipper.poll_output() {
            let answer = match output {
                Output::Connect => {
                    let peer = "anna".parse().unwrap();
                    self.tell_receiver(receiver::Input::Connected { peer });
                    Input::Connected
                }
                Output::Send(frame) => {
                    self.down.send(frame);
                    continue;
                }
                Output::StartMirror { mirror, .. } => {
                    self.mirrors += 1;
                    let at =
                        Place { epoch: Epoch::FIRST, seq: Seq(1), running: RunningHash::EMPTY };
                    Input::MirrorStarted { mirror, at, stamp: Stamp(5) }
                }
                Output::Listing { mirror, .. } => Input::ListingTaken { mirror },
                Output::ReadMirror { mirror, bytes_max } => self.read_parts(mirror, bytes_max),
                Output::StopMirror { .. } | Output::Acked(_) => continue,
                other => panic!("{:?}: {other:?}", self.now),
            };
            self.shipper.handle_input(self.now, answer);
        }
    }

    fn read_parts(&mut self, mirror: MirrorId, bytes_max: usize) -> shipper::Input {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while let Some(part) = self.parts.front()
            && (parts.is_empty() || bytes + part.payload.len() <= bytes_max)
        {
            bytes += part.payload.len();
            parts.extend(self.parts.pop_front());
        }
        if parts.is_empty() {
            return shipper::Input::MirrorDone { mirror };
        }
        shipper::Input::MirrorParts { mirror, parts }
    }

    fn tell_receiver(&mut self, input: receiver::Input) {
        use receiver::{Input, Output};
        self.receiver.handle_input(self.now, input);
        while let Some(output) = self.receiver.poll_output() {
            let answer = match output {
                Output::Send(frame) => {
                    self.up.send(frame);
                    continue;
                }
                Output::ReadStanding => Input::Standing(Standing {
                    place: None,
                    fence: Epoch::FIRST,
                    highest: None,
                    mirror: None,
                }),
                Output::Commit(commit) => Input::Committed { through: commit.ticket },
                Output::ListNames { listing, .. } => {
                    Input::NamesPage { listing, lines: vec![], end: true }
                }
                Output::ListFiles { listing, .. } => {
                    Input::FilesPage { listing, lines: vec![], end: true }
                }
                other => panic!("{:?}: {other:?}", self.now),
            };
            self.receiver.handle_input(self.now, answer);
        }
    }
}

fn part(counter: u64) -> FilledChange {
    let payload = vec![7; usize::try_from(PAYLOAD_BYTES_MAX).unwrap()];
    let meta = Meta {
        kind: Kind::File,
        size: PAYLOAD_BYTES_MAX,
        mode: 0o644,
        owner: Owner::default(),
        group: Owner::default(),
        mtime: FileTime::default(),
        symlink: vec![],
        rdev: 0,
        xattrs: vec![],
    };
    let row = FileRow {
        file: FileId { origin: OriginId(1), epoch: Epoch::FIRST, counter },
        event: Event::Mirrored,
        meta,
        content: Content::whole(&payload),
        hash: None,
        cut: true,
        fuzzy: false,
    };
    let change = Change { stamp: Stamp(5), files: vec![row], ..Change::default() };
    FilledChange { change, payload }
}

/// A mirror that broke off began anew, and over a slow line each did: the set was never there.
#[test]
fn a_first_mirror_ends_however_long_its_frames_take() {
    for bytes_per_s in [100_000, 20_000, 2_000] {
        let mut line = Line::new(46);
        let bytes = 46 * (HEAD_BYTES + usize::try_from(PAYLOAD_BYTES_MAX).unwrap());
        // All there is to send, and a tenth more for the pings.
        for _ in 0..bytes * 11 / 10 / bytes_per_s {
            line.step(bytes_per_s);
        }
        assert_eq!(line.mirrors, 1, "{bytes_per_s} bytes a second");
        assert_eq!(line.shipper.doing(), Doing::Following, "{bytes_per_s} bytes a second");
        assert!(line.shipper.acked().is_some(), "{bytes_per_s} bytes a second");
    }
}
